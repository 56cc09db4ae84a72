"""The sums of what streams show: of whole sites they are shared by all streams, and at most a second old."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import trio

from trioder.api.stream.view import StreamFilter, View
from trioder.api.sums import SUM_US, Sums, SumSources, add_assets
from trioder.process.slices import Steps, parts_of
from trioder.schemas.resources import PowerRow

# Streams that show the same sites share their sums for so long.
_SHARED_S = 0.5
# What can be held over the horizons costs as much as everything else, and changes slowly.
_HORIZONS_EVERY_S = 5.0
_HORIZONS = ("min_15", "min_60")
_MERGE_US = 4.0


@dataclass(slots=True)
class _Part:
    sums: Sums
    computed_s: float
    horizons_s: float


class SiteSums:
    """Adds up assets for streams; remembers the sums of sites."""

    def __init__(self, sources: SumSources) -> None:
        self._sources = sources
        # By site id; of a view of single assets, by its filter.
        self._parts: dict[str | StreamFilter, _Part] = {}
        # The sites with assets that have changed since their sums were computed.
        self._touched: set[str] = set()

    def clear(self) -> None:
        """Forget all sums."""
        self._parts.clear()

    def forget(self, view: View) -> None:
        """Forget the sums of a view of single assets."""
        self._parts.pop(view.which, None)

    def touch(self, keys: Iterable[int]) -> None:
        """These assets have changed."""
        assets = self._sources.fleet.assets
        self._touched.update([assets[key].site_id for key in keys])

    def steps(self, view: View) -> Steps[Sums]:
        """Return the sums over the assets of a view, in steps."""
        total = Sums()
        parts: Mapping[Any, Sequence[int]] = {view.which: view.keys} if view.sites is None else view.sites
        for name, keys in parts.items():
            _merge(total, (yield from self._of_part(name, keys)))
            yield _MERGE_US
        return total

    def of_site(self, site_id: str, keys: Sequence[int]) -> Steps[Sums]:
        """Return the sums over a site with these assets, in steps; the same object until it is due."""
        return self._of_part(site_id, keys)

    def _of_part(self, name: str | StreamFilter, keys: Sequence[int]) -> Steps[Sums]:
        now_s = trio.current_time()
        former = self._parts.get(name)
        if former is not None and not self._is_due(name, former, now_s):
            return former.sums
        if isinstance(name, str):
            self._touched.discard(name)
        horizons = former is None or now_s - former.horizons_s >= _HORIZONS_EVERY_S
        sums = Sums()
        for part in parts_of(keys):
            add_assets(sums, part, self._sources, horizons=horizons)
            yield SUM_US * len(part)
        if former is not None and not horizons:
            _limit_horizons(sums, former.sums)
        horizons_s = now_s if horizons or former is None else former.horizons_s
        self._parts[name] = _Part(sums, now_s, horizons_s)
        return sums

    def _is_due(self, name: str | StreamFilter, part: "_Part", now_s: float) -> bool:
        if now_s - part.computed_s < _SHARED_S:
            return False
        # Age alone makes samples stale.
        is_old = now_s - part.horizons_s >= _HORIZONS_EVERY_S
        return is_old or name in self._touched or not isinstance(name, str)


def _limit_horizons(sums: Sums, former: Sums) -> None:
    """Take over what could be held, at most what is available now."""
    now = sums.available["now"]
    for name in _HORIZONS:
        held = former.available[name]
        sums.available[name] = PowerRow(
            discharge_mw=min(held.discharge_mw, now.discharge_mw),
            charge_mw=min(held.charge_mw, now.charge_mw),
        )


def _merge(total: Sums, sums: Sums) -> None:
    total.assets += sums.assets
    total.connected += sums.connected
    total.live += sums.live
    total.by_quality.update(sums.by_quality)
    total.capacity_mwhr += sums.capacity_mwhr
    total.max_mw += sums.max_mw
    total.min_mw += sums.min_mw
    total.current_mw += sums.current_mw
    total.setpoint_mw += sums.setpoint_mw
    total.soc_mwhr += sums.soc_mwhr
    total.dispatched += sums.dispatched
    total.stopped += sums.stopped
    total.requested_mw += sums.requested_mw
    for name, row in sums.available.items():
        total.available[name].discharge_mw += row.discharge_mw
        total.available[name].charge_mw += row.charge_mw
