"""Reallocates a group's total while it lasts: from assets that drop out or deliver less to the others.

A shortfall is allocated to batteries once they have been good for long enough. The reasons and results are on
the dispatch's record.
"""

from collections.abc import Sequence
from math import fsum

import structlog

from trioder.control.allocation import Split
from trioder.control.allocator import Allocator
from trioder.control.delivery import Delivery
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.readmission import (
    HOLD_OFF_ABSENT_S,
    MAX_DEVIATIONS,
    READMITTED_AFTER,
    TEMPORARY,
    Readmission,
    hold_off,
)
from trioder.control.registry import DispatchRegistry
from trioder.control.site_power import LIMITED_BY_SITE
from trioder.domain.dispatch import ReallocationRecord
from trioder.domain.lifecycle import LASTED, DispatchState
from trioder.events.counters import Counters
from trioder.gateway.sessions import SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.process.wall_time import WallClock

log = structlog.stdlib.get_logger(__name__)

# Setpoints that differ by less are the same.
_SAME_MW = 1e-6
# A check takes about a microsecond a setpoint; large groups are checked less often.
_SETPOINTS_CHECKED_A_MS = 10
# On the record of one dispatch; further ones are logged only.
_MAX_REALLOCATIONS_RECORDED = 100
# Between two reallocations of a dispatch because of what batteries report or deliver, or of a shortfall, ...
_INTERVAL_MS = 10_000
# ... and for large groups this much longer an asset: a split takes about 3 us of each.
_INTERVAL_MS_AN_ASSET = 0.3
_READMISSION_CHECK_MS = 1_000
# Assets that can do this much more, of the total and at least, are worth new setpoints for all.
_WORTH_SHARE = 0.01
_WORTH_MW = 0.1
Reasons = Sequence[tuple[AssetSetpoint, str]]


class Reallocator:
    """Checks and reallocates the open groups."""

    def __init__(
        self,
        *,
        allocator: Allocator,
        delivery: Delivery,
        registry: DispatchRegistry,
        latest: LatestState,
        sessions: SessionRegistry,
        counters: Counters,
        wall: WallClock,
    ) -> None:
        self._allocator = allocator
        self._delivery = delivery
        self._registry = registry
        self._latest = latest
        self._sessions = sessions
        self._counters = counters
        self._wall = wall

    def check_due(self) -> None:
        """Reallocate each open group of which an asset has dropped out, can do less, or is good again."""
        now_ms = self._wall.now_ms()
        dispatches = tuple(self._registry.history)
        if any(dispatch.is_starting for dispatch in dispatches):
            # It supersedes others piece by piece, which must not be reallocated in between.
            return
        for dispatch in dispatches:
            if not (dispatch.resplit and dispatch.is_group) or dispatch.ended or dispatch.is_ending:
                continue
            if now_ms < dispatch.next_check_ms or (
                dispatch.ends_ms is not None and now_ms >= dispatch.ends_ms
            ):
                continue
            dispatch.next_check_ms = now_ms + len(dispatch.setpoints) // _SETPOINTS_CHECKED_A_MS
            dropped, reduced = self._find_changes(dispatch, now_ms)
            if dropped or reduced:
                self._reallocate(dispatch, dropped, reduced, now_ms)
            elif abs(dispatch.shortfall_mw) > _SAME_MW and now_ms >= dispatch.next_readmission_check_ms:
                dispatch.next_readmission_check_ms = (
                    now_ms + _READMISSION_CHECK_MS + len(dispatch.candidate_keys) // _SETPOINTS_CHECKED_A_MS
                )
                self._reduce_shortfall(dispatch, now_ms)

    def reduced_at_site(self, dispatch: Dispatch, reduced: Sequence[AssetSetpoint]) -> None:
        """Setpoints of a dispatch were reduced to the limit of their site: move their power elsewhere."""
        is_settled = not (dispatch.ended or dispatch.is_starting or dispatch.is_ending)
        if dispatch.resplit and dispatch.is_group and is_settled:
            reasons = [(setpoint, LIMITED_BY_SITE) for setpoint in reduced]
            self._reallocate(dispatch, (), reasons, self._wall.now_ms())

    def _find_changes(self, dispatch: Dispatch, now_ms: int) -> tuple[Reasons, Reasons]:
        """Return which setpoints drop out, and which are to be reduced; each with the reason."""
        ended: list[tuple[AssetSetpoint, str]] = []
        unreliable: list[tuple[AssetSetpoint, str]] = []
        reduced: list[tuple[AssetSetpoint, str]] = []
        any_reachable = False
        for setpoint in dispatch.setpoints.values():
            # A deferred one keeps its share: a conflict of priorities moves no power to other assets.
            if setpoint.dropped_out or setpoint.state == "deferred":
                continue
            if not setpoint.is_open:
                if setpoint.state not in LASTED:
                    ended.append((setpoint, f"{setpoint.state}: {setpoint.reason}"))
            elif (why := self._why_silent(setpoint, now_ms)) is not None:
                unreliable.append((setpoint, why))
            elif setpoint.state == "deviating":
                # One from before a restart is kept until a sample shows what it delivers.
                if setpoint.tracker is not None and setpoint.tracker.last_mw is not None:
                    found = unreliable if setpoint.delivered_mw is None else reduced
                    found.append((setpoint, f"deviating: {setpoint.reason}"))
            else:
                any_reachable = any_reachable or self._sessions.session_of(setpoint.key) is not None
                if setpoint.is_limited:
                    reduced.append((setpoint, f"limited: {setpoint.reason}"))
        if now_ms < dispatch.next_reduction_ms:
            reduced = []
        # When no other asset can take over, the fault is rather in the way to all: they keep their setpoints.
        return ended + unreliable if any_reachable else ended, reduced

    def _why_silent(self, setpoint: AssetSetpoint, now_ms: int) -> str | None:
        session = self._sessions.session_of(setpoint.key)
        if session is None:
            absence = self._delivery.absences.get(setpoint.key)
            if absence is not None and now_ms >= absence.awaited_until_ms:
                return f"not connected for {(now_ms - absence.since_ms) / 1000:g} s"
            return None
        reported = self._latest.reported(setpoint.key, now_ms)
        if reported is not None:
            is_stale = reported.age_s > self._latest.stale_after_s
            return f"stale, last heard of {reported.age_s:.1f} s ago" if is_stale else None
        if self._latest.is_suspect(setpoint.key):
            since_ms = None if setpoint.tracker is None else setpoint.tracker.suspect_since_ms
            what = "suspect, without a good sample"
        else:
            since_ms, what = session.connected_ms, "without a sample in this session"
        if since_ms is None or now_ms - since_ms <= self._latest.stale_after_s * 1000:
            return None
        return f"{what} for {(now_ms - since_ms) / 1000:g} s"

    def _reallocate(self, dispatch: Dispatch, dropped: Reasons, reduced: Reasons, now_ms: int) -> None:
        for setpoint, why in dropped:
            self._drop(dispatch, setpoint, why)
        for setpoint, _ in reduced:
            delivered_mw = setpoint.delivered_mw
            if setpoint.state == "deviating" and delivered_mw is not None:
                dispatch.delivered_mw[setpoint.key] = delivered_mw
                hold_off(dispatch.readmissions, setpoint.key, deviated=True)
        if reduced:
            dispatch.next_reduction_ms = now_ms + _interval_ms(dispatch)
        if dispatch.ended:
            # No asset is left.
            dispatch.shortfall_mw = dispatch.mw
            self._note(dispatch, dropped=dropped)
            return
        elsewhere = dispatch.ended_keys()
        elsewhere |= {key for key in dispatch.excluded if self._registry.active.current_open(key) is not None}
        self._apply(dispatch, self._split(dispatch, elsewhere), dropped=dropped, reduced=reduced)

    def _drop(self, dispatch: Dispatch, setpoint: AssetSetpoint, why: str) -> None:
        setpoint.dropped_out = True
        deviated = setpoint.state == "deviating"
        hold_off(dispatch.readmissions, setpoint.key, deviated=deviated)
        if not setpoint.is_open:
            if setpoint.answered_ms is None and setpoint.sent_ms is not None:
                # It has ended here, and its agent may have it.
                self._delivery.release(setpoint)
            return
        mean_mw = setpoint.mean_mw
        state: DispatchState = "failed"
        if deviated and setpoint.tracking_ms is None:
            state = "not_tracked"
            why = why if mean_mw is None else f"{why}, {mean_mw:g} MW on average"
        self._registry.transition(setpoint, state, reason=f"dropped out: {why}; its share went to the others")
        self._delivery.release(setpoint)

    def _reduce_shortfall(self, dispatch: Dispatch, now_ms: int) -> None:
        """Allocate the shortfall to batteries that are good again, and to assets that can do more by now."""
        ready = self._ready_for_readmission(dispatch, now_ms)
        if now_ms < dispatch.next_readmission_ms or not (ready or now_ms >= dispatch.next_trial_ms):
            return
        dispatch.next_trial_ms = now_ms + _interval_ms(dispatch)
        if ready:
            dispatch.next_readmission_ms = dispatch.next_trial_ms
        delivered_mw = dict(dispatch.delivered_mw)
        for key in ready:
            dispatch.delivered_mw.pop(key, None)
        elsewhere = (dispatch.ended_keys() | dispatch.excluded.keys()) - ready
        split = self._split(dispatch, elsewhere)
        gain_mw = abs(dispatch.shortfall_mw) - abs(split.shortfall_mw)
        if gain_mw <= (_SAME_MW if ready else max(_WORTH_MW, _WORTH_SHARE * abs(dispatch.mw))):
            dispatch.delivered_mw = delivered_mw
            return
        self._apply(dispatch, split)

    def _ready_for_readmission(self, dispatch: Dispatch, now_ms: int) -> set[int]:
        """Return the assets that may be used again, or be asked for more than they delivered."""
        ready = set()
        for key in _readmission_candidates(dispatch):
            readmission = dispatch.readmissions.setdefault(key, Readmission(HOLD_OFF_ABSENT_S))
            if readmission.deviations >= MAX_DEVIATIONS:
                continue
            if not self._is_good(dispatch, key):
                readmission.good_since_ms = None
            elif readmission.good_since_ms is None:
                readmission.good_since_ms = now_ms
            elif now_ms - readmission.good_since_ms >= readmission.hold_off_s * 1000:
                ready.add(key)
        return ready

    def _is_good(self, dispatch: Dispatch, key: int) -> bool:
        """Whether an asset is connected, reports good values, and has no setpoint of another dispatch."""
        if not self._allocator.is_available(key):
            return False
        current = self._registry.active.current_open(key)
        return current is None or (current is dispatch.setpoints.get(key) and current.state == "tracking")

    def _split(self, dispatch: Dispatch, elsewhere: set[int]) -> Split:
        """Split the total less the setpoints that cannot be changed now."""
        setpoints = dispatch.setpoints.values()
        deferred = {setpoint.key for setpoint in setpoints if setpoint.state == "deferred"}
        kept_mw = fsum(
            setpoint.mw
            for setpoint in setpoints
            if setpoint.is_open
            and (setpoint.key in deferred or not self._allocator.is_available(setpoint.key))
        )
        rest_mw = dispatch.mw - kept_mw if abs(kept_mw) < abs(dispatch.mw) else 0.0
        return self._allocator.split(
            dispatch, rest_mw, elsewhere=elsewhere | deferred | dispatch.foreign_keys
        )

    def _apply(
        self, dispatch: Dispatch, split: Split, *, dropped: Reasons = (), reduced: Reasons = ()
    ) -> None:
        """Send the setpoints that have changed."""
        for setpoint in dispatch.setpoints.values():
            # What ended early has been reallocated, too.
            setpoint.dropped_out = setpoint.dropped_out or not setpoint.is_open
        dispatch.shortfall_mw = split.shortfall_mw
        wire_id = self._delivery.new_wire_id(dispatch)
        changed, joined = 0, []
        for position, candidate in enumerate(split.candidates):
            key, mw = candidate.asset_key, split.allocated_mw[position]
            former = dispatch.setpoints.get(key)
            if former is not None and former.is_open:
                if mw is not None and abs(former.mw - mw) > _SAME_MW:
                    self._change(former, mw, wire_id, split.explain(position))
                    changed += 1
            elif mw:
                self._join(dispatch, key, mw, wire_id, split.explain(position))
                joined.append(self._delivery.asset_id(key))
        self._counters.dispatches_joined += len(joined)
        self._note(
            dispatch,
            dropped=dropped,
            reduced=reduced,
            wire_id=wire_id,
            changed=changed + len(joined),
            joined=joined,
        )

    def _join(self, dispatch: Dispatch, key: int, mw: float, wire_id: str, why: tuple[str, str]) -> None:
        """Add a setpoint for an asset that has none, or whose setpoint has ended."""
        former = dispatch.setpoints.get(key)
        code, explanation = why
        setpoint = AssetSetpoint(
            dispatch=dispatch,
            key=key,
            mw=mw,
            reversion_mw=0.0 if former is None else former.reversion_mw,
            wire_id=wire_id,
            code=code,
            allocation=explanation,
            ends_ms=dispatch.ends_ms,
            queue_until_ms=self._queue_until_ms(dispatch),
        )
        dispatch.excluded.pop(key, None)
        dispatch.add(setpoint)
        self._registry.mark_changed(dispatch, keys=(key,))
        if self._registry.make_current(setpoint):
            self._delivery.send(setpoint)

    def _change(self, setpoint: AssetSetpoint, mw: float, wire_id: str, why: tuple[str, str]) -> None:
        code, explanation = why
        setpoint.reallocate(
            mw=mw,
            wire_id=wire_id,
            code=code,
            allocation=explanation,
            queue_until_ms=self._queue_until_ms(setpoint.dispatch),
        )
        self._registry.mark_changed(setpoint.dispatch, keys=(setpoint.key,))
        self._delivery.send(setpoint)

    def _queue_until_ms(self, dispatch: Dispatch) -> int:
        return self._wall.now_ms() + round(dispatch.expires_in_s * 1000)

    def _note(
        self,
        dispatch: Dispatch,
        *,
        dropped: Reasons = (),
        reduced: Reasons = (),
        wire_id: str = "",
        changed: int = 0,
        joined: Sequence[str] = (),
    ) -> None:
        """Record and log a reallocation."""
        record = ReallocationRecord(
            at_ms=self._wall.now_ms(),
            wire_id=wire_id,
            dropped=self._named(dropped),
            changed=changed,
            shortfall_mw=dispatch.shortfall_mw,
            adjusted=self._named(reduced),
            joined=joined,
        )
        self._counters.dispatches_resplit += 1
        if len(dispatch.reallocations) < _MAX_REALLOCATIONS_RECORDED:
            dispatch.reallocations.append(record)
        self._registry.mark_changed(dispatch, keys=())
        causes = [*record.dropped, *record.adjusted]
        report = log.warning if causes else log.info
        report(
            "group dispatch re-split",
            dispatch_id=dispatch.dispatch_id,
            dropped_out=len(record.dropped),
            adjusted=len(record.adjusted),
            joined=len(record.joined),
            first=": ".join(causes[0]) if causes else None,
            changed=record.changed,
            shortfall_mw=dispatch.shortfall_mw,
        )

    def _named(self, reasons: Reasons) -> list[tuple[str, str]]:
        return [(self._delivery.asset_id(setpoint.key), why) for setpoint, why in reasons]


def _readmission_candidates(dispatch: Dispatch) -> list[int]:
    keys = [key for key, (code, _) in dispatch.excluded.items() if code in TEMPORARY]
    for key, setpoint in dispatch.setpoints.items():
        if setpoint.is_open:
            if key in dispatch.delivered_mw:
                keys.append(key)
        elif setpoint.dropped_out and setpoint.state in READMITTED_AFTER:
            keys.append(key)
    return [key for key in keys if key not in dispatch.foreign_keys]


def _interval_ms(dispatch: Dispatch) -> int:
    return max(_INTERVAL_MS, round(len(dispatch.candidate_keys) * _INTERVAL_MS_AN_ASSET))
