"""What an operator commands in the browser, from the click to what the batteries do."""

import json
from collections import Counter
from typing import Any

import trio

from tests.browser.chromium import Chromium
from tests.browser.consoles import Console
from tests.browser.context import open_page
from tests.browser.elements import Locator, button, field
from tests.browser.page import Page
from tests.browser.records import wait_for_alarm
from tests.e2e.processes import Api
from trioder.domain.fleet import Site

LIVE = "document.documentElement.dataset.link === 'live'"
HEADER = "document.querySelector('.page-header')?.innerText"


def largest_site(console: Console, *, place: int = 0) -> Site:
    """Return the site with the most assets, or the next one."""
    assets = Counter(asset.site_id for asset in console.fleet.assets).most_common()
    return next(site for site in console.fleet.sites if site.id == assets[place][0])


async def choose_site(page: Page, site: Site) -> None:
    await page.click(button("Site", within=".dispatch-form"))
    await page.click(Locator(role="combobox", name="Site"))
    await page.type(site.name)
    await page.press("Enter")


async def dispatch(page: Page, site: Site, mw: str) -> str:
    """Fill in the form for five minutes, confirm, and return the id of the dispatch whose page then opens."""
    await page.goto("/dispatch")
    await choose_site(page, site)
    await page.fill(field("Power in MW"), mw)
    await page.click(button("5 min"))
    await page.click(button("Dispatch …"))
    await page.click(button("Dispatch now"))
    await page.wait_for("location.pathname.startsWith('/dispatch/')")
    return str(await page.evaluate("location.pathname.split('/').pop()"))


async def rows_of(page: Page, label: str) -> list[dict[str, str]]:
    """Return the rows in sight of the table with this accessible name, each by the names of its columns."""
    return list(
        await page.call(
            Locator(role="grid", name=label),
            """function () {
                const cells = (row, role) => [...row.querySelectorAll(`[role=${role}]`)];
                // Below its name a column has its unit.
                const names = cells(this, "columnheader").map((cell) => cell.innerText.split("\\n")[0]);
                return [...this.querySelectorAll("[role=row]:has([role=gridcell])")].map((row) =>
                    Object.fromEntries(cells(row, "gridcell").map((cell, n) =>
                        [names[n], cell.innerText.replace(/\\s+/g, " ").trim()])));
            }""",
        )
    )


def posted(page: Page, path: str) -> list[dict[str, Any]]:
    """Return the bodies that were posted to exactly this path, in their order."""
    requests = [request for request in page.observer.requested(path) if request.method == "POST"]
    return [json.loads(request.body) for request in requests if request.path.partition("?")[0] == path]


async def until_state(api: Api, dispatch_id: str, state: str) -> dict[str, Any]:
    while (record := await api.get(f"/dispatch/{dispatch_id}"))["state"] != state:
        await trio.sleep(0.1)
    return dict(record)


async def test_a_dispatch_is_what_its_preview_was_and_is_followed_until_it_tracks(
    chromium: Chromium, console: Console
) -> None:
    site = largest_site(console)
    with trio.fail_after(90):
        async with open_page(chromium, console.origin, "/dispatch") as page, console.open_rest() as api:
            await choose_site(page, site)
            await page.fill(field("Power in MW"), "-3.5")
            await page.click(button("5 min"))
            await page.find("button[type=submit]:enabled")
            previewed = await rows_of(page, "Share of each asset")
            await page.click(button("Dispatch …"))
            await page.click(button("Dispatch now"))
            await page.wait_for("location.pathname.startsWith('/dispatch/')")
            await page.wait_for(f"/tracking/i.test({HEADER})")
            dispatch_id = await page.evaluate("location.pathname.split('/').pop()")
            record = await api.get(f"/dispatch/{dispatch_id}")
            await page.wait_for_text("acknowledged")
            shown = await rows_of(page, "Assets of this dispatch")
    *_, preview, command = posted(page, "/api/dispatch")
    assert preview == {"site_id": site.id, "mw": -3.5, "duration_s": 300, "dry_run": True}
    assert command == preview | {"dry_run": False}
    names = {asset.id: asset.name for asset in console.fleet.assets}
    commanded = {names[row["asset_id"]]: row["mw"] for row in record["allocations"]}
    assert len(commanded) > 2
    shares = {row["Asset"]: float(row["Share"].replace("\N{MINUS SIGN}", "-")) for row in previewed}
    # Three digits are shown.
    assert shares.keys() == commanded.keys()
    assert all(abs(shares[name] - mw) <= 0.005 * abs(mw) for name, mw in commanded.items())
    assert {row["Asset"] for row in shown} == commanded.keys()
    assert sum(commanded.values()) == record["mw"] == -3.5


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until the control with this text or label has the focus."""
    for _ in range(60):
        await page.press("Tab")
        label = "document.activeElement.labels?.[0]?.innerText ?? document.activeElement.innerText"
        if await page.evaluate(label) == name:
            return
    raise AssertionError(f"{name!r} is not reached by Tab")


async def test_a_dispatch_is_commanded_by_the_keyboard_alone(chromium: Chromium, console: Console) -> None:
    asset = console.fleet.assets[7]
    with trio.fail_after(90):
        async with open_page(chromium, console.origin, f"/assets/{asset.id}") as page:
            await page.wait_for_text("Dispatch …")
            await tab_to(page, "Dispatch …")
            await page.press("Enter")
            await page.wait_for("location.pathname === '/dispatch'")
            await tab_to(page, "Power in MW")
            await page.type("-0.5")
            await page.find("button[type=submit]:enabled")
            await tab_to(page, "Dispatch …")
            await page.press("Enter")
            # A second press of Enter must not confirm it.
            await page.wait_for("document.activeElement.innerText === 'Back'")
            await tab_to(page, "Dispatch now")
            await page.press("Enter")
            await page.wait_for(f"/tracking/i.test({HEADER})")
    *_, command = posted(page, "/api/dispatch")
    assert (command["asset_id"], command["mw"], command["dry_run"]) == (asset.id, -0.5, False)


async def test_a_dispatch_that_is_cancelled_ends_at_its_reversion(
    chromium: Chromium, console: Console
) -> None:
    with trio.fail_after(90):
        async with open_page(chromium, console.origin, "/dispatch") as page, console.open_rest() as api:
            dispatch_id = await dispatch(page, largest_site(console, place=1), "2")
            await page.click(button("Cancel …"))
            await page.click(button("Keep it"))
            await page.click(button("Cancel …"))
            await page.click(button("Cancel the dispatch"))
            await page.wait_for(f"/cancelled/i.test({HEADER})")
            assert await page.count(button("Cancel …")) == 0
            await until_state(api, dispatch_id, "cancelled")


async def test_a_power_that_cannot_be_commanded_is_refused_before_it_is_sent(
    chromium: Chromium, console: Console
) -> None:
    with trio.fail_after(60):
        async with open_page(chromium, console.origin, "/dispatch") as page:
            await choose_site(page, largest_site(console))
            for text in ("1,5", "ten", ""):
                await page.fill(field("Power in MW"), text)
                await page.find("button[type=submit]:disabled")
                await page.press("Enter")
            assert await page.count(button("Dispatch now")) == 0
            assert not [body for body in posted(page, "/api/dispatch") if not body["dry_run"]]


async def test_an_emergency_stop_is_confirmed_seen_on_every_page_and_resumed(
    chromium: Chromium, console: Console
) -> None:
    site = largest_site(console, place=2)
    assets = [asset.id for asset in console.fleet.assets if asset.site_id == site.id]
    with trio.fail_after(90):
        async with open_page(chromium, console.origin, f"/sites/{site.id}") as page:
            await page.wait_for(LIVE)
            await page.click(button("Stop …", within="header"))
            await page.wait_for_text(f"{len(assets)} assets to 0 MW, at once.")
            # The first button has the focus, and does nothing.
            await page.press("Enter")
            assert not posted(page, "/api/stop")
            await page.click(button("Stop …", within="header"))
            await page.click(button("Stop now"))
            await page.wait_for_text(f"Acknowledged by {len(assets)} of {len(assets)}.")
            assert posted(page, "/api/stop") == [{"site_id": site.id}]
            await page.click(button("Close"))
            for path in ("/alarms", "/assets"):
                await page.goto(path)
                await page.wait_for_text(f"Emergency stop: {site.name}")
            await page.click(button("Resume …"))
            await page.click(button("Resume"))
            await page.wait_for_text("at 0 MW until the next dispatch")
            await page.click(button("Close"))
            await page.wait_for("!document.body.innerText.includes('Emergency stop:')")
            assert posted(page, "/api/resume") == [{"site_id": site.id}]


async def test_an_alarm_is_acknowledged_with_a_comment(chromium: Chromium, console: Console) -> None:
    asset = console.fleet.assets[-1]
    with trio.fail_after(90):
        async with console.open_rest() as api:
            alarm = await wait_for_alarm(api, asset.id)
            async with open_page(chromium, console.origin, "/alarms") as page:
                await page.wait_for_text(asset.name)
                await page.goto(f"/alarms/{alarm['alarm_id']}")
                await page.wait_for_text(asset.name)
                await page.fill(field("Comment (optional)"), "on site at 15:00")
                await page.click(button("Acknowledge"))
                await page.wait_for("document.body.innerText.includes('on site at 15:00')")
                await page.goto("/alarms")
                await page.wait_for_text("anonymous")
                assert await page.count(button("Acknowledge")) == 0
            record = await api.get(f"/alarms/{alarm['alarm_id']}")
    assert record["acknowledged_by"] == "anonymous"
    assert record["comment"] == "on site at 15:00"


async def test_a_schedule_is_created_as_previewed_one_occurrence_is_skipped_and_it_is_cancelled(
    chromium: Chromium, console: Console
) -> None:
    asset = console.fleet.assets[5]
    with trio.fail_after(90):
        async with open_page(chromium, console.origin, "/schedules") as page, console.open_rest() as api:
            await page.click(button("New schedule"))
            await page.click(button("Asset", within=".schedule-form"))
            await page.click(Locator(role="combobox", name="Asset"))
            await page.type(asset.name)
            await page.press("Enter")
            await page.click(button("Daily"))
            await page.fill(field("MW of step 1"), "0.5")
            await page.fill(field("Duration of step 1"), "30")
            await page.click(button("Create schedule"))
            await page.wait_for("location.pathname.startsWith('/schedules/')")
            schedule_id = await page.evaluate("location.pathname.split('/').pop()")
            schedule = await api.get(f"/schedules/{schedule_id}")
            # The news of it replaces the rows, maybe between press and release.
            await page.reload()
            await page.wait_for_text("pending")
            (first, *_) = await page.evaluate(
                "[...document.querySelectorAll('[aria-label^=Skip]')].map(b => b.ariaLabel)"
            )
            await page.click(button(first))
            await page.wait_for_text("skipped")
            await page.click(button("Cancel schedule …"))
            await page.click(button("Cancel schedule"))
            await page.wait_for_text("◻ cancelled")
            cancelled = await api.get(f"/schedules/{schedule_id}")
    *_, preview, created = posted(page, "/api/schedules")
    assert created == {name: value for name, value in preview.items() if name != "dry_run"}
    assert schedule["target"] == {"kind": "asset", "id": asset.id}
    assert schedule["steps"] == [{"duration_s": 1800, "mw": 0.5}]
    assert schedule["recurrence"] == "FREQ=DAILY"
    assert not cancelled["active"]
