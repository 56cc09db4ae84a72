"""Samples that come one by one and come again: a peer without an outbox repeats what it is not sure of.

Synchronous, bounded by the fleet, and across sessions: half a kilobyte for each asset with such a peer.
"""

from array import array
from collections.abc import Iterable

# A peer repeats what it had under way when its connection was lost.
REMEMBERED = 64

_NEXT, _NEWEST, _FIRST = 0, 1, 2


class KeptTimes:
    """The times of the last samples of each asset that were kept; a second one of a time is a repeat."""

    def __init__(self) -> None:
        # Which of the times is the next to be replaced, the newest that ever was, and then the times: one
        # array an asset, for what lies together is fetched together.
        self._by_asset: dict[int, array[int]] = {}

    def knows(self, asset_key: int) -> bool:
        """Whether anything is remembered of the asset."""
        return asset_key in self._by_asset

    def remember(self, asset_key: int, ts_unix_ms: Iterable[int]) -> None:
        """Note times of samples that were kept, the newest last."""
        for ts_ms in ts_unix_ms:
            self.add(asset_key, ts_ms)

    def add(self, asset_key: int, ts_unix_ms: int) -> bool:
        """Note the time of a sample; False when one of this time was kept before."""
        times = self._by_asset.get(asset_key)
        if times is None:
            self._by_asset[asset_key] = array("q", (_FIRST, ts_unix_ms, ts_unix_ms))
            return True
        if ts_unix_ms > times[_NEWEST]:
            # Mostly each is newer than all before.
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
