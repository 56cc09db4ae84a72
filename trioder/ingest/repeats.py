"""Detects repeats of single samples: a peer without an outbox sends again what it is not sure was received.

Synchronous, bounded by the fleet, and across sessions: half a kilobyte for each asset of such a peer.
"""

from array import array
from collections.abc import Iterable

# A peer repeats what was in flight when its connection was lost.
REMEMBERED = 64

_NEXT, _NEWEST, _FIRST = 0, 1, 2


class RecentTimes:
    """The times of the last samples of each asset; a second sample of the same time is a repeat."""

    def __init__(self) -> None:
        # The index to overwrite next, the newest time ever, then the times: one array an asset, so that what
        # is used together is in one place.
        self._by_asset: dict[int, array[int]] = {}

    def knows(self, asset_key: int) -> bool:
        """Whether any time of the asset is remembered."""
        return asset_key in self._by_asset

    def remember(self, asset_key: int, ts_unix_ms: Iterable[int]) -> None:
        """Add times of stored samples, the newest last."""
        for ts_ms in ts_unix_ms:
            self.add(asset_key, ts_ms)

    def add(self, asset_key: int, ts_unix_ms: int) -> bool:
        """Add the time of a sample; False when it is a repeat."""
        times = self._by_asset.get(asset_key)
        if times is None:
            self._by_asset[asset_key] = array("q", (_FIRST, ts_unix_ms, ts_unix_ms))
            return True
        if ts_unix_ms > times[_NEWEST]:
            # The usual case.
            times[_NEWEST] = ts_unix_ms
        elif ts_unix_ms in times[_FIRST:]:
            return False
        if len(times) < _FIRST + REMEMBERED:
            times.append(ts_unix_ms)
        else:
            at = times[_NEXT]
            times[at] = ts_unix_ms
            times[_NEXT] = at + 1 if at + 1 < len(times) else _FIRST
        return True
