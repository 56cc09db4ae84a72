"""A fleet of 10,000 assets in a browser. How fast it is, `scripts/bench console` measures."""

import json
import random
from collections.abc import Iterator

import pytest
import trio

from scripts.make_fleet import make_fleet
from tests.browser.chromium import Chromium
from tests.browser.consoles import Console, open_console
from tests.browser.context import open_context
from tests.browser.elements import Locator
from tests.browser.page import Page

ASSETS = 10_000
WITHIN_S = 60.0
LIVE = "document.documentElement.dataset.link === 'live'"
GRID = "document.querySelector('[role=grid]')"
NAMES = r"""
[...document.querySelectorAll("[role=row] [role=gridcell]:first-child")]
    .map((cell) => cell.innerText.replace(/\s+/g, " ").trim())
"""
# Its heaps are at 15 MB.
MOST_MB = 150


@pytest.fixture(scope="module")
def large_console(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    fleet = make_fleet(ASSETS, random.Random(1))
    folder = tmp_path_factory.mktemp("large")
    with open_console(folder, fleet, shard_size=ASSETS // 2, tick_s=4.0, database_url="none") as running:
        yield running


async def rows(page: Page) -> list[str]:
    """Return the names in the first column that are in the document."""
    return list(await page.evaluate(NAMES))


async def test_every_asset_is_in_the_table_of_which_only_what_is_in_sight_is_in_the_document(
    chromium: Chromium, large_console: Console
) -> None:
    names = {asset.name for asset in large_console.fleet.assets}
    with trio.fail_after(150):
        async with open_context(chromium, large_console.origin) as context:
            page = await context.open_page("/assets")
            await page.wait_for(LIVE, within_s=WITHIN_S)
            await page.wait_for(f"{GRID}.ariaRowCount === '{ASSETS + 1}'", within_s=WITHIN_S)
            first = await rows(page)
            assert 10 < len(first) < 100
            assert set(first) <= names
            assert await page.evaluate("document.querySelectorAll('*').length") < 3000

            await page.call("[role=grid]", "function () { this.focus(); }")
            await page.press("Control+End")
            await page.wait_for(f"!({NAMES}).includes({json.dumps(first[0])})")
            last = await rows(page)
            assert set(last) <= names - set(first)

            wanted = large_console.fleet.assets[ASSETS // 2].name
            await page.fill("input[type=search]", wanted)
            await page.wait_for(f"Number({GRID}.ariaRowCount) < 20")
            assert wanted in await rows(page)


async def test_the_map_is_moved_and_memory_stays_small(chromium: Chromium, large_console: Console) -> None:
    with trio.fail_after(150):
        async with open_context(chromium, large_console.origin) as context:
            page = await context.open_page("/")
            await page.wait_for(LIVE, within_s=WITHIN_S)
            await page.wait_for_text(f"{ASSETS:,} of {ASSETS:,} assets", within_s=WITHIN_S)
            x, y = await page.middle_of(Locator(role="application"))
            for _ in range(3):
                await page.wheel(x, y, by=-240)
                await page.drag((x, y), (x - 100, y + 50))
            assert await context.heap_mb() < MOST_MB
