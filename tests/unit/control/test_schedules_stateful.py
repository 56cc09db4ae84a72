"""Whatever users, agents, clocks and kills do: what was due has one record, and each step begins once."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.unit.control.driver import dispatch_one
from tests.unit.control.schedule_rig import Rig
from tests.unit.control.test_schedule_restart import step
from tests.unit.control.test_stops import asset
from trioder.control.model import Dispatch
from trioder.control.schedules.planning import starts_of
from trioder.domain.access import ALL_TENANTS
from trioder.domain.dispatch import DispatchTarget
from trioder.domain.schedules import Schedule, ScheduleRefusedError, step_dispatch_id
from trioder.process.slices import run_at_once

ASSETS = range(3)
keys = st.sampled_from(ASSETS)
steps = st.lists(
    st.tuples(st.sampled_from((3, 20, 45)), st.sampled_from((-6.0, 0.0, 3.0, 6.0))), min_size=1, max_size=3
)
rules = st.sampled_from((None, None, "FREQ=MINUTELY;COUNT=4", "FREQ=MINUTELY;INTERVAL=3"))
targets = st.sampled_from([DispatchTarget(kind="fleet"), *map(asset, ASSETS)])


class SchedulesMachine(RuleBasedStateMachine):
    """Schedules among users with priorities and stops, on headends that are killed."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(assets=len(ASSETS))
        self.created: list[Schedule] = []
        # Until when the right clock has been, for each schedule since it was created.
        self.latest_ms = self.rig.now_ms
        self.clock_was_wrong = False
        self.lost_while_away = False

    def do(self, job: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        async def run() -> Any:
            with trio.fail_after(20):
                return await job(*args, **kwargs)

        result = trio.run(run)
        self.latest_ms = max(self.latest_ms, self.rig.now_ms)
        return result

    @initialize()
    def starts(self) -> None:
        self.do(self.rig.start)
        self.rig.connect()
        self.do(self.rig.run, 1.0)

    @property
    def loaded(self) -> bool:
        return self.rig.schedules.runner.is_loaded

    @rule(
        key=st.sampled_from((None, *ASSETS)),
        steps=steps,
        in_s=st.sampled_from((-2.0, 0.0, 5.0, 40.0)),
        recurrence=rules,
        misfire_s=st.sampled_from((0, 30, 600)),
    )
    def user_creates(
        self,
        key: int | None,
        steps: list[tuple[int, float]],
        in_s: float,
        recurrence: str | None,
        misfire_s: int,
    ) -> None:
        if not self.loaded or len(self.created) == 6:
            return
        try:
            schedule = self.do(
                self.rig.create, *steps, in_s=in_s, key=key, recurrence=recurrence, misfire_s=misfire_s
            )
        except ScheduleRefusedError:
            # It is over.
            return
        # The answer waits for nothing, but only what is on record is promised.
        if not self.rig.store.away:
            self.rig.store.write()
            self.created.append(schedule)

    @rule(data=st.data())
    def user_cancels_a_schedule(self, data: st.DataObject) -> None:
        if self.loaded and self.created and not self.rig.store.away:
            schedule = data.draw(st.sampled_from(self.created))
            self.do(self.rig.schedules.cancel, schedule.schedule_id, requested_by="anna")
            self.rig.store.write()
            self.created.remove(schedule)
            self.rig.obey()

    @rule(data=st.data())
    def user_skips_the_next_occurrence(self, data: st.DataObject) -> None:
        if not (self.loaded and self.created):
            return
        schedule = data.draw(st.sampled_from(self.created))
        start_ms = self.rig.schedules.next_start_ms(schedule.schedule_id)
        if start_ms is not None:
            self.rig.schedules.skip(schedule.schedule_id, start_ms, requested_by="anna")

    @rule(key=keys, mw=st.sampled_from((-2.0, 2.0)), duration_s=st.sampled_from((4, 30, None)))
    def operator_dispatches(self, key: int, mw: float, duration_s: int | None) -> None:
        dispatch_one(self.rig.parts, mw, key=key, duration_s=duration_s)
        self.rig.obey()

    @rule(data=st.data())
    def operator_cancels(self, data: st.DataObject) -> None:
        found = [dispatch for dispatch in self.rig.dispatcher.history if not dispatch.is_stop]
        if found:
            self.do(
                self.rig.dispatcher.cancel_in_slices, data.draw(st.sampled_from(found)), requested_by="ben"
            )
            self.rig.obey()

    @rule(what=targets)
    def operator_stops(self, what: DispatchTarget) -> None:
        stopped = [self.rig.parts.fleet.index_by_id[what.id]] if what.id else list(ASSETS)
        stops = self.rig.dispatcher.stops
        run_at_once(stops.stop_steps(what, stopped, tenant=ALL_TENANTS, requested_by="anna"))
        self.rig.obey()

    @rule(what=targets)
    def operator_resumes(self, what: DispatchTarget) -> None:
        stops = self.rig.dispatcher.stops
        found = stops.find(what, tenant=ALL_TENANTS)
        if found is not None:
            run_at_once(stops.resume_steps(found, requested_by="anna"))
            self.rig.obey()

    @rule(key=keys)
    def agent_leaves(self, key: int) -> None:
        self.rig.disconnect(key)

    @rule(key=keys)
    def agent_connects(self, key: int) -> None:
        self.rig.connect(key)

    @rule(seconds=st.sampled_from((0.3, 2.0, 7.0, 30.0, 70.0)))
    def time_passes(self, seconds: float) -> None:
        self.do(self.rig.run, seconds)

    @rule(seconds=st.sampled_from((1.0, 20.0)))
    def headend_is_late(self, seconds: float) -> None:
        self.rig.pass_time(seconds)
        self.do(self.rig.run_due)

    @rule(count=st.integers(0, 4))
    def database_writes(self, count: int) -> None:
        if not self.rig.store.away:
            self.rig.store.write(count)

    @rule()
    def database_goes(self) -> None:
        self.rig.store.away = True

    @rule()
    def database_returns(self) -> None:
        self.rig.store.away = False
        if not self.loaded:
            self.do(self.rig.schedules.runner.load)
        self.do(self.rig.run, 1.0)

    @rule(
        written=st.integers(0, 6),
        seconds=st.sampled_from((0.0, 1.0, 12.0, 90.0)),
        away=st.booleans(),
    )
    def headend_is_killed(self, written: int, seconds: float, away: bool) -> None:
        store = self.rig.store
        if store.away:
            # What begins without a database, and is lost with the headend, is not known to the next one.
            self.lost_while_away = self.lost_while_away or bool(store.pending)
            written = 0
        self.do(self.rig.kill, written=written)
        self.rig.pass_time(seconds)
        self.do(self.rig.start, away=away)
        self.rig.connect()

    @rule(by_s=st.sampled_from((-40.0, -2.0, 2.0, 40.0)))
    def clock_is_set(self, by_s: float) -> None:
        self.clock_was_wrong = True
        step(self.rig, by_s)
        self.do(self.rig.run_due)

    def settled(self) -> None:
        """Let the headend do what is due, and the database have it."""
        self.rig.store.away = False
        if not self.loaded:
            self.do(self.rig.schedules.runner.load)
        self.do(self.rig.run_due)
        self.rig.store.write()

    def teardown(self) -> None:
        self.settled()
        disk = self.rig.disk
        for schedule in self.created:
            present = disk.schedules[schedule.schedule_id]
            due = starts_of(present, after_ms=0, before_ms=self.rig.now_ms + 1, limit=1_000)
            recorded = {start for name, start in disk.occurrences if name == schedule.schedule_id}
            # Exactly one of each that was due, and of nothing else.
            assert recorded >= set(due), "an occurrence that was due has no record"
            assert recorded <= set(
                starts_of(present, after_ms=0, before_ms=self.latest_ms + 1, limit=1_000)
            ), "a record of what was not due"
        self.check_records()

    def check_records(self) -> None:
        """Of each step that was begun there is one dispatch, whose id is computed; of no other any."""
        disk = self.rig.disk
        begun = Counter[str]()
        for (schedule_id, start_ms), occurrence in disk.occurrences.items():
            numbers = [one.number for one in occurrence.steps]
            assert numbers == sorted(set(numbers))
            for one in occurrence.steps:
                assert one.dispatch_id == step_dispatch_id(schedule_id, start_ms, one.number)
                begun[one.dispatch_id] += not one.refusal
        assert not begun or max(begun.values()) == 1
        scheduled = {key for key, record in disk.dispatches.items() if record.priority == "schedule"}
        assert scheduled <= {key for key, count in begun.items() if count}
        if not self.lost_while_away and not self.adopted():
            assert {key for key, count in begun.items() if count} == scheduled

    def adopted(self) -> bool:
        return any(dispatch.adopted for dispatch in self.all_dispatches())

    def all_dispatches(self) -> list[Dispatch]:
        history = self.rig.dispatcher.history
        return [*history._open.values(), *history._ended.values()]

    @invariant()
    def a_battery_is_under_one_setpoint_of_the_highest_priority(self) -> None:
        for key in ASSETS:
            setpoints = [
                one
                for dispatch in self.all_dispatches()
                for one in dispatch.setpoints.values()
                if one.key == key and one.is_open
            ]
            in_force = [one for one in setpoints if one.state != "deferred"]
            assert in_force == [one for one in [self.rig.dispatcher.in_force(key)] if one is not None]
            for one in setpoints:
                if one.state == "deferred":
                    assert one.dispatch.rank < in_force[0].dispatch.rank or one.dispatch.is_stop

    @invariant()
    def a_battery_never_goes_back_to_a_setpoint_that_it_has_left(self) -> None:
        for battery in self.rig.batteries:
            assert len(set(battery.applied)) == len(battery.applied)

    @invariant()
    def no_schedule_outlasts_its_occurrences(self) -> None:
        """Beyond the time in which the next step was to arrive."""
        if self.clock_was_wrong:
            return
        ends = {
            one.dispatch_id: occurrence.end_ms
            for occurrence in self.rig.disk.occurrences.values()
            for one in occurrence.steps
        }
        for battery in self.rig.batteries:
            end_ms = ends.get(battery.wire_id)
            assert end_ms is None or battery.ends_ms <= end_ms + 11_000


TestSchedules = SchedulesMachine.TestCase
TestSchedules.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
