"""Dialogs and notices of the console in a real browser."""

from collections.abc import Iterator

import pytest
import trio

from tests.browser.axe import find_violations
from tests.browser.chromium import Chromium
from tests.browser.components import open_component, open_component_site
from tests.browser.elements import button, field

STOP = """
globalThis.ask = (more = {}) => {
    globalThis.answer = undefined;
    confirmDialog({title: "Stop Moss Landing", body: "12 batteries go to 0 MW.", danger: true,
        confirmLabel: "Stop 12 batteries", ...more}).then((value) => { answer = value; });
};
"""


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with open_component_site() as address:
        yield address


async def test_escape_is_no_and_the_focus_returns(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_component(chromium, origin, STOP) as page:
            await page.evaluate("(document.getElementById('before').focus(), ask())")
            await page.press("Escape")
            assert await page.wait_for("[answer].includes(false) && 'no'") == "no"
            assert await page.evaluate("document.activeElement.id") == "before"


async def test_enter_does_not_confirm_what_is_dangerous(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{STOP} ask()") as page:
            await page.press("Enter")
            await page.wait_for("answer === false")


async def test_a_click_confirms(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{STOP} ask()") as page:
            await page.click(button("Stop 12 batteries"))
            await page.wait_for("answer === true")


async def test_a_required_text_has_to_be_typed(chromium: Chromium, origin: str) -> None:
    confirm = "[...document.querySelectorAll('dialog button')].at(-1)"
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{STOP} ask({{requireText: 'Moss Landing'}})") as page:
            assert await page.evaluate(f"{confirm}.disabled") is True
            await page.fill(field("Type Moss Landing to confirm"), "Moss")
            await page.press("Enter")
            assert await page.evaluate(f"{confirm}.disabled") is True
            assert await page.evaluate("answer === undefined") is True
            await page.type(" Landing")
            await page.press("Enter")
            await page.wait_for("answer === true")


async def test_the_end_of_a_page_closes_its_dialog(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{STOP} ask({{signal}}); stop.abort()") as page:
            await page.wait_for("answer === false")
            assert await page.count("dialog") == 0


async def test_a_notice_is_said_once_and_can_be_closed_beside_a_dialog(
    chromium: Chromium, origin: str
) -> None:
    script = f"{STOP} ask(); toast('<b>accepted</b> by 12', {{kind: 'ok'}})"
    with trio.fail_after(60):
        async with open_component(chromium, origin, script) as page:
            assert "<b>accepted</b> by 12" in await page.text(".toasts[role=status]")
            await page.click(button("Close the notice"))
            assert await page.count(".toast") == 0


async def test_a_notice_stays_when_the_dialog_is_closed(chromium: Chromium, origin: str) -> None:
    with trio.fail_after(60):
        async with open_component(chromium, origin, f"{STOP} ask(); toast('accepted')") as page:
            await page.press("Escape")
            await page.wait_for("answer === false")
            assert await page.text(".toast-text") == "accepted"


async def test_a_dialog_meets_the_accessibility_rules(chromium: Chromium, origin: str) -> None:
    script = f"{STOP} ask({{requireText: 'Moss Landing'}}); toast('accepted', {{kind: 'warning'}})"
    with trio.fail_after(60):
        async with open_component(chromium, origin, script) as page:
            assert await find_violations(page) == []
