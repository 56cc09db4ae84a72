"""Validation of values that a peer has sent, for every decoder, and the error that it raises."""

import math
from collections.abc import Sequence
from uuid import UUID

from trioder.domain.quality import Quality
from trioder.domain.text import CANONICAL_UUID, TextError, preview, valid_name
from trioder.process.rfc3339 import parse_ms


class WireError(ValueError):
    """A message that breaks the contract; its text names the field, the value and the rule."""


def checked_id(field: str, value: str) -> str:
    """Return a UUID in its canonical lower-case form."""
    # Most ids are canonical, and UUID() takes several times as long as the pattern.
    if CANONICAL_UUID.fullmatch(value):
        return value
    try:
        return str(UUID(value))
    except ValueError:
        raise WireError(f"{field} is {preview(value)}; it must be a UUID") from None


def checked_name(field: str, value: str) -> str:
    """Return a non-empty name of bounded length, on one line."""
    try:
        return valid_name(field, value)
    except TextError as error:
        raise WireError(str(error)) from None


def checked_finite(field: str, value: float) -> float:
    """Return a number that is neither NaN nor infinite."""
    if not math.isfinite(value):
        raise WireError(f"{field} is {value}; it must be a finite number")
    return value


def checked_column(field: str, values: Sequence[float], *, rows: int) -> Sequence[float]:
    """Return one column of a batch: `rows` numbers, of which some may be NaN or infinite.

    A refused batch would be sent again and again, and one such value would block its agent for good: the
    receiver stores the row as suspect instead.
    """
    # A slice of a protobuf column is a list, and twice as fast as list().
    column = values[:]
    if len(column) != rows:
        raise WireError(f"{field} has {len(column)} rows; the batch's asset_index has {rows}")
    return column


def checked_qualities(field: str, codes: Sequence[int], *, rows: int) -> bytes:
    """Return the quality codes that the device reports, one a row; empty when all are good."""
    if not codes:
        return b""
    if len(codes) != rows:
        raise WireError(f"{field} has {len(codes)} rows; the batch's asset_index has {rows}")
    return bytes(map(device_quality, codes)) if any(codes) else b""


def device_quality(code: int) -> Quality:
    """Return the quality that a device reports: good, bad, or suspect for a code of a newer protocol."""
    if code == Quality.GOOD:
        return Quality.GOOD
    return Quality.BAD if code == Quality.BAD else Quality.SUSPECT


def checked_timestamp_ms(field: str, value: str) -> int:
    """Return an RFC 3339 time as milliseconds since the Unix epoch."""
    try:
        return parse_ms(value)
    except ValueError:
        raise WireError(f"{field} is {preview(value)}; it must be an RFC 3339 time") from None
