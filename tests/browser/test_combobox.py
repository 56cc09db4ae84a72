"""A field that searches a list, by keyboard and as assistive technology has it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.browser.axe import find_violations
from tests.browser.chromium import Chromium
from tests.browser.components import open_component, open_component_site
from tests.browser.elements import Locator
from tests.browser.page import Page

FIELD = Locator(role="combobox", name="Site")
NAMES = ["Alpha", "Beta", "Betelgeuse", '<img src="x" onerror="alert(1)">']
SCRIPT = f"""
globalThis.ready = false;
globalThis.chosen = [];
import("/static/components/combobox.js").then(({{combobox}}) => {{
    const names = {NAMES!r};
    const field = combobox({{
        label: "Site", signal, onChoose: ({{key}}) => chosen.push(key),
        search: (text) => names.filter((name) => name.toLowerCase().includes(text.toLowerCase()))
            .map((name) => ({{key: name, text: name}})),
    }});
    place.append(field.element);
    globalThis.ready = true;
}});
"""
SHOWN = "[...document.querySelectorAll('[role=listbox]:not([hidden]) [role=option]')].map((o) => o.innerText)"
ACTIVE = """(() => {
    const id = document.activeElement.getAttribute("aria-activedescendant");
    const option = id && document.getElementById(id);
    return option ? [option.innerText, option.getAttribute("aria-selected")] : null;
})()"""


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with open_component_site() as address:
        yield address


@asynccontextmanager
async def open_field(chromium: Chromium, origin: str) -> AsyncIterator[Page]:
    with trio.fail_after(60):
        async with open_component(chromium, origin, SCRIPT) as page:
            await page.wait_for("globalThis.ready")
            await page.click(FIELD)
            yield page


async def test_what_is_typed_is_searched_and_chosen_by_keyboard(chromium: Chromium, origin: str) -> None:
    async with open_field(chromium, origin) as page:
        await page.type("bet")
        assert await page.evaluate(SHOWN) == ["Beta", "Betelgeuse"]
        assert await page.evaluate(ACTIVE) == ["Beta", "true"]
        await page.press("ArrowDown")
        assert await page.evaluate(ACTIVE) == ["Betelgeuse", "true"]
        await page.press("ArrowDown")
        assert await page.evaluate(ACTIVE) == ["Beta", "true"]
        assert await page.call(FIELD, "function () { return this.getAttribute('aria-expanded'); }") == "true"
        assert await find_violations(page) == []
        await page.press("ArrowUp", "Enter")
        assert await page.evaluate("chosen") == ["Betelgeuse"]
        assert await page.call(FIELD, "function () { return this.value; }") == "Betelgeuse"
        assert await page.evaluate(SHOWN) == []


async def test_escape_keeps_what_was_chosen(chromium: Chromium, origin: str) -> None:
    async with open_field(chromium, origin) as page:
        await page.press("ArrowDown", "Enter")
        await page.fill(FIELD, "alp")
        await page.press("Escape")
        assert await page.evaluate("chosen") == ["Alpha"]
        assert await page.call(FIELD, "function () { return this.value; }") == "Alpha"


async def test_an_option_is_chosen_by_mouse(chromium: Chromium, origin: str) -> None:
    async with open_field(chromium, origin) as page:
        await page.click(Locator(role="option", name=NAMES[-1]))
        assert await page.evaluate("chosen") == [NAMES[-1]]


async def test_nothing_found_is_said(chromium: Chromium, origin: str) -> None:
    async with open_field(chromium, origin) as page:
        await page.type("gamma")
        await page.wait_for_text("Nothing has this in its name.")
        await page.press("Enter")
        assert await page.evaluate("chosen") == []
