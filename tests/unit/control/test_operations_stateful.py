"""Whatever users, agents and the clock do: priorities, stops and limits of sites hold."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from tests.unit.control.driver import dispatch_one
from tests.unit.control.test_cancellation import cancel
from tests.unit.control.test_site_limits import SOUTH
from tests.unit.control.test_stateful import (
    AGENTS,
    ASSETS,
    DispatcherMachine,
    durations,
    expiries,
    keys,
    powers,
    totals,
)
from tests.unit.control.test_stops import asset
from tests.unit.headend.parts import make_fleet
from trioder.control.model import AssetSetpoint
from trioder.domain.access import ALL_TENANTS
from trioder.domain.dispatch import DispatchRefusedError, DispatchTarget, GroupRequest
from trioder.domain.fleet import Fleet, Site
from trioder.domain.lifecycle import TERMINAL
from trioder.domain.site_limits import SiteLimits, SiteLimitsRecord
from trioder.process.slices import run_at_once

priorities = st.sampled_from(("schedule", "operator"))
limits_mw = st.sampled_from((None, 0.0, 4.0, 15.0, 60.0))
NORTH = make_fleet(1).sites[0].id
sites = [DispatchTarget(kind="site", id=site_id) for site_id in (NORTH, SOUTH)]
# Few, for stops to overlap.
targets = st.sampled_from([DispatchTarget(kind="fleet"), *sites, asset(0), asset(3)])


class OperationsMachine(DispatcherMachine):
    """The dispatcher's machine with everything that operators do; every other asset is at a second site."""

    def __init__(self) -> None:
        super().__init__()
        fleet = self.parts.fleet
        south = Site(id=SOUTH, name="South", location="Reno, NV")
        newer = Fleet(
            sites=(*fleet.sites, south),
            assets=[
                replace(one, site_id=SOUTH, site_name="South") if key % 2 else one
                for key, one in enumerate(fleet.assets)
            ],
        )
        self.parts.dispatcher.fleet_changed(fleet.reload(newer))

    def site_of(self, key: int) -> str:
        return self.parts.fleet.assets[key].site_id

    def limits_of(self, site_id: str) -> SiteLimits:
        return self.parts.dispatcher.site_limits.limits_of(site_id)

    @contextmanager
    def keeping_limits(self) -> Iterator[None]:
        """What a user does exceeds no limit, not even until the headend is maintained."""
        sides = [(site.id, charging) for site in self.parts.fleet.sites for charging in (False, True)]
        within = [side for side in sides if self.is_within(*side)]
        yield
        assert [side for side in within if not self.is_within(*side)] == []

    @rule(
        key=keys,
        mw=powers,
        duration_s=durations,
        expires_in_s=expiries,
        reversion_mw=st.sampled_from((0.0, 0.0, 3.0, -3.0)),
        priority=priorities,
    )
    def user_dispatches_one(self, key: int, mw: float, **parameters: object) -> None:
        self.maintained = False
        try:
            with self.keeping_limits():
                self.dispatches.append(dispatch_one(self.parts, mw, key=key, **parameters))  # type: ignore[arg-type]  # drawn
        except DispatchRefusedError:
            assert self.limits_of(self.site_of(key)).is_limited or (
                parameters["reversion_mw"] and key in AGENTS["old"]
            )

    @rule(
        group=st.sets(keys, min_size=1),
        mw=totals,
        duration_s=durations,
        expires_in_s=expiries,
        reversion_mw=st.sampled_from((0.0, 0.0, 2.0)),
        strategy=st.sampled_from(("headroom", "capacity", "equal")),
        resplit=st.booleans(),
        priority=priorities,
    )
    def user_dispatches_many(self, group: set[int], **parameters: object) -> None:
        self.maintained = False
        request = GroupRequest(target=DispatchTarget(kind="assets"), keys=sorted(group), **parameters)  # type: ignore[arg-type]  # drawn
        try:
            with self.keeping_limits():
                self.dispatches.append(self.parts.dispatcher.dispatch_group(request))
        except DispatchRefusedError:
            assert parameters["reversion_mw"]

    @rule(data=st.data())
    def user_cancels(self, data: st.DataObject) -> None:
        found = [dispatch for dispatch in self.dispatches if not dispatch.is_stop]
        if found:
            self.maintained = False
            dispatch = data.draw(st.sampled_from(found))
            with self.keeping_limits():
                cancel(self.parts, dispatch)

    @rule(what=targets)
    def user_stops(self, what: DispatchTarget) -> None:
        self.maintained = False
        stopped = [
            key for key in ASSETS if what.id in {"", self.site_of(key), self.parts.fleet.asset_ids[key]}
        ]
        steps = self.parts.dispatcher.stops.stop_steps(what, stopped, tenant=ALL_TENANTS, requested_by="anna")
        with self.keeping_limits():
            dispatch = run_at_once(steps)
        if dispatch not in self.dispatches:
            self.dispatches.append(dispatch)

    @rule(data=st.data())
    def user_resumes(self, data: st.DataObject) -> None:
        dispatcher = self.parts.dispatcher
        found = [dispatch for dispatch in dispatcher.history if dispatch.is_stop]
        if found:
            self.maintained = False
            stop = data.draw(st.sampled_from(found))
            assert dispatcher.stops.find(stop.target, tenant=ALL_TENANTS) is stop
            with self.keeping_limits():
                run_at_once(dispatcher.stops.resume_steps(stop, requested_by="anna"))

    @rule(
        number=st.sampled_from((0, 1)),
        export_mw=limits_mw,
        import_mw=limits_mw,
        seconds=st.sampled_from((None, 10, 60)),
    )
    def user_limits_a_site(
        self, number: int, export_mw: float | None, import_mw: float | None, seconds: int | None
    ) -> None:
        self.maintained = False
        now_ms = self.parts.wall.now_ms()
        self.parts.dispatcher.site_limits.set(
            SiteLimitsRecord(
                site_id=self.parts.fleet.sites[number].id,
                limits=SiteLimits(export_mw=export_mw, import_mw=import_mw),
                until_ms=None if seconds is None else now_ms + seconds * 1000,
                set_ms=now_ms,
                set_by="anna",
            )
        )
        self.parts.dispatcher.enforce_site_limits()
        self.each_site_is_within_its_limits()

    def open_of(self, key: int) -> list[AssetSetpoint]:
        return [one for one in self.setpoints() if one.key == key and one.state not in TERMINAL]

    @invariant()
    def each_asset_has_one_setpoint_at_most(self) -> None:
        """Beside those that are deferred."""
        for key in ASSETS:
            in_force = [one for one in self.open_of(key) if one.state != "deferred"]
            assert in_force == [one for one in [self.parts.dispatcher.in_force(key)] if one is not None]

    @invariant()
    def it_is_that_of_the_highest_priority(self) -> None:
        for key in ASSETS:
            current = self.parts.dispatcher.in_force(key)
            deferred = [one for one in self.open_of(key) if one.state == "deferred"]
            assert set(map(id, deferred)) == set(
                map(id, self.parts.dispatcher._registry.active.deferred(key))
            )
            for setpoint in deferred:
                # One takes over in the same instant in which it can.
                assert current is not None
                ranks = setpoint.dispatch.rank, current.dispatch.rank
                assert ranks[0] < ranks[1] or setpoint.dispatch.is_stop

    @invariant()
    def only_an_equal_priority_supersedes(self) -> None:
        """What a higher one displaces waits."""
        for setpoint in self.setpoints():
            by_id = (setpoint.reason or "").removeprefix("by ")
            other = self.parts.dispatcher.history.get(by_id)
            if setpoint.state == "superseded" and other is not None:
                assert other.priority == setpoint.dispatch.priority != "emergency"

    @invariant()
    def at_most_one_of_each_priority_is_deferred(self) -> None:
        for key in ASSETS:
            waiting = [one.dispatch.priority for one in self.open_of(key) if one.state == "deferred"]
            ordinary = [priority for priority in waiting if priority != "emergency"]
            assert len(set(ordinary)) == len(ordinary)

    @invariant()
    def what_is_stopped_is_held_at_0_mw(self) -> None:
        for dispatch in self.dispatches:
            if not dispatch.is_stop or dispatch.state == "cancelled":
                continue
            for key in dispatch.setpoints:
                current = self.parts.dispatcher.in_force(key)
                assert current is not None
                assert (current.dispatch.is_stop, current.mw) == (True, 0.0)
                assert self.parts.dispatcher.setpoint_for(key, 7.0, self.parts.wall.now_ms()) == 0.0

    @precondition(lambda self: self.maintained)
    @invariant()
    def deferred_setpoints_end_in_time(self) -> None:
        now_ms = self.parts.wall.now_ms()
        for setpoint in self.setpoints():
            if setpoint.state == "deferred":
                assert setpoint.ends_ms is None or now_ms < setpoint.ends_ms

    @precondition(lambda self: self.maintained)
    @invariant()
    def each_site_is_within_its_limits(self) -> None:
        for site in self.parts.fleet.sites:
            for charging in (False, True):
                assert self.is_within(site.id, charging)

    def is_within(self, site_id: str, charging: bool) -> bool:
        dispatcher, sign = self.parts.dispatcher, -1.0 if charging else 1.0
        most_mw = self.limits_of(site_id).most_mw(charging=charging) + 1e-6
        assets = [key for key in ASSETS if self.site_of(key) == site_id]
        current = [one for key in assets if (one := dispatcher.in_force(key)) is not None]
        in_force_mw = sum(max(0.0, sign * one.mw, sign * one.reversion_mw) for one in current)
        active = dispatcher._registry.active
        commanded = [key for key in assets if active.current(key) is not None or key in active.standing]
        committed = {key: dispatcher.site_power.committed_mw(key, charging=charging) for key in commanded}
        # Of what cannot be reached nothing can be reduced.
        away_mw = sum(committed[key] for key in commanded if dispatcher.site_power._is_away(key))
        return in_force_mw <= most_mw and sum(committed.values()) <= max(most_mw, away_mw + 1e-6)


TestOperations = OperationsMachine.TestCase
TestOperations.settings = settings(
    max_examples=200,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
