"""Who may see and do what: tokens, roles, and the end of both while a page is open."""

import trio

from tests.browser.chromium import Chromium
from tests.browser.consoles import Console
from tests.browser.context import open_page
from tests.browser.elements import button, field, link
from tests.browser.page import Page

# Chromium itself logs responses of 401.
UNAUTHORIZED = "status of 401"
REFUSED = "The headend does not accept this token"


async def log_in(page: Page, token: str) -> None:
    await page.fill(field("Token"), token)
    await page.click(button("Log in"))


async def test_a_log_in_leads_to_the_page_that_was_asked_for(
    chromium: Chromium, access_console: Console
) -> None:
    with trio.fail_after(60):
        async with open_page(chromium, access_console.origin, "/agents") as page:
            page.observer.expect(UNAUTHORIZED)
            await page.wait_for("location.pathname === '/login'")
            await log_in(page, access_console.tokens["viewer"])
            await page.wait_for("location.pathname === '/agents'")
            await page.wait_for_text("the viewer")
            await page.wait_for_text("live")
            assert "trioder_" not in await page.evaluate(
                "[document.cookie, ...Object.values(localStorage), ...Object.values(sessionStorage)].join()"
            )


async def test_a_wrong_token_is_refused_with_the_reason(chromium: Chromium, access_console: Console) -> None:
    with trio.fail_after(60):
        async with open_page(chromium, access_console.origin, "/login") as page:
            page.observer.expect(UNAUTHORIZED)
            await log_in(page, "trioder_" + "x" * 43)
            await page.wait_for_text(REFUSED)
            assert await page.evaluate("location.pathname") == "/login"
            assert not page.observer.requested("/api/stream")


async def test_a_log_in_leads_to_no_other_host(chromium: Chromium, access_console: Console) -> None:
    with trio.fail_after(90):
        for destination in (
            "https://example.org/",
            "//example.org/",
            "/\\example.org",
            "javascript:alert(1)",
        ):
            path = f"/login?next={destination}"
            async with open_page(chromium, access_console.origin, path) as page:
                page.observer.expect(UNAUTHORIZED)
                await log_in(page, access_console.tokens["viewer"])
                await page.wait_for_text("the viewer")
                assert await page.evaluate("location.origin") == access_console.origin


async def test_a_token_that_ends_leads_to_the_log_in_from_every_tab(
    chromium: Chromium, access_console: Console
) -> None:
    access = access_console.access()
    token = access.create_token("for a while", role="viewer", tenant="default")
    with trio.fail_after(60):
        async with open_page(chromium, access_console.origin, "/login?next=/agents") as page:
            page.observer.expect(UNAUTHORIZED)
            await log_in(page, token)
            await page.wait_for_text("live")
            access.revoke_token("for a while")
            await page.wait_for("location.pathname === '/login'")
            assert await page.evaluate("new URLSearchParams(location.search).get('next')") == "/agents"


async def test_after_a_log_out_nothing_is_left(chromium: Chromium, access_console: Console) -> None:
    with trio.fail_after(60):
        async with open_page(chromium, access_console.origin, "/login?next=/agents") as page:
            page.observer.expect(UNAUTHORIZED)
            await log_in(page, access_console.tokens["admin"])
            await page.find(link("Audit"))
            await page.click(button("Log out"))
            await page.wait_for("location.pathname === '/login'")
            await page.goto("/assets")
            await page.wait_for("location.pathname === '/login'")
            assert access_console.fleet.assets[0].name not in await page.text()


async def test_another_tenant_s_fleet_is_not_there(chromium: Chromium, access_console: Console) -> None:
    asset = access_console.fleet.assets[0]
    token = access_console.access().create_token("a guest", role="operator", tenant="elsewhere")
    with trio.fail_after(60):
        async with open_page(chromium, access_console.origin, "/login?next=/assets") as page:
            page.observer.expect(f"{UNAUTHORIZED}|status of 404")
            await log_in(page, token)
            await page.wait_for_text("live")
            await page.goto(f"/assets/{asset.id}")
            await page.wait_for_text("live")
            await page.wait_for_text("a guest")
            text = await page.text()
            assert asset.name not in text
            assert asset.site_name not in text


async def test_a_viewer_has_no_commands(chromium: Chromium, access_console: Console) -> None:
    asset = access_console.fleet.assets[0]
    paths = ("/", "/dispatch", "/schedules", "/alarms", f"/assets/{asset.id}", f"/sites/{asset.site_id}")
    commands = ("Dispatch", "Stop", "Emergency stop", "Acknowledge", "Cancel", "New schedule", "Resume")
    with trio.fail_after(90):
        async with open_page(chromium, access_console.origin, "/login") as page:
            page.observer.expect(UNAUTHORIZED)
            await log_in(page, access_console.tokens["viewer"])
            await page.wait_for_text("live")
            for path in paths:
                await page.goto(path)
                await page.wait_for_text("live")
                for command in commands:
                    assert await page.count(button(command)) == 0, (path, command)
            assert await page.count(link("Audit")) == 0
