"""The table of the console in a real browser: virtual rows, order, keys, text that is only text."""

from collections.abc import Iterator

import pytest
import trio

from tests.browser.axe import find_violations
from tests.browser.chromium import Chromium
from tests.browser.components import open_component, open_component_site
from tests.browser.page import Page

# As `openAssets(count)`; row 7 has a name that is markup.
ASSETS = """
globalThis.opened = [];
globalThis.rows = (count) => Array.from({length: count}, (_, n) => ({
    id: `a${n}`, name: n === 7 ? "<img src=x onerror=alert(1)>" : `Unit ${n}`, power: (n * 7919) % 1000,
}));
globalThis.openAssets = (count, more = {}) => {
    globalThis.assets = rows(count);
    globalThis.grid = openTable(place, {signal, label: "Assets", rowKey: (row) => row.id, rowHeight: 28,
        href: (row) => `/assets/${row.id}`, onOpen: (row) => opened.push(row.id), columns: [
            {id: "name", label: "Asset", width: "1fr", value: (row) => row.name, text: (row) => row.name},
            {id: "power", label: "Power", unit: "MW", align: "end", width: 120, value: (row) => row.power,
                text: (row) => String(row.power)}, ...(more.columns ?? [])]});
    grid.setRows(assets);
};
globalThis.active = () => {
    const element = document.getElementById(
        document.querySelector("[role=grid]").getAttribute("aria-activedescendant"));
    return element && element.textContent;
};
"""
ROW_COUNT = "document.querySelectorAll('.table-body [role=row]').length"
FIRST_KEY = "grid.visibleKeys()[0]"


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with open_component_site() as address:
        yield address


async def focus_grid(page: Page) -> None:
    await page.evaluate("document.querySelector('[role=grid]').focus()")


async def test_only_visible_rows_of_100_000_are_in_the_document(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{ASSETS} openAssets(100_000)") as page:
            assert 13 <= await page.evaluate(ROW_COUNT) <= 40
            await page.evaluate("grid.scrollTo('a70000')")
            assert "a70000" in await page.evaluate("grid.visibleKeys()")
            row = "document.querySelector('[href=\"/assets/a70000\"]').closest('[role=row]')"
            assert await page.evaluate(f"{row}.getAttribute('aria-rowindex')") == "70002"
            assert await page.evaluate("document.querySelector('[role=grid]').ariaRowCount") == "100001"
            assert await page.evaluate(ROW_COUNT) <= 40


async def test_a_name_that_is_markup_is_shown_as_text(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{ASSETS} openAssets(20)") as page:
            assert "<img src=x onerror=alert(1)>" in await page.text("[role=grid]")
            assert await page.count("#place img") == 0


async def test_a_click_on_a_header_sorts_and_a_second_one_turns_the_order(
    chromium: Chromium, origin: str
) -> None:
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{ASSETS} openAssets(1000)") as page:
            header = "[role=columnheader]:nth-child(2)"
            await page.click(header)
            assert await page.evaluate("assets.find((row) => row.id === grid.visibleKeys()[0]).power") == 999
            assert await page.evaluate(f"document.querySelector('{header}').ariaSort") == "descending"
            await page.click(header)
            assert await page.evaluate("assets.find((row) => row.id === grid.visibleKeys()[0]).power") == 0
            assert await page.evaluate(f"document.querySelector('{header}').ariaSort") == "ascending"


async def test_names_sort_by_their_numbers(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{ASSETS} openAssets(12)") as page:
            await page.evaluate("grid.setSort('name')")
            assert await page.evaluate("grid.visibleKeys().slice(-3)") == ["a9", "a10", "a11"]


async def test_rows_without_a_value_are_last_in_both_directions(chromium: Chromium, origin: str) -> None:
    script = f"{ASSETS} openAssets(5); assets[2].power = null;"
    with trio.fail_after(60):
        async with open_component(chromium, origin, script) as page:
            for descending in ("true", "false"):
                await page.evaluate(f"grid.setSort('power', {descending})")
                assert await page.evaluate("grid.visibleKeys().at(-1)") == "a2"


async def test_equal_values_keep_the_order_of_the_rows(chromium: Chromium, origin: str) -> None:
    script = f"{ASSETS} openAssets(6); for (const row of assets) row.power = 1;"
    with trio.fail_after(60):
        async with open_component(chromium, origin, script) as page:
            await page.evaluate("(grid.setSort('name', true), grid.setSort('power', true))")
            assert await page.evaluate("grid.visibleKeys().join()") == "a0,a1,a2,a3,a4,a5"


async def test_keys_move_the_active_cell_and_enter_opens_its_row(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{ASSETS} openAssets(10_000)") as page:
            await focus_grid(page)
            await page.press("ArrowDown", "ArrowDown")
            assert await page.evaluate("active()") == "Unit 2"
            await page.press("End")
            assert await page.evaluate("active()") == str(2 * 7919 % 1000)
            await page.press("Control+End", "Enter")
            assert await page.evaluate("opened") == ["a9999"]
            await page.press("Control+Home", "PageDown")
            assert int((await page.evaluate("active()")).removeprefix("Unit ")) in range(10, 15)
            await page.press("Control+Home", "ArrowUp")
            assert await page.evaluate("active()") == "Asset"
            await page.press("ArrowRight", "Enter")
            assert (
                await page.evaluate("document.querySelector('[aria-sort=descending]').textContent")
                == "PowerMW"
            )


async def test_the_active_row_stays_in_its_place_when_the_order_changes(
    chromium: Chromium, origin: str
) -> None:
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{ASSETS} openAssets(10_000)") as page:
            await page.evaluate("(grid.setSort('power', true), grid.scrollTo('a500'))")
            await focus_grid(page)
            await page.press("ArrowDown", "ArrowDown")
            name = await page.evaluate("active()")
            top = "document.querySelector('.table-active').getBoundingClientRect().top"
            before = await page.evaluate(top)
            await page.evaluate("(assets[0].power = 5000, grid.setRows(assets))")
            assert await page.evaluate("active()") == name
            assert abs(await page.evaluate(top) - before) < 1


async def test_an_update_sorts_again_but_not_under_the_pointer(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{ASSETS} openAssets(1000)") as page:
            await page.evaluate("grid.setSort('power', true)")
            first = await page.evaluate(FIRST_KEY)
            left, top = await page.call(
                ".table-body", "function () { const r = this.getBoundingClientRect(); return [r.x, r.y]; }"
            )
            await page.evaluate("(assets[5].power = 5000, grid.update(['a5']))")
            with trio.move_on_after(1.5):
                while True:
                    await page.move_mouse(left + 50, top + 40)
                    assert await page.evaluate(FIRST_KEY) == first
            await page.move_mouse(left + 50, 5)
            await page.wait_for(f"{FIRST_KEY} === 'a5'")


async def test_an_update_writes_only_cells_whose_text_changed(chromium: Chromium, origin: str) -> None:
    observe = """
    globalThis.changed = [];
    new MutationObserver((records) => changed.push(...records.map((r) => r.target.textContent)))
        .observe(document.querySelector(".table-body"), {childList: true, subtree: true});
    """
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{ASSETS} openAssets(1000); {observe}") as page:
            await page.evaluate("(assets[3].power = 12345, grid.update(['a3', 'a4', 'a900']))")
            await page.wait_for("changed.length > 0")
            assert await page.evaluate("changed") == ["12345"]


async def test_a_filter_that_nothing_matches_says_so(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{ASSETS} openAssets(1000)") as page:
            await page.evaluate("grid.setFilter((row) => row.name.includes('99'))")
            assert await page.evaluate("grid.shownCount()") == 19
            await page.evaluate("grid.setFilter(() => false)")
            assert await page.text("#place [role=status]") == "No row matches the filter."


async def test_states_do_not_move_the_table(chromium: Chromium, origin: str) -> None:
    height = "document.querySelector('.table').getBoundingClientRect().height"
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{ASSETS} openAssets(0)") as page:
            before = await page.evaluate(height)
            for state in ("loading", "empty", "error"):
                await page.evaluate(f"grid.setState({{kind: '{state}', message: 'It is {state}.'}})")
                assert await page.text("#place [role=status]") == f"It is {state}."
                assert await page.evaluate(height) == before


async def test_a_button_keeps_the_focus_until_its_row_is_gone(chromium: Chromium, origin: str) -> None:
    column = """{columns: [{id: "act", label: "", width: 100, render: (row, cell) => {
        const button = document.createElement("button");
        button.textContent = row.id;
        cell.replaceChildren(button);
    }}]}"""
    focused = "document.activeElement.textContent"
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{ASSETS} openAssets(1000, {column})") as page:
            await page.evaluate("document.querySelector('.table-body button').focus()")
            assert await page.evaluate(focused) == "a0"
            # It is made anew, and is still the one with the focus.
            await page.evaluate("grid.setRows([...assets])")
            assert await page.evaluate(focused) == "a0"
            await page.evaluate("grid.setRows([{id: 'new', name: 'new', power: 0}, ...assets])")
            assert await page.evaluate(focused) == "a0"
            await page.evaluate("grid.scrollTo('a900')")
            assert await page.evaluate("document.activeElement.role") == "grid"
            await page.evaluate("document.querySelector('.table-body button').focus()")
            await page.evaluate("grid.setFilter(() => false)")
            assert await page.evaluate("document.activeElement.role") == "grid"


async def test_the_first_cell_is_a_link_and_a_click_opens(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{ASSETS} openAssets(10)") as page:
            await page.click('[href="/assets/a3"]')
            await page.click("[aria-rowindex='6'] [aria-colindex='2']")
            assert await page.evaluate("opened") == ["a3", "a4"]


async def test_an_unknown_column_and_a_key_twice_are_refused(chromium: Chromium, origin: str) -> None:
    said = "(() => { try { %s } catch (error) { return error.message; } })()"
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{ASSETS} openAssets(3)") as page:
            message = await page.evaluate(said % "grid.setRows([...assets, assets[1]])")
            assert message == "rows 1 and 3 have the same key, a1: keys must be unique"
            assert "volts is no column" in await page.evaluate(said % "grid.setSort('volts')")


async def test_a_table_meets_the_accessibility_rules(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{ASSETS} openAssets(100); grid.select('a1')") as page:
            await focus_grid(page)
            assert await find_violations(page) == []


async def test_the_end_of_the_signal_removes_the_table(chromium: Chromium, origin: str) -> None:
    script = f"{ASSETS} openAssets(100); grid.setSort('power'); grid.update(['a1']); stop.abort()"
    with trio.fail_after(60):
        async with open_component(chromium, origin, script) as page:
            assert await page.evaluate("place.childElementCount") == 0
