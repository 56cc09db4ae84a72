"""One report a benchmark: the machine, the command line, one table; as text and as JSON.

What the figures are, and how they come about, is told by the benchmarks.
"""

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one run has measured.

    Attributes:
        title: what was done, on one line.
        postgres: the server's version; None where none took part.
        columns: the heads of the columns, the first of which names the rows.
        rows: as many cells each.
        notes: lines to follow the table.
        figures: the same and more as plain values, units in their names.
        faults: what makes the figures worthless; the command fails with them.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: Mapping[str, Any]
    postgres: str | None = None
    notes: Sequence[str] = ()
    faults: Sequence[str] = ()

    def as_text(self) -> str:
        """Return the lines for a terminal; the table is Markdown's as well."""
        widths = [max(len(row[at]) for row in (self.columns, *self.rows)) for at in range(len(self.columns))]
        lines = [self.title, self._machine_line(), _command_line(), "", _line(self.columns, widths)]
        lines.append("| " + " | ".join("-" * width for width in widths) + " |")
        lines += [_line(row, widths) for row in self.rows]
        if self.notes:
            lines += ["", *self.notes]
        return "\n".join(lines)

    def as_json(self) -> str:
        """Return one JSON object: command, machine, and the figures."""
        document = {"command": _command_line(), "machine": self._machine(), **self.figures}
        return json.dumps(document, indent=1) + "\n"

    def _machine(self) -> dict[str, Any]:
        return {
            "cores": os.cpu_count(),
            "architecture": platform.machine(),
            "python": platform.python_version(),
            "postgres": self.postgres,
        }

    def _machine_line(self) -> str:
        machine = self._machine()
        line = f"{machine['cores']} cores, {machine['architecture']}, Python {machine['python']}"
        return line if self.postgres is None else f"{line}, PostgreSQL {self.postgres}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return "| " + " | ".join(padded) + " |"


def _command_line() -> str:
    return shlex.join(["./scripts/bench", *sys.argv[1:]])
