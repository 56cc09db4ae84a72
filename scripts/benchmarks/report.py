"""One report per benchmark: the machine, the command line and one table, as text and as JSON.

What the figures mean is described in docs/benchmarks.md.
"""

import json
import math
import os
import platform
import shlex
import string
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Figures = Mapping[str, Any]


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
        machine = _machine(self.postgres)
        line = f"{machine['cores']} cores, {machine['architecture']}, Python {machine['python']}"
        line += "" if self.postgres is None else f", PostgreSQL {self.postgres}"
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        heading, *rows = (_line(cells, widths) for cells in (self.columns, *self.rows))
        rule = "| " + " | ".join("-" * width for width in widths) + " |"
        notes = ["", *self.notes] if self.notes else []
        return "\n".join([self.title, line, _command_line(), "", heading, rule, *rows, *notes])

    def as_json(self) -> str:
        """Return one JSON object: command, machine, and the figures."""
        document = {"command": _command_line(), "machine": _machine(self.postgres), **self.figures}
        return json.dumps(document, indent=1) + "\n"


def table_rows(cases: Sequence[Figures], *rows: tuple[str, str]) -> list[list[str]]:
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
    """Return count, p50, p99 and maximum of at least one duration.

    Raises:
        ValueError: there is none.
    """
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


def _machine(postgres: str | None) -> dict[str, Any]:
    python = platform.python_version()
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "python": python,
        "postgres": postgres,
    }


def _command_line() -> str:
    return shlex.join(["./scripts/bench", *sys.argv[1:]])
