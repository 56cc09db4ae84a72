"""Names, messages and reasons that are markup, 5,000 characters long, or turn the direction of text."""

from collections.abc import Iterator

import pytest
import trio

from tests.browser.chromium import Chromium
from tests.browser.conftest import small_fleet
from tests.browser.consoles import Console, open_console
from tests.browser.context import open_page
from tests.browser.hostile import MARKUP, open_hostile_proxy
from tests.browser.layout import find_overflow, find_text_that_turns_others
from tests.browser.records import Records, make_records
from tests.browser.test_pages import PATHS, until_loaded

# Elements that only the markup of a text could have made: the console itself has none of them.
MADE_OF_TEXT = "document.querySelectorAll('img[src=x], body script').length"
# What a store that keeps nothing does not have.
WITHOUT_DATABASE = "status of 50[03]"


@pytest.fixture(scope="module")
def hostile_console(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """Return a console of six assets that gets hostile texts from its headend."""
    folder, fleet = tmp_path_factory.mktemp("hostile"), small_fleet()
    trips = fleet.assets[-1].id
    with open_console(
        folder, fleet, tick_s=0.5, database_url="none", trips=trips, proxy=open_hostile_proxy
    ) as running:
        yield running


@pytest.fixture(scope="module")
def hostile_records(hostile_console: Console) -> Records:
    return trio.run(make_records, hostile_console)


async def test_hostile_texts_do_nothing_and_stay_in_their_place(
    chromium: Chromium, hostile_console: Console, hostile_records: Records
) -> None:
    faults = []
    with trio.fail_after(150):
        # One tab for all: a process for each page takes longer than the page.
        async with open_page(chromium, hostile_console.origin) as page:
            page.observer.expect(WITHOUT_DATABASE)
            for name, path in PATHS.items():
                await page.goto(hostile_records.fill(path))
                await until_loaded(page)
                if name == "asset":
                    await page.wait_for_text(MARKUP[:20])
                if made := await page.evaluate(MADE_OF_TEXT):
                    faults.append(f"{name}: {made} elements made of text")
                faults += [f"{name}: {fault}" for fault in await find_text_that_turns_others(page)]
                faults += [f"{name}: {fault}" for fault in await find_overflow(page)]
    assert not faults, "\n".join(faults)
