"""The nameplate that applies to each asset: the smaller limits of the fleet file's and its agent's.

The session compares them at registration, and reports a difference.
"""

import math
from dataclasses import replace

from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet


class NameplateLimits:
    """Power limits and capacity by asset key; those of the fleet until an agent reports smaller ones."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        # Of the assets whose agents reported a smaller nameplate.
        self._smaller: dict[int, Asset] = {}
        self._different: set[int] = set()

    @property
    def different(self) -> int:
        """How many assets have an agent that reported another nameplate than the fleet file's."""
        return len(self._different)

    def report(self, key: int, *, capacity_mwhr: float, max_mw: float, min_mw: float) -> bool:
        """Apply the nameplate that an agent registered the asset with; it replaces a former one.

        An invalid value (not finite, a capacity that is not > 0, limits on the wrong side of 0) is ignored,
        and the fleet file's applies.

        Returns:
            Whether it differs from the fleet's.
        """
        asset = self._fleet.assets[key]
        if (capacity_mwhr, max_mw, min_mw) == (asset.capacity_mwhr, asset.max_mw, asset.min_mw):
            self.reset(key)
            return False
        self._different.add(key)
        highest_mw = min(asset.max_mw, max_mw) if 0.0 <= max_mw < math.inf else asset.max_mw
        lowest_mw = max(asset.min_mw, min_mw) if -math.inf < min_mw <= 0.0 else asset.min_mw
        mwhr = (
            min(asset.capacity_mwhr, capacity_mwhr) if 0.0 < capacity_mwhr < math.inf else asset.capacity_mwhr
        )
        if (mwhr, highest_mw, lowest_mw) == (asset.capacity_mwhr, asset.max_mw, asset.min_mw):
            self._smaller.pop(key, None)
        else:
            self._smaller[key] = _with_limits(asset, capacity_mwhr=mwhr, max_mw=highest_mw, min_mw=lowest_mw)
        return True

    def reset(self, key: int) -> None:
        """Apply the fleet file's nameplate: the asset's agent has reported none, or the same."""
        self._smaller.pop(key, None)
        self._different.discard(key)

    def asset(self, key: int) -> Asset:
        """Return the asset with the nameplate that applies."""
        return self._smaller.get(key) or self._fleet.assets[key]

    def clamped_mw(self, key: int, mw: float) -> float:
        """Return what the asset's agent clamps `mw` to."""
        asset = self.asset(key)
        return min(max(mw, asset.min_mw), asset.max_mw)


def _with_limits(asset: Asset, *, capacity_mwhr: float, max_mw: float, min_mw: float) -> Asset:
    # An auxiliary load beyond the charge limit, and no power at all, are invalid in a nameplate.
    if max_mw <= min_mw:
        max_mw, min_mw = math.ulp(0.0), 0.0
    return replace(
        asset,
        capacity_mwhr=capacity_mwhr,
        max_mw=max_mw,
        min_mw=min_mw,
        aux_load_mw=min(asset.aux_load_mw, -min_mw),
    )
