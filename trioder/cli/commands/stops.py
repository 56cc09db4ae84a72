"""`trioder stop` and `trioder resume`: emergency stops of an asset, a site or the fleet."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import click

from trioder.cli.completing import AssetName, SiteName
from trioder.cli.confirming import confirm
from trioder.cli.connection import asset_names, find_assets, find_site, open_client
from trioder.cli.options import headend_command, output_of
from trioder.cli.output import Output
from trioder.cli.quantities import counted, time_text
from trioder.cli.tables import Column, Table
from trioder.cli.targets import target_text
from trioder.client import HeadendUnavailable
from trioder.schemas.resources import SiteRow
from trioder.schemas.stops import ResumeResponse, StopInForceRow, StopResponse, StopRow

T = TypeVar("T")

# Between the attempts of one command: a headend is restarted in less than all of them.
_DELAYS_S = (0.25, 0.5, 1.0, 2.0, 2.0)
_MAX_DELAY_S = 5.0

_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group("stop")
def stop() -> None:
    """Stop in an emergency: 0 MW at once, held until it is resumed, before all other dispatches."""


@click.group("resume")
def resume() -> None:
    """End a stop. The target must be the one that was stopped."""


@headend_command("asset")
@click.argument("asset", metavar="ASSET", type=AssetName())
def stop_asset(context: click.Context, *, asset: str) -> None:
    """Stop one asset."""
    output = output_of(context)
    with open_client(context) as client:
        [row] = find_assets(client, (asset,))
        _print_stops(output, _repeated(partial(client.stop, asset_id=row.id)), {row.id: row.name})


@headend_command("site")
@click.argument("site", metavar="SITE", type=SiteName())
def stop_site(context: click.Context, *, site: str) -> None:
    """Stop all assets of a site."""
    output = output_of(context)
    with open_client(context) as client:
        row = find_site(client, site)
        _print_stops(output, _repeated(partial(client.stop, site_id=row.id)), {row.id: row.name})


@headend_command("fleet")
@_yes
def stop_fleet(context: click.Context, *, yes: bool) -> None:
    """Stop all assets that you see."""
    output = output_of(context)
    with open_client(context) as client:
        if not yes:
            sums = client.fleet()
            confirm(
                f"Stop all {counted(sums.assets, 'asset')}, at {sums.current_mw:+,.1f} MW now?", yes=False
            )
        response = _repeated(partial(client.stop, fleet=True))
        _print_stops(output, response, _site_names(client.sites() if len(response.stops) > 1 else ()))


@headend_command("list")
def list_stops(context: click.Context) -> None:
    """List the stops in force."""
    output = output_of(context)
    with open_client(context) as client:
        rows = client.stops()
        if output.as_json:
            output.document(rows)
            return
        names = {**_site_names(client.sites()), **asset_names(client)} if rows else {}
    output.table(_stops_table(rows, names), empty="nothing is stopped")


@headend_command("asset")
@click.argument("asset", metavar="ASSET", type=AssetName())
def resume_asset(context: click.Context, *, asset: str) -> None:
    """End the stop of one asset."""
    output = output_of(context)
    with open_client(context) as client:
        [row] = find_assets(client, (asset,))
        _print_resumed(output, _repeated(partial(client.resume, asset_id=row.id)))


@headend_command("site")
@click.argument("site", metavar="SITE", type=SiteName())
def resume_site(context: click.Context, *, site: str) -> None:
    """End the stop of a site."""
    output = output_of(context)
    with open_client(context) as client:
        _print_resumed(output, _repeated(partial(client.resume, site_id=find_site(client, site).id)))


@headend_command("fleet")
@_yes
def resume_fleet(context: click.Context, *, yes: bool) -> None:
    """End the stop of the fleet; those of sites and assets stay."""
    output = output_of(context)
    confirm("End the stop of the fleet, so that its assets follow their dispatches again?", yes=yes)
    with open_client(context) as client:
        _print_resumed(output, _repeated(partial(client.resume, fleet=True)))


for _group, _commands in (
    (stop, (stop_asset, stop_site, stop_fleet, list_stops)),
    (resume, (resume_asset, resume_site, resume_fleet)),
):
    for _command in _commands:
        _group.add_command(_command)


_COLUMNS: Sequence[Column] = (
    Column(heading="stopped", flexible=True),
    Column(heading="assets", numeric=True, decimals=0),
    Column(heading="states", flexible=True, longest=200),
    Column(heading="since"),
    Column(heading="by", flexible=True),
)


def _repeated(send: Callable[[], T]) -> T:
    """Send a stop or a resume, again while the headend does not answer: both may be repeated."""
    for delay_s in _DELAYS_S:
        try:
            return send()
        except HeadendUnavailable as error:
            time.sleep(min(error.retry_after_s or delay_s, _MAX_DELAY_S))
    return send()


def _print_stops(output: Output, response: StopResponse, names: Mapping[str, str]) -> None:
    if output.as_json:
        output.document(response)
        return
    output.table(_stops_table(response.stops, names), empty="nothing was stopped")


def _stops_table(rows: Sequence[StopRow | StopInForceRow], names: Mapping[str, str]) -> Table:
    cells = [
        (
            target_text(row.target, names),
            row.assets,
            _counts(row),
            time_text(row.stopped_at),
            row.requested_by,
        )
        for row in rows
    ]
    return Table(columns=_COLUMNS, rows=[*cells])


def _print_resumed(output: Output, response: ResumeResponse) -> None:
    if output.as_json:
        output.document(response)
        return
    if not response.resumed:
        output.lines(["it was not stopped; nothing was resumed"])
        return
    follow = f"{response.dispatched:,} follow dispatches that waited"
    stopped = f"{response.still_stopped:,} are under another stop"
    output.lines(
        [f"resumed {counted(response.assets, 'asset')}: {follow}, {stopped}, the others stay at 0 MW"]
    )


def _counts(row: StopRow | StopInForceRow) -> str:
    return ", ".join(f"{state} {count:,}" for state, count in row.by_state.items() if count)


def _site_names(rows: Sequence[SiteRow]) -> dict[str, str]:
    return {row.id: row.name for row in rows}
