"""The fleet file is reloaded under open pages: no page goes on with names and assets that are no more."""

import json
from typing import Any

import pytest
import trio

from tests.browser.chromium import Chromium
from tests.browser.consoles import Console
from tests.browser.context import open_page

LIVE = "document.documentElement.dataset.link === 'live'"
HIDE_OR_SHOW = """(Object.defineProperty(document, "hidden", {{value: {hidden}, configurable: true}}),
    void document.dispatchEvent(new Event("visibilitychange")))"""


async def reload_fleet(console: Console, document: dict[str, Any]) -> None:
    path = trio.Path(console.folder / "fleet.json")
    await path.write_text(json.dumps(document))
    async with console.open_rest() as api:
        await api.post("/fleet/reload", {})


@pytest.fixture
def document(small_console: Console) -> dict[str, Any]:
    return dict(json.loads((small_console.folder / "fleet.json").read_text()))


async def test_the_page_of_an_asset_has_its_new_name_and_goes_with_it(
    chromium: Chromium, small_console: Console, document: dict[str, Any]
) -> None:
    asset = document["assets"][0]
    with trio.fail_after(60):
        async with open_page(chromium, small_console.origin, f"/assets/{asset['id']}") as page:
            page.observer.expect("status of 404")
            await page.wait_for(LIVE)
            asset["name"] = "Renamed"
            await reload_fleet(small_console, document)
            await page.wait_for("document.querySelector('.page-header').innerText.includes('Renamed')")
            document["assets"].remove(asset)
            await reload_fleet(small_console, document)
            await page.wait_for_text("there is no asset")


async def test_the_page_of_a_site_has_its_new_name(
    chromium: Chromium, small_console: Console, document: dict[str, Any]
) -> None:
    site = document["sites"][0]
    with trio.fail_after(60):
        async with open_page(chromium, small_console.origin, f"/sites/{site['id']}") as page:
            await page.wait_for(LIVE)
            site["name"] = "Renamed site"
            await reload_fleet(small_console, document)
            await page.wait_for("document.querySelector('.page-header').innerText.includes('Renamed site')")


async def test_a_tab_that_was_hidden_meanwhile_has_the_new_names(
    chromium: Chromium, small_console: Console, document: dict[str, Any]
) -> None:
    with trio.fail_after(60):
        async with open_page(chromium, small_console.origin, "/assets") as page:
            await page.wait_for(LIVE)
            await page.wait_for_text(document["assets"][0]["name"])
            requests = len(page.observer.requested("/api/assets"))
            await page.evaluate(HIDE_OR_SHOW.format(hidden="true"))
            document["assets"][0]["name"] = "Named while hidden"
            await reload_fleet(small_console, document)
            # What is hidden receives and asks nothing.
            await trio.sleep(1)
            assert len(page.observer.requested("/api/assets")) == requests
            await page.evaluate(HIDE_OR_SHOW.format(hidden="false"))
            await page.wait_for_text("Named while hidden")
