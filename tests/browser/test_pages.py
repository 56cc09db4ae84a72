"""Each page: by its link and by navigation, accessible in light and dark, without a scroll bar across."""

from collections.abc import Sequence

import pytest
import trio

from tests.browser.axe import find_violations
from tests.browser.chromium import Chromium
from tests.browser.consoles import Console
from tests.browser.context import open_page
from tests.browser.layout import find_overflow
from tests.browser.page import Page
from tests.browser.records import Records

LIVE = "document.documentElement.dataset.link === 'live'"
# Nothing of it is still loading.
SETTLED = "document.querySelectorAll('[aria-busy=true]').length === 0"
NAVIGATION = {
    "Fleet": "/",
    "Assets": "/assets",
    "Dispatch": "/dispatch",
    "Schedules": "/schedules",
    "Alarms": "/alarms",
    "Events": "/events",
    "Agents": "/agents",
    "Audit": "/audit",
    "API": "/docs",
}
PATHS = {
    **{name.lower(): path for name, path in NAVIGATION.items()},
    "asset": "/assets/{asset}",
    "site": "/sites/{site}",
    "one dispatch": "/dispatch/{dispatch}",
    "one schedule": "/schedules/{schedule}",
    "one alarm": "/alarms/{alarm}",
    "log in": "/login",
}
# One after the other in one browser context: to open another costs as much as two pages.
GROUPS = [list(PATHS)[n : n + 5] for n in range(0, len(PATHS), 5)]
# In CSS pixels: the smallest desktop, and a phone.
WIDTHS = (1280, 390)


async def until_loaded(page: Page) -> None:
    await page.wait_for("document.querySelector('h1')?.textContent")
    await page.wait_for(LIVE)
    await page.wait_for(SETTLED)


@pytest.mark.parametrize("names", GROUPS, ids=" ".join)
async def test_each_page_opens_by_its_link_is_accessible_and_fits(
    chromium: Chromium, console: Console, records: Records, names: Sequence[str]
) -> None:
    faults: dict[str, list[str]] = {}
    with trio.fail_after(170):
        async with open_page(chromium, console.origin) as page:
            for name, path in records.paths({name: PATHS[name] for name in names}).items():
                await page.emulate(size=(1440, 900), scheme="light", reduced_motion=True)
                await page.goto(path)
                await until_loaded(page)
                assert await page.evaluate("location.pathname") == path
                assert "could not be opened" not in await page.text()
                faults[f"{name}, light"] = await find_violations(page)
                await page.emulate(scheme="dark", reduced_motion=True)
                # What else there is does not depend on colours.
                faults[f"{name}, dark"] = await find_violations(page, rules=["color-contrast"])
                for width in WIDTHS:
                    await page.emulate(size=(width, 800))
                    faults[f"{name}, {width} pixels wide"] = await find_overflow(page)
    assert {case: found for case, found in faults.items() if found} == {}


async def test_navigation_opens_each_page_without_loading_the_document_again(
    chromium: Chromium, console: Console
) -> None:
    with trio.fail_after(90):
        async with open_page(chromium, console.origin, "/") as page:
            await page.evaluate("void (globalThis.notReloaded = true)")
            for name, path in NAVIGATION.items():
                await page.click(f"nav a[href='{path}']")
                await page.wait_for(f"location.pathname === '{path}'")
                await until_loaded(page)
                await page.wait_for(f"document.title.startsWith('{name}')")
                assert await page.count("nav [aria-current=page]") == 1
            await page.evaluate("history.back()")
            await page.wait_for("location.pathname === '/audit'")
            await page.wait_for("document.title.startsWith('Audit')")
            await page.evaluate("history.forward()")
            await page.wait_for("location.pathname === '/docs'")
            assert await page.evaluate("globalThis.notReloaded")


async def test_every_control_of_the_shell_is_reached_by_tab(chromium: Chromium, console: Console) -> None:
    reached = []
    with trio.fail_after(60):
        async with open_page(chromium, console.origin, "/docs") as page:
            await until_loaded(page)
            for _ in range(16):
                await page.press("Tab")
                reached.append(
                    await page.evaluate(
                        "document.activeElement.getAttribute('href') ?? document.activeElement.ariaLabel"
                    )
                )
            assert set(NAVIGATION.values()) <= set(reached)
            assert reached[0] == "#view"
            await page.goto("/docs")
            await page.press("Tab", "Enter")
            assert await page.evaluate("document.activeElement.id") == "view"


async def test_a_path_that_there_is_not_says_so(chromium: Chromium, console: Console) -> None:
    missing = "00000000-0000-4000-8000-000000000000"
    with trio.fail_after(60):
        async with open_page(chromium, console.origin, "/nowhere") as page:
            page.observer.expect("status of 404")
            paths = (f"/assets/{missing}", f"/sites/{missing}", f"/dispatch/{missing}")
            for path in ("/nowhere", *paths, "/assets/%zz", "/sites/%ff"):
                await page.goto(path)
                await page.wait_for(
                    r"/not found|no such|does not exist|there is no/i.test(document.body.innerText)"
                )


async def test_the_colours_chosen_stay(chromium: Chromium, console: Console) -> None:
    background = "getComputedStyle(document.documentElement).getPropertyValue('color-scheme')"
    with trio.fail_after(60):
        async with open_page(chromium, console.origin, "/docs") as page:
            await page.click("button[aria-label^='Colours']")
            chosen = await page.evaluate(background)
            await page.reload()
            await page.wait_for(f"{background} === '{chosen}'")


@pytest.mark.parametrize(
    ("path", "shown"),
    [("/assets?sort=nothing", "Assets"), ("/dispatch?again=..", "There is nothing at /dispatch/..")],
)
async def test_a_query_that_nothing_has_written_is_no_failure(
    chromium: Chromium, console: Console, path: str, shown: str
) -> None:
    with trio.fail_after(60):
        async with open_page(chromium, console.origin, path) as page:
            await page.wait_for_text(shown)
            assert "could not be opened" not in await page.text()


async def test_what_cannot_draw_an_event_does_not_keep_others_from_it(
    chromium: Chromium, console: Console
) -> None:
    module = "import('/static/core/fleet-state.js')"
    fault = "a fault of a test"
    with trio.fail_after(60):
        async with open_page(chromium, console.origin, "/") as page:
            page.observer.expect(fault)
            await page.wait_for(LIVE)
            await page.evaluate(
                f"""{module}.then(({{fleet}}) => {{
                    const {{signal}} = new AbortController();
                    fleet.on("telemetry", () => {{ throw new Error("{fault}"); }}, signal);
                    fleet.on("telemetry", () => globalThis.drawn = true, signal);
                }})"""
            )
            await page.wait_for("globalThis.drawn")
