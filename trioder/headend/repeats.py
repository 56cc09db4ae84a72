"""Samples that come one by one and come again: a peer without an outbox repeats what it is not sure of.

Synchronous, bounded by the fleet, and across sessions: half a kilobyte for each asset with such a peer.
"""

from array import array
from collections.abc import Iterable

# A peer repeats what it had under way when its connection was lost.
REMEMBERED = 64


class KeptTimes:
    """The times of the last samples of each asset that were kept; a second one of a time is a repeat."""

    def __init__(self) -> None:
        # The times; which of them is the next to be replaced, and the newest that ever was.
        self._by_asset: dict[int, tuple[array[int], list[int]]] = {}

    def knows(self, asset_key: int) -> bool:
        """Whether anything is remembered of the asset."""
        return asset_key in self._by_asset

    def remember(self, asset_key: int, ts_unix_ms: Iterable[int]) -> None:
        """Note times of samples that were kept, the newest last."""
        for ts_ms in ts_unix_ms:
            self.add(asset_key, ts_ms)

    def add(self, asset_key: int, ts_unix_ms: int) -> bool:
        """Note the time of a sample; False when one of this time was kept before."""
        if asset_key not in self._by_asset:
            self._by_asset[asset_key] = array("q", [ts_unix_ms]), [0, ts_unix_ms]
            return True
        times, state = self._by_asset[asset_key]
        if ts_unix_ms > state[1]:
            # Mostly each is newer than all before.
            state[1] = ts_unix_ms
        elif ts_unix_ms in times:
            return False
        if len(times) < REMEMBERED:
            times.append(ts_unix_ms)
        else:
            times[state[0]] = ts_unix_ms
            state[0] = (state[0] + 1) % REMEMBERED
        return True
