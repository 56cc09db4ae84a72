"""`trioder dispatch`: dispatches assets, a site or the fleet; shows, lists and cancels dispatches."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast, get_args

import click

from trioder.cli.completing import AssetName, SiteName
from trioder.cli.connection import asset_names, find_asset_id, find_assets, find_site, open_client
from trioder.cli.dispatch_outcome import Goal
from trioder.cli.dispatch_output import allocation_table, dispatch_properties, dispatches_table
from trioder.cli.dispatch_wait import check_fulfilled, interrupted, timed_out, wait_for_goal
from trioder.cli.exit_codes import NOT_FOUND, USAGE, CommandError
from trioder.cli.names import is_whole_id
from trioder.cli.options import headend_command, output_of, settings_of
from trioder.cli.output import Output, note
from trioder.cli.printable import line_of
from trioder.cli.quantities import Duration, Moment, Power
from trioder.cli.tables import property_lines
from trioder.cli.targets import Target, assets_target
from trioder.client import HeadendClient, HeadendUnavailable
from trioder.client.operation import new_key
from trioder.domain.dispatch import Strategy
from trioder.domain.lifecycle import STATES, DispatchState
from trioder.schemas.dispatch import DispatchRow

Command = TypeVar("Command", bound=Callable[..., object])

# Of more assets the shares are listed by `show` and by a dry run.
_MAX_SHARES = 20
_RECENT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wait:
    """What is waited for, and how long."""

    goal: Goal
    timeout_s: int | None


@click.group("dispatch")
def dispatch() -> None:
    """Dispatch assets, a site or the fleet; show, list and cancel dispatches.

    A dispatch that is not wholly fulfilled has the exit code 6: a shortfall, and with --wait also assets that
    rejected it, failed or did not track.
    """


def _request_options(command: Command) -> Command:
    options: list[Callable[[Any], Any]] = [
        click.option(
            "--for", "duration_s", metavar="DURATION", type=Duration(), help="How long, such as 15m or 1h30m."
        ),
        click.option("--until", "valid_until", metavar="TIME", type=Moment(), help="Until when, instead."),
        click.option(
            "--then",
            "reversion_mw",
            type=Power(),
            default=0.0,
            show_default=True,
            help="The setpoint after the end, MW.",
        ),
        click.option(
            "--expires-in",
            "expires_in_s",
            metavar="DURATION",
            type=Duration(),
            help="How long it may wait for an asset that is not connected.  [default: 1m]",
        ),
        click.option("--strategy", type=click.Choice(get_args(Strategy)), help="How a total is split."),
        click.option(
            "--no-resplit", is_flag=True, help="The share of an asset that drops out is not reallocated."
        ),
        click.option("--dry-run", is_flag=True, help="Show the split; nothing is dispatched."),
        click.option(
            "--wait",
            type=click.Choice(get_args(Goal)),
            help="Wait until all assets have acknowledged, track, or have ended.",
        ),
        click.option(
            "--timeout", "timeout_s", metavar="DURATION", type=Duration(), help="Wait no longer: exit code 7."
        ),
        click.option(
            "--idempotency-key",
            metavar="KEY",
            help="The same key and command are one dispatch, however often sent.  [default: a new one]",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@headend_command("asset")
@click.argument("assets", metavar="ASSET...", type=AssetName(), nargs=-1, required=True)
@click.argument("mw", metavar="MW", type=Power())
@_request_options
def dispatch_asset(context: click.Context, *, assets: tuple[str, ...], mw: float, **request: Any) -> None:
    """Dispatch one asset; or several, between which MW is split."""

    def find(client: HeadendClient) -> tuple[Target, dict[str, str]]:
        rows = find_assets(client, assets)
        return assets_target([row.id for row in rows]), {row.id: row.name for row in rows}

    _dispatch(context, find, mw, **request)


@headend_command("site")
@click.argument("site", metavar="SITE", type=SiteName())
@click.argument("mw", metavar="MW", type=Power())
@_request_options
def dispatch_site(context: click.Context, *, site: str, mw: float, **request: Any) -> None:
    """Dispatch a site: MW is split between its assets."""

    def find(client: HeadendClient) -> tuple[Target, dict[str, str]]:
        row = find_site(client, site)
        names = {asset.id: asset.name for asset in client.assets(site_id=row.id)}
        return {"site_id": row.id}, {row.id: row.name, **names}

    _dispatch(context, find, mw, **request)


@headend_command("fleet")
@click.argument("mw", metavar="MW", type=Power())
@_request_options
def dispatch_fleet(context: click.Context, *, mw: float, **request: Any) -> None:
    """Dispatch all assets that you see: MW is split between them."""
    _dispatch(context, lambda client: ({"fleet": True}, asset_names(client)), mw, **request)


@headend_command("show")
@click.argument("dispatch_id", metavar="ID")
def show(context: click.Context, *, dispatch_id: str) -> None:
    """Show a dispatch, and the share and state of each asset."""
    output = output_of(context)
    with open_client(context) as client:
        row = client.show_dispatch(_find_dispatch(client, dispatch_id))
        names = {} if output.as_json else _all_names(client)
    _print(output, row, names, shares=True)


@headend_command("list")
@click.option("--asset", metavar="ASSET", type=AssetName(), help="Only those that have or had this asset.")
@click.option("--state", type=click.Choice(STATES), metavar="STATE", help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Rows.")
def list_dispatches(context: click.Context, *, asset: str | None, state: str | None, limit: int) -> None:
    """List the last dispatches, newest first."""
    output = output_of(context)
    with open_client(context) as client:
        rows = list(
            client.dispatches(
                asset_id=None if asset is None else find_asset_id(client, asset),
                state=cast("DispatchState | None", state),
                limit=limit,
            )
        )
        if output.as_json:
            output.document(rows)
            return
        names = _all_names(client) if rows else {}
    output.table(dispatches_table(rows, names), empty="no dispatches")


@headend_command("cancel")
@click.argument("dispatch_id", metavar="ID")
def cancel(context: click.Context, *, dispatch_id: str) -> None:
    """Cancel a dispatch: its assets go to the setpoint that follows it. Cancelling again is safe."""
    output = output_of(context)
    with open_client(context) as client:
        row = client.cancel_dispatch(_find_dispatch(client, dispatch_id))
        names = {} if output.as_json else _all_names(client)
    _print(output, row, names, shares=False)


for _command in (dispatch_asset, dispatch_site, dispatch_fleet, show, list_dispatches, cancel):
    dispatch.add_command(_command)


def _dispatch(
    context: click.Context,
    find: Callable[[HeadendClient], tuple[Target, dict[str, str]]],
    mw: float,
    *,
    wait: str | None,
    timeout_s: int | None,
    no_resplit: bool,
    dry_run: bool,
    strategy: str | None,
    idempotency_key: str | None,
    **request: Any,
) -> None:
    _check_options(wait, timeout_s, dry_run=dry_run, request=request)
    output = output_of(context)
    with open_client(context) as client:
        target, names = find(client)
        key = idempotency_key or new_key()
        with _unknown_outcome(key, dry_run=dry_run):
            response = client.dispatch(
                **target,
                mw=mw,
                strategy=cast("Strategy | None", strategy),
                resplit=False if no_resplit else None,
                dry_run=dry_run,
                idempotency_key=key,
                **request,
            )
        if wait is None or response.dispatch_id is None:
            row: DispatchRow = response
            over = None
        else:
            goal = cast("Goal", wait)
            row, over = _wait(context, client, response.dispatch_id, _Wait(goal=goal, timeout_s=timeout_s))
    few = row.members + row.left_out <= _MAX_SHARES
    _print(output, row, names, shares=dry_run or few, dry_run=dry_run)
    if over is not None:
        raise over
    check_fulfilled(row, names)


def _check_options(
    wait: str | None, timeout_s: int | None, *, dry_run: bool, request: Mapping[str, Any]
) -> None:
    if wait is None and timeout_s is not None:
        raise click.UsageError("--timeout needs --wait")
    if wait is not None and dry_run:
        raise click.UsageError("--wait and --dry-run exclude each other: a dry run dispatches nothing")
    if request["duration_s"] is not None and request["valid_until"] is not None:
        raise click.UsageError("--for and --until exclude each other")
    if (
        wait == "end"
        and timeout_s is None
        and request["duration_s"] is None
        and request["valid_until"] is None
    ):
        raise click.UsageError("--wait end needs --for, --until or --timeout: without them it has no end")


def _wait(
    context: click.Context, client: HeadendClient, dispatch_id: str, wait: _Wait
) -> tuple[DispatchRow, CommandError | None]:
    """Return the dispatch at the end of the wait, and the error if its time is over."""
    settings = settings_of(context)
    try:
        reached = wait_for_goal(client, dispatch_id, wait.goal, timeout_s=wait.timeout_s, settings=settings)
        row = client.show_dispatch(dispatch_id)
    except KeyboardInterrupt:
        interrupted(dispatch_id)
        raise
    return row, None if reached else timed_out(row, wait.goal, wait.timeout_s or 0)


@contextmanager
def _unknown_outcome(key: str, *, dry_run: bool) -> Iterator[None]:
    """Say what to do when a command was sent, and its response is missing."""
    try:
        yield
    except (KeyboardInterrupt, HeadendUnavailable):
        if not dry_run:
            note(
                "whether it was dispatched is not known: trioder dispatch list shows it; the same command "
                f"with --idempotency-key {line_of(key)} dispatches it if it was not"
            )
        raise


def _find_dispatch(client: HeadendClient, text: str) -> str:
    if is_whole_id(text):
        return text.lower()
    rows = list(client.dispatches(limit=_RECENT)) if text else []
    found = [row.dispatch_id for row in rows if (row.dispatch_id or "").startswith(text.lower())]
    if len(found) == 1 and found[0]:
        return found[0]
    quoted = line_of(text, 60)
    if not found:
        raise CommandError(f"none of the last dispatches has an id that begins with {quoted!r}", NOT_FOUND)
    raise CommandError(
        f"{len(found)} dispatches have ids that begin with {quoted!r}; write more of it", USAGE
    )


def _all_names(client: HeadendClient) -> dict[str, str]:
    return {**{site.id: site.name for site in client.sites()}, **asset_names(client)}


def _print(
    output: Output, row: DispatchRow, names: Mapping[str, str], *, shares: bool, dry_run: bool = False
) -> None:
    if output.as_json:
        output.document(row)
        return
    output.lines(property_lines(dispatch_properties(row, names, dry_run=dry_run)))
    if shares and row.allocations:
        output.lines([""])
        output.table(allocation_table(row.allocations, names, dry_run=dry_run), empty="")
