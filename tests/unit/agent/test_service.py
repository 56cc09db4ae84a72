"""A whole agent against a headend's end of the link, in virtual time."""

import math
from dataclasses import replace

import trio
from trio.testing import MockClock

from tests.unit.agent.parts import (
    START_UNIX_S,
    FakeHeadend,
    asset_id,
    make_asset,
    make_config,
    make_setpoint,
    start_agent,
)
from trioder.agent.headend_client import LinkReport
from trioder.domain.assets import Asset
from trioder.domain.telemetry import BessState
from trioder.rpc import RpcError, StatusCode
from trioder.sim.bess import tick_asset
from trioder.wire.downlink import write_batch_ack, write_replay, write_setpoints


async def test_the_agent_registers_its_assets_and_sends_one_batch_a_pulse(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    agent = await start_agent(nursery, headend, make_config(3))
    await trio.sleep(9.0)
    [registration] = headend.registrations
    assert (registration.agent_id, registration.protocol) == ("agent-1", 1)
    assert registration.epoch == START_UNIX_S * 1000
    assert registration.asset_ids == (asset_id(0), asset_id(1), asset_id(2))
    reported = [(batch.batch_seq, batch.ts_unix_ms, list(batch.asset_index)) for batch in headend.batches]
    start_ms = int(START_UNIX_S * 1000)
    assert reported == [(n + 1, start_ms + 4000 * n, [0, 1, 2]) for n in range(3)]
    assert agent.outbox.batches == 0


async def test_a_setpoint_is_applied_between_pulses_and_answered_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    await start_agent(nursery, headend)
    await trio.sleep(5.0)
    await headend.send_setpoint(36.0, number=1)
    await trio.sleep(0.001)
    [answer] = headend.answers
    assert (answer.asset_id, answer.status) == (asset_id(1), "applied")
    await trio.sleep(4.0)
    batch = headend.batches[-1]
    assert list(batch.setpoint_mw) == [0.0, 36.0]
    assert list(batch.current_mw) == [0.0, 36.0]
    # Applied from 5 s to the pulse at 8 s.
    assert math.isclose(batch.soc_mwhr[1], 50.0 - 36.0 * 3 / 3600, abs_tol=1e-5)


async def test_a_setpoint_ends_in_0_mw_at_its_time_and_not_at_the_next_pulse(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    await start_agent(nursery, headend)
    await trio.sleep(1.0)
    await headend.send_setpoint(36.0, duration_s=5)
    await trio.sleep(9.0)
    batch = headend.batches[-1]
    assert batch.ts_unix_ms == START_UNIX_S * 1000 + 8000
    assert (batch.setpoint_mw[0], batch.current_mw[0]) == (0.0, 0.0)
    assert math.isclose(batch.soc_mwhr[0], 50.0 - 36.0 * 5 / 3600, abs_tol=1e-5)


async def test_bad_dispatches_are_rejected_with_a_reason_and_the_good_one_beside_is_applied(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    await start_agent(nursery, headend)
    await trio.sleep(1.0)
    await headend.send(
        write_setpoints(
            [
                make_setpoint(1.0, number=99, dispatch_id="unknown"),
                make_setpoint(math.nan, number=0, dispatch_id="nan"),
                make_setpoint(1.0, number=1, dispatch_id="older"),
                make_setpoint(99.0, number=1, dispatch_id="newer"),
            ]
        )
    )
    await trio.sleep(0.1)
    answers = {answer.dispatch_id: (answer.status, answer.reason or "") for answer in headend.answers}
    assert answers["unknown"] == ("rejected", f"this agent has no asset {asset_id(99)}")
    assert answers["nan"][0] == "rejected"
    assert answers["older"] == ("superseded", "by newer before it was applied")
    assert answers["newer"] == ("clamped", "99 MW is outside of -40..50 MW; held at 50 MW")


async def test_the_batteries_run_on_while_the_headend_is_down_and_nothing_is_lost(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    agent = await start_agent(nursery, headend)
    await trio.sleep(5.0)
    await headend.send_setpoint(36.0, duration_s=20)
    await trio.sleep(0.5)
    headend.go_down()
    await trio.sleep(60.0)
    assert not agent.client.connected
    headend.refuses_dial = False
    await trio.sleep(40.0)
    in_turn = [batch for batch in headend.batches if not batch.live_only]
    assert [batch.batch_seq for batch in in_turn] == list(range(1, len(in_turn) + 1))
    assert math.isclose(in_turn[-1].soc_mwhr[0], 50.0 - 36.0 * 20 / 3600, abs_tol=1e-4)
    # After the reconnection the newest was sent before the backlog.
    assert any(batch.live_only for batch in headend.batches)
    assert agent.outbox.batches == 0


async def test_a_replay_is_answered_with_what_is_still_kept(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend(keeps=False)
    await start_agent(nursery, headend)
    await trio.sleep(9.0)
    await headend.send(write_batch_ack(1))
    await headend.send(write_replay(2))
    await trio.sleep(0.1)
    assert [batch.batch_seq for batch in headend.batches] == [1, 2, 3, 2, 3]


async def test_no_batch_is_sent_before_the_session_is_granted_and_an_unanswered_registration_is_retried(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend, reports = FakeHeadend(grants=False), []
    await start_agent(nursery, headend, reports=reports)
    await trio.sleep(32.0)
    assert headend.batches == []
    assert len(headend.registrations) == 2
    assert reports == [
        LinkReport(
            state="disconnected",
            assets=0,
            reason="UNAVAILABLE: no answer to the registration within 30 s",
        )
    ]


async def test_a_refusal_is_reported_with_the_headends_reason_and_retried(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend, reports = FakeHeadend(), []
    headend.refusal = RpcError(StatusCode.ALREADY_EXISTS, "asset 1 is driven by agent-2")
    await start_agent(nursery, headend, reports=reports)
    await trio.sleep(5.0)
    headend.refusal = None
    await trio.sleep(31.0)
    assert reports[0] == LinkReport(
        state="refused", assets=0, reason="ALREADY_EXISTS: asset 1 is driven by agent-2"
    )
    assert reports[-1] == LinkReport(state="connected", assets=2)


async def test_retries_back_off_to_half_a_minute_and_reset_after_a_healthy_session(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend(refuses_dial=True)
    await start_agent(nursery, headend)
    await trio.sleep(600.0)
    pauses = [later - sooner for sooner, later in zip(headend.dialled_s, headend.dialled_s[1:], strict=False)]
    assert pauses[0] <= 0.5
    assert 5.0 < max(pauses) <= 30.0
    headend.refuses_dial = False
    await trio.sleep(60.0)
    cut_s = trio.current_time()
    headend.cut()
    await trio.sleep(2.0)
    assert headend.registered_s[-1] - cut_s <= 0.51


async def test_every_session_of_one_boot_has_the_same_epoch_and_outbox(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    await start_agent(nursery, headend)
    await trio.sleep(1.0)
    headend.cut()
    await trio.sleep(31.0)
    first, second = headend.registrations
    assert first == replace(
        second, clock_unix_ms=first.clock_unix_ms, newest_batch_seq=first.newest_batch_seq
    )
    assert [round(one.clock_unix_ms / 1000 - START_UNIX_S) for one in (first, second)] == [0, 1]


async def test_one_assets_crash_restarts_it_alone_from_its_last_good_state(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    broken = False

    def tick(asset: Asset, state: BessState, dt_secs: float) -> BessState:
        if broken and asset.id == asset_id(1):
            raise ZeroDivisionError("injected")
        return tick_asset(asset, state, dt_secs)

    headend = FakeHeadend()
    agent = await start_agent(nursery, headend, make_config(3), tick=tick)
    await trio.sleep(1.0)
    await headend.send(write_setpoints([make_setpoint(36.0, number=n, dispatch_id=str(n)) for n in range(3)]))
    await trio.sleep(4.0)
    broken = True
    await trio.sleep(60.0)
    # It has no row meanwhile, and the others' are not held up for it.
    assert list(headend.batches[-1].asset_index) == [0, 2]
    assert agent.pool.frame_lateness.max_s < 0.1
    assert 1 < agent.pool.crashes <= 12
    broken = False
    await trio.sleep(64.0)
    batch = headend.batches[-1]
    assert list(batch.asset_index) == [0, 1, 2]
    assert math.isclose(batch.soc_mwhr[1], batch.soc_mwhr[0], abs_tol=1e-6)
    assert batch.setpoint_mw[1] == 36.0


async def test_a_dispatch_reaches_a_crashed_asset_once_it_is_back(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    broken = True

    def tick(asset: Asset, state: BessState, dt_secs: float) -> BessState:
        if broken:
            raise ZeroDivisionError("injected")
        return tick_asset(asset, state, dt_secs)

    headend = FakeHeadend()
    await start_agent(nursery, headend, make_config(1), tick=tick)
    await trio.sleep(4.05)
    await headend.send_setpoint(36.0)
    broken = False
    await trio.sleep(62.0)
    assert [answer.status for answer in headend.answers] == ["applied"]


async def test_when_stopping_the_outbox_is_sent_and_the_stream_closed_in_good_order(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend, stopping = FakeHeadend(), trio.Event()
    agent = await start_agent(nursery, headend, stopping=stopping)
    await trio.sleep(5.0)
    headend.cut()
    await trio.sleep(29.0)
    stopping.set()
    with trio.fail_after(1.0):
        await agent.client.ended.wait()
    assert headend.ended_well == 1
    assert headend.committed_seq == agent.outbox.next_append_seq - 1


async def test_stopping_is_bounded_when_the_headend_does_not_end_the_stream(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend, stopping = FakeHeadend(never_ends=True), trio.Event()
    agent = await start_agent(nursery, headend, stopping=stopping)
    await trio.sleep(1.0)
    stopping.set()
    with trio.fail_after(3.1):
        await agent.client.ended.wait()


async def test_an_agent_without_a_headend_stops_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend, stopping = FakeHeadend(refuses_dial=True), trio.Event()
    agent = await start_agent(nursery, headend, stopping=stopping)
    await trio.sleep(20.0)
    stopping.set()
    with trio.fail_after(0.1):
        await agent.client.ended.wait()


async def test_a_setpoint_that_ends_during_a_suspend_ends_at_its_own_instant(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    mock_clock.rate = 0.0
    headend = FakeHeadend()
    agent = await start_agent(nursery, headend)
    await trio.testing.wait_all_tasks_blocked()
    await headend.send_setpoint(36.0, duration_s=6)
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(13.0)
    await trio.testing.wait_all_tasks_blocked()
    assert agent.pool.grid.skipped == 2
    batch = headend.batches[-1]
    assert math.isclose(batch.soc_mwhr[0], 50.0 - 36.0 * 6 / 3600, abs_tol=1e-6)


async def test_agents_of_one_site_pulse_at_their_own_phases(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    await start_agent(nursery, headend, make_config(assets=(make_asset(),), phase=0.25))
    await trio.sleep(6.0)
    start_ms = int(START_UNIX_S * 1000)
    assert [batch.ts_unix_ms - start_ms for batch in headend.batches] == [1000, 5000]


async def test_the_first_pulse_waits_until_the_fleet_has_settled_and_is_not_late(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend, settled_s = FakeHeadend(), []

    def on_ready() -> None:
        mock_clock.jump(9.0)
        settled_s.append(trio.current_time())

    started_s = trio.current_time()
    agent = await start_agent(nursery, headend, on_ready=on_ready)
    assert [instant_s - started_s for instant_s in settled_s] == [9.0]
    mock_clock.jump(3.0)
    await trio.testing.wait_all_tasks_blocked()
    lateness = agent.pool.grid.lateness
    assert (lateness.count, lateness.max_s, agent.pool.grid.skipped) == (1, 0.0, 0)
