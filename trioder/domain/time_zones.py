"""Local wall time in a named time zone, to and from Unix time.

A wall time that a change of clocks skips is read with the offset before the change (RFC 5545, 3.3.5): 02:30
is 03:30. Of one that occurs twice, the first is meant.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from trioder.domain.text import preview

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# Of a wall time: about the years 1 to 9999, with room for every offset.
_FIRST_MS: Final = -62_000_000_000_000
_LAST_MS: Final = 253_000_000_000_000

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(/[A-Za-z0-9_+\-]+){0,2}", re.ASCII)
_MAX_NAME_LENGTH = 64
# The first two repeat all zones, without and with leap seconds; the last two are the machine's own.
_OTHER_FILES = ("posix/", "right/", "posixrules", "localtime")


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """Return the time zone with this IANA name.

    Raises:
        ValueError: there is none.
    """
    if _NAME.fullmatch(name) and len(name) <= _MAX_NAME_LENGTH and not name.startswith(_OTHER_FILES):
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    raise ValueError(
        f"timezone is {preview(name)}; it must be the IANA name of a time zone, such as Europe/Berlin or UTC"
    )


def unix_ms_of(wall: datetime, zone: ZoneInfo) -> int:
    """Return the Unix time of a naive wall time."""
    return (wall.replace(tzinfo=zone) - _EPOCH) // _MILLISECOND


def wall_of(unix_ms: int, zone: ZoneInfo) -> datetime:
    """Return the naive wall time at a Unix time; `fold` is 1 the second time that it occurs.

    Times outside of about the years 1 to 9999 are the first or the last of them.
    """
    return _utc(unix_ms).astimezone(zone).replace(tzinfo=None)


def offset_of(unix_ms: int, zone: ZoneInfo) -> timedelta:
    """Return how far the wall clock is ahead of UTC at a Unix time."""
    return _utc(unix_ms).astimezone(zone).utcoffset() or timedelta()


def earliest_ms(wall: datetime, zone: ZoneInfo) -> int:
    """Return a Unix time before which neither this wall time nor any later one lies."""
    # In a skipped hour, fold 1 is read with the offset after the change.
    return min(unix_ms_of(wall.replace(fold=0), zone), unix_ms_of(wall.replace(fold=1), zone))


def is_skipped(wall: datetime, zone: ZoneInfo) -> bool:
    """Whether no clock of the zone shows this wall time."""
    return wall_of(unix_ms_of(wall.replace(fold=0), zone), zone).replace(fold=0) != wall.replace(fold=0)


def _utc(unix_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=min(max(unix_ms, _FIRST_MS), _LAST_MS))
