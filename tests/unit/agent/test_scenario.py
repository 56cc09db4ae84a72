"""A real agent with a scenario, in virtual time: what its headend receives, and when."""

import math
from collections.abc import Mapping

import pytest
import trio
from trio.testing import MockClock

from tests.unit.agent.parts import START_UNIX_S, FakeHeadend, asset_id, make_asset, make_config, start_agent
from trioder.agent.battery_pool import BatteryPool
from trioder.agent.frame import Frame
from trioder.agent.scenario import NO_SCENARIO, RunningScenario, make_layer
from trioder.agent.service import RunningAgent
from trioder.domain.scenario import Action, ActionName, Scenario
from trioder.process.wall_time import WallClock
from trioder.sim.bess import tick_asset
from trioder.wire.records import Batch

ASSETS = tuple(make_asset(number) for number in range(2))


def act(
    name: ActionName,
    at_s: float,
    for_s: float = math.inf,
    *,
    number: int = 0,
    parameters: Mapping[str, float] | None = None,
    every_s: float = math.inf,
    times: float = 1,
) -> Action:
    """An action on the first battery of two."""
    return Action(
        number=number,
        name=name,
        at_s=at_s,
        for_s=for_s,
        every_s=every_s,
        times=times,
        parameters=parameters or {},
        asset_ids=frozenset({asset_id(0)}),
    )


def make_scenario(*actions: Action, start_unix_s: float | None = None, seed: int = 1) -> Scenario:
    return Scenario(name="test", seed=seed, actions=actions, start_unix_s=start_unix_s)


async def start(
    nursery: trio.Nursery, headend: FakeHeadend, scenario: Scenario, *, agent_id: str = "agent-1"
) -> RunningAgent:
    """Start an agent of two batteries that pulses after 0, 4, 8, ... s of the scenario."""
    wall = WallClock(START_UNIX_S, trio.current_time())
    layer = make_layer(scenario, ASSETS, agent_id=agent_id, wall=wall)
    return await start_agent(nursery, headend, make_config(agent_id=agent_id), wall=wall, scenario=layer)


def batch_at(headend: FakeHeadend, at_s: float) -> Batch:
    [batch] = [each for each in headend.batches if each.ts_unix_ms == (START_UNIX_S + at_s) * 1000]
    return batch


def times_of(headend: FakeHeadend) -> list[float]:
    return [each.ts_unix_ms / 1000 - START_UNIX_S for each in headend.batches]


def test_without_a_scenario_everything_is_handed_through_as_it_is() -> None:
    async def dial() -> trio.abc.Stream:
        raise OSError

    def put(_: Frame) -> None:
        pass

    wall = WallClock(0.0, 0.0)
    pool = BatteryPool.__new__(BatteryPool)
    layer = make_layer(None, ASSETS, agent_id="a", wall=wall)
    assert layer is NO_SCENARIO
    assert layer.clock(wall) is wall
    assert layer.physics(tick_asset) is tick_asset
    assert layer.link(dial) is dial
    assert layer.setpoints(pool) == pool.deliver
    assert layer.frames(put) is put


async def test_a_device_action_leaves_the_clock_and_the_link_alone(autojump_clock: MockClock) -> None:
    async def dial() -> trio.abc.Stream:
        raise OSError

    wall = WallClock(0.0, 0.0)
    layer = RunningScenario(make_scenario(act("trip", 1.0)), ASSETS, agent_id="a")
    assert layer.clock(wall) is wall
    assert layer.link(dial) is dial


async def test_a_link_action_leaves_the_clock_and_the_batteries_alone(autojump_clock: MockClock) -> None:
    wall = WallClock(0.0, 0.0)
    layer = RunningScenario(make_scenario(act("link_cut", 1.0)), ASSETS, agent_id="a")
    assert layer.clock(wall) is wall
    assert layer.physics(tick_asset) is tick_asset


async def test_a_trip_takes_the_one_battery_to_0_mw_and_reports_itself(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    await start(nursery, headend, make_scenario(act("trip", 10.0, 20.0)))
    await trio.sleep(5.0)
    for number in range(2):
        await headend.send_setpoint(20.0, number=number, dispatch_id=f"d-{number}")
    await trio.sleep(30.0)
    assert list(batch_at(headend, 8.0).current_mw) == [20.0, 20.0]
    assert list(batch_at(headend, 12.0).current_mw) == [0.0, 20.0]
    assert list(batch_at(headend, 12.0).available_discharge_mw) == [0.0, 50.0]
    assert list(batch_at(headend, 32.0).current_mw) == [0.0, 20.0]
    assert list(batch_at(headend, 32.0).available_discharge_mw) == [50.0, 50.0]
    assert [(each.event_type, each.asset_id, each.severity) for each in headend.events] == [
        ("INVERTER_FAULT", asset_id(0), "error"),
        ("INVERTER_FAULT_CLEARED", asset_id(0), "info"),
    ]
    assert [each.ts_unix_ms - START_UNIX_S * 1000 for each in headend.events] == [10_000, 30_000]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("trip", "the inverter has tripped"), ("reject", "the battery is in local control")],
)
async def test_setpoints_are_rejected_at_once_with_the_reason_and_the_one_in_force(
    autojump_clock: MockClock, nursery: trio.Nursery, name: ActionName, reason: str
) -> None:
    headend = FakeHeadend()
    await start(nursery, headend, make_scenario(act(name, 10.0, 5.0)))
    await trio.sleep(5.0)
    await headend.send_setpoint(20.0, dispatch_id="before")
    await trio.sleep(5.5)
    await headend.send_setpoint(30.0, dispatch_id="meanwhile")
    await headend.send_setpoint(30.0, number=1, dispatch_id="other")
    await trio.sleep(0.1)
    _, refused, other = headend.answers
    assert (refused.dispatch_id, refused.status, refused.reason) == ("meanwhile", "rejected", reason)
    assert refused.setpoint_mw == 20.0
    assert (other.dispatch_id, other.status) == ("other", "applied")
    await trio.sleep(5.0)
    await headend.send_setpoint(30.0, dispatch_id="after")
    await trio.sleep(0.1)
    assert (headend.answers[-1].dispatch_id, headend.answers[-1].status) == ("after", "applied")


async def test_a_derate_follows_its_ramps_by_the_scenarios_time(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    derate = act("derate", 8.0, 20.0, parameters={"factor": 0.5, "over_s": 8.0, "back_s": 4.0})
    await start(nursery, headend, make_scenario(derate))
    await trio.sleep(5.0)
    await headend.send_setpoint(50.0)
    await trio.sleep(32.0)
    powers = [batch_at(headend, at_s).current_mw[0] for at_s in (8.0, 12.0, 16.0, 28.0, 32.0, 36.0)]
    assert powers == pytest.approx([50.0, 37.5, 25.0, 25.0, 50.0, 50.0])
    assert batch_at(headend, 16.0).setpoint_mw[0] == 50.0
    assert [each.event_type for each in headend.events] == ["DERATED", "DERATED_CLEARED"]


async def test_wrong_reports_change_what_is_sent_and_not_what_the_battery_does(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    scenario = make_scenario(
        act("freeze", 10.0, 4.0, number=0),
        act("report_nan", 14.0, 4.0, number=1),
        act("wrong_sign", 18.0, 4.0, number=2),
        act("flag_bad", 22.0, 4.0, number=3),
        act("beyond_nameplate", 26.0, 4.0, number=4, parameters={"factor": 2.0}),
    )
    agent = await start(nursery, headend, scenario)
    await trio.sleep(13.0)
    await headend.send_setpoint(20.0)
    await headend.send_setpoint(20.0, number=1)
    await trio.sleep(20.0)
    seen = [batch_at(headend, at_s).current_mw[0] for at_s in (12.0, 16.0, 20.0, 24.0, 28.0, 32.0)]
    assert seen == pytest.approx([0.0, math.nan, -20.0, 20.0, 100.0, 20.0], nan_ok=True)
    assert {batch_at(headend, at_s).current_mw[1] for at_s in (16.0, 20.0, 24.0, 28.0, 32.0)} == {20.0}
    assert [batch_at(headend, at_s).quality for at_s in (20.0, 24.0, 28.0)] == [b"", bytes([2, 0]), b""]
    first, second = agent.pool.snapshot()
    assert first[:3] == second[:3]


async def test_actions_on_one_battery_compose_and_end_on_their_own(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    scenario = make_scenario(act("wrong_sign", 6.0, 20.0, number=0), act("flag_bad", 10.0, 8.0, number=1))
    await start(nursery, headend, scenario)
    await trio.sleep(5.0)
    await headend.send_setpoint(20.0)
    await trio.sleep(26.0)
    rows = [batch_at(headend, at_s) for at_s in (8.0, 12.0, 16.0, 20.0, 28.0)]
    assert [row.current_mw[0] for row in rows] == [-20.0, -20.0, -20.0, -20.0, 20.0]
    assert [row.quality for row in rows] == [b"", bytes([2, 0]), bytes([2, 0]), b"", b""]


async def test_reports_are_changed_in_the_order_of_the_file_whichever_began_first(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    scenario = make_scenario(act("wrong_sign", 10.0, number=0), act("freeze", 6.0, number=1))
    await start(nursery, headend, scenario)
    await trio.sleep(5.0)
    await headend.send_setpoint(20.0)
    await trio.sleep(10.0)
    # Frozen with the right sign.
    assert [batch_at(headend, at_s).current_mw[0] for at_s in (8.0, 12.0)] == [20.0, 20.0]


async def test_an_action_is_repeated(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    headend = FakeHeadend()
    flag = act("flag_bad", 6.0, 4.0, every_s=12.0, times=2)
    await start(nursery, headend, make_scenario(flag))
    await trio.sleep(45.0)
    flagged = [
        each.ts_unix_ms / 1000 - START_UNIX_S for each in headend.batches if each.quality == bytes([2, 0])
    ]
    assert flagged == [8.0, 20.0]
    assert len({each.event_id for each in headend.events}) == 4


async def test_an_agent_that_starts_again_takes_up_the_scenario_where_it_is(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    scenario = make_scenario(
        act("flag_bad", 100.0, 10.0, number=0),
        act("trip", 95.0, 3.0, number=1),
        start_unix_s=START_UNIX_S - 97.0,
    )
    headend = FakeHeadend()
    await start(nursery, headend, scenario)
    await trio.sleep(20.0)
    assert [batch_at(headend, at_s).quality for at_s in (4.0, 12.0, 16.0)] == [bytes([2, 0])] * 2 + [b""]
    # The trip is over within a second.
    assert [each.event_type for each in headend.events][:2] == ["INVERTER_FAULT", "INVERTER_FAULT_CLEARED"]


async def test_an_event_has_the_same_id_after_a_restart(autojump_clock: MockClock) -> None:
    ids = []
    for _ in range(2):
        headend = FakeHeadend()
        async with trio.open_nursery() as nursery:
            scenario = make_scenario(act("trip", 1.0), start_unix_s=START_UNIX_S - 97.0)
            await start(nursery, headend, scenario)
            await trio.sleep(3.0)
            nursery.cancel_scope.cancel()
        ids.append([each.event_id for each in headend.events])
    assert ids[0] == ids[1]
    assert len(ids[0]) == 1


async def test_a_clock_step_is_taken_over_reported_and_set_right(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    await start(nursery, headend, make_scenario(act("clock_step", 10.5, 40.0, parameters={"by_s": 7.0})))
    await trio.sleep(70.0)
    assert [each.event_type for each in headend.events] == ["CLOCK_STEP", "CLOCK_STEP"]
    assert ["+7.000" in headend.events[0].message, "-7.000" in headend.events[1].message] == [True, True]
    # The first pulse is at 0 s; the clock is compared every second, and three times before it is believed.
    wrong_s = {4 * place: ts - 4 * place for place, ts in enumerate(times_of(headend)) if ts != 4 * place}
    assert wrong_s == dict.fromkeys(range(16, 56, 4), 7)


async def test_a_cut_link_is_back_after_it(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    headend = FakeHeadend()
    await start(nursery, headend, make_scenario(act("link_cut", 10.0, 40.0)))
    await trio.sleep(100.0)
    first, second = headend.registered_s
    assert first < 1.0
    assert 50.0 <= second < 80.0
    # Nothing is lost.
    assert {each.batch_seq for each in headend.batches} == set(range(1, 26))


async def sessions_of(seed: int, agent_id: str) -> list[float]:
    headend = FakeHeadend()
    async with trio.open_nursery() as nursery:
        start_s = trio.current_time()
        lossy = act("link_lossy", 10.0, 300.0, parameters={"cut_every_s": 30.0})
        await start(nursery, headend, make_scenario(lossy, seed=seed), agent_id=agent_id)
        await trio.sleep(400.0)
        nursery.cancel_scope.cancel()
    return [round(each - start_s, 3) for each in headend.registered_s]


async def test_a_lossy_link_is_cut_at_the_same_times_for_the_same_seed_and_agent(
    autojump_clock: MockClock,
) -> None:
    first = await sessions_of(1, "agent-1")
    assert len(first) > 5
    assert await sessions_of(1, "agent-1") == first
    assert await sessions_of(2, "agent-1") != first
    assert await sessions_of(1, "agent-2") != first
