"""What all benchmarks share: options, a run until its report, an error or a signal, and the report.

A report has the machine, the command line and one table, as text and as JSON. What the figures mean is
described in docs/benchmarks.md.
"""

import json
import math
import os
import platform
import shlex
import string
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from trioder.process.nurseries import leaf_exceptions, open_background_nursery
from trioder.process.signals import stop_signals

Figures = Mapping[str, Any]
Measure = Callable[..., Awaitable["Report"]]


class BenchmarkError(Exception):
    """There is nothing to report; the text says why."""


def number(names: str, low: float, high: float | None, default: Any, text: str) -> click.Option:
    """Return an option for whole numbers, or any if `low` is a float; for several if `default` is a tuple."""
    kind: Any = click.FloatRange(low, high) if isinstance(low, float) else click.IntRange(low, high)
    several = {"default": default, "multiple": isinstance(default, tuple), "show_default": True}
    return click.Option(names.split(), type=kind, help=text, **several)


def output(names: str, text: str) -> click.Option:
    """Return an option for a file to write."""
    kind = click.Path(dir_okay=False, writable=True, path_type=Path)
    return click.Option(names.split(), type=kind, help=text)


def benchmark(*options: click.Option) -> Callable[[Measure], click.Command]:
    """Make a command of a function that takes these options and measures; its docstring is the help."""
    text = "Write the figures to this file as well; a relative path begins at the project's folder."

    def command(measure: Measure) -> click.Command:
        def run(json_path: Path | None, **values: Any) -> None:
            run_benchmark(partial(measure, **values), json_path=json_path)

        params: list[click.Parameter] = [*options, output("--json json_path", text)]
        return click.Command(measure.__name__, params=params, callback=run, help=measure.__doc__)

    return command


def run_benchmark(measure: Measure, *, json_path: Path | None) -> None:
    """Measure, print, write; the exit code is 1 when the figures are invalid, 130 after a signal."""
    try:
        report = trio.run(_until_signalled, measure)
    except (BenchmarkError, ExceptionGroup) as error:
        leaves = leaf_exceptions(error)
        if not all(isinstance(leaf, BenchmarkError) for leaf in leaves):
            raise
        raise click.ClickException(str(leaves[0])) from None
    if report is None:
        click.echo("stopped", err=True)
        sys.exit(130)
    click.echo(report.as_text())
    if json_path is not None:
        json_path.write_text(report.as_json(), encoding="utf-8")
    if report.faults:
        raise click.ClickException("; ".join(report.faults))


async def _until_signalled(measure: Measure) -> "Report | None":
    report: Report | None = None
    with trio.open_signal_receiver(*stop_signals()) as signals:

        async def cancel_on_signal() -> None:
            async for _ in signals:
                scope.cancel()

        # Until cleanup is over: it is bounded, and a second signal must not cut it short.
        async with open_background_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_on_signal)
                report = await measure()
    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one run has measured.

    Attributes:
        columns: the column headings, the first of which is above the names of the rows.
        notes: lines below the table.
        figures: the same figures and more as plain values, with the unit in each name.
        postgres: the server's version; None if there was no server.
        faults: why the figures are invalid; the command fails with them.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: Figures
    postgres: str | None = None
    notes: Sequence[str] = ()
    faults: Sequence[str] = ()

    def as_text(self) -> str:
        """Return the lines for a terminal; the table is valid Markdown."""
        line = "{cores} cores, {architecture}, Python {python}".format(**self._machine())
        line += "" if self.postgres is None else f", PostgreSQL {self.postgres}"
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        rule = ["-" * width for width in widths]
        table = [_line(cells, widths) for cells in (self.columns, rule, *self.rows)]
        notes = ["", *self.notes] if self.notes else []
        return "\n".join([self.title, line, _command_line(), "", *table, *notes])

    def as_json(self) -> str:
        """Return one JSON object: command, machine, and the figures."""
        document = {"command": _command_line(), "machine": self._machine(), **self.figures}
        return json.dumps(document, indent=1) + "\n"

    def _machine(self) -> dict[str, Any]:
        python, cores = platform.python_version(), os.cpu_count()
        machine = {"cores": cores, "architecture": platform.machine(), "python": python}
        return {**machine, "postgres": self.postgres}


def table_rows(cases: Iterable[Figures], *rows: tuple[str, str]) -> list[list[str]]:
    """Return one row per name and format string, with one cell per case; a figure of None becomes "-"."""
    formatter = _Formatter()
    return [[name, *(formatter.vformat(cell, (), case) for case in cases)] for name, cell in rows]


def row_faults(counted: Iterable[tuple[str, Figures]]) -> list[str]:
    """Return a fault for each name whose figures have lost or doubled rows."""
    return [
        f"{name}: {figures['rows_lost']} rows lost, {figures['rows_doubled']} doubled"
        for name, figures in counted
        if figures["rows_lost"] or figures["rows_doubled"]
    ]


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest of the sorted values that at least `share` of them do not exceed; 0 without any."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def spread_ms(values_s: Sequence[float]) -> dict[str, float]:
    """Return count, p50, p99 and maximum of durations; ValueError if there is none."""
    if not values_s:
        raise ValueError("there is no spread of no durations")
    values_ms = sorted(1000 * value_s for value_s in values_s)
    p50_ms, p99_ms = quantile(values_ms, 0.5), quantile(values_ms, 0.99)
    return {"count": len(values_ms), "p50_ms": p50_ms, "p99_ms": p99_ms, "max_ms": values_ms[-1]}


class _Formatter(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        return "-" if value is None else str(super().format_field(value, format_spec))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return "| " + " | ".join(padded) + " |"


def _command_line() -> str:
    return shlex.join(["./scripts/bench", *sys.argv[1:]])
