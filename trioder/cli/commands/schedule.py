"""`trioder schedule`: dispatches that begin by the clock."""

from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

import click

from trioder.cli.completing import AssetName, SiteName
from trioder.cli.connection import asset_names, find_assets, find_site, open_client
from trioder.cli.exit_codes import NOT_FOUND, USAGE, CommandError
from trioder.cli.live_values import short_ids
from trioder.cli.local_zone import local_zone_name
from trioder.cli.names import is_whole_id
from trioder.cli.options import headend_command, output_of
from trioder.cli.output import Output, note
from trioder.cli.printable import line_of
from trioder.cli.quantities import Duration, Moment, Power, duration_text, mw_text, time_text
from trioder.cli.tables import Column, Table, property_lines
from trioder.cli.targets import Target, assets_target, target_text
from trioder.client import HeadendClient, StepBody
from trioder.domain.dispatch import Strategy
from trioder.schemas.schedules import OccurrenceRow, OverlapRow, ScheduleResponse, ScheduleRow

_MAX_LISTED = 1000
_MAX_NEXT = 3


class _Step(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.4
    name = "DURATION:MW"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> StepBody:
        """Return the step."""
        if isinstance(value, StepBody):
            return value
        duration, separator, mw = str(value).partition(":")
        if not separator:
            self.fail(
                f"{line_of(str(value), 40)!r} is no step; write a duration and MW, such as 15m:5", param, ctx
            )
        return StepBody(
            duration_s=Duration().convert(duration, param, ctx), mw=Power().convert(mw, param, ctx)
        )


@click.group("schedule")
def schedule() -> None:
    """Create, list, show, skip and cancel schedules: dispatches that begin by the clock."""


@headend_command("create")
@click.option(
    "--asset", "assets", metavar="ASSET", type=AssetName(), multiple=True, help="An asset; repeatable."
)
@click.option("--site", metavar="SITE", type=SiteName(), help="All assets of a site.")
@click.option("--fleet", is_flag=True, help="All assets that you see.")
@click.option(
    "--start",
    metavar="TIME",
    required=True,
    help="Of the first occurrence: wall time in the time zone, such as 2026-03-28T18:00, or with an offset.",
)
@click.option("--timezone", metavar="ZONE", help="IANA name, such as Europe/Berlin.  [default: the system's]")
@click.option("--repeat", "recurrence", metavar="RRULE", help="A rule of RFC 5545, such as FREQ=DAILY.")
@click.option("--mw", metavar="MW", type=Power(), help="Of a single step: its power.")
@click.option("--for", "duration_s", metavar="DURATION", type=Duration(), help="Of a single step: how long.")
@click.option(
    "--step",
    "steps",
    metavar="DURATION:MW",
    type=_Step(),
    multiple=True,
    help="Several steps, in order, such as --step 15m:5 --step 30m:-2.",
)
@click.option(
    "--misfire",
    "misfire_s",
    metavar="DURATION",
    type=Duration(),
    help="How much later than planned an occurrence may begin.  [default: 1m]",
)
@click.option("--strategy", type=click.Choice(get_args(Strategy)), help="How a total is split.")
@click.option("--dry-run", is_flag=True, help="Check it and find overlaps; nothing is created.")
def create(
    context: click.Context,
    *,
    assets: tuple[str, ...],
    site: str | None,
    fleet: bool,
    start: str,
    timezone: str | None,
    steps: tuple[StepBody, ...],
    mw: float | None,
    duration_s: int | None,
    strategy: str | None,
    **request: Any,
) -> None:
    """Create a schedule for assets, a site or the fleet."""
    if (len(assets) > 0) + (site is not None) + fleet != 1:
        raise click.UsageError("one of --asset, --site and --fleet must be given")
    if bool(steps) == (mw is not None) or (mw is None) != (duration_s is None):
        raise click.UsageError("--step must be given, or both of --mw and --for")
    output = output_of(context)
    with open_client(context) as client:
        target = _find_target(client, assets, site)
        response = client.create_schedule(
            **target,
            start=start.strip(),
            timezone=timezone or (None if _has_offset(start) else local_zone_name()),
            steps=list(steps) or None,
            mw=mw,
            duration_s=duration_s,
            strategy=cast("Strategy | None", strategy),
            **request,
        )
        names = {} if output.as_json else _all_names(client)
    _print_schedule(output, response, names)
    if not output.as_json:
        for overlap in response.overlaps:
            note(_overlap_text(overlap, response))


@headend_command("list")
@click.option("--all", "with_cancelled", is_flag=True, help="Also those that were cancelled.")
@click.option("--limit", type=click.IntRange(1, _MAX_LISTED), default=100, show_default=True, help="Rows.")
def list_schedules(context: click.Context, *, with_cancelled: bool, limit: int) -> None:
    """List schedules, newest first."""
    output = output_of(context)
    with open_client(context) as client:
        rows = client.schedules(active=None if with_cancelled else True, limit=limit)
        if output.as_json:
            output.document(rows)
            return
        names = _all_names(client) if rows else {}
    ids = short_ids(row.schedule_id for row in rows if row.schedule_id)
    cells = [
        (
            ids.get(row.schedule_id or ""),
            target_text(row.target, names, members=row.assets),
            f"{row.start} {row.timezone}",
            row.recurrence,
            row.step_count,
            duration_text(row.duration_s),
            _next_text(row.next_start, active=row.active),
            row.requested_by,
        )
        for row in rows
    ]
    output.table(Table(columns=_SCHEDULE_COLUMNS, rows=[*cells]), empty="no schedules")


@headend_command("show")
@click.argument("schedule_id", metavar="ID")
def show(context: click.Context, *, schedule_id: str) -> None:
    """Show a schedule, its steps and its next occurrences."""
    output = output_of(context)
    with open_client(context) as client:
        row = client.schedule(_find_schedule(client, schedule_id))
        names = {} if output.as_json else _all_names(client)
    _print_schedule(output, row, names)


@headend_command("occurrences")
@click.argument("schedule_id", metavar="ID")
@click.option("--from", "start", metavar="TIME", type=Moment(), help="From then on.  [default: a day ago]")
@click.option("--to", "end", metavar="TIME", type=Moment(), help="Before.  [default: 31 days later]")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="Rows.")
def occurrences(
    context: click.Context, *, schedule_id: str, start: str | None, end: str | None, limit: int
) -> None:
    """List the occurrences of a schedule, past and to come."""
    output = output_of(context)
    with open_client(context) as client:
        rows = client.occurrences(_find_schedule(client, schedule_id), start=start, end=end, limit=limit)
    if output.as_json:
        output.document(rows)
        return
    output.table(
        Table(columns=_OCCURRENCE_COLUMNS, rows=[_occurrence_cells(row) for row in rows]),
        empty="no occurrences",
    )


@headend_command("skip")
@click.argument("schedule_id", metavar="ID")
@click.argument("start", metavar="TIME", type=Moment())
def skip(context: click.Context, *, schedule_id: str, start: str) -> None:
    """Skip the occurrence that starts at this time. Skipping it again is safe."""
    output = output_of(context)
    with open_client(context) as client:
        row = client.skip_occurrence(_find_schedule(client, schedule_id), start=start)
    if output.as_json:
        output.document(row)
    else:
        output.lines([f"the occurrence of {time_text(row.start)} is {row.state}"])


@headend_command("cancel")
@click.argument("schedule_id", metavar="ID")
def cancel(context: click.Context, *, schedule_id: str) -> None:
    """Cancel a schedule; an occurrence that runs ends at 0 MW. Cancelling again is safe."""
    output = output_of(context)
    with open_client(context) as client:
        row = client.cancel_schedule(_find_schedule(client, schedule_id))
    if output.as_json:
        output.document(row)
    else:
        which, by = line_of(row.schedule_id or ""), line_of(row.cancelled_by or "")
        output.lines([f"schedule {which} was cancelled by {by} at {time_text(row.cancelled_at)}"])


for _command in (create, list_schedules, show, occurrences, skip, cancel):
    schedule.add_command(_command)


def _find_target(client: HeadendClient, assets: tuple[str, ...], site: str | None) -> Target:
    if assets:
        return assets_target([row.id for row in find_assets(client, assets)])
    return {"fleet": True} if site is None else {"site_id": find_site(client, site).id}


def _has_offset(start: str) -> bool:
    time = start.strip().upper().partition("T")[2] or start.strip().partition(" ")[2]
    return time.endswith("Z") or "+" in time or "-" in time


def _find_schedule(client: HeadendClient, text: str) -> str:
    if is_whole_id(text):
        return text.lower()
    rows = client.schedules(limit=_MAX_LISTED) if text else []
    found = [row.schedule_id for row in rows if (row.schedule_id or "").startswith(text.lower())]
    if len(found) == 1 and found[0]:
        return found[0]
    quoted = line_of(text, 60)
    if not found:
        raise CommandError(f"no schedule has an id that begins with {quoted!r}", NOT_FOUND)
    raise CommandError(f"{len(found)} schedules have ids that begin with {quoted!r}; write more of it", USAGE)


def _all_names(client: HeadendClient) -> dict[str, str]:
    return {**{site.id: site.name for site in client.sites()}, **asset_names(client)}


def _print_schedule(output: Output, row: ScheduleRow, names: Mapping[str, str]) -> None:
    if output.as_json:
        output.document(row)
        return
    dry_run = isinstance(row, ScheduleResponse) and row.dry_run
    steps = ", ".join(
        f"{duration_text(step.duration_s)} at {mw_text(step.mw, signed=True)}" for step in row.steps
    )
    cancelled = f"{time_text(row.cancelled_at)} by {row.cancelled_by}" if row.cancelled_at else None
    output.lines(
        property_lines(
            {
                "schedule": "none: a dry run" if dry_run else row.schedule_id,
                "target": target_text(row.target, names, members=row.assets),
                "start": f"{row.start} {row.timezone}",
                "repeated": row.recurrence or "no",
                "steps": steps,
                "may be late": duration_text(row.misfire_s),
                "created": None if dry_run else f"{time_text(row.created_at)} by {row.requested_by}",
                "cancelled": cancelled,
                "next": ", ".join(time_text(start.start) for start in row.next_occurrences[:_MAX_NEXT])
                or "none",
            }
        )
    )


def _overlap_text(overlap: OverlapRow, response: ScheduleResponse) -> str:
    other = "another schedule" if overlap.schedule_id is None else f"schedule {line_of(overlap.schedule_id)}"
    if overlap.schedule_id is not None and overlap.schedule_id == response.schedule_id:
        other = "itself"
    return (
        f"overlaps {other} at {overlap.assets:,} assets from {time_text(overlap.start)} to "
        f"{time_text(overlap.end)}; the occurrence that starts later has them then"
    )


def _next_text(next_start: str | None, *, active: bool) -> str:
    if not active:
        return "cancelled"
    return "none" if next_start is None else time_text(next_start)


_OCCURRENCE_STYLES: Mapping[str, str] = {"failed": "red", "missed": "red", "skipped": "yellow"}
_SCHEDULE_COLUMNS: Sequence[Column] = (
    Column(heading="id"),
    Column(heading="target", flexible=True),
    Column(heading="start", flexible=True),
    Column(heading="repeated", flexible=True, optional=True),
    Column(heading="steps", numeric=True, decimals=0, expendable=8),
    Column(heading="duration", expendable=7),
    Column(heading="next"),
    Column(heading="by", flexible=True, expendable=9),
)
_OCCURRENCE_COLUMNS: Sequence[Column] = (
    Column(heading="start"),
    Column(heading="end", expendable=7),
    Column(heading="state", style_of=lambda state: _OCCURRENCE_STYLES.get(str(state))),
    Column(heading="begun", optional=True, expendable=8),
    Column(heading="dispatches", numeric=True, decimals=0, expendable=9),
    Column(heading="refused steps", numeric=True, decimals=0, optional=True),
    Column(heading="reason", flexible=True, longest=400, optional=True),
)


def _occurrence_cells(row: OccurrenceRow) -> tuple[Any, ...]:
    refused = sum(step.refusal is not None for step in row.steps)
    return (
        time_text(row.start),
        time_text(row.end),
        row.state,
        None if row.begun_at is None else time_text(row.begun_at),
        len(row.steps) - refused,
        refused or None,
        row.reason,
    )
