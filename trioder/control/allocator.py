"""Allocates a group's total to its assets by what each can hold, as far as the headend knows now.

The arithmetic of the split is in `allocation`.
"""

from collections.abc import Collection, Iterable, Sequence
from math import inf, isfinite
from typing import NamedTuple

from trioder.control.allocation import (
    Candidate,
    Exclusion,
    ShareLimit,
    Split,
    explain,
    ramp_window_s,
    split_steps,
)
from trioder.control.limits import NameplateLimits
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.requests import DispatchRefusedError
from trioder.domain.assets import Asset
from trioder.domain.holdable import holdable
from trioder.gateway.sessions import SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.process.slices import Steps, parts_of, run_at_once
from trioder.process.wall_time import WallClock

# A setpoint without an end is to be held for a settlement period.
HOLD_S_WITHOUT_END = 900.0
# The cost of one candidate, and of one setpoint.
_CANDIDATE_US = 4.0
_SETPOINT_US = 4.0


class Known(NamedTuple):
    """What the headend knows of one battery when a group is dispatched; a tuple, as there may be many.

    Attributes:
        asset_key: its position in the fleet.
        asset: with the nameplate that applies.
        soc_mwhr: MWh, as last reported.
        current_mw: at the meter, + discharges, as last reported.
        age_s: of the last sample; None without one in the present session.
        connected: whether it has a session.
        commanded_otherwise: whether a dispatch of its own takes precedence over the group's.
        too_old: whether its agent does not know a field that the group's dispatch needs.
        suspect: whether its last sample is not good.
        available_discharge_mw: what it reports as available now; a magnitude.
        available_charge_mw: the same in the other direction.
        delivered_mw: what it delivered when this dispatch asked it for more, as a magnitude; None otherwise.
    """

    asset_key: int
    asset: Asset
    soc_mwhr: float
    current_mw: float
    age_s: float | None
    connected: bool
    commanded_otherwise: bool = False
    too_old: bool = False
    suspect: bool = False
    available_discharge_mw: float = inf
    available_charge_mw: float = inf
    delivered_mw: float | None = None


class Allocation:
    """What is allocated to each candidate of a dispatch, in the candidates' order."""

    def __init__(self, candidates: Sequence[Candidate], split: Split, hold_s: float) -> None:
        self.candidates = candidates
        self.split = split
        self._hold_s = hold_s

    def explain(self, position: int) -> tuple[str, str]:
        """Return why the candidate was allocated this: for programs, and for people."""
        text = explain(self.split, position, self.candidates[position], hold_s=self._hold_s)
        return self.split.reasons[position], text


class Allocator:
    """Splits totals over the assets as they are now."""

    def __init__(
        self,
        *,
        limits: NameplateLimits,
        sessions: SessionRegistry,
        latest: LatestState,
        wall: WallClock,
    ) -> None:
        self._limits = limits
        self._sessions = sessions
        self._latest = latest
        self._wall = wall

    def allocate_steps(self, dispatch: Dispatch) -> Steps[None]:
        """Add the setpoints of a new group dispatch, and their reversions, in steps.

        Raises:
            DispatchRefusedError: the assets cannot hold the reversion.
        """
        allocation = yield from self.split_steps(dispatch, dispatch.mw, elsewhere=())
        dispatch.shortfall_mw = allocation.split.shortfall_mw
        for part in parts_of(range(len(allocation.candidates))):
            _add_setpoints(dispatch, allocation, part)
            yield _SETPOINT_US * len(part)
        if dispatch.reversion_mw:
            yield from self._reversion_steps(dispatch)

    def is_available(self, key: int) -> bool:
        """Whether an asset can be allocated another setpoint now: connected, with a good and fresh sample."""
        reported = self._latest.reported(key, self._wall.now_ms())
        connected = self._sessions.session_of(key) is not None
        return connected and reported is not None and reported.age_s <= self._latest.stale_after_s

    def check_single(self, dispatch: Dispatch, setpoint: AssetSetpoint) -> None:
        """Compare the setpoint of one asset with what a group of it alone would be allocated.

        The asset is sent what was asked, for the user named it; what it cannot hold is the shortfall. Without
        a good sample nothing is compared.
        """
        allocation = self.split(dispatch, dispatch.mw, elsewhere=())
        if allocation.candidates[0].excluded is None and allocation.split.shortfall_mw:
            dispatch.shortfall_mw = allocation.split.shortfall_mw
            setpoint.code, setpoint.allocation = allocation.explain(0)

    def split(self, dispatch: Dispatch, total_mw: float, *, elsewhere: Collection[int]) -> Allocation:
        """Split a total over the dispatch's candidates, to be held for the time that is left.

        Args:
            dispatch: whose candidates.
            total_mw: of the setpoints.
            elsewhere: the assets that have a setpoint of another dispatch.
        """
        return run_at_once(self.split_steps(dispatch, total_mw, elsewhere=elsewhere))

    def split_steps(
        self, dispatch: Dispatch, total_mw: float, *, elsewhere: Collection[int]
    ) -> Steps[Allocation]:
        """Do what `split` does, in steps: each asset counts as it is at its step."""
        now_ms = self._wall.now_ms()
        left_s = None if dispatch.ends_ms is None else max(1.0, (dispatch.ends_ms - now_ms) / 1000)
        hold_s = horizon_s(left_s)
        candidates: list[Candidate] = []
        for keys in parts_of(dispatch.candidate_keys):
            candidates += candidates_of(
                (self._known(dispatch, key, now_ms, key in elsewhere) for key in keys),
                charging=total_mw < 0.0,
                hold_s=hold_s,
                stale_after_s=self._latest.stale_after_s,
            )
            yield _CANDIDATE_US * len(keys)
        result = yield from split_steps(total_mw, candidates, dispatch.strategy or "headroom")
        return Allocation(candidates, result, hold_s)

    def _reversion_steps(self, dispatch: Dispatch) -> Steps[None]:
        excluded = frozenset(dispatch.excluded)
        allocation = yield from self.split_steps(dispatch, dispatch.reversion_mw, elsewhere=excluded)
        if allocation.split.shortfall_mw:
            can_mw = dispatch.reversion_mw - allocation.split.shortfall_mw
            raise DispatchRefusedError(
                "out_of_bounds",
                f"reversion_mw is {dispatch.reversion_mw}; the assets of the group can hold {can_mw:g} MW",
            )
        for candidate, mw in zip(allocation.candidates, allocation.split.allocated_mw, strict=True):
            if mw is not None:
                dispatch.setpoints[candidate.asset_key].reversion_mw = mw

    def _known(self, dispatch: Dispatch, key: int, now_ms: int, commanded_otherwise: bool) -> Known:
        session = self._sessions.session_of(key)
        asset = self._limits.asset(key)
        reported = self._latest.reported(key, now_ms)
        if session is None or reported is None:
            suspect = self._latest.is_suspect(key)
            return Known(
                key, asset, 0.0, 0.0, None, session is not None, commanded_otherwise, suspect=suspect
            )
        soc_mwhr, current_mw, _, available_discharge_mw, available_charge_mw, age_s = reported
        return Known(
            key,
            asset,
            soc_mwhr,
            current_mw,
            age_s,
            True,
            commanded_otherwise,
            not session.supports_reversions and bool(dispatch.reversion_mw),
            False,
            available_discharge_mw,
            available_charge_mw,
            dispatch.delivered_mw.get(key),
        )


def _add_setpoints(dispatch: Dispatch, allocation: Allocation, positions: Sequence[int]) -> None:
    for position in positions:
        key, mw = allocation.candidates[position].asset_key, allocation.split.allocated_mw[position]
        code, text = allocation.explain(position)
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


def horizon_s(duration_s: float | None) -> float:
    """Return for how many seconds a dispatch of this duration is to be held."""
    return HOLD_S_WITHOUT_END if duration_s is None else float(duration_s)


def candidates_of(
    known: Iterable[Known], *, charging: bool, hold_s: float, stale_after_s: float
) -> list[Candidate]:
    """Return a candidate for each battery, in the same order.

    Args:
        known: each battery once.
        charging: whether the total is negative.
        hold_s: as `horizon_s` gives it, > 0.
        stale_after_s: a battery whose sample is older is excluded.

    Raises:
        ValueError: hold_s is not > 0, or a battery that would take part has a state that is not finite.
    """
    ramp_s = ramp_window_s(hold_s)
    candidates = []
    for (
        key,
        asset,
        soc_mwhr,
        current_mw,
        age_s,
        connected,
        commanded_otherwise,
        too_old,
        suspect,
        available_discharge_mw,
        available_charge_mw,
        delivered_mw,
    ) in known:
        excluded: Exclusion
        if not connected:
            excluded = "not_connected"
        elif suspect:
            excluded = "suspect"
        elif age_s is None:
            excluded = "no_telemetry"
        elif age_s > stale_after_s:
            excluded = "stale"
        elif commanded_otherwise:
            excluded = "commanded_otherwise"
        elif too_old:
            excluded = "too_old"
        else:
            available_mw = available_charge_mw if charging else available_discharge_mw
            limited_by: ShareLimit
            limit_mw, limited_by = holdable(
                asset,
                soc_mwhr,
                current_mw,
                hold_s=hold_s,
                ramp_s=ramp_s,
                charging=charging,
                available_mw=max(0.0, available_mw) if isfinite(available_mw) else None,
            )
            if delivered_mw is not None and delivered_mw < limit_mw:
                limit_mw, limited_by = delivered_mw, "delivery"
            candidates.append(Candidate(key, asset.capacity_mwhr, limit_mw, limited_by, None, age_s))
            continue
        candidates.append(Candidate(key, asset.capacity_mwhr, 0.0, "nameplate", excluded, age_s))
    return candidates
