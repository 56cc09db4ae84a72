"""Moves the times of records when the wall clock is set: durations count steady time."""

from dataclasses import fields
from functools import cache
from typing import Any


def shift(record: Any, by_ms: int) -> None:
    """Move the fields of a dataclass that are times: their names end in `_ms`."""
    kind: Any = type(record)
    for name in _times_of(kind):
        ts_ms = getattr(record, name)
        if ts_ms is not None:
            setattr(record, name, ts_ms + by_ms)


def shifted_end(ends_ms: int | None, valid_until_ms: int | None, by_ms: int) -> int | None:
    """Return the end of a setpoint after a step; `valid_until` is an instant of the right clock, and stays.

    An end that equals valid_until is that instant; one that an agent reported otherwise is a duration too.
    """
    if ends_ms is None or ends_ms == valid_until_ms:
        return ends_ms
    return ends_ms + by_ms if valid_until_ms is None else min(ends_ms + by_ms, valid_until_ms)


@cache
def _times_of(kind: Any) -> tuple[str, ...]:
    return tuple(one.name for one in fields(kind) if one.name.endswith("_ms"))
