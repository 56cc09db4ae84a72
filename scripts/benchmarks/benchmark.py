"""What all benchmarks share: options, a run until its report, an error or a signal, and the report.

A report has the machine, the command line and one table, as text and as JSON. What the figures mean is
described in docs/benchmarks.md.
"""

import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
import trio

from trioder.process.nurseries import leaf_exceptions, open_background_nursery
from trioder.process.signals import stop_signals
from trioder.store.embedded.binaries import find_installation

# What a process has logged, as JSON.
Figures = Mapping[str, Any]
# One column of a report by the names of its rows, which have the units; None is unknown.
Case = Mapping[str, float | str | None]
Measure = Callable[..., Awaitable["Report"]]

ROWS_LOST, ROWS_DOUBLED = "rows lost", "rows doubled"


class BenchmarkError(Exception):
    """There is nothing to report; the text says why."""


def number(names: str, low: float, high: float | None, default: Any, text: str) -> click.Option:
    """Return an option for whole numbers, or any if `low` is a float; for several if `default` is a tuple."""
    kind: Any = click.FloatRange(low, high) if isinstance(low, float) else click.IntRange(low, high)
    several = {"default": default, "multiple": isinstance(default, tuple), "show_default": True}
    return click.Option(names.split(), type=kind, help=text, **several)


def benchmark(*options: click.Option) -> Callable[[Measure], click.Command]:
    """Make a command of a function that takes these options and measures; its docstring is the help."""
    text = "Write the figures to this file as well; a relative path begins at the project's folder."
    kind = click.Path(dir_okay=False, writable=True, path_type=Path)
    json_option = click.Option(["--json", "json_path"], type=kind, help=text)

    def command(measure: Measure) -> click.Command:
        def run(json_path: Path | None, **values: Any) -> None:
            run_benchmark(partial(measure, **values), json_path=json_path)

        params: list[click.Parameter] = [*options, json_option]
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
        cases: the columns of the table by their headings; each may lack some of the rows.
    """

    title: str
    cases: Mapping[str, Case]

    @property
    def faults(self) -> list[str]:
        """Why the figures are invalid; the command fails with them."""
        return [
            f"{heading}: {value:,} {name}"
            for heading, case in self.cases.items()
            for name, value in case.items()
            if name.endswith((ROWS_LOST, ROWS_DOUBLED)) and value
        ]

    def as_text(self) -> str:
        """Return the lines for a terminal; the table is valid Markdown."""
        names = dict.fromkeys(name for case in self.cases.values() for name in case)
        rows = [[name, *(_cell(case.get(name)) for case in self.cases.values())] for name in names]
        heads = ["", *self.cases]
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        rule = ["-" * width for width in widths]
        table = [_line(cells, widths) for cells in (heads, rule, *rows)]
        return "\n".join([self.title, _machine(), _command_line(), "", *table])

    def as_json(self) -> str:
        """Return one JSON object: command, machine, and the figures of each case by the rows' names."""
        document = {"command": _command_line(), "machine": _machine(), "title": self.title}
        return json.dumps({**document, "cases": self.cases}, indent=1) + "\n"


def spread_rows(name: str, values_s: Iterable[float]) -> dict[str, float | None]:
    """Return p50, p99 and maximum of durations, each one that occurred, and of how many; None without any."""
    ordered_ms = sorted(1000 * value_s for value_s in values_s)
    count = len(ordered_ms)
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    rows = {
        f"{name}, {figure}, ms": ordered_ms[math.ceil(share * count) - 1] if count else None
        for figure, share in shares.items()
    }
    return {**rows, f"{name}, of": count}


def medians(rounds: Sequence[Case]) -> dict[str, float | str | None]:
    """Return the median of each row over the rounds of one case; the worst of lost and doubled rows."""
    merged: dict[str, float | str | None] = dict(rounds[0])
    for name in merged:
        values = [value for of in rounds if isinstance(value := of[name], int | float)]
        if name.endswith((ROWS_LOST, ROWS_DOUBLED)):
            merged[name] = max(values, key=abs)
        elif values:
            merged[name] = statistics.median(values)
    return merged


def range_row(name: str, ratios: Sequence[float]) -> dict[str, str]:
    """Return the range of a ratio over the rounds."""
    return {f"{name}, range": f"{min(ratios):.2f} to {max(ratios):.2f}"}


def _cell(value: float | str | None) -> str:
    """Return three significant digits of a number that was measured, and all of a number that was counted."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else value


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return "| " + " | ".join(padded) + " |"


@cache
def _machine() -> str:
    server = find_installation()
    command = server.command("postgres", "--version")
    postgres = subprocess.check_output(command, text=True, **server.account).split()[-1]  # noqa: S603  # as is
    python = platform.python_version()
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {python}, PostgreSQL {postgres}"


def _command_line() -> str:
    return shlex.join(["./scripts/bench", *sys.argv[1:]])
