"""The headend as a process with a real database: what it restores, and how it runs without it."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import trio

from tests.e2e.processes import Processes, Program, open_processes
from tests.unit.headend.parts import make_fleet
from trioder.domain.fleet import Fleet
from trioder.fleet import dump_fleet
from trioder.store.embedded.layout import DataFolder
from trioder.store.embedded.orphan_process import server_pid
from trioder.store.embedded.server import open_embedded_server

FLEET: Fleet = make_fleet(2)
DRIVEN, SYNTHESIZED = FLEET.assets
HISTORY = f"/telemetry/{DRIVEN.id}/history"


@dataclass(kw_only=True)
class System:
    """A headend, its REST, and what else runs for a test."""

    processes: Processes
    headend: Program
    grpc_addr: str
    client: httpx2.AsyncClient
    folder: Path

    @property
    def server_pid(self) -> int:
        pid = server_pid(DataFolder.below(self.folder / "state"))
        assert pid is not None
        return pid

    async def ask(self, path: str, **query: str | int) -> Any:
        answer = await self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def until(self, path: str, fits: Callable[[int, Any], bool]) -> Any:
        """Ask until an answer's status and body fit, and return the body."""
        while True:
            answer = await self.client.get(path)
            if fits(answer.status_code, answer.json()):
                return answer.json()
            await trio.sleep(0.05)

    async def start_agent(self) -> Program:
        """One that drives the first asset, and is connected."""
        agent = await self.processes.start(
            "trioder.agent",
            env={
                "ASSET_ID": DRIVEN.id,
                "SITE_ID": DRIVEN.site_id,
                "CAPACITY_MWHR": str(DRIVEN.capacity_mwhr),
                "MAX_MW": str(DRIVEN.max_mw),
                "MIN_MW": str(DRIVEN.min_mw),
                "EFFICIENCY": "0.9",
                "RAMP_RATE_MW_PER_MIN": str(DRIVEN.ramp_rate_mw_per_min),
                "HEADEND_GRPC": self.grpc_addr,
                "TICK_S": "0.2",
                "STATE_DIR": str(self.folder / "agent"),
            },
        )
        await self.until("/health", lambda _, health: health["assets_connected"] == 1)
        return agent


def variables(folder: Path, **more: str) -> dict[str, str]:
    fleet_file = folder / "assets.yaml"
    fleet_file.write_text(dump_fleet(FLEET, form="yaml"))
    return {
        "ASSETS_PATH": str(fleet_file),
        "HEADEND_HTTP_ADDR": "127.0.0.1:0",
        "HEADEND_GRPC_ADDR": "127.0.0.1:0",
        "HEADEND_TICK_S": "0.5",
        "DATABASE_URL": "embedded",
        "STATE_DIR": str(folder / "state"),
        **more,
    }


@asynccontextmanager
async def open_system(folder: Path, **more: str) -> AsyncIterator[System]:
    with trio.fail_after(60):
        async with open_processes() as processes:
            headend = await processes.start("trioder.headend", env=variables(folder, **more))
            ready = await headend.logged("^headend ready$")
            async with httpx2.AsyncClient(base_url=f"http://{ready['http_addr']}", timeout=15) as client:
                yield System(
                    processes=processes,
                    headend=headend,
                    grpc_addr=ready["grpc_addr"],
                    client=client,
                    folder=folder,
                )


def is_ok(status: int, health: Any) -> bool:
    return status == 200 and health["db"] == "ok"


def is_away(status: int, health: Any) -> bool:
    return status == 503 and health["db"] == "error"


async def test_the_history_has_rows_after_a_few_seconds(tmp_path: Path) -> None:
    async with open_system(tmp_path) as system:
        await system.start_agent()
        with trio.fail_after(5):
            rows = await system.until(HISTORY, lambda _, rows: sum(r["source"] == "agent" for r in rows) > 5)
        times = [row["timestamp"] for row in rows]
        assert times == sorted(set(times), reverse=True)
        asked = await system.ask(HISTORY, limit=2, start=times[4], end=times[1])
        assert [row["timestamp"] for row in asked] == times[2:4]
        assert set(asked[0]) == {
            "asset_id",
            "site_id",
            "timestamp",
            "soc_mwhr",
            "soc_pct",
            "capacity_mwhr",
            "current_mw",
            "setpoint_mw",
            "max_mw",
            "min_mw",
            "status",
            "source",
            "quality",
        }
        assert {row["quality"] for row in rows if row["source"] == "agent"} == {"good"}
        others = await system.ask(f"/telemetry/{SYNTHESIZED.id}/history")
        assert {row["source"] for row in others} == {"synthesized"}
        assert {row["quality"] for row in others} == {"synthesized"}


async def test_times_at_the_ends_of_the_calendar_can_be_requested(tmp_path: Path) -> None:
    async with open_system(tmp_path) as system:
        await system.until(HISTORY, lambda _, rows: len(rows) > 0)
        assert await system.ask(HISTORY, start="0001-01-01T00:00:00Z", end="9999-12-31T23:59:59.999Z")
        assert await system.ask(HISTORY, end="0001-01-01T00:00:00Z") == []


async def test_sessions_are_remembered_with_their_end(tmp_path: Path) -> None:
    async with open_system(tmp_path) as system:
        agent = await system.start_agent()
        path = f"/agents/sessions?asset_id={DRIVEN.id}"
        [row] = await system.until(path, lambda _, rows: len(rows) == 1)
        assert (row["assets"], row["disconnected_at"], row["reason"]) == (1, None, None)
        await agent.stop()
        [ended] = await system.until(path, lambda _, rows: rows[0]["disconnected_at"] is not None)
        assert ended["session_id"] == row["session_id"]
        assert ended["reason"]
        await system.start_agent()
        newest, _ = await system.until(path, lambda _, rows: len(rows) == 2)
        assert (newest["agent_id"], newest["disconnected_at"]) == (row["agent_id"], None)
        assert newest["epoch"] > row["epoch"]
        assert await system.ask("/agents/sessions", asset_id=SYNTHESIZED.id) == []


async def test_metrics_count_what_is_committed(tmp_path: Path) -> None:
    async with open_system(tmp_path) as system:
        await system.start_agent()
        await system.until(HISTORY, lambda _, rows: any(row["source"] == "agent" for row in rows))
        lines = (await system.client.get("/metrics")).text.splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        assert float(values["trioder_store_rows_committed_total"]) > 0
        assert float(values["trioder_store_commit_seconds_max"]) > 0
        assert float(values["trioder_outbox_backlog_seconds_max"]) < 5


async def test_a_server_that_is_killed_is_started_again_and_rows_go_on(tmp_path: Path) -> None:
    async with open_system(tmp_path) as system:
        await system.start_agent()
        await system.until(HISTORY, lambda _, rows: any(row["source"] == "agent" for row in rows))
        os.kill(system.server_pid, signal.SIGKILL)
        await system.headend.logged("^database available again$")
        await system.until("/health", is_ok)
        back_at = (await system.ask(f"/telemetry/{DRIVEN.id}"))["timestamp"]
        await system.until(HISTORY, lambda status, rows: status == 200 and rows[0]["timestamp"] > back_at)


async def test_a_server_that_is_away_degrades_health_and_nothing_else(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with open_embedded_server(tmp_path / "server") as url:
            # The server is one without passwords: any password in the URL is right.
            secret_url = url.replace("postgresql:///", "postgresql://trioder:s3cret@/")
        async with open_system(tmp_path, DATABASE_URL=secret_url) as system:
            assert (await system.headend.logged("^headend ready$"))["database"] == "postgres"
            away = await system.until("/health", is_away)
            assert "No such file" in away["db_reason"]
            await system.start_agent()
            refused = await system.client.get(HISTORY)
            assert (refused.status_code, refused.json()["error"]) == (503, "unavailable")
            order = {"asset_id": DRIVEN.id, "mw": 5}
            assert (await system.client.post("/dispatch", json=order)).json()["delivery"] == "sent"
            await system.until(f"/telemetry/{DRIVEN.id}", lambda _, latest: latest["current_mw"] == 5)
            async with open_embedded_server(tmp_path / "server"):
                await system.until("/health", is_ok)
                await system.until(HISTORY, lambda status, rows: status == 200 and len(rows) > 0)
            again = await system.until("/health", is_away)
            assert again["db_reason"]
            assert "s3cret" not in str(system.headend.log) + str(again) + str(away)


async def test_without_a_database_the_past_is_empty(tmp_path: Path) -> None:
    async with open_system(tmp_path, DATABASE_URL="none") as system:
        await system.start_agent()
        assert await system.ask(HISTORY) == []
        assert await system.ask("/agents/sessions") == []
        assert (await system.ask("/health"))["db"] == "disabled"
        assert not (tmp_path / "state").exists()


async def test_it_stops_with_its_server(tmp_path: Path) -> None:
    async with open_system(tmp_path) as system:
        await system.start_agent()
        assert system.processes.pids(containing="postgres")
        with trio.fail_after(10):
            assert await system.headend.stop() == 0
            while system.processes.pids(containing="postgres"):
                await trio.sleep(0.05)


async def test_it_stops_in_time_though_its_server_hangs(tmp_path: Path) -> None:
    async with open_system(tmp_path) as system:
        await system.start_agent()
        watchdog = system.processes.pids(containing="watchdog.py")
        for pid in set(system.processes.pids(containing="postgres")).difference(watchdog):
            os.kill(pid, signal.SIGSTOP)
        # More than one pulse: something waits to be written.
        await system.until("/health", lambda _, health: health["db_backlog_rows"] > 0)
        with trio.fail_after(10):
            assert await system.headend.stop() == 0


async def test_a_stop_while_it_starts_takes_effect_at_once(tmp_path: Path) -> None:
    with trio.fail_after(20):
        async with open_processes() as processes:
            headend = await processes.start("trioder.headend", env=variables(tmp_path))
            await headend.logged("^making the database$")
            assert await headend.stop() == 0
            await processes.none_left()
            assert not any(line.get("event") == "headend ready" for line in headend.log)
            again = await processes.start("trioder.headend", env=variables(tmp_path))
            await again.logged("^headend ready$")


async def test_a_second_headend_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    async with open_system(tmp_path) as system:
        second = await system.processes.start("trioder.headend", env=variables(tmp_path))
        assert await second.process.wait() == 2
        reported = await second.logged("^Error: ")
        assert f"another headend runs the database in {tmp_path}" in reported["event"]
        assert (await system.ask("/health"))["db"] == "ok"
