"""`trioder fleet` and `trioder sites`: sums."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from trioder.cli.connection import open_client
from trioder.cli.options import headend_command, output_of
from trioder.cli.quantities import counted, mw_text, number_text, time_text
from trioder.cli.tables import Column, Table, property_lines
from trioder.domain.alarms import SEVERITIES
from trioder.domain.quality import LatestQuality
from trioder.schemas.resources import AlarmCountsRow, FleetRow, SiteRow


@headend_command("fleet")
def fleet(context: click.Context) -> None:
    """Show the sums over all assets that you see."""
    output = output_of(context)
    with open_client(context) as client:
        sums = client.fleet()
    if output.as_json:
        output.document(sums)
        return
    output.lines(property_lines(_properties(sums)))
    output.lines([""])
    output.table(_available(sums), empty="")


@headend_command("sites")
def sites(context: click.Context) -> None:
    """List the sites with the sums over their assets."""
    output = output_of(context)
    with open_client(context) as client:
        rows = client.sites()
    if output.as_json:
        output.document(rows)
        return
    output.table(Table(columns=_SITE_COLUMNS, rows=[_site_cells(row) for row in rows]), empty="no sites")


def quality_counts(counts: Mapping[LatestQuality, int]) -> str:
    """Return how many samples are of which quality."""
    return ", ".join(f"{quality} {count:,}" for quality, count in counts.items() if count) or "no samples"


def _properties(sums: FleetRow) -> dict[str, str | None]:
    soc = f", {number_text(100 * sums.soc_mwhr / sums.capacity_mwhr, 1)} %" if sums.capacity_mwhr else ""
    return {
        "assets": f"{sums.assets:,}, {sums.connected_assets:,} connected, {sums.stale_assets:,} stale",
        "quality": quality_counts(sums.by_quality),
        "power": f"{mw_text(sums.current_mw, signed=True)} of {sums.live_assets:,} live assets",
        "setpoints": mw_text(sums.setpoint_mw, signed=True),
        "dispatched": "nothing"
        if sums.requested_mw is None
        else f"{mw_text(sums.requested_mw, signed=True)} at {counted(sums.dispatched_assets, 'asset')}",
        "stopped": counted(sums.stopped_assets, "asset") if sums.stopped_assets else None,
        "limits": f"{mw_text(sums.min_mw, signed=True)} to {mw_text(sums.max_mw, signed=True)}",
        "energy": f"{number_text(sums.soc_mwhr, 1)} of {number_text(sums.capacity_mwhr, 1)} MWh{soc}",
    }


def _available(sums: FleetRow) -> Table:
    periods = (
        ("now", sums.available.now),
        ("for 15 min", sums.available.min_15),
        ("for 60 min", sums.available.min_60),
    )
    return Table(
        columns=[
            Column(heading="available"),
            Column(heading="discharge", unit="MW", numeric=True),
            Column(heading="charge", unit="MW", numeric=True),
        ],
        rows=[(period, power.discharge_mw, power.charge_mw) for period, power in periods],
    )


_SITE_COLUMNS: Sequence[Column] = (
    Column(heading="site", flexible=True),
    Column(heading="location", flexible=True, expendable=9),
    Column(heading="assets", numeric=True, decimals=0, expendable=4),
    Column(heading="not good", numeric=True, decimals=0, style_of=lambda count: "yellow" if count else None),
    Column(heading="alarms", optional=True, style_of=lambda alarms: "red" if alarms else None),
    Column(heading="power", unit="MW", numeric=True, signed=True),
    Column(heading="setpoint", unit="MW", numeric=True, signed=True, expendable=5),
    Column(heading="SOC", unit="%", numeric=True, decimals=1),
    Column(heading="15 min discharge", unit="MW", numeric=True, expendable=6),
    Column(heading="15 min charge", unit="MW", numeric=True, expendable=7),
    Column(heading="export limit", unit="MW", numeric=True, optional=True),
    Column(heading="import limit", unit="MW", numeric=True, optional=True),
    Column(heading="limits until", optional=True),
)


def _alarms_text(counts: AlarmCountsRow) -> str:
    numbers = [(severity, getattr(counts, severity)) for severity in SEVERITIES]
    return ", ".join(f"{number} {severity}" for severity, number in numbers if number)


def _site_cells(row: SiteRow) -> tuple[Any, ...]:
    return (
        row.name,
        row.location,
        row.assets,
        row.assets - row.by_quality.get("good", 0),
        _alarms_text(row.alarms),
        row.current_mw,
        row.setpoint_mw,
        100 * row.soc_mwhr / row.capacity_mwhr if row.capacity_mwhr and row.live_assets else None,
        row.available.min_15.discharge_mw,
        row.available.min_15.charge_mw,
        row.export_limit_mw,
        row.import_limit_mw,
        None if row.limits_until is None else time_text(row.limits_until),
    )
