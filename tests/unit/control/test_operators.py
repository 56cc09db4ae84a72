"""What operators do in any order, with agents that obey: what batteries were sent is within the limits.

Beside the stateful tests, in which agents fail and lie, this has few batteries and few kinds of actions, so
that dispatches, stops and limits meet often; and it looks at batteries, not at the headend's own sums.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.control.driver import acknowledge, advance, dispatch_one, report_sample, take_setpoints
from tests.unit.control.test_cancellation import cancel
from tests.unit.control.test_site_limits import SOUTH, limit, two_sites
from trioder.control.model import Dispatch
from trioder.domain.access import ALL_TENANTS
from trioder.domain.dispatch import DispatchRefusedError, DispatchTarget, GroupRequest
from trioder.domain.lifecycle import TERMINAL
from trioder.process.slices import run_at_once

ASSETS = range(4)
INFINITY = float("inf")


class Plant:
    """Two sites with two batteries each, which do what they were sent."""

    def __init__(self) -> None:
        self.parts = two_sites()
        [self.session] = self.parts.sessions
        self.dispatches: list[Dispatch] = []
        # The power of each battery, its power after the end, and when that is.
        self.sent = dict.fromkeys(ASSETS, (0.0, 0.0, INFINITY))

    def power_mw(self, key: int) -> float:
        mw, reversion_mw, until_ms = self.sent[key]
        return mw if self.parts.wall.now_ms() < until_ms else reversion_mw

    def obey(self) -> None:
        for message in take_setpoints(self.session):
            key = self.parts.fleet.index_by_id[message.asset_id]
            now_ms, duration_s = self.parts.wall.now_ms(), message.duration_s
            until_ms = INFINITY if duration_s is None else now_ms + duration_s * 1000
            self.sent[key] = message.mw, message.reversion_mw, until_ms
            setpoint = self.parts.dispatcher.in_force(key)
            if setpoint is not None and setpoint.wire_id == message.dispatch_id:
                acknowledge(self.parts, self.session, setpoint, "applied")
        for key in ASSETS:
            report_sample(self.parts, key, mw=self.power_mw(key), setpoint=self.power_mw(key))

    def single(self, key: int, mw: float, duration_s: int | None, reversion_mw: float, priority: str) -> None:
        asked = {"duration_s": duration_s, "reversion_mw": reversion_mw, "priority": priority}
        try:
            self.dispatches.append(dispatch_one(self.parts, mw, key=key, **asked))  # type: ignore[arg-type]  # drawn
        except DispatchRefusedError:
            site_limits = self.parts.dispatcher.site_limits
            assert site_limits.limits_of(self.parts.fleet.assets[key].site_id).is_limited

    def group(self, mw: float, duration_s: int | None, priority: str) -> None:
        request = GroupRequest(
            target=DispatchTarget(kind="fleet"),
            keys=ASSETS,
            mw=mw,
            duration_s=duration_s,
            priority=priority,  # type: ignore[arg-type]  # drawn
        )
        self.dispatches.append(self.parts.dispatcher.dispatch_group(request))

    def cancel(self, number: int) -> None:
        if self.dispatches:
            cancel(self.parts, self.dispatches[number % len(self.dispatches)])

    def stop(self, target: DispatchTarget) -> None:
        assets = self.parts.fleet.assets
        keys = [key for key in ASSETS if target.id in {"", assets[key].site_id, assets[key].id}]
        steps = self.parts.dispatcher.stops.stop_steps(target, keys, tenant=ALL_TENANTS, requested_by="anna")
        run_at_once(steps)

    def resume(self, number: int) -> None:
        stops = [one for one in self.parts.dispatcher.history if one.is_stop]
        if stops:
            stop = stops[number % len(stops)]
            run_at_once(self.parts.dispatcher.stops.resume_steps(stop, requested_by="anna"))

    def limit(self, site: int, export_mw: float, import_mw: float) -> None:
        limit(self.parts, site=site, export_mw=export_mw, import_mw=import_mw)

    def wait(self, seconds: float) -> None:
        advance(self.parts, seconds)

    def check(self) -> None:
        dispatcher = self.parts.dispatcher
        for site in self.parts.fleet.sites:
            keys = [key for key in ASSETS if self.parts.fleet.assets[key].site_id == site.id]
            limits = dispatcher.site_limits.limits_of(site.id)
            for charging, sign in ((False, 1.0), (True, -1.0)):
                total_mw = sum(max(0.0, sign * self.power_mw(key)) for key in keys)
                assert total_mw <= limits.most_mw(charging=charging) + 1e-6
        for key in ASSETS:
            setpoints = [one.setpoints[key] for one in dispatcher.history if key in one.setpoints]
            waiting = [one for one in setpoints if one.state not in TERMINAL]
            in_force = dispatcher.in_force(key)
            if in_force is None:
                assert waiting == []
                continue
            assert [one for one in waiting if one.state != "deferred"] == [in_force]
            assert in_force.dispatch.rank == max(one.dispatch.rank for one in waiting)
            # Nothing else is what the battery has, and a stop is 0 MW.
            assert self.sent[key][0] == in_force.mw
            assert not in_force.dispatch.is_stop or in_force.mw == 0.0


keys = st.sampled_from(ASSETS)
durations = st.sampled_from((None, 20, 600))
priorities = st.sampled_from(("schedule", "operator"))
mw_limits = st.sampled_from((0.0, 4.0, 12.0, 50.0))
targets = st.sampled_from(
    [DispatchTarget(kind="fleet"), DispatchTarget(kind="site", id=SOUTH)],
)
acts: st.SearchStrategy[tuple[str, tuple[object, ...]]] = st.one_of(
    st.tuples(
        st.just("single"),
        st.tuples(
            keys,
            st.sampled_from((-10.0, -3.0, 3.0, 10.0)),
            durations,
            st.sampled_from((0.0, 3.0, -3.0)),
            priorities,
        ),
    ),
    st.tuples(st.just("group"), st.tuples(st.sampled_from((-30.0, 10.0, 30.0)), durations, priorities)),
    st.tuples(st.just("cancel"), st.tuples(st.integers(0, 9))),
    st.tuples(st.just("stop"), st.tuples(targets)),
    st.tuples(st.just("resume"), st.tuples(st.integers(0, 2))),
    st.tuples(st.just("limit"), st.tuples(st.sampled_from((0, 1)), mw_limits, mw_limits)),
    st.tuples(st.just("wait"), st.tuples(st.sampled_from((1.0, 5.0, 23.0)))),
)


@settings(max_examples=400, deadline=None)
@given(what=st.lists(acts, min_size=3, max_size=25))
def test_no_battery_is_under_a_lower_priority_and_no_site_beyond_its_limits(
    what: list[tuple[str, tuple[object, ...]]],
) -> None:
    plant = Plant()
    for name, arguments in what:
        getattr(plant, name)(*arguments)
        plant.obey()
        plant.check()
