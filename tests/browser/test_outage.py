"""The live feed of a browser: one for all tabs, and what they show when the headend is killed under them."""

import time

import trio

from tests.browser.chromium import Chromium
from tests.browser.consoles import Console
from tests.browser.context import open_context
from tests.browser.elements import link
from tests.browser.page import Page

LOST, LIVE = "Feed lost since", "document.documentElement.dataset.link === 'live'"
WITHIN_S = 5.0
# What the browser itself logs of an upstream that does not respond.
AWAY = "status of 50[234]|net::ERR_"


async def is_grey(page: Page) -> bool:
    """Whether every live value on the page is drawn without colour."""
    return bool(
        await page.evaluate(
            """[...document.querySelectorAll(".live")].every((element) =>
                getComputedStyle(element).filter.includes("grayscale"))"""
        )
    )


async def test_eight_tabs_follow_an_outage_by_one_stream_without_a_reload(
    chromium: Chromium, small_console: Console
) -> None:
    with trio.fail_after(120):
        async with open_context(chromium, small_console.origin) as context:
            context.observer.expect(AWAY)
            pages = [await context.open_page("/") for _ in range(8)]
            for page in pages:
                await page.wait_for(LIVE)
                await page.evaluate("void (globalThis.notReloaded = true)")
            assert not await is_grey(pages[0])
            assert len(context.observer.requested("/api/stream")) == 1

            await trio.to_thread.run_sync(small_console.headend.kill)
            killed_at = time.monotonic()
            for page in pages:
                await page.wait_for_text(LOST, within_s=WITHIN_S)
            assert time.monotonic() - killed_at < WITHIN_S
            assert await is_grey(pages[0])

            await trio.to_thread.run_sync(small_console.start_headend)
            returned_at = time.monotonic()
            for page in pages:
                await page.wait_for(LIVE, within_s=WITHIN_S)
                assert LOST not in await page.text()
                assert await page.evaluate("globalThis.notReloaded")
            assert time.monotonic() - returned_at < WITHIN_S
            # Tried again, but by one of them at a time.
            assert len({request.source for request in context.observer.requested("/api/stream")}) == 1


async def test_tabs_that_nobody_sees_have_no_stream(chromium: Chromium, small_console: Console) -> None:
    def ended() -> int:
        return sum(entry.get("event") == "stream ended" for entry in small_console.headend.entries())

    with trio.fail_after(90):
        async with open_context(chromium, small_console.origin) as context:
            tabs = [await context.open_page("/agents") for _ in range(2)]
            for tab in tabs:
                await tab.be_hidden_behind_others()
                await tab.bring_to_front()
                await tab.wait_for(LIVE)
            before = ended()
            other = await context.open_page()
            await other.bring_to_front()
            while ended() == before:
                await trio.sleep(0.1)
            await tabs[0].bring_to_front()
            while len(context.observer.requested("/api/stream")) < 2:
                await trio.sleep(0.1)
            await tabs[0].wait_for(LIVE, within_s=WITHIN_S)


async def test_pages_opened_while_the_headend_is_away_fill_when_it_is_back(
    chromium: Chromium, small_console: Console
) -> None:
    asset = small_console.fleet.assets[0]
    with trio.fail_after(90):
        await trio.to_thread.run_sync(small_console.headend.kill)
        try:
            async with open_context(chromium, small_console.origin) as context:
                context.observer.expect(AWAY)
                page = await context.open_page("/")
                await page.wait_for_text(LOST)
                await page.wait_for_text("nothing here is live. The headend cannot be reached.")
                await page.click(link("Assets"))
                await page.wait_for("location.pathname === '/assets'")
                await trio.to_thread.run_sync(small_console.start_headend)
                await page.wait_for(LIVE, within_s=WITHIN_S)
                await page.wait_for_text(asset.name)
        finally:
            if small_console.headend.process and small_console.headend.process.poll() is not None:
                with trio.move_on_after(30, shield=True):
                    await trio.to_thread.run_sync(small_console.start_headend)
