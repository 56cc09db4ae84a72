"""Each session measures its agent's clock; a skew is reported, counted and logged, and changes nothing."""

import pytest
import structlog.testing
import trio
import trio.testing

from tests.unit.headend.driver import NOW, Rig, ScriptedAgent, open_rig, pulse, registration
from tests.unit.headend.parts import asset_id
from tests.unit.process.fake_clock import FakeSystemClock
from trioder.gateway.sessions import Session
from trioder.process.rfc3339 import format_ms
from trioder.process.wall_time import WallClock
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.records import CLOCK_STEP, AgentEvent, BatchAck, SessionGrant
from trioder.wire.uplink import write_event, write_heartbeat


def now_ms(ahead_s: float) -> int:
    """An agent's clock that is ahead of a headend's that was started at 0 s and is right."""
    return NOW + round((trio.current_time() + ahead_s) * 1000)


async def send_and_wait(rig: Rig, agent: ScriptedAgent, message: pb.AgentToHeadend) -> None:
    await agent.send(message)
    await trio.testing.wait_all_tasks_blocked()


async def registered(rig: Rig, *keys: int, ahead_s: float | None, agent_id: str = "agent") -> ScriptedAgent:
    agent = await rig.agent()
    message = registration(*keys, agent_id=agent_id, outbox_id=f"box of {agent_id}")
    if ahead_s is not None:
        message.register.clock_unix_ms = now_ms(ahead_s)
    await agent.send(message)
    assert isinstance(await agent.receive(), SessionGrant)
    return agent


def session_of(rig: Rig, key: int = 0) -> Session:
    session = rig.headend.sessions.session_of(key)
    assert session is not None
    return session


def warnings(logs: list[dict[str, object]], event: str = "clock skew") -> list[object]:
    return [entry["clock_skew_s"] for entry in logs if entry["event"] == event]


async def test_registered_shows_the_headends_clock(autojump_clock: object) -> None:
    async with open_rig() as rig:
        await trio.sleep(5.0)
        grant = await (await rig.agent()).register(0)
        assert grant.clock_unix_ms == NOW + 5_000


@pytest.mark.parametrize("ahead_s", [-86_400.0, -1.5, 0.0, 2.5, 365 * 86_400.0])
async def test_the_skew_is_measured_by_the_registration_and_its_error_by_the_first_heartbeat(
    autojump_clock: object, ahead_s: float
) -> None:
    async with open_rig() as rig:
        agent = await registered(rig, 0, 1, ahead_s=ahead_s)
        session = session_of(rig)
        assert (session.clock_skew_s, session.clock_error_s) == (pytest.approx(ahead_s), None)
        await trio.sleep(0.2)
        await send_and_wait(rig, agent, write_heartbeat(now_ms(ahead_s)))
        assert session.clock_error_s == pytest.approx(0.1)
        assert session.clock_skew_s == pytest.approx(ahead_s, abs=0.1001)
        # Heartbeats that follow answer nothing.
        await trio.sleep(15.0)
        await send_and_wait(rig, agent, write_heartbeat(now_ms(ahead_s)))
        assert session.clock_error_s == pytest.approx(0.1)


async def test_a_skew_is_warned_of_once_until_it_was_small_again(autojump_clock: object) -> None:
    async with open_rig() as rig:
        with structlog.testing.capture_logs() as logs:
            agent = await registered(rig, 0, ahead_s=10.0)
            for ahead_s in (10.0, 9.0, 1.5, 1.5, 0.5, 0.5, 3.0):
                await send_and_wait(rig, agent, write_heartbeat(now_ms(ahead_s)))
                await trio.sleep(130.0)
        assert warnings(logs) == [10.0, 3.0]
        assert warnings(logs, "clock skew cleared") == [0.5]
        assert rig.headend.counters.clock_skew_alarms == 2


async def test_a_skew_that_may_be_the_way_of_the_message_is_not_warned_of(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await registered(rig, 0, ahead_s=0.0)
        clock_unix_ms = now_ms(0.0)
        await trio.sleep(8.0)
        with structlog.testing.capture_logs() as logs:
            await send_and_wait(rig, agent, write_heartbeat(clock_unix_ms - 1_900))
        assert warnings(logs) == []
        assert session_of(rig).clock_error_s == pytest.approx(4.0)


async def test_an_agent_whose_clock_was_set_is_right_with_its_report(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await registered(rig, 0, ahead_s=3_600.0)
        await send_and_wait(rig, agent, write_heartbeat(now_ms(3_600.0)))
        await trio.sleep(10.0)
        await send_and_wait(rig, agent, write_heartbeat(now_ms(0.0)))
        assert session_of(rig).clock_skew_s == pytest.approx(3_600.0)
        event = AgentEvent(
            event_id="e",
            asset_id="",
            site_id="",
            ts_unix_ms=now_ms(0.0),
            event_type=CLOCK_STEP,
            severity="warning",
            message="",
        )
        await send_and_wait(rig, agent, write_event(event))
        assert session_of(rig).clock_skew_s == pytest.approx(0.0)
        assert rig.headend.counters.agent_clock_steps == 1


@pytest.mark.parametrize("by_s", [-3_600.0, 2.5, 365 * 86_400.0])
async def test_a_step_of_the_headends_clock_is_no_skew_of_an_agent(
    autojump_clock: object, by_s: float
) -> None:
    system = FakeSystemClock(wrong_s=-by_s)
    async with open_rig(wall=WallClock.following(system)) as rig:
        agent = await registered(rig, 0, ahead_s=0.0)
        session = session_of(rig)
        await send_and_wait(rig, agent, write_heartbeat(now_ms(0.0)))
        assert session.clock_skew_s == pytest.approx(by_s)
        connected_ms = session.connected_ms
        system.set_by(by_s)
        with structlog.testing.capture_logs() as logs:
            await trio.sleep(5.0)
        assert session.clock_skew_s == pytest.approx(0.0, abs=1e-3)
        assert session.connected_ms == pytest.approx(connected_ms + by_s * 1000, abs=1)
        assert len(warnings(logs, "clock skew cleared")) == 1
        assert rig.headend.counters.clock_steps == 1


async def test_a_headend_that_wakes_does_not_blame_its_agents(autojump_clock: object) -> None:
    system = FakeSystemClock()
    async with open_rig(wall=WallClock.following(system)) as rig:
        agent = await registered(rig, 0, ahead_s=0.0)
        await send_and_wait(rig, agent, write_heartbeat(now_ms(0.0)))
        system.sleep(600.0)
        # Before it is noticed.
        await send_and_wait(rig, agent, write_heartbeat(now_ms(600.0)))
        await trio.sleep(2.0)
        await send_and_wait(rig, agent, write_heartbeat(now_ms(600.0)))
        assert session_of(rig).clock_skew_s == pytest.approx(0.0, abs=0.01)


async def test_an_agent_of_text_heartbeats_alone_is_measured_by_them(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await registered(rig, 0, ahead_s=None)
        assert session_of(rig).clock_skew_s is None
        for _ in range(3):
            heartbeat = pb.Heartbeat(asset_id=asset_id(0), timestamp=format_ms(now_ms(-40.0)))
            await send_and_wait(rig, agent, pb.AgentToHeadend(heartbeat=heartbeat))
            await trio.sleep(10.0)
        assert session_of(rig).clock_skew_s == pytest.approx(-40.0)
        assert session_of(rig).clock_error_s is None


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-45T00:00:00Z", "x" * 10_000])
async def test_a_heartbeat_whose_time_cannot_be_read_is_a_heartbeat(
    autojump_clock: object, text: str
) -> None:
    async with open_rig() as rig:
        agent = await registered(rig, 0, ahead_s=None)
        heartbeat = pb.Heartbeat(asset_id=asset_id(0), timestamp=text)
        await send_and_wait(rig, agent, pb.AgentToHeadend(heartbeat=heartbeat))
        assert rig.headend.counters.heartbeats_received == 1
        assert session_of(rig).clock_skew_s is None


@pytest.mark.parametrize("clock_unix_ms", [-(2**63), -1, 0, 2**63 - 1])
async def test_no_clock_is_too_wrong_to_be_measured(autojump_clock: object, clock_unix_ms: int) -> None:
    async with open_rig() as rig:
        agent = await rig.agent()
        message = registration(0)
        message.register.clock_unix_ms = clock_unix_ms
        await agent.send(message)
        assert isinstance(await agent.receive(), SessionGrant)
        assert session_of(rig).clock_skew_s == pytest.approx((clock_unix_ms - NOW) / 1000)


async def test_batches_of_an_older_agent_show_its_clock_but_not_those_of_a_backlog(
    autojump_clock: object,
) -> None:
    async with open_rig() as rig:
        agent = await registered(rig, 0, ahead_s=None)
        early = pulse(5, 0, ts_ms=now_ms(7.0))
        early.telemetry_batch.live_only = True
        await send_and_wait(rig, agent, early)
        for seq in range(1, 5):
            await agent.send(pulse(seq, 0, ts_ms=now_ms(-600.0)))
            assert await agent.receive() == BatchAck(batch_seq=seq)
            await trio.sleep(4.0)
        for seq in (6, 7):
            await send_and_wait(rig, agent, pulse(seq, 0, ts_ms=now_ms(7.0)))
            await trio.sleep(4.0)
        assert session_of(rig).clock_skew_s == pytest.approx(7.0)


async def test_a_burst_of_old_samples_is_no_skew(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await rig.agent()
        await agent.send(pb.AgentToHeadend(register=pb.Register(asset_id=asset_id(0))))

        async def sample(ahead_s: float) -> None:
            telemetry = pb.Telemetry(asset_id=asset_id(0), timestamp=format_ms(now_ms(ahead_s)))
            await send_and_wait(rig, agent, pb.AgentToHeadend(telemetry=telemetry))

        with structlog.testing.capture_logs() as logs:
            for late_s in range(600, 0, -4):
                await sample(-float(late_s))
            assert session_of(rig).clock_skew_s is None
            for _ in range(4):
                await sample(-0.5)
                await trio.sleep(4.0)
        assert session_of(rig).clock_skew_s == pytest.approx(-0.5)
        assert warnings(logs) == []


async def test_one_sample_of_the_future_is_no_clock(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await registered(rig, 0, ahead_s=None)
        with structlog.testing.capture_logs() as logs:
            for seq in range(1, 10):
                await send_and_wait(rig, agent, pulse(seq, 0, ts_ms=now_ms(86_400.0 if seq == 2 else 0.0)))
                await trio.sleep(4.0)
        assert session_of(rig).clock_skew_s == pytest.approx(0.0)
        assert warnings(logs) == []


async def test_many_agents_are_a_few_numbers(autojump_clock: object) -> None:
    async with open_rig() as rig:
        for key, ahead_s in enumerate((-30.0, None, 0.5)):
            agent = await registered(rig, key, ahead_s=ahead_s, agent_id=f"agent-{key}")
            if ahead_s is not None:
                await send_and_wait(rig, agent, write_heartbeat(now_ms(ahead_s)))
        headend = rig.headend
        assert headend.clocks.summary(headend.sessions) == (pytest.approx(-30.0), pytest.approx(0.5), 1, 1)


async def test_nothing_is_kept_of_a_disconnected_agent(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await registered(rig, 0, ahead_s=10.0)
        await agent.disconnect()
        headend = rig.headend
        assert headend.clocks.summary(headend.sessions) == (None, None, 0, 0)
        assert headend.clocks._clocks == {}


@pytest.mark.parametrize("ahead_s", [-86_400.0, 3_600.0])
async def test_no_agent_is_behind_because_of_its_clock(autojump_clock: object, ahead_s: float) -> None:
    async with open_rig() as rig:
        agent = await registered(rig, 0, ahead_s=ahead_s)
        await send_and_wait(rig, agent, write_heartbeat(now_ms(ahead_s)))
        await agent.send(pulse(1, 0, ts_ms=now_ms(ahead_s)))
        assert await agent.receive() == BatchAck(batch_seq=1)
        await trio.sleep(4.0)
        assert rig.headend.ingest.furthest_behind_s() == pytest.approx(4.0, abs=0.01)


async def test_one_pulse_of_a_day_ahead_ages_an_agent_without_a_clock_for_two_pulses_at_most(
    autojump_clock: object,
) -> None:
    async with open_rig() as rig:
        agent = await registered(rig, 0, ahead_s=None)
        await agent.send(pulse(1, 0, ts_ms=now_ms(86_400.0)))
        for batch_seq in range(2, 8):
            await trio.sleep(4.0)
            await send_and_wait(rig, agent, pulse(batch_seq, 0, ts_ms=now_ms(0.0)))
        assert session_of(rig).clock_skew_s == pytest.approx(0.0)
        assert rig.headend.latest.quality(0, now_ms(0.0)) == "good"
