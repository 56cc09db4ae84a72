"""Takes the pictures of the console: the default fleet is dispatched, a site trips, an alarm is acknowledged.

Usage: scripts/screenshots [--output docs/images]

Everything runs as an operator has it: headend, agents, console, each a process, and a Chromium. What the
pictures show is waited for. They are of 1440 by 900 pixels, light and dark.
"""

import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

import click
import trio

from tests.browser.chromium import MISSING, Chromium, ChromiumError, find_chromium, open_chromium
from tests.browser.consoles import Console, open_console
from tests.browser.context import open_context
from tests.browser.page import Page
from trioder.client import AsyncHeadendClient, HeadendError
from trioder.domain.fleet import Fleet
from trioder.fleet import load_fleet

_ROOT: Final = Path(__file__).parent.parent
_SIZE: Final = (1440, 900)
_SCHEMES: Final = ("light", "dark")
_NO_CHROMIUM, _FAILED = 2, 1

# One after the other, each to its end: the curve of the last 15 minutes.
_TRIPPED: Final = "Crimson"
_SHORT_SITE: Final = "RE Garland"
_SHORT_MW, _SHORT_S = 100.0, 30
_EARLIER: Final = ((-600.0, 70), (900.0, 70))
_LAST_MW, _LAST_S = 1_500.0, 3_600
# Later than all of these, also where the fleet takes a minute to connect. From the launcher's start.
_TRIP_AT_S: Final = 270
_SCENARIO: Final = f"""\
name: A site trips
actions:
  - do: trip
    assets: {{sites: [{_TRIPPED}]}}
    at_s: {_TRIP_AT_S}
"""
# Of each of its assets: it reports the fault, and refuses the setpoint of the new split.
_ALARMS: Final = ("device_fault", "dispatch_rejected")
_TOLERANCE_MW: Final = 1.0
_COMMENT: Final = "Crew is on its way"
_POLL_S: Final = 0.5
_WITHIN_S: Final = 900.0

# The page has all of its values, and what was drawn last is on the screen.
_COMPLETE: Final = """
document.documentElement.dataset.link === "live" && document.fonts.status === "loaded"
    && !document.body.innerText.match(/Loading|loading …|connecting …/)
"""
_DRAWN: Final = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"


class _Picture(NamedTuple):
    """A page, and patterns of what its text has when what it is about has happened."""

    name: str
    path: str
    shows: tuple[str, ...]


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=_ROOT / "docs" / "images",
    show_default="docs/images",
    help="Folder of the pictures.",
)
def main(output: Path) -> None:
    """Take the pictures of the console; exit 2 without Chromium."""
    if find_chromium() is None:
        click.echo(f"screenshots: {MISSING}", err=True)
        sys.exit(_NO_CHROMIUM)
    # So that all that was started ends, as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    output.mkdir(parents=True, exist_ok=True)
    fleet = load_fleet(_ROOT / "assets.yaml")
    # The database has a socket below the folder, whose path has to be short.
    with tempfile.TemporaryDirectory(prefix="trioder-") as name:
        folder = Path(name)
        scenario = folder / "scenario.yaml"
        scenario.write_text(_SCENARIO, encoding="utf-8")
        try:
            with (
                open_chromium() as chromium,
                open_console(folder, fleet, scenario=scenario) as console,
            ):
                trio.run(_take_all, chromium, console, output)
        except (ChromiumError, HeadendError, trio.TooSlowError) as error:
            click.echo(f"screenshots: {error or 'what is to be shown has not happened in time'}", err=True)
            sys.exit(_FAILED)


async def _take_all(chromium: Chromium, console: Console, output: Path) -> None:
    with trio.fail_after(_WITHIN_S):
        pictures = await _operate(console)
        async with open_context(chromium, console.origin) as context:
            page = await context.open_page(size=_SIZE)
            for picture in pictures:
                await _take(page, picture, output)


async def _operate(console: Console) -> list[_Picture]:
    """Dispatch the fleet until a site has tripped, acknowledge the alarm, and return what is to be shown."""
    async with AsyncHeadendClient(f"http://{console.rest}", token="") as client:
        await _dispatch_earlier(client, console.fleet)
        click.echo(f"dispatching {_LAST_MW:g} MW")
        last = await client.dispatch(fleet=True, mw=_LAST_MW, duration_s=_LAST_S, allocations=False)
        await client.wait_for_dispatch(last.dispatch_id, until="tracking")
        click.echo(f"waiting until {_TRIPPED} trips")
        site_id = _site_id(console.fleet, _TRIPPED)
        asset_ids = [asset.id for asset in console.fleet.assets if asset.site_id == site_id]
        while True:
            alarm_ids = await _alarms_of(client, asset_ids)
            if len(alarm_ids) == len(_ALARMS) * len(asset_ids):
                break
            await trio.sleep(_POLL_S)
        for alarm_id in await _alarms_of(client, asset_ids[-1:]):
            await client.acknowledge_alarm(alarm_id, comment=_COMMENT)
        # The others take over what they can.
        while True:
            sums = await client.fleet()
            if sums.current_mw is not None and abs(sums.current_mw - _LAST_MW) < _TOLERANCE_MW:
                break
            await trio.sleep(_POLL_S)
    return [
        _Picture("fleet", "/", ("✓ acknowledged", _SHORT_SITE, rf"delivered\s+{_LAST_MW:,.1f} MW")),
        _Picture("asset", f"/assets/{asset_ids[0]}?range=1h", ("2 open alarms",)),
        _Picture("dispatch", f"/dispatch/{last.dispatch_id}", ("rejected",)),
    ]


async def _dispatch_earlier(client: AsyncHeadendClient, fleet: Fleet) -> None:
    site_id = _site_id(fleet, _SHORT_SITE)
    click.echo(f"dispatching {_SHORT_MW:g} MW to {_SHORT_SITE}, which is more than it has")
    short = await client.dispatch(site_id=site_id, mw=_SHORT_MW, duration_s=_SHORT_S)
    await client.wait_for_dispatch(short.dispatch_id)
    for mw, duration_s in _EARLIER:
        click.echo(f"dispatching {mw:g} MW for {duration_s} s")
        earlier = await client.dispatch(fleet=True, mw=mw, duration_s=duration_s, allocations=False)
        await client.wait_for_dispatch(earlier.dispatch_id)


def _site_id(fleet: Fleet, name: str) -> str:
    return next(site.id for site in fleet.sites if site.name == name)


async def _alarms_of(client: AsyncHeadendClient, asset_ids: list[str]) -> list[str]:
    """Return the ids of open alarms that are waited for."""
    return [
        alarm.alarm_id
        async for alarm in client.alarms()
        if alarm.asset_id in asset_ids and alarm.kind in _ALARMS
    ]


async def _take(page: Page, picture: _Picture, output: Path) -> None:
    await page.goto(picture.path)
    for pattern in picture.shows:
        await page.wait_for(f"document.body.innerText.match({json.dumps(pattern)})")
    await page.wait_for(_COMPLETE)
    for scheme in _SCHEMES:
        await page.emulate(scheme=scheme)
        await page.evaluate(_DRAWN)
        path = output / f"console-{picture.name}-{scheme}.png"
        await page.screenshot(path)
        click.echo(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
