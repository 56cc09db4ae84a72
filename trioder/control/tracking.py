"""Changes the states of sent setpoints by what telemetry shows: they are tracking, deviating or limited.

How one battery's power is compared with its setpoint is in `domain.power_tracker`.
"""

import structlog

from trioder.control.allocator import NameplateLimits
from trioder.control.model import AssetSetpoint
from trioder.control.registry import TRACKED_STATES, DispatchRegistry
from trioder.domain.fleet import Fleet
from trioder.domain.lifecycle import IN_FORCE
from trioder.domain.power_tracker import Finding, PowerTracker, tolerance_mw
from trioder.domain.telemetry import Samples
from trioder.events.counters import Counters
from trioder.gateway.sessions import SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.process.wall_time import WallClock

log = structlog.stdlib.get_logger(__name__)

# A sample this long after a setpoint was sent is not from before; a former setpoint may have been the same.
_IN_TRANSIT_MS = 5_000


class Tracking:
    """Compares samples with the setpoints that are sent or in force."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        limits: NameplateLimits,
        latest: LatestState,
        sessions: SessionRegistry,
        registry: DispatchRegistry,
        counters: Counters,
        wall: WallClock,
    ) -> None:
        self._fleet = fleet
        self._limits = limits
        self._latest = latest
        self._sessions = sessions
        self._registry = registry
        self._counters = counters
        self._wall = wall

    def measured(self, samples: Samples) -> None:
        """Compare the power of assets with their setpoints; backfill is ignored."""
        tracked = self._registry.tracked
        if not tracked:
            return
        now_ms, ts_unix_ms = self._wall.now_ms(), samples.ts_unix_ms
        quality, powers = samples.quality, samples.current_mw
        is_live: bool | None = None
        for row, key in enumerate(samples.asset_keys):
            setpoint = tracked.get(key)
            if setpoint is None:
                continue
            tracker = setpoint.tracker or self._new_tracker(setpoint, now_ms)
            if tracker is None:
                continue
            if quality and quality[row]:
                tracker.add_suspect(now_ms)
                continue
            if is_live is None:
                # One agent's, of one instant: either all of it is backfill or none.
                is_live = self._latest.is_current(key, ts_unix_ms, now_ms)
            if not is_live:
                break
            if tracker.is_on_target and tracker.low_mw <= (mw := powers[row]) <= tracker.high_mw:
                tracker.add_on_target(mw, now_ms)
            elif self._latest.is_current(key, ts_unix_ms, now_ms):
                self._compare(setpoint, tracker, samples, row, now_ms)

    def _compare(
        self, setpoint: AssetSetpoint, tracker: PowerTracker, samples: Samples, row: int, now_ms: int
    ) -> None:
        has_ended = setpoint.ends_ms is not None and now_ms >= setpoint.ends_ms
        if has_ended or setpoint.state not in TRACKED_STATES:
            # What follows is its reversion.
            return
        tracker.suspect_since_ms = None
        mw, echoes = samples.current_mw[row], samples.setpoint_mw[row] == tracker.setpoint_mw
        if setpoint.state == "sent" and not echoes:
            return
        if tracker.arrives_ms is None and setpoint.state != "sent":
            tracker.expect_arrival(self._limits.asset(setpoint.key), now_ms, mw)
        charges = tracker.target_mw < 0.0
        available = samples.available_charge_mw if charges else samples.available_discharge_mw
        was_limited = setpoint.is_limited
        finding = tracker.add(mw, available_mw=available[row], now_ms=now_ms, echoes=echoes)
        match finding:
            case Finding.ON_TARGET if setpoint.state != "tracking":
                reason = None if setpoint.state == "deviating" else setpoint.reason
                self._registry.transition(setpoint, "tracking", reason=reason)
            case Finding.OFF_TARGET if setpoint.state not in {"sent", "deviating"}:
                reason = f"{mw:g} MW instead of {tracker.target_mw:g} MW"
                self._registry.transition(setpoint, "deviating", reason=reason)
            case Finding.LIMITED if not was_limited:
                self._note_limited(setpoint, tracker)

    def _note_limited(self, setpoint: AssetSetpoint, tracker: PowerTracker) -> None:
        self._counters.dispatches_limited += 1
        limit = f"{tracker.limited_mw:g} of {tracker.target_mw:g} MW"
        setpoint.reason = f"the battery reports that it can do {limit}"
        self._registry.mark_changed(setpoint.dispatch, keys=(setpoint.key,))
        log.info(
            "battery cannot do what it was asked",
            dispatch_id=setpoint.dispatch.dispatch_id,
            asset_id=self._fleet.assets[setpoint.key].id,
            reason=setpoint.reason,
        )

    def _new_tracker(self, setpoint: AssetSetpoint, now_ms: int) -> PowerTracker | None:
        """Compare a setpoint from now on; None while it may not have arrived."""
        if setpoint.state not in IN_FORCE and not (
            setpoint.state == "sent" and self._may_be_obeyed(setpoint, now_ms)
        ):
            return None
        setpoint.tracker = PowerTracker(
            setpoint_mw=setpoint.mw,
            target_mw=setpoint.target_mw,
            tolerance_mw=tolerance_mw(self._limits.asset(setpoint.key)),
        )
        return setpoint.tracker

    def _may_be_obeyed(self, setpoint: AssetSetpoint, now_ms: int) -> bool:
        """Whether telemetry decides about a setpoint without acknowledgement: not every agent sends them."""
        session = self._sessions.session_of(setpoint.key)
        sends_none = session is not None and session.protocol == 0
        is_late = now_ms >= (setpoint.sent_ms or 0) + _IN_TRANSIT_MS
        return (sends_none or setpoint.answer is not None) and is_late

    def expect_arrival(self, setpoint: AssetSetpoint) -> None:
        """The agent accepted a setpoint: the power is expected after the ramp from the latest power."""
        now_ms = self._wall.now_ms()
        tracker = setpoint.tracker or self._new_tracker(setpoint, now_ms)
        if tracker is None:
            return
        tracker.set_target(setpoint.target_mw)
        if tracker.arrives_ms is not None:
            return
        asset = self._limits.asset(setpoint.key)
        reported = self._latest.reported(setpoint.key, now_ms)
        if reported is None:
            tracker.expect_arrival(asset, now_ms, None)
            return
        moves = abs(reported.setpoint_mw - reported.current_mw) > tracker.tolerance_mw
        moving_for_s = min(reported.age_s, self._latest.stale_after_s) if moves else 0.0
        tracker.expect_arrival(asset, now_ms, reported.current_mw, moving_for_s=moving_for_s)
