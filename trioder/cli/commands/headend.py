"""`trioder agents`, `audit`, `health` and `whoami`: who is connected, who did what, and who asks."""

from collections.abc import Sequence

import click

from trioder.cli.connection import open_client
from trioder.cli.exit_codes import FAILED
from trioder.cli.options import headend_command, output_of
from trioder.cli.output import Output
from trioder.cli.quantities import time_text
from trioder.cli.tables import Column, Table, property_lines
from trioder.schemas.agents import AgentProcessRow
from trioder.schemas.resources import AgentRow

_MAX_ROWS = 1_000_000


@headend_command("agents")
@click.option("--assets", "of_assets", is_flag=True, help="The connected assets, each with its agent.")
def agents(context: click.Context, *, of_assets: bool) -> None:
    """List the agents that are connected, or were since the headend's start."""
    output = output_of(context)
    with open_client(context) as client:
        if of_assets:
            _print_connected_assets(output, list(client.agents()))
        else:
            _print_agents(output, client.agent_processes())


def _print_agents(output: Output, rows: Sequence[AgentProcessRow]) -> None:
    if output.as_json:
        output.document(rows)
        return
    table = Table(columns=_AGENT_COLUMNS, rows=[_agent_cells(row) for row in rows])
    output.table(table, empty="no agent has connected since the headend's start")


def _print_connected_assets(output: Output, rows: Sequence[AgentRow]) -> None:
    if output.as_json:
        output.document(rows)
        return
    cells = [
        (row.asset_name, row.site_name, row.agent_id, row.peer, time_text(row.connected_at)) for row in rows
    ]
    output.table(Table(columns=_ASSET_COLUMNS, rows=[*cells]), empty="no asset is connected")


@headend_command("audit")
@click.option("--principal", metavar="NAME", help="Only what this token or user did.")
@click.option("--limit", type=click.IntRange(1, _MAX_ROWS), default=100, show_default=True, help="Rows.")
def audit(context: click.Context, *, principal: str | None, limit: int) -> None:
    """List commands, changes of access and refused attempts, newest first."""
    output = output_of(context)
    with open_client(context) as client:
        rows = list(client.audit(principal=principal, limit=limit))
    if output.as_json:
        output.document(rows)
        return
    cells = [
        (time_text(row.time), row.principal, row.action, row.outcome, row.target, row.peer, row.reason)
        for row in rows
    ]
    output.table(Table(columns=_AUDIT_COLUMNS, rows=[*cells]), empty="no records")


@headend_command("health")
def health(context: click.Context) -> None:
    """Show the headend's health; the exit code is 1 when it is degraded."""
    output = output_of(context)
    with open_client(context) as client:
        state = client.health()
    if output.as_json:
        output.document(state)
    else:
        numbers = {
            "assets": state.assets,
            "connected": state.assets_connected,
            "agents": state.agents,
            "samples that wait for the database": state.db_backlog_rows,
        }
        output.lines(
            property_lines(
                {
                    "status": state.status,
                    "database": ": ".join(filter(None, [state.db, state.db_reason or ""])),
                    # Only callers with a token are shown numbers.
                    **{name: f"{number:,}" for name, number in numbers.items() if isinstance(number, int)},
                }
            )
        )
    if state.status != "ok":
        context.exit(FAILED)


@headend_command("whoami")
def whoami(context: click.Context) -> None:
    """Show who the token authenticates, and what it may do."""
    output = output_of(context)
    with open_client(context) as client:
        caller = client.whoami()
    if output.as_json:
        output.document(caller)
        return
    output.lines(
        property_lines(
            {
                "name": caller.name,
                "kind": "no access control is configured" if caller.kind == "open" else caller.kind,
                "role": caller.role,
                "tenant": "all" if caller.tenant == "*" else caller.tenant,
                "sites": "all" if caller.sites is None else ", ".join(caller.sites),
                "expires": None if caller.expires_at is None else time_text(caller.expires_at),
            }
        )
    )


_ASSET_COLUMNS: Sequence[Column] = (
    Column(heading="asset", flexible=True),
    Column(heading="site", flexible=True),
    Column(heading="agent", flexible=True),
    Column(heading="peer"),
    Column(heading="connected at"),
)
_AGENT_COLUMNS: Sequence[Column] = (
    Column(heading="agent", flexible=True),
    Column(heading="assets", numeric=True, decimals=0),
    Column(heading="state", style_of=lambda state: "red" if state == "away" else None),
    Column(heading="since"),
    Column(heading="last seen", expendable=6),
    Column(heading="peer", expendable=5),
    Column(heading="clock ahead", unit="s", numeric=True, decimals=3, signed=True, expendable=7),
    Column(heading="error", unit="s", numeric=True, decimals=3, expendable=8),
    Column(heading="backlog", unit="batches", numeric=True, decimals=0, expendable=4),
    Column(heading="version", expendable=9),
    Column(heading="certificate until", optional=True, expendable=3),
    Column(heading="reason", flexible=True, longest=400, optional=True),
)
_OUTCOMES = {"refused": "red", "failed": "yellow"}
_AUDIT_COLUMNS: Sequence[Column] = (
    Column(heading="time"),
    Column(heading="who", flexible=True),
    Column(heading="action"),
    Column(heading="outcome", style_of=lambda outcome: _OUTCOMES.get(str(outcome))),
    Column(heading="target", flexible=True),
    Column(heading="from", expendable=9),
    Column(heading="reason", flexible=True, longest=400, optional=True),
)


def _agent_cells(row: AgentProcessRow) -> tuple[object, ...]:
    return (
        row.agent_id,
        row.assets,
        "connected" if row.connected else "away",
        time_text(row.connected_at if row.connected else row.disconnected_at),
        time_text(row.last_seen_at),
        row.peer,
        row.clock_skew_s,
        row.clock_error_s,
        row.backlog_batches,
        row.version,
        None if row.certificate_expires_at is None else time_text(row.certificate_expires_at),
        None if row.connected else row.reason,
    )
