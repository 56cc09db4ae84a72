"""Formats and parses RFC 3339 times, to and from milliseconds since the Unix epoch."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The length of what `format_ms` returns.
_WRITTEN_LENGTH = 24
_MILLISECOND = timedelta(milliseconds=1)
_FIRST_MS = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
_LAST_MS = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND

# RFC 3339, section 5.6. `datetime.fromisoformat` accepts far more than this (dates alone, weeks).
_RFC3339 = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[Tt ](?P<minute>\d\d:\d\d):(?P<second>\d\d)(?:\.(?P<fraction>\d+))?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<offset_h>[01]\d|2[0-3]):(?P<offset_min>[0-5]\d))",
    re.ASCII,
)


def format_ms(ts_unix_ms: int) -> str:
    """Return a time such as ``2026-01-02T03:04:05.678Z``.

    Raises:
        ValueError: the time is not within the years 1 to 9999.
    """
    if not _FIRST_MS <= ts_unix_ms <= _LAST_MS:
        raise ValueError(f"{ts_unix_ms} ms is not a time in the years 1 to 9999")
    second, millisecond = divmod(ts_unix_ms, 1000)
    return f"{_second_text(second)}.{millisecond:03}Z"


# Most times are the present.
@lru_cache(maxsize=256)
def _second_text(unix_s: int) -> str:
    moment = _EPOCH + timedelta(seconds=unix_s)
    return moment.replace(tzinfo=None).isoformat(timespec="seconds")


def parse_ms(text: str) -> int:
    """Return the milliseconds since the Unix epoch; finer fractions are truncated.

    A leap second (``:60``) is the first instant of the next minute, as in Unix time.

    Raises:
        ValueError: the text is no RFC 3339 time, or not in the years 1 to 9999.
    """
    # Fast path for the format of `format_ms`: many samples are of the same second.
    fraction = text[20:23]
    try:
        if len(text) == _WRITTEN_LENGTH and text[19] == "." and text[23] == "Z" and _is_number(fraction):
            ts_unix_ms = _second_ms(text[:19]) + int(fraction)
        else:
            ts_unix_ms = _parse(text)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not an RFC 3339 time such as 2026-01-02T03:04:05.678Z") from None
    if not _FIRST_MS <= ts_unix_ms <= _LAST_MS:
        raise ValueError(f"{text!r} is not a time in the years 1 to 9999")
    return ts_unix_ms


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


@lru_cache(maxsize=256)
def _second_ms(text: str) -> int:
    return _parse(text + "Z")


def _parse(text: str) -> int:
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError
    date, minute, second, fraction, sign, offset_h, offset_min = match.groups()
    if second > "60":
        raise ValueError
    milliseconds = int(((fraction or "") + "000")[:3])
    return _minute_ms(date, minute, sign, offset_h, offset_min) + int(second) * 1000 + milliseconds


@lru_cache(maxsize=256)
def _minute_ms(date: str, minute: str, sign: str | None, offset_h: str | None, offset_min: str | None) -> int:
    moment = datetime.fromisoformat(f"{date}T{minute}:00").replace(tzinfo=UTC)
    offset = timedelta(hours=int(offset_h or 0), minutes=int(offset_min or 0))
    # Local time is ahead of UTC where the sign is +.
    return (moment - _EPOCH - (-offset if sign == "-" else offset)) // _MILLISECOND
