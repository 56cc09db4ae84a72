"""A command and its members: what was asked, what each asset was given, and how far each has come.

Changing states is synchronous and checked against `lifecycle`; who causes it is in `dispatcher`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import fsum

import trio

from trioder.control.allocation import Strategy
from trioder.control.lifecycle import LASTED, PENDING, TERMINAL, DispatchState, may_become, state_of_group
from trioder.control.tracking import Watch
from trioder.domain.dispatch import (
    AllocationRecord,
    AssetSetpointRecord,
    DispatchRecord,
    DispatchTarget,
    ExcludedAssetRecord,
    ReallocationRecord,
)
from trioder.process.slices import Steps, parts_of, run_at_once

# What it takes to make the record of a member, and to add up its share.
_RECORD_US = 3.0
_SUM_US = 0.1


@dataclass(slots=True, eq=False, kw_only=True)
class AssetSetpoint:
    """One asset's part of a command; times are Unix time in ms, None until it has come to that.

    Attributes:
        key: the asset's position in the fleet.
        mw: what it is asked to hold.
        reversion_mw: what follows.
        wire_id: the dispatch_id that its agent knows; another one after a re-split.
        code: why it was given so much, for programs; empty when the user said how much.
        allocation: the same for people.
        held_mw: what its agent holds instead, when that is less.
        ends_ms: when its setpoint ends; None when it holds.
        queue_until_ms: if it was not sent by then, it never is.
        answer: the agent's own word.
        reason: of its state.
        session_id: of the session that it was handed to last.
        tracking_ms: when its power was first within tolerance; a re-split does not change it.
        dropped_out: its share went to the others.
        deviations: how often its power has left what was asked.
        watch: compares its power with what was asked; None while there is nothing to compare.
        ended_mean_mw: what its power was on average, once it has ended.
    """

    command: "Dispatch"
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
    watch: Watch | None = None
    ended_mean_mw: float | None = None

    @property
    def mean_mw(self) -> float | None:
        """What its power is or was on average, MW; None while no sample shows it."""
        return self.ended_mean_mw if self.watch is None else self.watch.mean_mw

    @property
    def target_mw(self) -> float:
        """What its power is expected to be."""
        return self.mw if self.held_mw is None else self.held_mw

    def transition(self, state: DispatchState, *, now_ms: int, reason: str | None = None) -> bool:
        """Go on to another state; False, and nothing has changed, when it cannot."""
        if not may_become(self.state, state):
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
        self.command.moved(before, state)
        return True

    def move_on(self, *, mw: float, wire_id: str, code: str, allocation: str, queue_until_ms: int) -> None:
        """Another share of the same command, which has not been sent yet; the old one's life is over."""
        self.command.moved(self.state, "queued")
        self.mw, self.wire_id, self.code, self.allocation = mw, wire_id, code, allocation
        self.queue_until_ms = queue_until_ms
        self.state = "queued"
        self.held_mw = self.answer = self.reason = self.watch = None
        self.session_id = ""
        self.sent_ms = self.answered_ms = self.ended_ms = None


@dataclass(slots=True, eq=False)
class Standing:
    """Of a battery that is out of a group, or limited by what it delivered: when it may return.

    Attributes:
        hold_off_ms: how long it must have been good before.
        good_since_ms: since when it is; None while it is not.
        deviations: how often its power was not what it was asked for.
    """

    hold_off_ms: int
    good_since_ms: int | None = None
    deviations: int = 0


@dataclass(slots=True, eq=False, kw_only=True)
class Dispatch:
    """What a user asked, of one asset or of many; times are Unix time in ms.

    Attributes:
        number: commands are in force in the order of their numbers; 0 for those from before the start.
        mw: in all.
        reversion_mw: in all, likewise.
        queue_until_ms: until when its first shares may wait to be sent.
        ends_ms: when the setpoints end; None when they hold.
        strategy: how it was split; None for a command to one asset.
        resplit: whether the share of a member that drops out goes to the others.
        candidate_keys: the assets that were asked for.
        left_out: the assets that were given nothing: why, for programs and for people.
        shortfall_mw: what nobody could be given; of one asset, what it cannot hold of what it is asked for.
        delivered_mw: what batteries gave, as magnitudes, that this command had asked for more; they are not
            asked for more than that again for a while.
        standings: of the batteries that are out of the group, or were.
        departed: members whose assets have left the fleet, as they were last.
        adopted: agents were found under it; what was asked, and of whom else, is not known.
        next_look_ms: when it is looked again whether a member has dropped out.
        next_adjust_ms: when a share may be lowered again because of what a battery reports or delivers.
        next_raise_look_ms: when it is looked again who could take over what is short.
        next_raise_ms: when what is short may be allocated to batteries that have returned.
        next_trial_ms: when it is computed again whether the members can take over what is short.
        answered: set when no member waits for its agent's answer.
        beginning: its members are being handed out, one after the other.
        unanswered: members that may not have been told yet.
        open_count: members of which something may still become.
    """

    dispatch_id: str
    number: int = 0
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
    candidate_keys: Sequence[int] = ()
    members: dict[int, AssetSetpoint] = field(default_factory=dict)
    left_out: dict[int, tuple[str, str]] = field(default_factory=dict)
    shortfall_mw: float = 0.0
    delivered_mw: dict[int, float] = field(default_factory=dict)
    standings: dict[int, Standing] = field(default_factory=dict)
    departed: tuple[AssetSetpointRecord, ...] = ()
    adopted: bool = False
    beginning: bool = False
    next_look_ms: int = 0
    next_adjust_ms: int = 0
    next_raise_look_ms: int = 0
    next_raise_ms: int = 0
    next_trial_ms: int = 0
    resplits: list[ReallocationRecord] = field(default_factory=list)
    count_by_state: Counter[DispatchState] = field(default_factory=Counter)
    answered: trio.Event = field(default_factory=trio.Event)
    unanswered: int = 0
    open_count: int = 0

    @property
    def is_group(self) -> bool:
        """Whether it was asked of many assets, whoever of them got a share."""
        return self.target.kind != "asset"

    @property
    def state(self) -> DispatchState:
        """How far its members have come, together."""
        return state_of_group(self.count_by_state)

    @property
    def ended(self) -> bool:
        """Whether nothing more becomes of it."""
        return self.open_count == 0

    @property
    def departed_keys(self) -> Sequence[int]:
        """What stands for each of `departed` where others have their key."""
        return range(-1, -1 - len(self.departed), -1)

    @property
    def allocated_mw(self) -> float:
        """What its members were given, together; what one has left to others is theirs.

        With what is short it is the total.
        """
        if not self.is_group:
            # The one asset is asked for all of it, and cannot hold what is short.
            return self.mw - self.shortfall_mw
        kept = (record.mw for record in self.departed if record.state in LASTED)
        return fsum((*kept, *(member.mw for member in self.members.values() if not member.dropped_out)))

    def add(self, member: AssetSetpoint) -> None:
        """Take a member in."""
        self.members[member.key] = member
        self.count_by_state[member.state] += 1
        self.unanswered += member.state in PENDING
        self.open_count += member.state not in TERMINAL

    def replace(self, member: AssetSetpoint) -> None:
        """The member of an asset that has ended here is followed by another one."""
        self.count_by_state[self.members[member.key].state] -= 1
        self.add(member)

    def depart(self, record: AssetSetpointRecord, state: DispatchState) -> None:
        """A member's asset is no longer in the fleet: it stays on the record."""
        self.departed += (record,)
        self.count_by_state[state] += 1

    def moved(self, before: DispatchState, state: DispatchState) -> None:
        """A member has gone from one state to another."""
        self.count_by_state[before] -= 1
        self.count_by_state[state] += 1
        self.unanswered += (state in PENDING) - (before in PENDING)
        self.open_count += (before in TERMINAL) - (state in TERMINAL)
        self.look_whether_answered()

    def look_whether_answered(self) -> None:
        """Tell whoever waits, when there is nobody to wait for."""
        if not self.unanswered:
            self.answered.set()

    def record(self, asset_ids: Sequence[str], *, whole: bool = True) -> DispatchRecord:
        """Return it as it stands.

        Args:
            asset_ids: of the fleet, by key.
            whole: with what each asset has.
        """
        return run_at_once(self.record_steps(asset_ids, whole=whole))

    def record_steps(self, asset_ids: Sequence[str], *, whole: bool = True) -> Steps[DispatchRecord]:
        """Do what `record` does, in steps; each asset's part is as of the moment of its step."""
        yield _SUM_US * len(self.members)
        members: list[AssetSetpointRecord] = []
        left_out: list[ExcludedAssetRecord] = []
        if whole:
            for part in parts_of(tuple(self.members.values())):
                members += [_record_of(member, asset_ids) for member in part]
                yield _RECORD_US * len(part)
            for entries in parts_of(tuple(self.left_out.items())):
                left_out += [_left_out_record(key, why, asset_ids) for key, why in entries]
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
            resplits=tuple(self.resplits),
            by_state={state: count for state, count in self.count_by_state.items() if count},
            assets_left_out=len(self.left_out),
            members=[*members, *self.departed] if whole else (),
            left_out=left_out,
        )

    def share(self, asset_ids: Sequence[str], key: int) -> AllocationRecord:
        """Return what one of its assets has of it; `departed_keys` stand for those that left the fleet."""
        if key < 0:
            return self.departed[-1 - key]
        member = self.members.get(key)
        if member is None:
            return _left_out_record(key, self.left_out[key], asset_ids)
        return _record_of(member, asset_ids)


def _left_out_record(key: int, why: tuple[str, str], asset_ids: Sequence[str]) -> ExcludedAssetRecord:
    code, allocation = why
    return ExcludedAssetRecord(asset_id=asset_ids[key], code=code, allocation=allocation)


def _record_of(member: AssetSetpoint, asset_ids: Sequence[str]) -> AssetSetpointRecord:
    return AssetSetpointRecord(
        asset_id=asset_ids[member.key],
        mw=member.mw,
        reversion_mw=member.reversion_mw,
        wire_id=member.wire_id,
        code=member.code,
        allocation=member.allocation,
        state=member.state,
        held_mw=member.held_mw,
        answer=member.answer,
        reason=member.reason,
        sent_ms=member.sent_ms,
        answered_ms=member.answered_ms,
        tracking_ms=member.tracking_ms,
        ends_ms=member.ends_ms,
        queue_until_ms=member.queue_until_ms,
        ended_ms=member.ended_ms,
        mean_mw=member.mean_mw,
    )
