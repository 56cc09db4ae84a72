"""`trioder assets` and `trioder asset`: nameplates and latest values."""

from collections.abc import Callable, Sequence
from typing import Any

import click

from trioder.cli.completing import AssetName, SiteName
from trioder.cli.connection import find_assets, find_site, open_client
from trioder.cli.live_values import QUALITY, UNKNOWN, short_ids
from trioder.cli.options import headend_command, output_of
from trioder.cli.quantities import NONE, duration_text, mw_text, number_text, time_text
from trioder.cli.tables import Column, Table, property_lines
from trioder.client import NotFound
from trioder.schemas.resources import AssetRow, TelemetryRow

_Pair = tuple[AssetRow, TelemetryRow | None]
_SORTS: dict[str, Callable[[_Pair], Any]] = {
    "fleet": lambda _: 0,
    "name": lambda pair: pair[0].name.casefold(),
    "site": lambda pair: (pair[0].site_name.casefold(), pair[0].name.casefold()),
    "power": lambda pair: pair[1] and pair[1].current_mw,
    "setpoint": lambda pair: pair[1] and pair[1].setpoint_mw,
    "soc": lambda pair: pair[1] and pair[1].soc_pct,
    "quality": lambda pair: pair[1].quality if pair[1] else UNKNOWN,
    "age": lambda pair: pair[1] and pair[1].age_s,
    "rating": lambda pair: pair[0].max_mw,
}


@headend_command("assets")
@click.option("--site", metavar="SITE", type=SiteName(), help="Only those of this site.")
@click.option(
    "--sort", type=click.Choice(tuple(_SORTS)), default="fleet", show_default=True, help="The order."
)
@click.option("--reverse", is_flag=True, help="The other way round.")
@click.option("--not-good", is_flag=True, help="Only those whose latest value is not good, or missing.")
def assets(context: click.Context, *, site: str | None, sort: str, reverse: bool, not_good: bool) -> None:
    """List the assets and their latest values."""
    output = output_of(context)
    with open_client(context) as client:
        site_id = None if site is None else find_site(client, site).id
        rows = list(client.assets(site_id=site_id))
        latest = {row.asset_id: row for row in client.telemetry(site_id=site_id)}
    pairs: list[_Pair] = [(row, latest.get(row.id)) for row in rows]
    if not_good:
        pairs = [pair for pair in pairs if pair[1] is None or pair[1].quality != "good"]
    pairs = _sorted(pairs, _SORTS[sort], reverse=reverse)
    if output.as_json:
        output.document([_document(*pair) for pair in pairs])
        return
    ids = short_ids([row.id for row in rows])
    table = Table(columns=_COLUMNS, rows=[(ids[pair[0].id], *_cells(*pair)) for pair in pairs])
    output.table(table, empty="no assets" if not not_good else "all assets are good")


@headend_command("asset")
@click.argument("asset", metavar="ASSET", type=AssetName())
def asset(context: click.Context, *, asset: str) -> None:
    """Show one asset: its nameplate, its latest values and its open alarms."""
    output = output_of(context)
    with open_client(context) as client:
        [row] = find_assets(client, (asset,))
        try:
            latest = client.asset_telemetry(row.id)
        except NotFound:
            # It has no sample yet.
            latest = None
        alarms = list(client.alarms(asset_id=row.id))
    if output.as_json:
        output.document({**_document(row, latest), "alarms": alarms})
        return
    output.lines(property_lines({**_nameplate(row), **_values(latest)}))
    output.lines(
        property_lines((f"alarm {alarm.severity}", f"{alarm.kind}: {alarm.reason}") for alarm in alarms)
    )


def _sorted(pairs: list[_Pair], key: Callable[[_Pair], Any], *, reverse: bool) -> list[_Pair]:
    known = [pair for pair in pairs if key(pair) is not None]
    unknown = [pair for pair in pairs if key(pair) is None]
    known.sort(key=key)
    if reverse:
        known.reverse()
    # What is not known is last, in either order.
    return known + unknown


def _document(row: AssetRow, latest: TelemetryRow | None) -> dict[str, Any]:
    # Imported by the client anyway.
    from msgspec import to_builtins  # noqa: PLC0415

    return {**to_builtins(row), "telemetry": latest}


_COLUMNS: Sequence[Column] = (
    Column(heading="id"),
    Column(heading="asset", flexible=True),
    Column(heading="site", flexible=True, expendable=4),
    Column(heading="power", unit="MW", numeric=True, signed=True),
    Column(heading="setpoint", unit="MW", numeric=True, signed=True, expendable=5),
    Column(heading="max", unit="MW", numeric=True, signed=True, expendable=7),
    Column(heading="min", unit="MW", numeric=True, signed=True, expendable=8),
    Column(heading="SOC", unit="%", numeric=True, decimals=1),
    QUALITY,
    Column(heading="age", expendable=6),
    Column(heading="status", expendable=9),
)


def _cells(row: AssetRow, latest: TelemetryRow | None) -> tuple[Any, ...]:
    if latest is None:
        return (row.name, row.site_name, None, None, row.max_mw, row.min_mw, None, UNKNOWN, None, None)
    return (
        row.name,
        row.site_name,
        latest.current_mw,
        latest.setpoint_mw,
        row.max_mw,
        row.min_mw,
        latest.soc_pct,
        latest.quality,
        duration_text(latest.age_s),
        latest.status,
    )


def _nameplate(row: AssetRow) -> dict[str, str | None]:
    return {
        "asset": row.name,
        "id": row.id,
        "site": f"{row.site_name} ({row.site_id})",
        "location": row.location or None,
        "limits": f"{mw_text(row.min_mw, signed=True)} to {mw_text(row.max_mw, signed=True)}, "
        f"{number_text(row.ramp_rate_mw_per_min, 1)} MW/min",
        "capacity": f"{number_text(row.capacity_mwhr, 2)} MWh, of which "
        f"{number_text(row.min_soc_pct, 0)} to {number_text(row.max_soc_pct, 0)} % are used",
        "efficiency": f"{number_text(100 * row.charge_efficiency, 1)} % charging, "
        f"{number_text(100 * row.discharge_efficiency, 1)} % discharging",
    }


def _values(latest: TelemetryRow | None) -> dict[str, str | None]:
    if latest is None:
        return {"quality": UNKNOWN}
    remaining = NONE if latest.remaining_s is None else f"{duration_text(latest.remaining_s)} left"
    return {
        "quality": f"{latest.quality}, {duration_text(latest.age_s)} old, from {_SOURCES[latest.source]}",
        "sampled": time_text(latest.timestamp),
        "power": mw_text(latest.current_mw, signed=True),
        "setpoint": mw_text(latest.setpoint_mw, signed=True),
        "charge": f"{number_text(latest.soc_pct, 1)} %, {number_text(latest.soc_mwhr, 2)} MWh",
        "available": f"{mw_text(latest.available_discharge_mw)} discharging, "
        f"{mw_text(latest.available_charge_mw)} charging",
        "status": latest.status,
        "dispatch": None if latest.dispatch_id is None else f"{latest.dispatch_id}, {remaining}",
    }


_SOURCES = {"agent": "its agent", "synthesized": "the headend's model"}
