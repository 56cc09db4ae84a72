"""Keeps the setpoints of each site within its limits.

What a site is committed to in a direction is the sum over its assets of the setpoint in force or its
reversion, whichever is more; an asset without a setpoint counts with what it was left at. Setpoints of the
opposite direction are not set off: they may end at any time.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from math import fsum, inf, isfinite

from trioder.control.allocation import Candidate
from trioder.control.delivery import Delivery
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.registry import DispatchRegistry
from trioder.control.site_limits import SiteLimitTable
from trioder.domain.dispatch import DispatchRefusedError
from trioder.domain.fleet import Fleet
from trioder.domain.lifecycle import LASTED
from trioder.ingest.latest import LatestState
from trioder.process.slices import Steps
from trioder.process.wall_time import WallClock

LIMITED_BY_SITE = "limited by the site"
# Sums that exceed a limit by less do so through rounding only.
_SAME_MW = 1e-9
_LESS = 1.0 - 1e-12
# The cost of what one asset is committed to.
_COMMITTED_US = 1.5


# What sites are committed to, MW, by site and whether it charges.
SiteSums = dict[tuple[str, bool], float]


class SitePower:
    """What each site is committed to, and the room that its limits leave."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        limits: SiteLimitTable,
        registry: DispatchRegistry,
        delivery: Delivery,
        latest: LatestState,
        wall: WallClock,
    ) -> None:
        self._fleet = fleet
        self._limits = limits
        self._registry = registry
        self._delivery = delivery
        self._latest = latest
        self._wall = wall
        self._keys_by_site: dict[str, list[int]] = {}
        self._version = -1

    def committed_mw(self, key: int, *, charging: bool) -> float:
        """Return what an asset is committed to in a direction, as a magnitude."""
        sign = -1.0 if charging else 1.0
        return max(0.0, *(sign * mw for mw in self._powers_of(key)))

    def committed_at_mw(self, site_id: str, *, charging: bool, without: Collection[int] = ()) -> float:
        """Return what the assets of a site are committed to in a direction, but those of `without`."""
        return fsum(
            self.committed_mw(key, charging=charging) for key in self.keys_of(site_id) if key not in without
        )

    def keys_of(self, site_id: str) -> Sequence[int]:
        """Return the assets of a site."""
        if self._version != self._fleet.version:
            self._version = self._fleet.version
            self._keys_by_site = {}
            for key in self._fleet.keys:
                self._keys_by_site.setdefault(self._site_of(key), []).append(key)
        return self._keys_by_site.get(site_id, ())

    def check_single(self, dispatch: Dispatch) -> None:
        """Refuse a dispatch to one asset that its site has no room for.

        Raises:
            DispatchRefusedError: with what is left.
        """
        [setpoint] = dispatch.setpoints.values()
        for charging, room_mw in self._rooms_for(setpoint):
            sign = -1.0 if charging else 1.0
            for name, mw in (("mw", setpoint.mw), ("reversion_mw", setpoint.reversion_mw)):
                if sign * mw > room_mw + _SAME_MW:
                    site_id, verb = self._site_of(setpoint.key), "import" if charging else "export"
                    limit_mw = self._limits.limits_of(site_id).most_mw(charging=charging)
                    raise DispatchRefusedError(
                        "out_of_bounds",
                        f"{name} is {mw}; of the {limit_mw:g} MW that site {site_id} may {verb}, "
                        f"{room_mw:g} MW are left",
                    )

    def fit(self, setpoint: AssetSetpoint, sums: SiteSums) -> None:
        """Reduce a setpoint that is about to take over its asset to what its site has room for.

        Args:
            setpoint: it.
            sums: of the sites of setpoints that take over in the same instant; empty before the first.
        """
        site_id = self._site_of(setpoint.key)
        limits = self._limits.in_effect.get(site_id)
        if limits is None:
            return
        mw, reversion_mw = setpoint.mw, setpoint.reversion_mw
        for charging in (False, True):
            limit_mw = limits.most_mw(charging=charging)
            if limit_mw == inf:
                continue
            if (site_id, charging) not in sums:
                sums[site_id, charging] = self.committed_at_mw(site_id, charging=charging)
            others_mw = sums[site_id, charging] - self.committed_mw(setpoint.key, charging=charging)
            room_mw = max(0.0, limit_mw - others_mw)
            sign = -1.0 if charging else 1.0
            mw = sign * min(sign * mw, room_mw)
            reversion_mw = sign * min(sign * reversion_mw, room_mw)
            sums[site_id, charging] = others_mw + max(0.0, sign * mw, sign * reversion_mw)
        if (mw, reversion_mw) != (setpoint.mw, setpoint.reversion_mw):
            _note_reduction(setpoint, mw + 0.0, reversion_mw + 0.0)

    def cap_steps(
        self,
        dispatch: Dispatch,
        candidates: list[Candidate],
        *,
        charging: bool,
        standing_mw: Callable[[AssetSetpoint], float],
    ) -> Steps[list[Candidate]]:
        """Limit the candidates of a group to what their sites have room for, in steps.

        Args:
            dispatch: the group.
            candidates: with what each can hold.
            charging: the direction of the total.
            standing_mw: of a setpoint of the group, the power that it has beside the one to be split.
        """
        in_effect = self._limits.in_effect
        if not in_effect:
            return candidates
        by_site: dict[str, list[int]] = {}
        for position, candidate in enumerate(candidates):
            site_id = self._site_of(candidate.asset_key)
            if candidate.excluded is None and site_id in in_effect:
                by_site.setdefault(site_id, []).append(position)
        sign = -1.0 if charging else 1.0
        for site_id, positions in by_site.items():
            limit_mw = in_effect[site_id].most_mw(charging=charging)
            if limit_mw == inf:
                continue
            taking = {candidates[position].asset_key for position in positions}
            replaced = {key for key in taking if not self._is_outranked(dispatch, key)}
            room_mw = limit_mw - self.committed_at_mw(site_id, charging=charging, without=replaced)
            yield _COMMITTED_US * len(self.keys_of(site_id))
            members = [dispatch.setpoints.get(candidates[position].asset_key) for position in positions]
            standing = [
                max(0.0, sign * standing_mw(member)) if member is not None and member.is_open else 0.0
                for member in members
            ]
            _cap(candidates, positions, standing, max(0.0, room_mw))
        return candidates

    def enforce(self) -> dict[Dispatch, list[AssetSetpoint]]:
        """Reduce the setpoints of sites that are committed to more than a limit, all in proportion.

        Returns:
            The setpoints that were reduced, by dispatch.
        """
        claimed, changed = self._registry.claimed, self._limits.changed
        reduced: dict[Dispatch, list[AssetSetpoint]] = {}
        in_effect = self._limits.in_effect
        if in_effect and (claimed or changed):
            sites = {self._site_of(key) for key in claimed} | changed
            for site_id in sorted(sites & in_effect.keys()):
                for charging in (False, True):
                    self._reduce_site(site_id, charging, reduced)
        claimed.clear()
        changed.clear()
        return reduced

    def _reduce_site(
        self, site_id: str, charging: bool, reduced: dict[Dispatch, list[AssetSetpoint]]
    ) -> None:
        limit_mw = self._limits.limits_of(site_id).most_mw(charging=charging)
        committed_mw = self.committed_at_mw(site_id, charging=charging)
        if committed_mw <= limit_mw + _SAME_MW:
            return
        keys = self.keys_of(site_id)
        # What cannot be reached cannot be reduced.
        away_mw = fsum(self.committed_mw(key, charging=charging) for key in keys if self._is_away(key))
        rest_mw = committed_mw - away_mw
        factor = max(0.0, limit_mw - away_mw) / rest_mw * _LESS if rest_mw > 0.0 else 0.0
        sign = -1.0 if charging else 1.0

        def scaled(mw: float) -> float:
            return mw * factor + 0.0 if sign * mw > 0.0 else mw

        for key in keys:
            if not self.committed_mw(key, charging=charging) or self._is_away(key):
                continue
            setpoint = self._registry.active.current_open(key)
            if setpoint is None:
                self._delivery.set_standing(key, scaled(max(self._powers_of(key), key=lambda mw: sign * mw)))
                continue
            _note_reduction(setpoint, scaled(setpoint.mw), scaled(setpoint.reversion_mw))
            self._send(setpoint)
            reduced.setdefault(setpoint.dispatch, []).append(setpoint)

    def _send(self, setpoint: AssetSetpoint) -> None:
        dispatch = setpoint.dispatch
        setpoint.requeue(
            wire_id=self._delivery.new_wire_id(dispatch),
            queue_until_ms=self._wall.now_ms() + round(dispatch.expires_in_s * 1000),
        )
        self._registry.mark_changed(dispatch, keys=(setpoint.key,), reason=LIMITED_BY_SITE)
        self._delivery.send(setpoint)
        self._registry.active.schedule(setpoint)

    def _rooms_for(self, setpoint: AssetSetpoint) -> Iterator[tuple[bool, float]]:
        """Yield the direction and the room of each limit that applies to a new setpoint of an asset."""
        site_id = self._site_of(setpoint.key)
        limits = self._limits.in_effect.get(site_id)
        if limits is None:
            return
        for charging in (False, True):
            limit_mw = limits.most_mw(charging=charging)
            if limit_mw < inf:
                others_mw = self.committed_at_mw(site_id, charging=charging, without=(setpoint.key,))
                yield charging, max(0.0, limit_mw - others_mw)

    def _powers_of(self, key: int) -> Sequence[float]:
        """Return the powers that an asset may have been commanded to have."""
        active = self._registry.active
        current = active.current(key)
        if current is None:
            standing_mw = active.standing.get(key)
            return (self._reported_mw(key) if standing_mw is None else standing_mw,)
        if current.is_open:
            return current.mw, current.reversion_mw
        if self._is_away(key):
            is_over = current.ends_ms is not None and self._wall.now_ms() >= current.ends_ms
            return (current.reversion_mw,) if is_over else (current.mw, current.reversion_mw)
        if current.state in LASTED or current.state == "cancelled":
            return (current.reversion_mw,)
        # Its agent may have refused it, and obey what it had before.
        return current.reversion_mw, self._reported_mw(key)

    def _is_away(self, key: int) -> bool:
        """Whether an asset that is not connected obeys a setpoint that has ended here, or its reversion."""
        current = self._registry.active.current(key)
        return current is not None and self._delivery.is_released(current)

    def _reported_mw(self, key: int) -> float:
        state = self._latest.state(key)
        return state.setpoint_mw if state is not None and isfinite(state.setpoint_mw) else 0.0

    def _is_outranked(self, dispatch: Dispatch, key: int) -> bool:
        current = self._registry.active.current_open(key)
        return current is not None and current.dispatch.rank > dispatch.rank

    def _site_of(self, key: int) -> str:
        return self._fleet.assets[key].site_id


def _cap(
    candidates: list[Candidate], positions: Sequence[int], standing: Sequence[float], room_mw: float
) -> None:
    """Limit candidates so that with what stands at each they are within the room."""
    limits = [candidates[position].limit_mw for position in positions]
    needed_mw = fsum(max(pair) for pair in zip(limits, standing, strict=True))
    if needed_mw <= room_mw:
        return
    free_mw, total_mw = room_mw - fsum(standing), fsum(limits)
    for position, limit_mw, standing_mw in zip(positions, limits, standing, strict=True):
        # What stands can be commanded without more; the rest of the room is shared by what each can hold.
        share_mw = max(0.0, free_mw) * (limit_mw / total_mw) if total_mw else 0.0
        most_mw = (standing_mw + share_mw) * _LESS
        if most_mw < limit_mw:
            candidates[position] = candidates[position]._replace(limit_mw=most_mw, limited_by="site")


def _note_reduction(setpoint: AssetSetpoint, mw: float, reversion_mw: float) -> None:
    dispatch = setpoint.dispatch
    lost_mw = setpoint.mw - mw
    setpoint.mw, setpoint.reversion_mw = mw, reversion_mw
    setpoint.code, setpoint.allocation = "limited_by_site", f"{LIMITED_BY_SITE}: {mw:g} MW"
    if dispatch.is_group:
        dispatch.shortfall_mw += lost_mw
    else:
        dispatch.shortfall_mw = dispatch.mw - mw
