"""Everything is killed, stopped and taken away in turn; afterwards the database has each sample once.

The agents' own account of what they made is the numbering of their outboxes: a batch a pulse, without
gaps, each with a row of every asset. `--chaos-s` makes it longer, `--seed` changes what happens when
(or `--seed random`).
"""

import os
import random
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import trio

from tests.e2e.processes import Api, Processes, Program, open_api, open_processes
from trioder.store.embedded.layout import DataFolder

ASSETS = 152
TICK_S = "0.5"
SETTLE_WITHIN_S = 90
AWAY_S = 30.0


@dataclass(kw_only=True)
class Chaos:
    """The fleet under attack."""

    processes: Processes
    state_dir: Path
    http_addr: str
    grpc_addr: str
    headend: Program
    launcher: Program
    rng: random.Random

    async def start_headend(self) -> None:
        self.headend = await start_headend(
            self.processes, self.state_dir, http=self.http_addr, grpc=self.grpc_addr
        )

    async def kill_headend(self) -> None:
        await self.headend.stop(signal.SIGKILL)
        await trio.sleep(self.rng.uniform(0, 2))
        await self.start_headend()

    async def kill_an_agent(self) -> None:
        os.kill(self.rng.choice(self.processes.pids(containing="trioder.agent")), signal.SIGKILL)

    async def kill_the_database(self) -> None:
        if (pid := self.database_pid()) is not None:
            os.kill(pid, signal.SIGKILL)

    async def stop_an_agent_for_a_while(self) -> None:
        pid = self.rng.choice(self.processes.pids(containing="trioder.agent"))
        await self.stopped_for_a_while(pid)

    async def stop_the_headend_for_a_while(self) -> None:
        await self.stopped_for_a_while(self.headend.process.pid)

    async def stop_the_database_for_a_while(self) -> None:
        if (pid := self.database_pid()) is not None:
            await self.stopped_for_a_while(pid)

    async def take_the_database_away(self) -> None:
        """Every one of its processes is stopped: connections stand, and nothing answers."""
        pids = self.processes.pids(containing="postgres")
        for pid in pids:
            send(pid, signal.SIGSTOP)
        await trio.sleep(AWAY_S)
        for pid in pids:
            send(pid, signal.SIGCONT)

    async def stopped_for_a_while(self, pid: int) -> None:
        send(pid, signal.SIGSTOP)
        await trio.sleep(self.rng.uniform(0.5, 4))
        send(pid, signal.SIGCONT)

    def database_pid(self) -> int | None:
        try:
            return int(DataFolder.below(self.state_dir).pid_file.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None


def send(pid: int, signum: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signum)


async def start_headend(processes: Processes, state_dir: Path, *, http: str, grpc: str) -> Program:
    headend = await processes.start(
        "trioder.headend",
        env={
            "HEADEND_HTTP_ADDR": http,
            "HEADEND_GRPC_ADDR": grpc,
            "DATABASE_URL": "embedded",
            "STATE_DIR": str(state_dir),
            "HEADEND_TICK_S": "0",
        },
    )
    with trio.fail_after(60):
        await headend.logged("^headend ready$")
    return headend


@asynccontextmanager
async def open_chaos(state_dir: Path, rng: random.Random) -> AsyncIterator[Chaos]:
    async with open_processes() as processes:
        headend = await start_headend(processes, state_dir, http="127.0.0.1:0", grpc="127.0.0.1:0")
        ready = await headend.logged("^headend ready$")
        launcher = await processes.start(
            "trioder.launcher",
            "--shard-size",
            "25",
            env={"HEADEND_GRPC": ready["grpc_addr"], "STATE_DIR": str(state_dir), "TICK_S": TICK_S},
        )
        yield Chaos(
            processes=processes,
            state_dir=state_dir,
            http_addr=ready["http_addr"],
            grpc_addr=ready["grpc_addr"],
            headend=headend,
            launcher=launcher,
            rng=rng,
        )


def made_by_asset(state_dir: Path) -> dict[str, int]:
    """How many samples each asset's agent made, by the agents' own files."""
    made: dict[str, int] = {}
    for path in (state_dir / "agents").glob("*.sqlite"):
        with closing(sqlite3.connect(path)) as connection:
            ids, last_seq = connection.execute("SELECT asset_ids, last_seq FROM agent").fetchone()
            made.update(dict.fromkeys(ids.splitlines(), last_seq))
    return made


def stored_by_asset(url: str) -> dict[str, tuple[int, int]]:
    """How many rows the database has of each asset, and of how many different instants."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT asset_id::text, count(*), count(DISTINCT ts) FROM telemetry "
            "WHERE source = 'agent' GROUP BY asset_id"
        ).fetchall()
    return {asset_id: (count, instants) for asset_id, count, instants in rows}


async def all_is_kept(state_dir: Path) -> None:
    """Wait until nothing is left in the agents' files that the database does not have."""

    def waiting() -> int:
        total = 0
        for path in (state_dir / "agents").glob("*.sqlite"):
            with closing(sqlite3.connect(path)) as connection:
                total += connection.execute("SELECT count(*) FROM batches").fetchone()[0]
        return total

    # A batch is deleted with the next one: one or two an agent always stand.
    while waiting() > 2 * len(list((state_dir / "agents").glob("*.sqlite"))):
        await trio.sleep(0.5)


@pytest.mark.timeout(900)
async def test_each_sample_is_stored_once_whatever_is_killed(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    chaos_s = float(pytestconfig.getoption("--chaos-s"))
    chosen = pytestconfig.getoption("--seed") or "1"
    seed = random.SystemRandom().randrange(10**6) if chosen == "random" else int(chosen)
    print(f"chaos seed {seed}")  # noqa: T201  # pytest shows it when the test fails
    rng = random.Random(seed)
    async with open_chaos(tmp_path, rng) as chaos, open_api(chaos.http_addr) as api:
        with trio.fail_after(30):
            await api.until_connected(ASSETS)
        await attack(chaos, chaos_s)
        with trio.fail_after(SETTLE_WITHIN_S):
            await api.until_connected(ASSETS)
            await all_is_kept(tmp_path)
        with trio.fail_after(15):
            assert await chaos.launcher.stop() == 0
        with trio.fail_after(15):
            await until_equal(api, tmp_path)
        made, stored = made_by_asset(tmp_path), stored_by_asset(DataFolder.below(tmp_path).url)
        assert len(made) == ASSETS
        assert stored == {asset_id: (count, count) for asset_id, count in made.items()}
        sessions = await api.get("/agents/sessions", limit=1000)
        assert [session for session in sessions if session["disconnected_at"] is None] == []
        with trio.fail_after(15):
            assert await chaos.headend.stop() == 0
        with trio.fail_after(5):
            await chaos.processes.none_left()


async def attack(chaos: Chaos, chaos_s: float) -> None:
    attacks: list[Callable[[], object]] = [
        chaos.kill_headend,
        chaos.kill_an_agent,
        chaos.kill_the_database,
        chaos.stop_an_agent_for_a_while,
        chaos.stop_the_headend_for_a_while,
        chaos.stop_the_database_for_a_while,
    ]
    end_s = trio.current_time() + chaos_s
    await chaos.take_the_database_away()
    while trio.current_time() < end_s:
        act = chaos.rng.choice(attacks)
        print(f"{end_s - trio.current_time():5.1f} s left: {act.__name__}")  # noqa: T201  # likewise
        await act()  # type: ignore[misc]  # each is a coroutine function
        await trio.sleep(chaos.rng.uniform(0.5, 4))


async def until_equal(api: Api, state_dir: Path) -> None:
    """The last batches of agents that stop are committed within moments."""
    url = DataFolder.below(state_dir).url
    while True:
        stored = {asset_id: count for asset_id, (count, _) in stored_by_asset(url).items()}
        if stored == made_by_asset(state_dir):
            return
        await trio.sleep(0.5)
