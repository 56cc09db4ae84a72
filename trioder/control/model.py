"""A dispatch and the setpoint of each of its assets: values, state, and the record of both.

State changes are synchronous and checked against `lifecycle`; what causes them is in the other modules.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import fsum

import trio

from trioder.control.readmission import Readmission
from trioder.control.times import shift, shifted_end
from trioder.domain.access import DEFAULT_TENANT
from trioder.domain.dispatch import (
    PRIORITIES,
    AllocationRecord,
    AssetSetpointRecord,
    DispatchRecord,
    DispatchTarget,
    ExcludedAssetRecord,
    Priority,
    ReallocationRecord,
    StepTerms,
    Strategy,
)
from trioder.domain.lifecycle import LASTED, OPEN, TERMINAL, DispatchState, can_transition, state_of_group
from trioder.domain.power_tracker import PowerTracker
from trioder.process.slices import Steps, parts_of, run_at_once

# The cost of one setpoint's record, and of its part in a sum.
_RECORD_US = 3.0
_SUM_US = 0.1


@dataclass(slots=True, eq=False, kw_only=True)
class AssetSetpoint:
    """One asset's setpoint within a dispatch. Times are Unix time in ms, None until they have happened.

    Attributes:
        key: the asset's position in the fleet.
        reversion_mw: its setpoint after the end.
        wire_id: the dispatch_id that its agent knows; a reallocation gives it another one.
        code: why it was allocated this power, for programs; empty where the user named the power.
        allocation: the same for people.
        held_mw: the power that its agent clamped it to.
        ends_ms: when the setpoint ends; None when it holds.
        queue_until_ms: it expires if it was not sent by then.
        answer: the status that its agent acknowledged with.
        session_id: of the session that it was last assigned to.
        tracking_ms: when its power was first within tolerance; a reallocation keeps it.
        dropped_out: its power was reallocated to the others.
        deviations: how often its power has left the tolerance.
        tracker: compares its power with the target; None while there is nothing to compare.
        ended_mean_mw: its mean power, once it has ended.
    """

    dispatch: "Dispatch"
    key: int
    mw: float
    reversion_mw: float
    wire_id: str
    queue_until_ms: int
    code: str = ""
    allocation: str = ""
    held_mw: float | None = None
    ends_ms: int | None = None
    state: DispatchState = "queued"
    answer: str | None = None
    reason: str | None = None
    sent_ms: int | None = None
    answered_ms: int | None = None
    tracking_ms: int | None = None
    ended_ms: int | None = None
    session_id: str = ""
    dropped_out: bool = False
    deviations: int = 0
    tracker: PowerTracker | None = None
    ended_mean_mw: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether its state may still change."""
        return self.state not in TERMINAL

    @property
    def holds_asset(self) -> bool:
        """Whether nothing but a resume ends it: it is the open setpoint of a stop."""
        return self.dispatch.is_stop and self.is_open

    @property
    def mean_mw(self) -> float | None:
        """Its mean power, MW; None without a sample."""
        return self.ended_mean_mw if self.tracker is None else self.tracker.mean_mw

    @property
    def target_mw(self) -> float:
        """The power that it is expected to reach."""
        return self.mw if self.held_mw is None else self.held_mw

    @property
    def delivered_mw(self) -> float | None:
        """What it delivers of the target, as a magnitude; None for nothing, too much or the opposite."""
        return None if self.tracker is None else self.tracker.delivered_mw

    @property
    def is_limited(self) -> bool:
        """Whether its battery reports that it cannot reach the target."""
        return self.tracker is not None and self.tracker.limited_mw is not None

    def transition(self, state: DispatchState, *, now_ms: int, reason: str | None = None) -> bool:
        """Change the state; False, and nothing has changed, when the lifecycle does not allow it."""
        if not can_transition(self.state, state):
            return False
        before, self.state, self.reason = self.state, state, reason
        if state == "sent":
            self.sent_ms = now_ms
        elif state == "tracking":
            self.tracking_ms = now_ms if self.tracking_ms is None else self.tracking_ms
        elif state == "deviating":
            self.deviations += 1
        elif state in TERMINAL:
            self.ended_ms = now_ms
        self.dispatch.count_transition(before, state)
        return True

    def note_answer(self, status: str | None, *, now_ms: int) -> None:
        """Its agent acknowledged it with this status, or reported it as active (None)."""
        self.answer = self.answer if status is None else status
        self.answered_ms = now_ms if self.answered_ms is None else self.answered_ms

    def reallocate(self, *, mw: float, wire_id: str, code: str, allocation: str, queue_until_ms: int) -> None:
        """Queue another power within the same dispatch; acknowledgements of the former no longer count."""
        self.dispatch.count_transition(self.state, "queued")
        self.mw, self.wire_id, self.code, self.allocation = mw, wire_id, code, allocation
        self.queue_until_ms = queue_until_ms
        self.state = "queued"
        self.held_mw = self.answer = self.reason = self.tracker = None
        self.session_id = ""
        self.sent_ms = self.answered_ms = self.ended_ms = None

    def requeue(self, *, wire_id: str, queue_until_ms: int) -> None:
        """Queue the same power once more."""
        self.reallocate(
            mw=self.mw,
            wire_id=wire_id,
            code=self.code,
            allocation=self.allocation,
            queue_until_ms=queue_until_ms,
        )

    def shift_times(self, by_ms: int) -> None:
        """Move all of its times: the wall clock was set by this."""
        ends_ms = shifted_end(self.ends_ms, self.dispatch.valid_until_ms, by_ms)
        shift(self, by_ms)
        self.ends_ms = ends_ms
        if self.tracker is not None:
            shift(self.tracker, by_ms)

    def record(self, asset_ids: Sequence[str]) -> AssetSetpointRecord:
        """Return its record."""
        return AssetSetpointRecord(
            asset_id=asset_ids[self.key],
            mw=self.mw,
            reversion_mw=self.reversion_mw,
            wire_id=self.wire_id,
            code=self.code,
            allocation=self.allocation,
            state=self.state,
            held_mw=self.held_mw,
            answer=self.answer,
            reason=self.reason,
            sent_ms=self.sent_ms,
            answered_ms=self.answered_ms,
            tracking_ms=self.tracking_ms,
            ends_ms=self.ends_ms,
            queue_until_ms=self.queue_until_ms,
            ended_ms=self.ended_ms,
            mean_mw=self.mean_mw,
        )


@dataclass(slots=True, eq=False, kw_only=True)
class Dispatch:
    """A request to one asset or many, and the setpoints that it led to; times are Unix time in ms.

    Attributes:
        number: a dispatch with a higher number supersedes; 0 for those from before the start.
        listed_at: its place in time among others, in ms, whatever the clock does; 0: `dispatched_ms`.
        queue_until_ms: until when its first setpoints may wait to be sent.
        strategy: how it was split; None for a dispatch to one asset.
        resplit: whether the power of an asset that drops out is reallocated to the others.
        tenant: whose assets; `ALL_TENANTS` for several tenants' together.
        requested_by: the principal's name.
        priority: `emergency` for a stop.
        step: of a schedule; None for others.
        candidate_keys: the assets that were asked for.
        excluded: the assets that were allocated nothing: the reason for programs and for people.
        shortfall_mw: the part of the total that no asset can hold.
        delivered_mw: what deviating batteries delivered, as magnitudes; their allocation is limited to it.
        readmissions: of the batteries that dropped out, were excluded or delivered less.
        retired: the records of setpoints whose assets have left the fleet.
        adopted: agents reported it as active, but it is not on record; its request is not known.
        next_check_ms: when dropouts are looked for again.
        next_reduction_ms: when setpoints may be reduced again because of what batteries report or deliver.
        next_readmission_check_ms: when batteries that could take over the shortfall are looked for again.
        next_readmission_ms: when batteries may be readmitted again.
        next_trial_ms: when it is computed again whether its own assets can take over the shortfall.
        foreign_keys: the assets that are another tenant's by now; it gives them no setpoint any more.
        answered: set when no setpoint waits for its acknowledgement.
        is_starting: setpoints are being activated and sent, or (is_ending) cancelled: none is reallocated.
    """

    dispatch_id: str
    number: int = 0
    listed_at: int = 0
    target: DispatchTarget
    mw: float
    duration_s: int | None = None
    valid_until_ms: int | None = None
    reversion_mw: float = 0.0
    expires_in_s: float
    dispatched_ms: int
    queue_until_ms: int
    ends_ms: int | None
    strategy: Strategy | None = None
    resplit: bool = False
    idempotency_key: str | None = None
    request_digest: str | None = None
    tenant: str = DEFAULT_TENANT
    requested_by: str = ""
    priority: Priority = "operator"
    step: StepTerms | None = None
    candidate_keys: Sequence[int] = ()
    setpoints: dict[int, AssetSetpoint] = field(default_factory=dict)
    excluded: dict[int, tuple[str, str]] = field(default_factory=dict)
    shortfall_mw: float = 0.0
    delivered_mw: dict[int, float] = field(default_factory=dict)
    readmissions: dict[int, Readmission] = field(default_factory=dict)
    retired: tuple[AssetSetpointRecord, ...] = ()
    adopted: bool = False
    foreign_keys: set[int] = field(default_factory=set)
    is_starting: bool = False
    is_ending: bool = False
    next_check_ms: int = 0
    next_reduction_ms: int = 0
    next_readmission_check_ms: int = 0
    next_readmission_ms: int = 0
    next_trial_ms: int = 0
    reallocations: list[ReallocationRecord] = field(default_factory=list)
    count_by_state: Counter[DispatchState] = field(default_factory=Counter)
    answered: trio.Event = field(default_factory=trio.Event)

    @property
    def is_group(self) -> bool:
        """Whether it was addressed to many assets, however many of them were allocated a setpoint."""
        return self.target.kind != "asset"

    @property
    def order(self) -> tuple[int, int, str]:
        """By when it was dispatched; of those of the same instant, as they were numbered."""
        return self.listed_at or self.dispatched_ms, self.number, self.dispatch_id

    @property
    def rank(self) -> int:
        """Of its priority: a dispatch with a higher one has the asset."""
        return PRIORITIES.index(self.priority)

    @property
    def is_stop(self) -> bool:
        """Whether it is an emergency stop, which holds until it is cancelled, whatever agents answer."""
        return self.priority == "emergency"

    @property
    def state(self) -> DispatchState:
        """The aggregate of its setpoints' states."""
        return state_of_group(self.count_by_state)

    @property
    def ended(self) -> bool:
        """Whether all of its setpoints have ended."""
        return not any(map(self.count_by_state.get, OPEN))

    @property
    def retired_keys(self) -> Sequence[int]:
        """The keys that stand for `retired`: negative ones, as these assets have none."""
        return range(-1, -1 - len(self.retired), -1)

    @property
    def allocated_mw(self) -> float:
        """The sum of its setpoints but those reallocated; with the shortfall it is the total."""
        if not self.is_group:
            # The one asset is asked for all of it, and cannot hold the shortfall.
            return self.mw - self.shortfall_mw
        retired = (record.mw for record in self.retired if record.state in LASTED)
        return fsum((*retired, *(one.mw for one in self.setpoints.values() if not one.dropped_out)))

    def ended_keys(self) -> set[int]:
        """The assets whose setpoint has ended."""
        return {key for key, setpoint in self.setpoints.items() if not setpoint.is_open}

    def add(self, setpoint: AssetSetpoint) -> None:
        """Add a setpoint; one of the same asset that has ended is replaced."""
        former = self.setpoints.get(setpoint.key)
        if former is not None:
            self.count_by_state[former.state] -= 1
        self.setpoints[setpoint.key] = setpoint
        self.count_by_state[setpoint.state] += 1

    def retire(self, record: AssetSetpointRecord, state: DispatchState) -> None:
        """Keep the record of a setpoint whose asset is no longer in the fleet."""
        self.retired += (record,)
        self.count_by_state[state] += 1

    def count_transition(self, before: DispatchState, state: DispatchState) -> None:
        """Count the change of a setpoint's state."""
        self.count_by_state[before] -= 1
        self.count_by_state[state] += 1
        self.set_if_answered()

    def set_if_answered(self) -> None:
        """Wake those who wait for the acknowledgements when none is outstanding."""
        if not (self.count_by_state["queued"] or self.count_by_state["sent"]):
            self.answered.set()

    def shift_times(self, by_ms: int) -> None:
        """Move all times: the wall clock was set by this, and durations count steady time.

        `valid_until` alone stays: the user named an instant of the right clock.
        """
        valid_until_ms = self.valid_until_ms
        ends_ms = shifted_end(self.ends_ms, valid_until_ms, by_ms)
        shift(self, by_ms)
        self.valid_until_ms, self.ends_ms = valid_until_ms, ends_ms
        for readmission in self.readmissions.values():
            shift(readmission, by_ms)
        self.reallocations = [replace(one, at_ms=one.at_ms + by_ms) for one in self.reallocations]
        for setpoint in self.setpoints.values():
            setpoint.shift_times(by_ms)

    def record(self, asset_ids: Sequence[str], *, whole: bool = True) -> DispatchRecord:
        """Return its record; `asset_ids` are the fleet's, by key; `whole`: with each asset's allocation."""
        return run_at_once(self.record_steps(asset_ids, whole=whole))

    def record_steps(self, asset_ids: Sequence[str], *, whole: bool = True) -> Steps[DispatchRecord]:
        """Do what `record` does, in steps; each allocation is as of the moment of its step."""
        yield _SUM_US * len(self.setpoints)
        members: list[AssetSetpointRecord] = []
        left_out: list[ExcludedAssetRecord] = []
        if whole:
            for part in parts_of(tuple(self.setpoints.values())):
                members += [setpoint.record(asset_ids) for setpoint in part]
                yield _RECORD_US * len(part)
            for entries in parts_of(tuple(self.excluded.items())):
                left_out += [_excluded_record(key, why, asset_ids) for key, why in entries]
                yield _RECORD_US * len(entries)
        return DispatchRecord(
            dispatch_id=self.dispatch_id,
            target=self.target,
            mw=self.mw,
            allocated_mw=self.allocated_mw,
            shortfall_mw=self.shortfall_mw,
            duration_s=self.duration_s,
            valid_until_ms=self.valid_until_ms,
            reversion_mw=self.reversion_mw,
            expires_in_s=self.expires_in_s,
            strategy=self.strategy,
            resplit=self.resplit,
            dispatched_ms=self.dispatched_ms,
            ends_ms=self.ends_ms,
            state=self.state,
            is_open=not self.ended,
            idempotency_key=self.idempotency_key,
            request_digest=self.request_digest,
            tenant=self.tenant,
            requested_by=self.requested_by,
            priority=self.priority,
            reason=self._reason(),
            resplits=tuple(self.reallocations),
            by_state={state: count for state, count in self.count_by_state.items() if count},
            assets_left_out=len(self.excluded),
            members=[*members, *self.retired] if whole else (),
            left_out=left_out,
        )

    def _reason(self) -> str | None:
        """Why the one asset's setpoint is in its state; None for a group."""
        if self.is_group:
            return None
        members: Sequence[AssetSetpoint | AssetSetpointRecord] = (*self.setpoints.values(), *self.retired)
        return members[0].reason if members else None

    def allocation_record(self, asset_ids: Sequence[str], key: int) -> AllocationRecord:
        """Return the record of one of its assets; `retired_keys` stand for those that left the fleet."""
        if key < 0:
            return self.retired[-1 - key]
        setpoint = self.setpoints.get(key)
        if setpoint is None:
            return _excluded_record(key, self.excluded[key], asset_ids)
        return setpoint.record(asset_ids)


def _excluded_record(key: int, why: tuple[str, str], asset_ids: Sequence[str]) -> ExcludedAssetRecord:
    code, allocation = why
    return ExcludedAssetRecord(asset_id=asset_ids[key], code=code, allocation=allocation)
