"""Allocates a group's total to its assets by what each can hold, as far as the headend knows now.

The nameplate that applies to an asset has the smaller limits of the fleet file's and its agent's. The
arithmetic of the split is in `allocation`.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter

from trioder.control.allocation import Candidate, Exclusion, ShareLimit, Split, ramp_window_s, split_steps
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.site_power import SitePower
from trioder.domain.assets import Asset
from trioder.domain.dispatch import DispatchRefusedError
from trioder.domain.fleet import Fleet
from trioder.domain.holdable import holdable
from trioder.gateway.sessions import SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.process.slices import Steps, parts_of, run_at_once
from trioder.process.wall_time import WallClock

# A setpoint without an end is to be held for a settlement period.
HOLD_S_WITHOUT_END = 900.0
# Longer than any ramp.
_NO_RAMP_S = 1e9
# The cost of one candidate, and of one setpoint.
_CANDIDATE_US = 4.0
_SETPOINT_US = 4.0


class NameplateLimits:
    """Power limits and capacity by asset key; those of the fleet until an agent reports smaller ones."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        # Of the assets whose agents reported another nameplate: with the limits that apply.
        self._limited: dict[int, Asset] = {}

    @property
    def different(self) -> int:
        """How many assets have an agent that reported another nameplate than the fleet file's."""
        return len(self._limited)

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
        highest_mw = min(asset.max_mw, max_mw) if 0.0 <= max_mw < math.inf else asset.max_mw
        lowest_mw = max(asset.min_mw, min_mw) if -math.inf < min_mw <= 0.0 else asset.min_mw
        mwhr = (
            min(asset.capacity_mwhr, capacity_mwhr) if 0.0 < capacity_mwhr < math.inf else asset.capacity_mwhr
        )
        self._limited[key] = _with_limits(asset, capacity_mwhr=mwhr, max_mw=highest_mw, min_mw=lowest_mw)
        return True

    def reset(self, key: int) -> None:
        """Apply the fleet file's nameplate: the asset's agent has reported none, or it has changed."""
        self._limited.pop(key, None)

    def asset(self, key: int) -> Asset:
        """Return the asset with the nameplate that applies."""
        return self._limited.get(key) or self._fleet.assets[key]

    def clamped_mw(self, key: int, mw: float) -> float:
        """Return what the asset's agent clamps `mw` to."""
        asset = self.asset(key)
        return min(max(mw, asset.min_mw), asset.max_mw)


class Allocator:
    """Splits totals over the assets as they are now."""

    def __init__(
        self,
        *,
        limits: NameplateLimits,
        sessions: SessionRegistry,
        latest: LatestState,
        site_power: SitePower,
        wall: WallClock,
    ) -> None:
        self._limits = limits
        self._sessions = sessions
        self._latest = latest
        self._site_power = site_power
        self._wall = wall

    def allocate_steps(self, dispatch: Dispatch) -> Steps[None]:
        """Add the setpoints of a new group dispatch, and their reversions, in steps.

        Raises:
            DispatchRefusedError: the assets cannot hold the reversion.
        """
        split = yield from self.split_steps(dispatch, dispatch.mw, elsewhere=())
        dispatch.shortfall_mw = split.shortfall_mw
        for part in parts_of(range(len(split.candidates))):
            _add_setpoints(dispatch, split, part)
            yield _SETPOINT_US * len(part)
        if dispatch.reversion_mw:
            yield from self._reversion_steps(dispatch)

    def is_available(self, key: int) -> bool:
        """Whether an asset can be allocated another setpoint now: connected, with a good and fresh sample."""
        reported = self._latest.reported(key, self._wall.now_ms())
        connected = self._sessions.session_of(key) is not None
        return connected and reported is not None and reported.age_s <= self._latest.stale_after_s

    def check_single(self, dispatch: Dispatch) -> None:
        """Compare the setpoint of one asset with what a group of it alone would be allocated.

        The asset is sent what was asked, for the user named it; what it cannot hold is the shortfall. Without
        a good sample nothing is compared.
        """
        split = self.split(dispatch, dispatch.mw, elsewhere=())
        if split.candidates[0].excluded is None and split.shortfall_mw:
            dispatch.shortfall_mw = split.shortfall_mw
            [setpoint] = dispatch.setpoints.values()
            setpoint.code, setpoint.allocation = split.explain(0)

    def split(self, dispatch: Dispatch, total_mw: float, *, elsewhere: Collection[int]) -> Split:
        """Split a total over the dispatch's candidates, to be held for the time that is left.

        Args:
            dispatch: whose candidates.
            total_mw: of the setpoints.
            elsewhere: the assets that have a setpoint of another dispatch.
        """
        return run_at_once(self.split_steps(dispatch, total_mw, elsewhere=elsewhere))

    def split_steps(
        self,
        dispatch: Dispatch,
        total_mw: float,
        *,
        elsewhere: Collection[int],
        standing_mw: Callable[[AssetSetpoint], float] = attrgetter("reversion_mw"),
    ) -> Steps[Split]:
        """Do what `split` does, in steps: each asset counts as it is at its step.

        `standing_mw` returns the power that a setpoint has beside the one that is split.
        """
        now_ms = self._wall.now_ms()
        hold_s = (
            HOLD_S_WITHOUT_END if dispatch.ends_ms is None else max(1.0, (dispatch.ends_ms - now_ms) / 1000)
        )
        candidates: list[Candidate] = []
        for keys in parts_of(dispatch.candidate_keys):
            candidates += self._candidates(
                dispatch, keys, charging=total_mw < 0.0, hold_s=hold_s, elsewhere=elsewhere, now_ms=now_ms
            )
            yield _CANDIDATE_US * len(keys)
        candidates = yield from self._site_power.cap_steps(
            dispatch, candidates, charging=total_mw < 0.0, standing_mw=standing_mw
        )
        return (yield from split_steps(total_mw, candidates, dispatch.strategy or "headroom", hold_s=hold_s))

    def _candidates(
        self,
        dispatch: Dispatch,
        keys: Sequence[int],
        *,
        charging: bool,
        hold_s: float,
        elsewhere: Collection[int],
        now_ms: int,
    ) -> list[Candidate]:
        # One call for many assets: it runs for each asset of a fleet.
        ramp_s = ramp_window_s(hold_s)
        candidates = []
        for key in keys:
            asset = self._limits.asset(key)
            session = self._sessions.session_of(key)
            reported = self._latest.reported(key, now_ms)
            excluded: Exclusion
            if session is None:
                excluded = "not_connected"
            elif reported is None:
                excluded = "suspect" if self._latest.is_suspect(key) else "no_telemetry"
            elif reported.age_s > self._latest.stale_after_s:
                excluded = "stale"
            elif key in elsewhere:
                excluded = "commanded_otherwise"
            elif dispatch.reversion_mw and not session.supports_reversions:
                excluded = "too_old"
            else:
                soc_mwhr, current_mw, _, available_discharge_mw, available_charge_mw, age_s = reported
                available_mw = available_charge_mw if charging else available_discharge_mw
                limited_by: ShareLimit
                hold = partial(
                    holdable,
                    asset,
                    soc_mwhr,
                    current_mw,
                    hold_s=hold_s,
                    charging=charging,
                    available_mw=max(0.0, available_mw) if math.isfinite(available_mw) else None,
                )
                limit_mw, limited_by = hold(ramp_s=ramp_s)
                commanded_mw = _commanded_mw(dispatch.setpoints.get(key), charging=charging)
                if limited_by == "ramp" and commanded_mw > limit_mw:
                    # It has it, or is on its way there: near the end no ramp reaches anything more.
                    limit_mw, limited_by = min(hold(ramp_s=_NO_RAMP_S), (commanded_mw, "ramp"))
                delivered_mw = dispatch.delivered_mw.get(key)
                if delivered_mw is not None and delivered_mw < limit_mw:
                    limit_mw, limited_by = delivered_mw, "delivery"
                candidates.append(Candidate(key, asset.capacity_mwhr, limit_mw, limited_by, None, age_s))
                continue
            heard_s = None if reported is None else reported.age_s
            candidates.append(Candidate(key, asset.capacity_mwhr, 0.0, "nameplate", excluded, heard_s))
        return candidates

    def _reversion_steps(self, dispatch: Dispatch) -> Steps[None]:
        excluded = frozenset(dispatch.excluded)
        split = yield from self.split_steps(
            dispatch, dispatch.reversion_mw, elsewhere=excluded, standing_mw=attrgetter("mw")
        )
        if split.shortfall_mw:
            can_mw = dispatch.reversion_mw - split.shortfall_mw
            raise DispatchRefusedError(
                "out_of_bounds",
                f"reversion_mw is {dispatch.reversion_mw}; the assets of the group can hold {can_mw:g} MW",
            )
        for candidate, mw in zip(split.candidates, split.allocated_mw, strict=True):
            if mw is not None:
                dispatch.setpoints[candidate.asset_key].reversion_mw = mw


def _commanded_mw(setpoint: AssetSetpoint | None, *, charging: bool) -> float:
    """Return what an asset has been sent in a direction, as a magnitude."""
    if setpoint is None or not setpoint.is_open or setpoint.sent_ms is None:
        return 0.0
    return max(0.0, -setpoint.mw if charging else setpoint.mw)


def _add_setpoints(dispatch: Dispatch, split: Split, positions: Sequence[int]) -> None:
    for position in positions:
        key, mw = split.candidates[position].asset_key, split.allocated_mw[position]
        code, text = split.explain(position)
        if mw is None:
            dispatch.excluded[key] = (code, text)
            continue
        dispatch.add(
            AssetSetpoint(
                dispatch=dispatch,
                key=key,
                mw=mw,
                reversion_mw=0.0,
                wire_id=dispatch.dispatch_id,
                code=code,
                allocation=text,
                ends_ms=dispatch.ends_ms,
                queue_until_ms=dispatch.queue_until_ms,
            )
        )


def _with_limits(asset: Asset, *, capacity_mwhr: float, max_mw: float, min_mw: float) -> Asset:
    if (capacity_mwhr, max_mw, min_mw) == (asset.capacity_mwhr, asset.max_mw, asset.min_mw):
        return asset
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
