"""Regulation signals from CSV files, per unit. Replaying them is in `scripts.regulation.replay`."""

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

_DATA = Path(__file__).parents[2] / "examples/data"
_STEP_TOLERANCE_S = 1e-6

REGD_PATH = _DATA / "pjm_regd_test_40min_2s.csv"
CAISO_PATH = _DATA / "caiso_agc_4s_3days_2016.csv"
# The battery that CAISO sent its signal to.
CAISO_BATTERY_MW = 100.0
CAISO_DEFAULT_DAY = "2016-09-30"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What is asked, in steps of equal length.

    Attributes:
        name: for the names of files.
        title: for headings.
        step_s: from one value to the next, in seconds.
        values: per unit of the capability, within -1..1; + discharges.
    """

    name: str
    title: str
    step_s: float
    values: tuple[float, ...]

    @property
    def duration_s(self) -> float:
        """How long the whole lasts, the last value held for a step."""
        return self.step_s * len(self.values)

    def first(self, minutes: float) -> "Signal":
        """Return the signal's first minutes; the whole, if it is shorter.

        Raises:
            ValueError: not a single step is that short.
        """
        steps = math.floor(minutes * 60.0 / self.step_s + 1e-9)
        if steps < 1:
            raise ValueError(f"{minutes:g} minutes hold no step of {self.step_s:g} s")
        return replace(self, values=self.values[:steps])


def load_signal(which: str, *, day: str | None) -> Signal:
    """Return the signal `regd` or `caiso` that comes with the project, or that of a file.

    Args:
        which: `regd`, `caiso`, or the path of a CSV file as `read_signal` takes it.
        day: of the CAISO signal, or the column of a file with several; None for the default one.

    Raises:
        ValueError: the file breaks a rule, reported with its line; or there is no such day.
        OSError: the file cannot be read.
    """
    match which:
        case "regd":
            if day is not None:
                raise ValueError("the RegD signal has no days")
            path, name, column, full_mw = REGD_PATH, "regd", None, 1.0
            title = "PJM RegD test wave"
        case "caiso":
            column = day or CAISO_DEFAULT_DAY
            path, name, full_mw = CAISO_PATH, f"caiso-{column}", CAISO_BATTERY_MW
            title = f"CAISO regulation, {column}"
        case _:
            path, name, column, full_mw = Path(which), Path(which).stem, day, 1.0
            title = name if column is None else f"{name}, {column}"
    text = decode_text(path.read_bytes(), source=str(path))
    step_s, values = read_signal(text, source=str(path), column=column, full_mw=full_mw)
    return Signal(name=name, title=title, step_s=step_s, values=values)


def decode_text(content: bytes, *, source: str) -> str:
    """Return a file's text; it is UTF-8, with or without a mark of that at its start.

    Raises:
        ValueError: it is not; the message names the line.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{source}, line {line}: not UTF-8: {error.reason}") from None


def read_signal(
    text: str, *, source: str, column: str | None, full_mw: float
) -> tuple[float, tuple[float, ...]]:
    """Read a CSV text: a heading, then the time in seconds and one or more columns of values.

    Lines end in LF, CRLF or CR. Empty ones at the end count for nothing, as do those of separators alone.

    Returns the step in seconds, and the values per unit.

    Args:
        text: the whole file.
        source: the file's path, for error messages.
        column: its heading; None if there is but one.
        full_mw: the value that is 1 per unit; 1 if the values are per unit already.

    Raises:
        ValueError: the text breaks a rule; the message names source, line and rule.
    """
    rows = _rows(text, source)
    _, heading = next(rows, ("", []))
    position = _position(heading, column, source)
    times_s: list[float] = []
    values: list[float] = []
    for where, row in rows:
        if len(row) != len(heading):
            raise ValueError(f"{where}: {len(row)} fields, but the heading has {len(heading)}")
        time_s, value = _number(row[0], where), _number(row[position], where) / full_mw
        if not -1.0 <= value <= 1.0:
            raise ValueError(f"{where}: {row[position]} is outside of {-full_mw:g}..{full_mw:g}")
        times_s.append(time_s)
        values.append(value)
        _check_step(times_s, where)
    if len(values) < 2:
        raise ValueError(f"{source}: {len(values)} values; a signal has at least two")
    return times_s[1] - times_s[0], tuple(values)


def _rows(text: str, source: str) -> Iterator[tuple[str, list[str]]]:
    """The line number of each row, and its fields."""
    rows = csv.reader(io.StringIO(text, newline=None), strict=True)
    empty_since = ""
    try:
        for row in rows:
            where = f"{source}, line {rows.line_num}"
            if any(field.strip() for field in row):
                if empty_since:
                    raise ValueError(f"{empty_since}: an empty line; they may only be at the end")
                yield where, row
            else:
                empty_since = empty_since or where
    except csv.Error as error:
        raise ValueError(f"{source}, line {rows.line_num}: not CSV: {error}") from None


def _position(heading: list[str], column: str | None, source: str) -> int:
    names = heading[1:]
    if not names:
        raise ValueError(f"{source}, line 1: a heading of a time and at least one column of values is needed")
    if column is None:
        if len(names) > 1:
            raise ValueError(f"{source}, line 1: one of its columns must be named: {', '.join(names)}")
        return 1
    if column not in names:
        raise ValueError(f"{source}, line 1: no column {column!r}; there are {', '.join(names)}")
    return 1 + names.index(column)


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{where}: {text!r} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{where}: {text!r} is not a finite number")
    return number


def _check_step(times_s: list[float], where: str) -> None:
    """Compare the last two times with the first two."""
    if len(times_s) < 2:
        return
    first_s, last_s = times_s[1] - times_s[0], times_s[-1] - times_s[-2]
    if last_s <= 0.0:
        raise ValueError(f"{where}: the time {times_s[-1]:g} s does not follow {times_s[-2]:g} s")
    if abs(last_s - first_s) > _STEP_TOLERANCE_S:
        raise ValueError(f"{where}: a step of {last_s:g} s; the first one was {first_s:g} s")
