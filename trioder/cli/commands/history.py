"""`trioder history`: recorded values of one asset, as a table, CSV or JSON."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast, get_args

import click

from trioder.cli.completing import AssetName
from trioder.cli.connection import find_asset_id, open_client
from trioder.cli.live_values import QUALITY
from trioder.cli.options import headend_command, output_of
from trioder.cli.quantities import Moment, time_text
from trioder.cli.tables import Column, Table
from trioder.client import HeadendClient, Lines
from trioder.client.reads import Resolution
from trioder.schemas.resources import HistoryBucketRow, HistoryRow

_DEFAULT_ROWS = 100
_Row = HistoryRow | HistoryBucketRow
_QUANTITIES = ("soc_mwhr", "soc_pct", "current_mw", "setpoint_mw")
_STATISTICS = ("mean", "min", "max", "last")
_SAMPLE_FIELDS = ("timestamp", *_QUANTITIES, "status", "source", "quality")
_BUCKET_FIELDS = ("timestamp", "samples", "good_samples", "worst_quality")


@headend_command("history")
@click.argument("asset", metavar="ASSET", type=AssetName())
@click.option("--from", "start", metavar="TIME", type=Moment(), help="At or after this time.")
@click.option("--to", "end", metavar="TIME", type=Moment(), help="Before this time.")
@click.option(
    "--resolution",
    type=click.Choice(get_args(Resolution)),
    help="Statistics of periods of this length, in UTC, instead of samples.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help=f"Only the newest so many rows.  [default: {_DEFAULT_ROWS}; all with --from]",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with the fields and times (UTC) of the API.")
def history(
    context: click.Context,
    *,
    asset: str,
    start: str | None,
    end: str | None,
    resolution: str | None,
    limit: int | None,
    as_csv: bool,
) -> None:
    """List an asset's recorded values, newest first.

    A time is 2026-01-31, 2026-01-31T18:00 (local time), 2026-01-31T18:00:00Z, or how long ago, such as 2h.
    """
    output = output_of(context)
    if as_csv and output.as_json:
        raise click.UsageError("--csv and --json exclude each other")
    if limit is None and start is None:
        limit = _DEFAULT_ROWS
    with open_client(context) as client:
        asset_id = find_asset_id(client, asset)
        with _read(client, asset_id, start=start, end=end, limit=limit, resolution=resolution) as rows:
            if as_csv:
                fields = _SAMPLE_FIELDS if resolution is None else _BUCKET_FIELDS
                output.lines(_csv_lines(rows, fields, statistics=resolution is not None))
            elif output.as_json:
                output.json_array(rows)
            else:
                output.table(_table(list(rows), resolution), empty="no recorded values")


def _read(
    client: HeadendClient,
    asset_id: str,
    *,
    start: str | None,
    end: str | None,
    limit: int | None,
    resolution: str | None,
) -> Lines[Any]:
    if resolution is None:
        return client.history(asset_id, start=start, end=end, limit=limit)
    return client.history_buckets(
        asset_id, resolution=cast("Resolution", resolution), start=start, end=end, limit=limit
    )


def _csv_lines(rows: Iterable[_Row], fields: Sequence[str], *, statistics: bool) -> Iterator[str]:
    heading = list(fields)
    if statistics:
        heading += [f"{quantity}_{statistic}" for quantity in _QUANTITIES for statistic in _STATISTICS]
    yield _csv_line(heading)
    for row in rows:
        values = [getattr(row, name) for name in fields]
        if statistics:
            values += [
                getattr(getattr(row, quantity), statistic)
                for quantity in _QUANTITIES
                for statistic in _STATISTICS
            ]
        yield _csv_line(values)


def _csv_line(values: Iterable[object]) -> str:
    text = io.StringIO()
    # What is not known is an empty field.
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def _table(rows: Sequence[Any], resolution: str | None) -> Table:
    if resolution is None:
        return Table(columns=_SAMPLE_COLUMNS, rows=[_sample_cells(row) for row in rows])
    return Table(columns=_BUCKET_COLUMNS, rows=[_bucket_cells(row) for row in rows])


_SAMPLE_COLUMNS: Sequence[Column] = (
    Column(heading="time"),
    Column(heading="power", unit="MW", numeric=True, signed=True),
    Column(heading="setpoint", unit="MW", numeric=True, signed=True),
    Column(heading="SOC", unit="%", numeric=True, decimals=1),
    Column(heading="SOC", unit="MWh", numeric=True),
    QUALITY,
    Column(heading="status", expendable=8),
    Column(heading="source", expendable=9),
)

_BUCKET_COLUMNS: Sequence[Column] = (
    Column(heading="from"),
    Column(heading="mean power", unit="MW", numeric=True, signed=True),
    Column(heading="min power", unit="MW", numeric=True, signed=True),
    Column(heading="max power", unit="MW", numeric=True, signed=True),
    Column(heading="mean setpoint", unit="MW", numeric=True, signed=True, expendable=7),
    Column(heading="last SOC", unit="%", numeric=True, decimals=1),
    Column(heading="samples", numeric=True, decimals=0, expendable=8),
    Column(heading="good", numeric=True, decimals=0, expendable=9),
    Column(heading="worst quality", style_of=QUALITY.style_of),
)


def _sample_cells(row: HistoryRow) -> tuple[Any, ...]:
    return (
        time_text(row.timestamp),
        row.current_mw,
        row.setpoint_mw,
        row.soc_pct,
        row.soc_mwhr,
        row.quality,
        row.status,
        row.source,
    )


def _bucket_cells(row: HistoryBucketRow) -> tuple[Any, ...]:
    return (
        time_text(row.timestamp),
        row.current_mw.mean,
        row.current_mw.min,
        row.current_mw.max,
        row.setpoint_mw.mean,
        row.soc_pct.last,
        row.samples,
        row.good_samples,
        row.worst_quality,
    )
