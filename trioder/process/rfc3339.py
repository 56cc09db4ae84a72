"""Times as text: RFC 3339 in UTC with milliseconds, to and from milliseconds since the Unix epoch.

What tells the time lives in `trioder.process.wall_time`.
"""

import re
from datetime import UTC, datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_FIRST_MS = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
_LAST_MS = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND

# RFC 3339, section 5.6. `datetime.fromisoformat` takes far more than this (dates alone, weeks).
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
    moment = _EPOCH + timedelta(milliseconds=ts_unix_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_ms(text: str) -> int:
    """Return the milliseconds since the Unix epoch; what is finer than that is cut off.

    A leap second (``:60``) counts as the first instant of the next minute, as Unix time has it.

    Raises:
        ValueError: the text is no RFC 3339 time, or not one in the years 1 to 9999.
    """
    try:
        ts_unix_ms = _parse(text)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not an RFC 3339 time such as 2026-01-02T03:04:05.678Z") from None
    if not _FIRST_MS <= ts_unix_ms <= _LAST_MS:
        raise ValueError(f"{text!r} is not a time in the years 1 to 9999")
    return ts_unix_ms


def _parse(text: str) -> int:
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError
    second = int(match["second"])
    if second > 60:
        raise ValueError
    moment = datetime.fromisoformat(f"{match['date']}T{match['minute']}:00").replace(tzinfo=_offset(match))
    milliseconds = int(((match["fraction"] or "") + "000")[:3])
    return (moment - _EPOCH) // _MILLISECOND + second * 1000 + milliseconds


def _offset(match: re.Match[str]) -> timezone:
    if match["sign"] is None:
        return UTC
    offset = timedelta(hours=int(match["offset_h"]), minutes=int(match["offset_min"]))
    return timezone(-offset if match["sign"] == "-" else offset)
