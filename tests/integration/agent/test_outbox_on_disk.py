"""Real agents that are killed, and fleets that are resharded: nothing is lost, nothing is stored twice."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.ports import free_port
from tests.unit.headend.parts import asset_id, make_fleet
from trioder.api.context import Headend
from trioder.domain.dispatch import DispatchRequest
from trioder.domain.fleet import Fleet
from trioder.domain.telemetry import Samples
from trioder.fleet import asset_to_document, dump_fleet
from trioder.headend.service import open_headend
from trioder.process.wall_time import WallClock
from trioder.rpc import serve_rpc
from trioder.store.none import NoneStore

TICK_S = 0.1
WITHIN_S = 60


class Database(NoneStore):
    """Remembers every sample; outlives the headends over it."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[str, int, Samples]] = []

    def submit(self, outbox_id: str, batch_seq: int, samples: Samples) -> bool:
        self.batches.append((outbox_id, batch_seq, samples))
        return super().submit(outbox_id, batch_seq, samples)

    def column(self, key: int, *, of_outbox: str | None = None) -> list[tuple[int, float]]:
        """The time and charge of each sample of an asset, by time."""
        return sorted(
            (samples.ts_unix_ms, samples.soc_mwhr[list(samples.asset_keys).index(key)])
            for outbox_id, _, samples in self.batches
            if key in samples.asset_keys and of_outbox in {None, outbox_id}
        )

    def sequences(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for outbox_id, batch_seq, _ in self.batches:
            found.setdefault(outbox_id, []).append(batch_seq)
        return found


@asynccontextmanager
async def open_headend_at(port: int, fleet: Fleet, database: Database) -> AsyncIterator[Headend]:
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    async with (
        open_headend(
            fleet=fleet, store=database, wall=WallClock.starting_now(), rng=random.Random(1), tick_s=0
        ) as headend,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(lambda **kw: serve_rpc(listeners, headend.services, drain=headend.closing, **kw))
        yield headend
        headend.closing.set()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_process(*command: str, line: bytes = b"", **options: object) -> AsyncIterator[trio.Process]:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        **options,  # type: ignore[call-overload]  # handed on
    )
    try:
        assert process.stdin is not None
        await process.stdin.send_all(line)
        yield process
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            await process.stdin.aclose()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await trio.sleep(0.02)


def shard_line(fleet: Fleet, port: int, folder: Path, **changes: object) -> bytes:
    document = {
        "agent_id": "shard-1of1-00000000",
        "headend": f"127.0.0.1:{port}",
        "tick_s": TICK_S,
        "phase": 0.0,
        "state_dir": str(folder),
        "assets": [asset_to_document(asset) for asset in fleet.assets],
    }
    return json.dumps(document | changes).encode() + b"\n"


async def test_an_agent_killed_in_midstream_reconnects_with_its_charge_its_setpoint_and_its_backlog(
    tmp_path: Path,
) -> None:
    fleet, port, database = make_fleet(2), free_port(), Database()
    line = shard_line(fleet, port, tmp_path)
    with trio.fail_after(WITHIN_S):
        async with open_process("trioder.agent", "--stdin", line=line) as agent:
            async with open_headend_at(port, fleet, database) as headend:
                await until(lambda: len(database.batches) >= 5)
                headend.dispatcher.dispatch(DispatchRequest(asset_id=asset_id(0), mw=5.0))
                await until(lambda: database.batches[-1][2].setpoint_mw[0] == 5.0)
                await trio.sleep(0.5)
            # The headend is down; what the agent makes now is on its disk alone.
            reported = len(database.batches)
            await trio.sleep(1.5)
            agent.send_signal(signal.SIGKILL)
            await agent.wait()
        async with (
            open_process("trioder.agent", "--stdin", line=line),
            open_headend_at(port, fleet, database),
        ):
            await until(lambda: len(database.batches) >= reported + 25)
    [(_, sequence)] = database.sequences().items()
    assert sequence == list(range(1, len(sequence) + 1))
    assert all(samples.setpoint_mw[0] == 5.0 for _, _, samples in database.batches[reported:])
    times = [samples.ts_unix_ms for _, _, samples in database.batches]
    assert times == sorted(set(times))
    # No energy appeared from nowhere: the charge falls as it did, across the gap.
    charge = [soc_mwhr for _, soc_mwhr in database.column(0)]
    assert charge == sorted(charge, reverse=True)
    assert charge[-1] < charge[reported]


async def test_a_second_agent_on_the_same_file_refuses_to_start_with_exit_code_1(tmp_path: Path) -> None:
    fleet, port, database = make_fleet(1), free_port(), Database()
    line = shard_line(fleet, port, tmp_path)
    with trio.fail_after(WITHIN_S):
        async with (
            open_headend_at(port, fleet, database),
            open_process("trioder.agent", "--stdin", line=line),
        ):
            await until(lambda: len(database.batches) >= 1)
            async with open_process("trioder.agent", "--stdin", line=line, stderr=subprocess.PIPE) as second:
                assert second.stderr is not None
                reported = b"".join([chunk async for chunk in second.stderr])
                assert await second.wait() == 1
                await second.stderr.aclose()
    assert b"in use by another agent" in reported
    assert b"Traceback" not in reported


async def test_a_resharded_fleet_keeps_its_batteries_and_every_sample(
    tmp_path: Path,
) -> None:
    fleet, port, database = make_fleet(4), free_port(), Database()
    path = tmp_path / "fleet.json"
    path.write_text(dump_fleet(fleet, form="json"))
    launcher = (
        "trioder.launcher",
        *("--assets-path", str(path), "--headend-grpc", f"127.0.0.1:{port}", "--tick-s", str(TICK_S)),
        *("--state-dir", str(tmp_path / "state"), "--shard-size"),
    )
    files = tmp_path / "state" / "agents"
    with trio.fail_after(WITHIN_S):
        async with open_process(*launcher, "2") as two_agents:
            async with open_headend_at(port, fleet, database) as headend:
                await until(lambda: headend.sessions.assets_connected == 4)
                headend.dispatcher.dispatch(DispatchRequest(asset_id=asset_id(3), mw=-6.0))
                await until(lambda: any(-6.0 in samples.setpoint_mw for _, _, samples in database.batches))
                # Each agent has its own phase: the other one's first batch may be later.
                await until(lambda: len(database.sequences()) == 2)
            await trio.sleep(1.5)
            two_agents.terminate()
            await two_agents.wait()
        former = set(database.sequences())
        assert len(list(files.glob("*.sqlite"))) == len(former) == 2
        async with open_process(*launcher, "4") as one_agent:
            async with open_headend_at(port, fleet, database) as headend:
                await until(lambda: headend.sessions.assets_connected == 4)
                # The recovered files are deleted, and the new agent's is there.
                await until(lambda: len(list(files.glob("*.sqlite"))) == 1)
                await until(lambda: len(database.sequences()) == 3)
                await trio.sleep(0.5)
            one_agent.terminate()
            await one_agent.wait()
    assert all(sequence == list(range(1, len(sequence) + 1)) for sequence in database.sequences().values())
    [newer] = set(database.sequences()) - former
    before = sorted(soc for outbox_id in former for soc in database.column(3, of_outbox=outbox_id))
    after = database.column(3, of_outbox=newer)
    # It charges on from where it was, under the setpoint that it had.
    assert before[-1] < after[0]
    assert 0.0 <= after[0][1] - before[-1][1] < 0.01
    assert after[-1][1] > after[0][1]
    # 1.5 s without a headend: that backlog was recovered.
    assert len(before) >= 12
