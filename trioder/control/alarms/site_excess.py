"""Compares the measured power of sites with their limits: what is commanded may not be what is delivered.

A site's power is the sum of its batteries', discharge less charge. Each counts with what is known best: the
latest value that is neither suspect nor bad, however old; of one without a session what the headend's model
continues with. While no battery of a site has a good and fresh value nothing is known, and nothing changes.
"""

from math import isfinite
from typing import NamedTuple

from trioder.control.alarms.polls import Begin, End
from trioder.control.site_limits import SiteLimitTable
from trioder.control.site_power import SitePower
from trioder.domain.alarms import SITE_EXCESS_MW, SITE_EXCESS_SHARE, AlarmSource
from trioder.domain.site_limits import SiteLimits
from trioder.ingest.latest import LatestState
from trioder.process.slices import Steps, parts_of
from trioder.process.wall_time import WallClock

# The cost of adding one asset.
_ASSET_US = 1.5


class _Measured(NamedTuple):
    """The power of a site, + exports: of how many batteries, and of how many by a good and fresh value."""

    mw: float
    assets: int
    good: int


class SiteExcess:
    """Checks each site that has a limit; `begin` and `end` get what was found."""

    def __init__(
        self,
        *,
        limits: SiteLimitTable,
        site_power: SitePower,
        latest: LatestState,
        wall: WallClock,
        begin: Begin,
        end: End,
    ) -> None:
        self._limits = limits
        self._site_power = site_power
        self._latest = latest
        self._wall = wall
        self._begin = begin
        self._end = end
        self._beyond: set[str] = set()

    def steps(self) -> Steps[None]:
        """Check all sites."""
        in_effect = dict(self._limits.in_effect)
        for site_id in self._beyond - in_effect.keys():
            self._clear(site_id)
        for site_id, limits in in_effect.items():
            measured = yield from self._measure_steps(site_id)
            if measured.good:
                self._compare(site_id, limits, measured)
            elif not measured.assets:
                self._clear(site_id)

    def _measure_steps(self, site_id: str) -> Steps[_Measured]:
        now_ms, power_mw, assets, good = self._wall.now_ms(), 0.0, 0, 0
        for part in parts_of(self._site_power.keys_of(site_id)):
            for key in part:
                state = self._latest.trusted_state(key)
                if state is not None and isfinite(state.current_mw):
                    power_mw += state.current_mw
                    assets += 1
                    good += self._latest.quality(key, now_ms) == "good"
            yield _ASSET_US * len(part)
        return _Measured(power_mw, assets, good)

    def _compare(self, site_id: str, limits: SiteLimits, measured: _Measured) -> None:
        charging = measured.mw < 0.0
        limit_mw, size_mw = limits.most_mw(charging=charging), abs(measured.mw)
        tolerance_mw = max(SITE_EXCESS_MW, SITE_EXCESS_SHARE * limit_mw)
        if size_mw > limit_mw + tolerance_mw:
            self._beyond.add(site_id)
            verb = "imports" if charging else "exports"
            others = measured.assets - measured.good
            which = f", {others} of {measured.assets} batteries by estimate" if others else ""
            self._begin(
                "site_limit_exceeded",
                AlarmSource("site", site_id),
                f"the site {verb} more than the {limit_mw:g} MW that it may{which}",
                value=round(measured.mw, 3),
            )
        elif size_mw <= limit_mw + tolerance_mw / 2:
            self._clear(site_id)

    def _clear(self, site_id: str) -> None:
        # One from before the start is not among them.
        self._beyond.discard(site_id)
        self._end("site_limit_exceeded", AlarmSource("site", site_id))
