"""Who may see and do what: tokens, roles, and the end of both while a page is open."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
import trio

from tests.browser.chromium import Chromium
from tests.browser.consoles import Console
from tests.browser.context import open_context, open_page
from tests.browser.elements import button, field, link
from tests.browser.page import Page
from tests.browser.test_pages import until_loaded

# Chromium itself logs responses of 401.
UNAUTHORIZED = "status of 401"
LIVE = "document.documentElement.dataset.link === 'live'"
COMMANDS = ("Stop", "Dispatch …", "Cancel …", "New schedule", "Acknowledge", "Resume")
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
            await page.wait_for_text("viewer")
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
        async with open_page(chromium, access_console.origin) as page:
            page.observer.expect(UNAUTHORIZED)
            for destination in ("//example.org/", "/\\example.org", "javascript:alert(1)"):
                await page.goto(f"/login?next={destination}")
                await log_in(page, access_console.tokens["viewer"])
                await page.wait_for("location.pathname !== '/login'")
                await page.wait_for(LIVE)
                assert await page.evaluate("location.origin") == access_console.origin


def revoke(console: Console, name: str) -> None:
    console.access().revoke_token(name)


def expire(console: Console, name: str) -> None:
    """Let a token expire in a second."""
    path = console.access().path
    document = json.loads(path.read_text())
    (token,) = (token for token in document["tokens"] if token["name"] == name)
    token["expires_at"] = (datetime.now(UTC) + timedelta(seconds=1)).isoformat(timespec="milliseconds")
    replacement = path.with_name("replacement")
    replacement.touch(mode=0o600)
    replacement.write_text(json.dumps(document))
    replacement.rename(path)


@pytest.mark.parametrize("end", [revoke, expire])
async def test_a_token_that_ends_leads_to_the_log_in(
    chromium: Chromium, access_console: Console, end: Callable[[Console, str], None]
) -> None:
    name = f"to {end.__name__}"
    with trio.fail_after(60):
        async with open_page(chromium, access_console.origin, "/login?next=/agents") as page:
            # Each request with a token that has ended counts as a wrong one.
            page.observer.expect(f"{UNAUTHORIZED}|status of 429")
            await log_in(page, access_console.tokens[name])
            await page.wait_for_text(name)
            await page.wait_for(LIVE)
            await trio.to_thread.run_sync(end, access_console, name)
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


async def test_a_log_out_that_does_not_reach_the_console_says_so(
    chromium: Chromium, access_console: Console
) -> None:
    with trio.fail_after(60):
        async with open_page(chromium, access_console.origin, "/login?next=/agents") as page:
            page.observer.expect(UNAUTHORIZED)
            await log_in(page, access_console.tokens["viewer"])
            await page.wait_for_text("live")
            await page.evaluate("void (globalThis.fetch = () => Promise.reject(new TypeError()))")
            await page.click(button("Log out"))
            await page.wait_for_text("Not logged out")
            assert await page.evaluate("location.pathname") == "/agents"


async def test_another_tenant_s_fleet_is_not_there(chromium: Chromium, access_console: Console) -> None:
    asset = access_console.fleet.assets[0]
    with trio.fail_after(60):
        async with open_page(chromium, access_console.origin, "/login?next=/assets") as page:
            page.observer.expect(f"{UNAUTHORIZED}|status of 404")
            await log_in(page, access_console.tokens["guest"])
            await page.wait_for_text("live")
            await page.goto(f"/assets/{asset.id}")
            await page.wait_for_text("live")
            await page.wait_for_text("guest")
            text = await page.text()
            assert asset.name not in text
            assert asset.site_name not in text


async def commands_on(page: Page, paths: Sequence[str]) -> dict[str, set[str]]:
    """Return which commands have a button or link, by page."""
    found = {}
    for path in paths:
        await page.goto(path)
        await until_loaded(page)
        texts = await page.evaluate(
            """[...document.querySelectorAll("button, a.button")]
                .filter((element) => element.checkVisibility()).map((element) => element.innerText)"""
        )
        found[path] = {word for word in COMMANDS if any(word in text for text in texts)}
    return found


async def test_a_viewer_has_none_of_the_commands_that_an_operator_has(
    chromium: Chromium, access_console: Console
) -> None:
    asset = access_console.fleet.assets[0]
    with trio.fail_after(120):
        async with access_console.open_rest("operator") as api:
            command = {"asset_id": asset.id, "mw": 0.1, "duration_s": 3600}
            dispatch = await api.post("/dispatch?wait=ack", command)
        expected = {
            "/": {"Stop"},
            "/dispatch": {"Stop", "Dispatch …"},
            f"/dispatch/{dispatch['dispatch_id']}": {"Stop", "Cancel …"},
            "/schedules": {"Stop", "New schedule"},
            f"/assets/{asset.id}": {"Stop", "Dispatch …"},
            f"/sites/{asset.site_id}": {"Stop", "Dispatch …"},
        }
        for role in ("operator", "viewer"):
            async with open_page(chromium, access_console.origin, "/login?next=/agents") as page:
                page.observer.expect(UNAUTHORIZED)
                await log_in(page, access_console.tokens[role])
                await page.wait_for_text(role)
                found = await commands_on(page, list(expected))
            assert found == (expected if role == "operator" else {path: set() for path in expected})


async def test_the_audit_is_for_administrators(chromium: Chromium, access_console: Console) -> None:
    with trio.fail_after(60):
        async with open_page(chromium, access_console.origin, "/login?next=/audit") as page:
            page.observer.expect(f"{UNAUTHORIZED}|status of 403")
            await log_in(page, access_console.tokens["operator"])
            await page.wait_for_text("operator")
            await page.wait_for("/admin/.test(document.querySelector('main').innerText)")
            assert await page.count(link("Audit")) == 0


async def test_another_user_s_log_in_leaves_nothing_of_the_one_before_in_any_tab(
    chromium: Chromium, access_console: Console
) -> None:
    asset = access_console.fleet.assets[0]
    token = access_console.access().create_token("the next", role="operator", tenant="another")
    held = "import('/static/core/fleet-state.js').then(({fleet}) => fleet.rows.size + fleet.assets.size)"
    with trio.fail_after(90):
        async with open_context(chromium, access_console.origin) as context:
            context.observer.expect(UNAUTHORIZED)
            first = await context.open_page("/login?next=/assets")
            await log_in(first, access_console.tokens["viewer"])
            await first.wait_for_text(asset.name)
            second = await context.open_page("/assets")
            await second.wait_for_text(asset.name)
            await second.click(button("Log out"))
            await first.wait_for("location.pathname === '/login'")
            await second.wait_for("location.pathname === '/login'")
            await log_in(second, token)
            for tab in (second, first):
                await tab.wait_for_text("the next")
                await tab.wait_for(f"({held}).then((size) => size === 0)")
                assert asset.name not in await tab.text()
            await second.wait_for_text("live")
            assert await second.evaluate(f"await {held}") == 0
