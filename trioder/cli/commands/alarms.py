"""`trioder alarms` and `trioder events`: what needs attention, and what has happened."""

from collections.abc import Iterable, Sequence
from typing import Any, cast, get_args

import click

from trioder.cli.completing import AssetName, SiteName
from trioder.cli.connection import find_asset_id, find_site, open_client
from trioder.cli.exit_codes import NOT_FOUND, USAGE, CommandError
from trioder.cli.live_values import short_ids
from trioder.cli.names import is_whole_id
from trioder.cli.options import headend_command, output_of
from trioder.cli.output import note
from trioder.cli.printable import line_of
from trioder.cli.quantities import time_text
from trioder.cli.tables import Column, Table
from trioder.client import HeadendClient
from trioder.domain.alarms import AlarmKind, EventOrigin, Severity
from trioder.schemas.alarms import AlarmRow

_MAX_ROWS = 1_000_000
_limit = click.option(
    "--limit", type=click.IntRange(1, _MAX_ROWS), default=100, show_default=True, help="The newest so many."
)


@headend_command("alarms")
@click.option("--ack", metavar="ID", help="Acknowledge the alarm with this id, or beginning of an id.")
@click.option("--comment", metavar="TEXT", help="With --ack: a comment, on one line.")
@click.option(
    "--state", type=click.Choice(("open", "cleared", "all")), default="open", show_default=True, help="Which."
)
@click.option("--severity", type=click.Choice(get_args(Severity)), help="Only those of this severity.")
@click.option(
    "--kind", type=click.Choice(get_args(AlarmKind)), metavar="KIND", help="Only those of this kind."
)
@click.option("--asset", metavar="ASSET", type=AssetName(), help="Only those that concern this asset.")
@click.option("--site", metavar="SITE", type=SiteName(), help="Only those that concern this site.")
@_limit
def alarms(
    context: click.Context,
    *,
    ack: str | None,
    comment: str | None,
    state: str,
    severity: str | None,
    kind: str | None,
    asset: str | None,
    site: str | None,
    limit: int,
) -> None:
    """List alarms, newest first, or acknowledge one."""
    output = output_of(context)
    if comment is not None and ack is None:
        raise click.UsageError("--comment needs --ack")
    with open_client(context) as client:
        if ack is not None:
            acknowledged = client.acknowledge_alarm(_find_alarm(client, ack), comment=comment)
            if output.as_json:
                output.document(acknowledged)
            else:
                by = line_of(acknowledged.acknowledged_by or "")
                at = time_text(acknowledged.acknowledged_at)
                output.lines([f"alarm {line_of(acknowledged.alarm_id)} acknowledged by {by} at {at}"])
            return
        rows = list(
            client.alarms(
                state=cast("Any", state),
                severity=cast("Severity | None", severity),
                kind=cast("AlarmKind | None", kind),
                asset_id=None if asset is None else find_asset_id(client, asset),
                site_id=None if site is None else find_site(client, site).id,
                limit=limit,
            )
        )
        if output.as_json:
            output.document(rows)
            return
        names = _source_names(client, rows)
    if len(rows) == limit:
        note(f"only the newest {limit:,}; --limit has more")
    ids = short_ids(row.alarm_id for row in rows)
    cells = [_alarm_cells(row, ids[row.alarm_id], names) for row in rows]
    output.table(
        Table(columns=_ALARM_COLUMNS, rows=[*cells]),
        empty="no open alarms" if state == "open" else "no alarms",
    )


@headend_command("events")
@click.option("--asset", metavar="ASSET", type=AssetName(), help="Only those that concern this asset.")
@click.option("--agent", metavar="AGENT", help="Only those of this agent.")
@click.option("--type", "event_type", metavar="TYPE", help="Only those of this type.")
@click.option("--origin", type=click.Choice(get_args(EventOrigin)), help="Only what this reported.")
@_limit
def events(
    context: click.Context,
    *,
    asset: str | None,
    agent: str | None,
    event_type: str | None,
    origin: str | None,
    limit: int,
) -> None:
    """List what agents reported, and the transitions of alarms, newest first."""
    output = output_of(context)
    with open_client(context) as client:
        rows = list(
            client.events(
                asset_id=None if asset is None else find_asset_id(client, asset),
                agent_id=agent,
                event_type=event_type,
                origin=cast("EventOrigin | None", origin),
                limit=limit,
            )
        )
    if output.as_json:
        output.document(rows)
        return
    cells = [
        (time_text(row.time), row.severity, row.event_type, row.agent_id or row.origin, row.message)
        for row in rows
    ]
    output.table(Table(columns=_EVENT_COLUMNS, rows=[*cells]), empty="no events")


def _find_alarm(client: HeadendClient, text: str) -> str:
    if is_whole_id(text):
        return text.lower()
    found = [row for row in client.alarms() if row.alarm_id.startswith(text.lower())] if text else []
    if len(found) == 1:
        return found[0].alarm_id
    if not found:
        raise CommandError(f"no open alarm has an id that begins with {line_of(text, 60)!r}", NOT_FOUND)
    raise CommandError(
        f"{len(found)} open alarms have ids that begin with {line_of(text, 60)!r}; write more of it", USAGE
    )


def _source_names(client: HeadendClient, rows: Iterable[AlarmRow]) -> dict[str, str]:
    kinds = {row.source_kind for row in rows}
    names: dict[str, str] = {}
    if "asset" in kinds:
        names.update((asset.id, asset.name) for asset in client.assets())
    if "site" in kinds:
        names.update((site.id, site.name) for site in client.sites())
    return names


_SEVERITIES = {"critical": "red", "major": "red", "minor": "yellow", "warning": "yellow"}
_SEVERITY = Column(heading="severity", style_of=lambda severity: _SEVERITIES.get(str(severity).lower()))
_ALARM_COLUMNS: Sequence[Column] = (
    Column(heading="id"),
    _SEVERITY,
    Column(heading="kind"),
    Column(heading="source", flexible=True),
    Column(heading="assets", numeric=True, decimals=0, expendable=9),
    Column(heading="raised"),
    Column(heading="cleared", optional=True, expendable=8),
    Column(heading="acknowledged by", flexible=True, optional=True, expendable=7),
    Column(heading="reason", flexible=True, longest=400),
)
_EVENT_COLUMNS: Sequence[Column] = (
    Column(heading="time"),
    _SEVERITY,
    Column(heading="type"),
    Column(heading="from", flexible=True),
    Column(heading="message", flexible=True, longest=400),
)


def _alarm_cells(row: AlarmRow, short_id: str, names: dict[str, str]) -> tuple[Any, ...]:
    source = names.get(row.source_id, row.source_id)
    return (
        short_id,
        row.severity,
        row.kind,
        f"{row.source_kind} {source}".strip(),
        row.assets,
        time_text(row.raised_at),
        None if row.cleared_at is None else time_text(row.cleared_at),
        row.acknowledged_by,
        row.reason,
    )
