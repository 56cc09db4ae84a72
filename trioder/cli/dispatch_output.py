"""Dispatches as text: their properties, each asset's share, and lists of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trioder.cli.dispatch_outcome import states_text
from trioder.cli.live_values import short_ids
from trioder.cli.quantities import duration_text, mw_text, time_text
from trioder.cli.tables import Column, Table
from trioder.cli.targets import target_text
from trioder.schemas.dispatch import AllocationRow, DispatchRow


def dispatch_properties(
    dispatch: DispatchRow, names: Mapping[str, str], *, dry_run: bool = False
) -> dict[str, str | None]:
    """Return the properties of a dispatch; `names` are those of assets and sites."""
    assets = f"{dispatch.members:,}" + (f", {dispatch.left_out:,} left out" if dispatch.left_out else "")
    return {
        "dispatch": "none: a dry run" if dry_run else dispatch.dispatch_id,
        "target": target_text(dispatch.target, names, members=dispatch.members + dispatch.left_out),
        "power": mw_text(dispatch.mw, signed=True),
        "allocated": mw_text(dispatch.allocated_mw, signed=True),
        "shortfall": mw_text(dispatch.shortfall_mw, signed=True) if dispatch.shortfall_mw else None,
        "duration": "until the next dispatch" if dispatch.ends_at is None else _duration_of(dispatch),
        "then": mw_text(dispatch.reversion_mw, signed=True) if dispatch.ends_at else None,
        "assets": assets,
        "split": dispatch.strategy,
        "state": None
        if dry_run
        else f"{dispatch.state.replace('_', ' ')} ({states_text(dispatch.by_state)})",
        "dispatched": None
        if dry_run
        else f"{time_text(dispatch.dispatched_at)} by {dispatch.requested_by or 'unknown'}",
        "priority": dispatch.priority,
        "split again": _resplits_text(dispatch),
    }


def allocation_table(
    rows: Iterable[AllocationRow], names: Mapping[str, str], *, dry_run: bool = False
) -> Table:
    """Return each asset's share and state, those that were left out last."""
    ordered = sorted(rows, key=lambda row: row.mw is None)
    cells = [_allocation_cells(row, names, dry_run=dry_run) for row in ordered]
    return Table(columns=_ALLOCATION_COLUMNS, rows=[*cells])


def dispatches_table(rows: Sequence[DispatchRow], names: Mapping[str, str]) -> Table:
    """Return a list of dispatches."""
    ids = short_ids(row.dispatch_id for row in rows if row.dispatch_id)
    return Table(
        columns=_DISPATCH_COLUMNS,
        rows=[
            (
                ids.get(row.dispatch_id or ""),
                target_text(row.target, names, members=row.members + row.left_out),
                row.mw,
                row.allocated_mw,
                row.shortfall_mw or None,
                row.state.replace("_", " "),
                row.members,
                time_text(row.dispatched_at),
                None if row.ends_at is None else time_text(row.ends_at),
                row.priority,
                row.requested_by,
                row.reason,
            )
            for row in rows
        ],
    )


def _duration_of(dispatch: DispatchRow) -> str:
    ends = time_text(dispatch.ends_at)
    return ends if dispatch.duration_s is None else f"{duration_text(dispatch.duration_s)}, until {ends}"


def _resplits_text(dispatch: DispatchRow) -> str | None:
    if not dispatch.resplits:
        return None
    newest = max(dispatch.resplits, key=lambda resplit: resplit.at)
    return f"{len(dispatch.resplits)} times, the last at {time_text(newest.at)}"


_STATE_STYLES = {
    "tracking": "green",
    "completed": "green",
    "deviating": "yellow",
    "deferred": "yellow",
    "clamped": "yellow",
    "rejected": "red",
    "not tracked": "red",
    "failed": "red",
    "expired": "red",
}
_STATE = Column(heading="state", optional=True, style_of=lambda state: _STATE_STYLES.get(str(state)))

_ALLOCATION_COLUMNS: Sequence[Column] = (
    Column(heading="asset", flexible=True),
    Column(heading="setpoint", unit="MW", numeric=True, signed=True),
    _STATE,
    Column(heading="held", unit="MW", numeric=True, signed=True, optional=True, expendable=7),
    Column(heading="mean", unit="MW", numeric=True, signed=True, optional=True, expendable=8),
    Column(heading="share", flexible=True, longest=200, optional=True, expendable=9),
    Column(heading="reason", flexible=True, longest=400, optional=True),
)
_DISPATCH_COLUMNS: Sequence[Column] = (
    Column(heading="id"),
    Column(heading="target", flexible=True),
    Column(heading="power", unit="MW", numeric=True, signed=True),
    Column(heading="allocated", unit="MW", numeric=True, signed=True, expendable=6),
    Column(heading="shortfall", unit="MW", numeric=True, signed=True, optional=True),
    _STATE,
    Column(heading="assets", numeric=True, decimals=0, expendable=5),
    Column(heading="dispatched"),
    Column(heading="ends", optional=True, expendable=7),
    Column(heading="priority", expendable=9),
    Column(heading="by", flexible=True, expendable=8),
    Column(heading="reason", flexible=True, longest=400, optional=True),
)


def _allocation_cells(row: AllocationRow, names: Mapping[str, str], *, dry_run: bool) -> tuple[Any, ...]:
    state = None if dry_run else (row.state or "").replace("_", " ")
    return (
        names.get(row.asset_id, row.asset_id),
        row.mw,
        "left out" if row.mw is None else state,
        row.held_mw,
        row.mean_mw,
        row.allocation,
        row.reason,
    )
