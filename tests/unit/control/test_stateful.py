"""Whatever users, agents and the clock do, and in whichever order: what must always hold of dispatches."""

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
from trioder.domain.dispatch import AssetSetpointRecord, DispatchRefusedError, DispatchTarget, GroupRequest
from trioder.domain.lifecycle import LASTED, TERMINAL
from trioder.gateway.sessions import Session
from trioder.wire.records import Acknowledgement

AGENTS = {"a": (0, 1), "b": (2, 3), "old": (4,)}
ASSETS = range(6)  # Nobody drives the last one.
WORDS = (
    "applied",
    "clamped",
    "rejected",
    "expired",
    "completed",
    "superseded",
    "reverted",
    "active",
    "ok",
    "what?",
)

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
    """The dispatcher among users, agents that are fickle, and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.store = SlowStore()
        self.parts = still_parts(assets=len(ASSETS), store=self.store)
        self.sessions: dict[str, Session] = {}
        self.opened = 0
        self.dispatches: list[Dispatch] = []
        self.wire_ids: list[tuple[str, int]] = [("of-another-life", 0)]
        self.ended: dict[tuple[str, int], AssetSetpointRecord] = {}
        self.tended = False
        # What batteries obey, by asset: the dispatch's id, and until when.
        self.obeyed: dict[int, tuple[str, float]] = {}
        # The assets of which agents have reported what is not so.
        self.doubtful: set[int] = set()

    def read_mail(self, agent_id: str) -> list[tuple[int, str]]:
        """Let an agent obey what it is sent; returns what it has to answer."""
        read = []
        now_ms = self.parts.wall.now_ms()
        for reported in take_setpoints(self.sessions[agent_id]):
            key = self.parts.fleet.index_by_id[reported.asset_id]
            if self.parts.dispatcher.history.by_wire_id(reported.dispatch_id) is None:
                # It ends what the battery was under, and is no dispatch.
                self.obeyed.pop(key, None)
                continue
            setpoint = self.parts.dispatcher.in_force(key)
            if setpoint is not None and setpoint.wire_id == reported.dispatch_id:
                assert setpoint.sent_ms is not None
                assert setpoint.sent_ms <= setpoint.queue_until_ms
            until_ms = math.inf if reported.duration_s is None else now_ms + reported.duration_s * 1000
            self.obeyed[key] = reported.dispatch_id, until_ms
            self.wire_ids.append((reported.dispatch_id, key))
            read.append((key, reported.dispatch_id))
        return read

    def say(
        self, agent_id: str, key: int, dispatch_id: str, word: str, remaining_s: float | None = None
    ) -> None:
        reported = Acknowledgement(
            dispatch_id=dispatch_id,
            asset_id=asset_id(key),
            status=word,
            ts_unix_ms=self.parts.wall.now_ms(),
            setpoint_mw=3.0 if word == "active" else None,
            remaining_s=remaining_s,
        )
        session = self.sessions.get(agent_id) or make_session(agent_id, *AGENTS[agent_id])
        self.parts.dispatcher.acknowledged(reported, session=session)

    def obeyed_now(self, key: int) -> str:
        dispatch_id, until_ms = self.obeyed.get(key, ("", math.inf))
        return dispatch_id if self.parts.wall.now_ms() < until_ms else ""

    def remaining_s(self, key: int) -> float | None:
        until_ms = self.obeyed[key][1]
        return None if until_ms == math.inf else (until_ms - self.parts.wall.now_ms()) / 1000

    @initialize()
    def all_agents_are_there(self) -> None:
        for agent_id in AGENTS:
            self.agent_comes(agent_id)
            self.agent_reports(agent_id, True, 20.0)

    @rule(agent_id=agents)
    def agent_comes(self, agent_id: str) -> None:
        """Perhaps anew, before the headend has noticed that it was gone."""
        self.opened += 1
        self.tended = False
        older = self.sessions.pop(agent_id, None)
        self.sessions[agent_id] = connect(
            self.parts,
            *AGENTS[agent_id],
            agent_id=agent_id,
            number=self.opened,
            protocol=0 if agent_id == "old" else 1,
        )
        if older is not None:
            self.parts.disconnect(older)
        if agent_id != "old":
            for key in AGENTS[agent_id]:
                if dispatch_id := self.obeyed_now(key):
                    self.say(agent_id, key, dispatch_id, "active", self.remaining_s(key))

    @rule(agent_id=agents, reads_first=st.booleans())
    def agent_leaves(self, agent_id: str, reads_first: bool) -> None:
        """Perhaps with answers that it could not give any more."""
        if agent_id not in self.sessions:
            return
        self.tended = False
        if reads_first:
            self.read_mail(agent_id)
        self.parts.disconnect(self.sessions.pop(agent_id))

    @rule(agent_id=agents)
    def agent_obeys_and_answers(self, agent_id: str) -> None:
        if agent_id not in self.sessions:
            return
        self.tended = False
        for key, dispatch_id in self.read_mail(agent_id):
            # There are agents that obey and say nothing.
            if agent_id != "old":
                self.say(agent_id, key, dispatch_id, "applied", self.remaining_s(key))

    @rule(key=keys, mw=powers, duration_s=durations, expires_in_s=expiries, reversion_mw=powers)
    def user_commands_one(
        self, key: int, mw: float, duration_s: int | None, expires_in_s: float | None, reversion_mw: float
    ) -> None:
        self.tended = False
        asked = {"duration_s": duration_s, "expires_in_s": expires_in_s, "reversion_mw": reversion_mw}
        try:
            self.dispatches.append(dispatch_one(self.parts, mw, key=key, **asked))
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
    def user_commands_many(self, group: set[int], **asked: object) -> None:
        self.tended = False
        request = GroupRequest(target=DispatchTarget(kind="assets"), keys=sorted(group), **asked)  # type: ignore[arg-type]  # drawn
        try:
            self.dispatches.append(self.parts.dispatcher.dispatch_group(request))
        except DispatchRefusedError:
            assert asked["reversion_mw"]

    @rule(
        data=st.data(),
        word=st.sampled_from(WORDS),
        agent_id=agents,
        remaining_s=st.sampled_from((None, 0.0, 10.0, 1e6)),
    )
    def agent_answers(self, data: st.DataObject, word: str, agent_id: str, remaining_s: float | None) -> None:
        """Rightly, late, twice, or for what is none of its business."""
        self.tended = False
        dispatch_id, key = data.draw(st.sampled_from([*self.wire_ids[-8:], self.wire_ids[0]]))
        self.doubtful.add(key)
        self.say(agent_id, key, dispatch_id, word, remaining_s)

    @rule(agent_id=agents, obeys=st.booleans(), soc=st.sampled_from((0.5, 20.0, 39.5)))
    def agent_reports(self, agent_id: str, obeys: bool, soc: float) -> None:
        if agent_id not in self.sessions:
            return
        self.tended = False
        for key in AGENTS[agent_id]:
            setpoint = self.parts.dispatcher.in_force(key)
            obeyed = setpoint is not None and setpoint.wire_id == self.obeyed_now(key)
            mw = setpoint.mw if obeys and setpoint is not None and obeyed else 0.0
            report_sample(self.parts, key, soc=soc, mw=mw, setpoint=mw)

    @rule(
        key=keys,
        factor=st.sampled_from((-1.0, 0.0, 0.5, 1.0, 2.0)),
        available_mw=st.sampled_from((0.0, 1.0, 10.0)),
        quality=st.sampled_from((0, 0, 0, 1, 2)),
        seconds=st.sampled_from((1, 4, 12)),
    )
    def battery_does_something_else(
        self, key: int, factor: float, available_mw: float, quality: int, seconds: int
    ) -> None:
        """Again and again, until it must have been noticed: its power, or what it reports of itself."""
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
            self.headend_tends()

    @rule(seconds=st.sampled_from((0.2, 0.5, 2.0, 6.0, 13.0, 31.0, 61.0)))
    def time_passes(self, seconds: float) -> None:
        self.parts.wall.passed_s += seconds  # type: ignore[attr-defined]  # a still clock
        self.tended = False

    @rule(by_s=st.sampled_from((-3_600.0, -2.0, 2.0, 3_600.0)))
    def headends_clock_is_set(self, by_s: float) -> None:
        step(self.parts, by_s)
        # By the agents' steady clocks nothing has happened.
        self.obeyed = {
            key: (dispatch_id, until_ms + by_s * 1000) for key, (dispatch_id, until_ms) in self.obeyed.items()
        }
        # Times of records are corrected.
        self.ended.clear()
        self.tended = False

    @rule(agent_id=agents, leaves=st.booleans())
    def one_agent_falls_silent(self, agent_id: str, leaves: bool) -> None:
        """For so long that its assets drop out of groups, while the others go on telling."""
        if leaves:
            self.agent_leaves(agent_id, True)
        self.time_passes(13.0)
        for other in AGENTS:
            if other != agent_id:
                self.agent_reports(other, True, 20.0)
        self.headend_tends()

    @rule()
    def headend_tends(self) -> None:
        self.parts.dispatcher.maintain()
        # What it has found out by the first look it acts on by the second at the latest.
        self.parts.dispatcher.maintain()
        self.tended = True

    def setpoints(self) -> list[AssetSetpoint]:
        living = list(self.parts.dispatcher.history)
        dispatches = {id(dispatch): dispatch for dispatch in [*self.dispatches, *living]}
        return [setpoint for dispatch in dispatches.values() for setpoint in dispatch.setpoints.values()]

    @rule()
    def all_come_to_agree(self) -> None:
        """Agents read, acknowledge and report, and the headend is maintained, until nothing changes."""
        for agent_id in self.sessions:
            self.agent_obeys_and_answers(agent_id)
            self.agent_reports(agent_id, True, 20.0)
        for _ in range(3):
            self.headend_tends()
            for agent_id in self.sessions:
                self.agent_obeys_and_answers(agent_id)
        for agent_id in self.sessions:
            for key in AGENTS[agent_id]:
                setpoint = self.parts.dispatcher.in_force(key)
                reported = "" if setpoint is None else setpoint.wire_id
                # By its clock a battery may be done before the headend has heard; an old agent does not
                # report what it still obeys.
                silent = setpoint is None and agent_id == "old"
                if key not in self.doubtful and not silent and (self.obeyed_now(key) or setpoint is None):
                    assert reported == self.obeyed_now(key)

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

    @precondition(lambda self: self.tended)
    @invariant()
    def what_is_on_record_is_what_is(self) -> None:
        """Though only what has changed was handed over."""
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
    def each_asset_is_under_one_command_at_most(self) -> None:
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
            assert all(
                setpoint.tracker is None
                for setpoint in dispatch.setpoints.values()
                if setpoint.state in TERMINAL
            )
        assert not any(self.parts.sessions.session_of(key) for key in delivery.absences)
        assert len(registry.active._due) <= 8 * len(ASSETS) + 64
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

    @precondition(lambda self: self.tended)
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
            in_force_mw = sum(
                setpoint.mw for setpoint in dispatch.setpoints.values() if setpoint.state not in TERMINAL
            )
            assert in_force_mw + dispatch.shortfall_mw == pytest.approx(dispatch.mw, abs=1e-6)


TestDispatcher = DispatcherMachine.TestCase
TestDispatcher.settings = settings(
    max_examples=200,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
