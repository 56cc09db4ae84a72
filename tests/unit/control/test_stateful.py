"""Whatever users, agents and the clock do, in any order: the invariants of dispatches."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.control.driver import connect, dispatch_one, report_sample, step, still_parts, take_setpoints
from tests.unit.headend.parts import asset_id, make_session
from tests.unit.headend.stores import SlowStore
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.domain.access import DEFAULT_TENANT
from trioder.domain.dispatch import AssetSetpointRecord, DispatchRefusedError, DispatchTarget, GroupRequest
from trioder.domain.lifecycle import LASTED, TERMINAL
from trioder.gateway.sessions import Session
from trioder.wire.records import Acknowledgement

AGENTS = {"a": (0, 1), "b": (2, 3), "old": (4,)}
ASSETS = range(6)  # Nobody drives the last one.
STATUSES = ("applied", "clamped", "rejected", "expired", "completed", "superseded", "reverted", "active")
UNKNOWN_STATUSES = ("ok", "what?")

agents = st.sampled_from(sorted(AGENTS))
keys = st.sampled_from(ASSETS)
powers = st.sampled_from((-10.0, -3.0, 0.0, 3.0, 10.0))
totals = st.sampled_from((-70.0, -12.0, 0.0, 12.0, 30.0))
durations = st.sampled_from((None, 5, 40, 600))
expiries = st.sampled_from((None, 1.0, 20.0))


def _settled(setpoints: Iterable[AssetSetpointRecord]) -> list[AssetSetpointRecord]:
    """Without the mean power of open setpoints: it is recorded with their next change of state."""
    return [one if one.state in TERMINAL else replace(one, mean_mw=None) for one in setpoints]


class DispatcherMachine(RuleBasedStateMachine):
    """The dispatcher among users, unreliable agents, and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.store = SlowStore()
        self.parts = still_parts(assets=len(ASSETS), store=self.store)
        self.sessions: dict[str, Session] = {}
        self.opened = 0
        self.dispatches: list[Dispatch] = []
        self.wire_ids: list[tuple[str, int]] = [("of-another-life", 0)]
        self.ended: dict[tuple[str, int], AssetSetpointRecord] = {}
        self.maintained = False
        # What batteries apply, by asset: the dispatch's id, and until when.
        self.applied: dict[int, tuple[str, float]] = {}
        # The assets of which agents have reported what is not so.
        self.doubtful: set[int] = set()
        # The assets that received a setpoint when it was over for the headend: only its lease ends it.
        self.late: set[int] = set()

    def read_setpoints(self, agent_id: str) -> list[tuple[int, str]]:
        """Let an agent apply what it is sent; returns what it has to acknowledge."""
        read = []
        now_ms = self.parts.wall.now_ms()
        for reported in take_setpoints(self.sessions[agent_id]):
            key = self.parts.fleet.index_by_id[reported.asset_id]
            if not self.parts.dispatcher.history.has_wire_id(reported.dispatch_id):
                # It ends what the battery was under, and is no dispatch.
                self.applied.pop(key, None)
                continue
            setpoint = self.parts.dispatcher.in_force(key)
            # A stop waits for its agent for ever, and is queued again when that has refused it.
            is_stop = setpoint is not None and setpoint.dispatch.is_stop
            if setpoint is not None and setpoint.wire_id == reported.dispatch_id and not is_stop:
                assert setpoint.sent_ms is not None
                assert setpoint.sent_ms <= setpoint.queue_until_ms
            until_ms = math.inf if reported.duration_s is None else now_ms + reported.duration_s * 1000
            dispatch = self.parts.dispatcher.history.by_wire_id(reported.dispatch_id, tenant=DEFAULT_TENANT)
            is_late = dispatch is not None and dispatch.ends_ms is not None and dispatch.ends_ms <= now_ms
            (self.late.add if is_late else self.late.discard)(key)
            known_id, known_until_ms = self.applied.get(key, ("", math.inf))
            if reported.dispatch_id == known_id and agent_id != "old":
                # Sent again: an agent does not begin it anew.
                until_ms = known_until_ms
                if until_ms <= now_ms:
                    continue
            self.applied[key] = reported.dispatch_id, until_ms
            self.wire_ids.append((reported.dispatch_id, key))
            read.append((key, reported.dispatch_id))
        return read

    def acknowledge(
        self, agent_id: str, key: int, dispatch_id: str, status: str, remaining_s: float | None = None
    ) -> None:
        reported = Acknowledgement(
            dispatch_id=dispatch_id,
            asset_id=asset_id(key),
            status=status,
            ts_unix_ms=self.parts.wall.now_ms(),
            setpoint_mw=3.0 if status == "active" else None,
            remaining_s=remaining_s,
        )
        session = self.sessions.get(agent_id) or make_session(agent_id, *AGENTS[agent_id])
        self.parts.dispatcher.acknowledged(reported, session=session)

    def applied_now(self, key: int) -> str:
        dispatch_id, until_ms = self.applied.get(key, ("", math.inf))
        return dispatch_id if self.parts.wall.now_ms() < until_ms else ""

    def remaining_s(self, key: int) -> float | None:
        until_ms = self.applied[key][1]
        return None if until_ms == math.inf else (until_ms - self.parts.wall.now_ms()) / 1000

    @initialize()
    def all_agents_connect(self) -> None:
        for agent_id in AGENTS:
            self.agent_connects(agent_id)
            self.agent_reports(agent_id, True, 20.0)

    @rule(agent_id=agents)
    def agent_connects(self, agent_id: str) -> None:
        """Perhaps again, before the headend has noticed the loss."""
        self.opened += 1
        self.maintained = False
        older = self.sessions.pop(agent_id, None)
        protocol = 0 if agent_id == "old" else 1
        self.sessions[agent_id] = connect(
            self.parts, *AGENTS[agent_id], agent_id=agent_id, number=self.opened, protocol=protocol
        )
        if older is not None:
            self.parts.disconnect(older)
        if agent_id != "old":
            for key in AGENTS[agent_id]:
                if dispatch_id := self.applied_now(key):
                    self.acknowledge(agent_id, key, dispatch_id, "active", self.remaining_s(key))

    @rule(agent_id=agents, reads_first=st.booleans())
    def agent_disconnects(self, agent_id: str, reads_first: bool) -> None:
        """Perhaps with acknowledgements that it could not send any more."""
        if agent_id not in self.sessions:
            return
        self.maintained = False
        if reads_first:
            self.read_setpoints(agent_id)
        self.parts.disconnect(self.sessions.pop(agent_id))

    @rule(agent_id=agents)
    def agent_applies_and_acknowledges(self, agent_id: str) -> None:
        if agent_id not in self.sessions:
            return
        self.maintained = False
        for key, dispatch_id in self.read_setpoints(agent_id):
            # Old agents acknowledge nothing.
            if agent_id != "old":
                self.acknowledge(agent_id, key, dispatch_id, "applied", self.remaining_s(key))

    @rule(key=keys, mw=powers, duration_s=durations, expires_in_s=expiries, reversion_mw=powers)
    def user_dispatches_one(
        self, key: int, mw: float, duration_s: int | None, expires_in_s: float | None, reversion_mw: float
    ) -> None:
        self.maintained = False
        parameters = {"duration_s": duration_s, "expires_in_s": expires_in_s, "reversion_mw": reversion_mw}
        try:
            self.dispatches.append(dispatch_one(self.parts, mw, key=key, **parameters))
        except DispatchRefusedError:
            assert reversion_mw
            assert key in AGENTS["old"]

    @rule(
        group=st.sets(keys, min_size=1),
        mw=totals,
        duration_s=durations,
        expires_in_s=expiries,
        reversion_mw=st.sampled_from((0.0, 0.0, 2.0)),
        strategy=st.sampled_from(("headroom", "capacity", "equal")),
        resplit=st.booleans(),
    )
    def user_dispatches_many(self, group: set[int], **parameters: object) -> None:
        self.maintained = False
        request = GroupRequest(target=DispatchTarget(kind="assets"), keys=sorted(group), **parameters)  # type: ignore[arg-type]  # drawn
        try:
            self.dispatches.append(self.parts.dispatcher.dispatch_group(request))
        except DispatchRefusedError:
            assert parameters["reversion_mw"]

    @rule(
        data=st.data(),
        status=st.sampled_from(STATUSES + UNKNOWN_STATUSES),
        agent_id=agents,
        remaining_s=st.sampled_from((None, 0.0, 10.0, 1e6)),
    )
    def agent_acknowledges(
        self, data: st.DataObject, status: str, agent_id: str, remaining_s: float | None
    ) -> None:
        """Rightly, late, twice, or for another agent's asset."""
        self.maintained = False
        dispatch_id, key = data.draw(st.sampled_from([*self.wire_ids[-8:], self.wire_ids[0]]))
        self.doubtful.add(key)
        self.acknowledge(agent_id, key, dispatch_id, status, remaining_s)

    @rule(agent_id=agents, tracks=st.booleans(), soc=st.sampled_from((0.5, 20.0, 39.5)))
    def agent_reports(self, agent_id: str, tracks: bool, soc: float) -> None:
        if agent_id not in self.sessions:
            return
        self.maintained = False
        for key in AGENTS[agent_id]:
            setpoint = self.parts.dispatcher.in_force(key)
            follows = setpoint is not None and setpoint.wire_id == self.applied_now(key)
            mw = setpoint.mw if tracks and setpoint is not None and follows else 0.0
            report_sample(self.parts, key, soc=soc, mw=mw, setpoint=mw)

    @rule(
        key=keys,
        factor=st.sampled_from((-1.0, 0.0, 0.5, 1.0, 2.0)),
        available_mw=st.sampled_from((0.0, 1.0, 10.0)),
        quality=st.sampled_from((0, 0, 0, 1, 2)),
        seconds=st.sampled_from((1, 4, 12)),
    )
    def battery_deviates(
        self, key: int, factor: float, available_mw: float, quality: int, seconds: int
    ) -> None:
        """Repeated until it must have been noticed: its power, or its reported limits."""
        if not any(key in AGENTS[agent_id] for agent_id in self.sessions):
            return
        for _ in range(4):
            setpoint = self.parts.dispatcher.in_force(key)
            mw = 0.0 if setpoint is None else setpoint.mw
            report_sample(
                self.parts,
                key,
                mw=mw * factor,
                setpoint=mw,
                available_mw=available_mw,
                quality=quality,
            )
            self.time_passes(seconds)
            self.headend_is_maintained()

    @rule(seconds=st.sampled_from((0.2, 0.5, 2.0, 6.0, 13.0, 31.0, 61.0)))
    def time_passes(self, seconds: float) -> None:
        self.parts.wall.passed_s += seconds  # type: ignore[attr-defined]  # a still clock
        self.maintained = False

    @rule(by_s=st.sampled_from((-3_600.0, -2.0, 2.0, 3_600.0)))
    def headends_clock_is_stepped(self, by_s: float) -> None:
        step(self.parts, by_s)
        # By the agents' steady clocks nothing has happened.
        self.applied = {
            key: (dispatch_id, until_ms + by_s * 1000)
            for key, (dispatch_id, until_ms) in self.applied.items()
        }
        # Times of records are corrected.
        self.ended.clear()
        self.maintained = False

    @rule(agent_id=agents, leaves=st.booleans())
    def one_agent_falls_silent(self, agent_id: str, leaves: bool) -> None:
        """For so long that its assets drop out of groups, while the others go on reporting."""
        if leaves:
            self.agent_disconnects(agent_id, True)
        self.time_passes(13.0)
        for other in AGENTS:
            if other != agent_id:
                self.agent_reports(other, True, 20.0)
        self.headend_is_maintained()

    @rule()
    def headend_is_maintained(self) -> None:
        self.parts.dispatcher.maintain()
        # What the first round finds, the second acts on at the latest.
        self.parts.dispatcher.maintain()
        self.maintained = True

    def setpoints(self) -> list[AssetSetpoint]:
        history = list(self.parts.dispatcher.history)
        dispatches = {id(dispatch): dispatch for dispatch in [*self.dispatches, *history]}
        return [setpoint for dispatch in dispatches.values() for setpoint in dispatch.setpoints.values()]

    @rule()
    def all_agree_in_the_end(self) -> None:
        """Agents read, acknowledge and report, and the headend is maintained, until nothing changes."""
        for agent_id in self.sessions:
            self.agent_applies_and_acknowledges(agent_id)
            self.agent_reports(agent_id, True, 20.0)
        for _ in range(3):
            self.headend_is_maintained()
            for agent_id in self.sessions:
                self.agent_applies_and_acknowledges(agent_id)
        for agent_id in self.sessions:
            for key in AGENTS[agent_id]:
                setpoint = self.parts.dispatcher.in_force(key)
                reported = "" if setpoint is None else setpoint.wire_id
                # By its clock a battery may be done before the headend has received it, or go on for its
                # duration when it received a setpoint late; an old agent does not report what it applies.
                silent = setpoint is None and (agent_id == "old" or key in self.late)
                if key not in self.doubtful and not silent and (self.applied_now(key) or setpoint is None):
                    assert reported == self.applied_now(key)

    @invariant()
    def counts_agree_with_states(self) -> None:
        for dispatch in self.dispatches:
            counted = Counter(setpoint.state for setpoint in dispatch.setpoints.values())
            assert +dispatch.count_by_state == counted
            assert dispatch.ended == all(
                setpoint.state in TERMINAL for setpoint in dispatch.setpoints.values()
            )

    @invariant()
    def what_has_ended_stays_as_it_is(self) -> None:
        for dispatch in self.dispatches:
            record = self.parts.dispatcher.record_of(dispatch)
            for setpoint in record.members:
                at = dispatch.dispatch_id, self.parts.fleet.index_by_id[setpoint.asset_id]
                if at in self.ended:
                    if setpoint.wire_id != self.ended[at].wire_id:
                        # It has returned to its group, with another share.
                        assert dispatch.is_group
                        del self.ended[at]
                        continue
                    assert setpoint == self.ended[at]
                elif setpoint.state in TERMINAL:
                    self.ended[at] = setpoint

    @precondition(lambda self: self.maintained)
    @invariant()
    def the_record_is_current(self) -> None:
        """Though only changes were recorded."""
        for dispatch in self.dispatches:
            record = self.parts.dispatcher.record_of(dispatch)
            written = self.store.recorded[dispatch.dispatch_id]
            assert replace(written, members=(), left_out=()) == replace(record, members=(), left_out=())
            pairs = (
                (_settled(record.members), _settled(written.members)),
                (record.left_out, written.left_out),
            )
            for ours, theirs in pairs:
                assert {one.asset_id: one for one in ours} == {one.asset_id: one for one in theirs}

    @invariant()
    def nothing_lasts_longer_than_its_duration(self) -> None:
        for dispatch in self.dispatches:
            for setpoint in dispatch.setpoints.values():
                if dispatch.duration_s is not None and setpoint.state not in TERMINAL:
                    assert setpoint.ends_ms is not None
                    assert setpoint.ends_ms - self.parts.wall.now_ms() <= dispatch.duration_s * 1000

    @invariant()
    def each_asset_has_one_setpoint_at_most(self) -> None:
        for setpoint in self.setpoints():
            if setpoint.state not in TERMINAL:
                assert self.parts.dispatcher.in_force(setpoint.key) is setpoint

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        registry, delivery = self.parts.dispatcher._registry, self.parts.dispatcher._delivery
        for by_asset in (registry.tracked, delivery.absences, delivery._released, registry.active._current):
            assert by_asset.keys() <= set(ASSETS)
        assert all(setpoint.state not in TERMINAL for setpoint in registry.tracked.values())
        for dispatch in self.dispatches:
            assert dispatch.readmissions.keys() <= set(dispatch.candidate_keys)
            ended = [setpoint for setpoint in dispatch.setpoints.values() if setpoint.state in TERMINAL]
            assert {setpoint.tracker for setpoint in ended} <= {None}
        assert not any(self.parts.sessions.session_of(key) for key in delivery.absences)
        assert len(registry.active._due) <= 2 * 8 * len(ASSETS) + 64
        assert {dispatch.ended for dispatch in registry.history} <= {False}

    @invariant()
    def the_record_adds_up(self) -> None:
        for dispatch in self.dispatches:
            record = self.parts.dispatcher.record_of(dispatch)
            assert record.allocated_mw + record.shortfall_mw == pytest.approx(record.mw, abs=1e-6)
            assert sum(record.by_state.values()) == len(record.members)

    @invariant()
    def completed_is_only_what_was_seen_to_track(self) -> None:
        for setpoint in self.setpoints():
            assert setpoint.state != "completed" or setpoint.tracking_ms is not None
            assert setpoint.state != "not_tracked" or setpoint.tracking_ms is None

    @precondition(lambda self: self.maintained)
    @invariant()
    def shares_and_shortfall_are_the_total(self) -> None:
        for dispatch in self.parts.dispatcher.history:
            ends_ms = dispatch.ends_ms
            if not (dispatch.resplit and dispatch.is_group) or dispatch.adopted:
                continue
            if ends_ms is not None and self.parts.wall.now_ms() >= ends_ms:
                continue
            lasted = [setpoint for setpoint in dispatch.setpoints.values() if setpoint.state in LASTED]
            if not all(setpoint.dropped_out for setpoint in lasted):
                continue
            open_setpoints = (one for one in dispatch.setpoints.values() if one.state not in TERMINAL)
            in_force_mw = sum(one.mw for one in open_setpoints)
            assert in_force_mw + dispatch.shortfall_mw == pytest.approx(dispatch.mw, abs=1e-6)


TestDispatcher = DispatcherMachine.TestCase
_CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much]
_SETTINGS = settings(max_examples=200, stateful_step_count=30, deadline=None, suppress_health_check=_CHECKS)
TestDispatcher.settings = _SETTINGS
