"""Leases of a whole agent: reported over sessions, restarts and the absence of the headend."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.unit.agent.parts import (
    START_UNIX_S,
    FakeHeadend,
    asset_id,
    make_config,
    make_setpoint,
    newest_states,
    start_agent,
)
from trioder.agent.config import AgentConfig
from trioder.agent.persistence.sqlite_store import SqliteStateStore, open_state_store
from trioder.process.wall_time import WallClock
from trioder.wire.downlink import write_setpoint, write_setpoints
from trioder.wire.records import Acknowledgement

START_MS = int(START_UNIX_S * 1000)


def reported(headend: FakeHeadend) -> list[tuple[str, str]]:
    return [(answer.dispatch_id, answer.status) for answer in headend.answers]


def in_force(answer: Acknowledgement) -> tuple[float | None, float | None, float | None]:
    remaining_s = answer.remaining_s
    return answer.setpoint_mw, None if remaining_s is None else round(remaining_s, 3), answer.reversion_mw


async def reconnect(headend: FakeHeadend) -> None:
    """Cut the connection for less than a second."""
    headend.cut()
    headend.answers.clear()
    await trio.sleep(1.0)


@contextmanager
def open_at(path: Path, assets: int = 2, agent_id: str = "agent-1") -> Iterator[SqliteStateStore]:
    asset_ids = [asset_id(number) for number in range(assets)]
    with open_state_store(
        path, agent_id=agent_id, asset_ids=asset_ids, outbox_id=f"box of {agent_id}"
    ) as store:
        yield store


@asynccontextmanager
async def running(
    path: Path, headend: FakeHeadend, config: AgentConfig | None = None, *, wall: WallClock
) -> AsyncIterator[SqliteStateStore]:
    """Run an agent until the block ends, then crash it; yields its state store."""
    config = config or make_config()
    async with trio.open_nursery() as nursery:
        with open_at(path, len(config.assets), config.agent_id) as store:
            await start_agent(nursery, headend, config, store=store, wall=wall)
            yield store
            nursery.cancel_scope.cancel()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.sqlite"


async def test_a_lease_ends_between_pulses_and_its_end_is_reported_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    await start_agent(nursery, headend)
    await trio.sleep(1.0)
    await headend.send_setpoint(36.0, valid_until_s=2.5, reversion_mw=-36.0)
    await trio.sleep(2.0)
    assert reported(headend) == [("d-1", "applied"), ("d-1", "completed")]
    [_, completed] = headend.answers
    assert completed.ts_unix_ms == START_MS + 2500
    await trio.sleep(2.0)
    batch = headend.batches[-1]
    # Out for 1.5 s, in for 1.5 s.
    assert batch.ts_unix_ms == START_MS + 4000
    assert batch.soc_mwhr[0] == pytest.approx(50.0, abs=1e-5)
    assert batch.setpoint_mw[0] == -36.0


async def test_a_setpoint_received_too_late_expires_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    await start_agent(nursery, headend)
    await trio.sleep(3.0)
    await headend.send_setpoint(36.0, valid_until_s=2.0)
    await trio.sleep(0.001)
    [answer] = headend.answers
    assert (answer.status, in_force(answer)) == ("expired", (0.0, None, 0.0))
    assert answer.reason is not None
    assert str(START_MS + 2000) in answer.reason


async def test_each_session_receives_the_setpoints_in_force(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    await start_agent(nursery, headend, make_config(4))
    await trio.sleep(1.0)
    await headend.send(
        write_setpoints(
            [
                make_setpoint(10.0, number=0, dispatch_id="holds"),
                make_setpoint(20.0, number=1, dispatch_id="leased", duration_s=60, reversion_mw=3.0),
                make_setpoint(30.0, number=2, dispatch_id="over", duration_s=1),
                make_setpoint(40.0, number=3, dispatch_id=""),
            ]
        )
    )
    await trio.sleep(9.0)
    await reconnect(headend)
    assert reported(headend) == [("holds", "active"), ("leased", "active")]
    holds, leased = headend.answers
    assert (holds.asset_id, in_force(holds)) == (asset_id(0), (10.0, None, 0.0))
    registered_s = headend.registered_s[1] - headend.registered_s[0]
    assert leased.remaining_s == pytest.approx(61.0 - registered_s, abs=0.01)
    assert (leased.setpoint_mw, leased.reversion_mw) == (20.0, 3.0)
    assert leased.ts_unix_ms == pytest.approx(START_MS + 1000 * registered_s, abs=10)


async def test_the_first_session_receives_nothing_when_nothing_is_in_force(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    await start_agent(nursery, headend)
    await trio.sleep(5.0)
    assert headend.answers == []


async def test_a_lease_that_ended_without_a_session_is_reported_to_the_next(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    await start_agent(nursery, headend)
    await trio.sleep(1.0)
    await headend.send_setpoint(36.0, duration_s=10)
    await trio.sleep(1.0)
    headend.go_down()
    await trio.sleep(60.0)
    headend.answers.clear()
    headend.refuses_dial = False
    await trio.sleep(31.0)
    [answer] = headend.answers
    assert (answer.status, answer.ts_unix_ms) == ("completed", START_MS + 11_000)
    assert (answer.reason, in_force(answer)) == ("10 s were over; now 0 MW", (0.0, None, 0.0))


async def test_after_a_restart_the_first_session_receives_what_is_in_force_and_what_has_ended(
    autojump_clock: MockClock, path: Path
) -> None:
    headend, wall = FakeHeadend(), WallClock(START_UNIX_S, trio.current_time())
    async with running(path, headend, wall=wall):
        await trio.sleep(1.0)
        short = make_setpoint(10.0, number=0, dispatch_id="short", duration_s=30, reversion_mw=-1.0)
        long = make_setpoint(20.0, number=1, dispatch_id="long", duration_s=300, reversion_mw=-2.0)
        await headend.send(write_setpoints([short, long]))
        await trio.sleep(1.0)
    await trio.sleep(100.0)
    headend.answers.clear()
    async with running(path, headend, wall=wall):
        await trio.sleep(1.0)
        assert sorted(reported(headend)) == [("long", "active"), ("short", "completed")]
        answers = {answer.dispatch_id: answer for answer in headend.answers}
        assert answers["short"].ts_unix_ms == START_MS + 31_000
        assert in_force(answers["short"]) == (-1.0, None, -1.0)
        setpoint_mw, remaining_s, reversion_mw = in_force(answers["long"])
        assert (setpoint_mw, reversion_mw) == (20.0, -2.0)
        assert remaining_s == pytest.approx(199.0, abs=0.1)
        # It goes on to end at its instant.
        await trio.sleep(200.0)
        assert reported(headend)[-1] == ("long", "completed")
        assert headend.answers[-1].ts_unix_ms == START_MS + 301_000


async def test_after_a_restart_a_repeated_setpoint_is_not_prolonged(
    autojump_clock: MockClock, path: Path
) -> None:
    headend, wall = FakeHeadend(), WallClock(START_UNIX_S, trio.current_time())
    dispatch = make_setpoint(20.0, duration_s=60)
    for boot in range(2):
        async with running(path, headend, wall=wall):
            await trio.sleep(1.0)
            await headend.send(write_setpoint(dispatch))
            await trio.sleep(19.0)
        if boot == 1:
            assert reported(headend) == [("d-1", "applied"), ("d-1", "active"), ("d-1", "applied")]
            assert headend.answers[-1].remaining_s == pytest.approx(40.0, abs=0.1)


async def test_an_agent_of_another_sharding_reports_what_is_in_force(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    headend, wall = FakeHeadend(), WallClock(START_UNIX_S, trio.current_time())
    async with running(tmp_path / "old.sqlite", headend, wall=wall):
        await trio.sleep(1.0)
        await headend.send_setpoint(20.0, number=1, reversion_mw=-2.0)
        await trio.sleep(1.0)
    headend.answers.clear()
    headend.committed_seq = 0
    async with trio.open_nursery() as second:
        with open_at(tmp_path / "new.sqlite", assets=3, agent_id="agent-2") as store:
            store.adopt(newest_states([tmp_path / "old.sqlite"], [asset_id(n) for n in range(3)]))
            config = make_config(3, agent_id="agent-2")
            await start_agent(second, headend, config, store=store, wall=wall)
            await trio.sleep(1.0)
            [answer] = headend.answers
            assert (answer.status, answer.asset_id) == ("active", asset_id(1))
            assert in_force(answer) == (20.0, None, -2.0)
            second.cancel_scope.cancel()
        with open_at(tmp_path / "new.sqlite", assets=3, agent_id="agent-2") as store:
            assert [saved.dispatch_id for saved in store.batteries().values()] == ["", "d-1", ""]


async def test_what_another_has_replaced_since_is_not_reported_as_in_force(
    autojump_clock: MockClock, nursery: trio.Nursery, path: Path
) -> None:
    headend = FakeHeadend()
    with open_at(path) as store:
        agent = await start_agent(nursery, headend, store=store)
        await trio.sleep(1.0)
        await headend.send_setpoint(20.0, dispatch_id="a")
        await trio.sleep(1.0)
        in_force_then = agent.pool.acknowledge_active()
        await headend.send_setpoint(30.0, dispatch_id="b")
        await trio.sleep(1.0)
        assert list(in_force_then) == []
        assert [answer.dispatch_id for answer in agent.pool.acknowledge_active()] == ["b"]
        nursery.cancel_scope.cancel()


async def test_without_a_headend_for_too_long_the_batteries_revert_at_that_instant(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    await start_agent(nursery, headend, make_config(3, comms_loss_hold_s=30.0))
    await trio.sleep(1.0)
    leased = make_setpoint(36.0, number=0, dispatch_id="a", duration_s=3600, reversion_mw=-6.0)
    holds = make_setpoint(20.0, number=1, dispatch_id="")
    await headend.send(write_setpoints([leased, holds]))
    await trio.sleep(1.5)
    headend.go_down()
    await trio.sleep(60.0)
    headend.answers.clear()
    headend.refuses_dial = False
    await trio.sleep(31.0)
    [answer] = headend.answers
    assert (answer.dispatch_id, answer.status) == ("a", "reverted")
    assert answer.reason == "no headend for 30 s; now -6 MW"
    assert answer.ts_unix_ms == pytest.approx(START_MS + 32_500, abs=2)
    assert in_force(answer) == (-6.0, None, -6.0)
    events = [(event.asset_id, event.event_type, event.severity, event.message) for event in headend.events]
    assert sorted(events) == [
        (asset_id(0), "comms_loss_reversion", "warning", "no headend for 30 s; 36 MW went to -6 MW"),
        (asset_id(1), "comms_loss_reversion", "warning", "no headend for 30 s; 20 MW went to 0 MW"),
    ]
    by_time = {batch.ts_unix_ms: batch for batch in headend.batches if not batch.live_only}
    assert list(by_time[START_MS + 32_000].setpoint_mw) == [36.0, 20.0, 0.0]
    assert list(by_time[START_MS + 36_000].setpoint_mw) == [-6.0, 0.0, 0.0]


async def test_a_headend_that_is_back_in_time_changes_nothing(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    await start_agent(nursery, headend, make_config(1, comms_loss_hold_s=30.0))
    for _ in range(5):
        await trio.sleep(25.0)
        await headend.send_setpoint(36.0)
        await trio.sleep(0.1)
        await reconnect(headend)
    await trio.sleep(100.0)
    assert headend.batches[-1].setpoint_mw[0] == 36.0
    assert headend.events == []


async def test_an_agent_that_never_had_a_session_counts_from_its_start(
    autojump_clock: MockClock, path: Path
) -> None:
    headend, wall = FakeHeadend(), WallClock(START_UNIX_S, trio.current_time())
    config = make_config(comms_loss_hold_s=30.0)
    async with running(path, headend, config, wall=wall):
        await trio.sleep(1.0)
        await headend.send_setpoint(36.0)
        await trio.sleep(1.0)
    headend.refuses_dial = True
    async with running(path, headend, config, wall=wall) as store:
        await trio.sleep(29.0)
        assert store.batteries()[asset_id(0)].dispatch_id == "d-1"
        await trio.sleep(7.0)
        headend.refuses_dial = False
        headend.answers.clear()
        await trio.sleep(31.0)
        assert reported(headend) == [("d-1", "reverted")]
        assert headend.answers[0].ts_unix_ms == START_MS + 32_000
    with open_at(path) as store:
        saved = store.batteries()[asset_id(0)]
        assert (saved.setpoint_mw, saved.dispatch_id) == (0.0, "")


async def test_setpoints_hold_for_ever_without_the_option(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    await start_agent(nursery, headend, make_config(1))
    await trio.sleep(1.0)
    await headend.send_setpoint(36.0)
    await trio.sleep(1.0)
    headend.go_down()
    await trio.sleep(3600.0)
    headend.refuses_dial = False
    await trio.sleep(60.0)
    assert headend.batches[-1].setpoint_mw[0] == 36.0
    assert reported(headend) == [("d-1", "applied"), ("d-1", "active")]


async def test_an_end_is_saved_when_it_is_reported_and_not_with_the_next_pulse(
    autojump_clock: MockClock, nursery: trio.Nursery, path: Path
) -> None:
    headend = FakeHeadend()
    with open_at(path) as store:
        await start_agent(nursery, headend, store=store)
        await trio.sleep(1.0)
        await headend.send_setpoint(36.0, duration_s=2)
        await trio.sleep(1.0)
        assert dispatches_on_disk(path) == {asset_id(0): "d-1", asset_id(1): ""}
        await trio.sleep(1.5)
        assert reported(headend)[-1] == ("d-1", "completed")
        assert dispatches_on_disk(path) == {asset_id(0): "", asset_id(1): ""}
        nursery.cancel_scope.cancel()


def dispatches_on_disk(path: Path) -> dict[str, str]:
    """What a reader beside the agent finds in its file."""
    states = newest_states([path], [asset_id(0), asset_id(1)])
    return {name: battery.dispatch_id for name, (_, battery) in states.items()}
