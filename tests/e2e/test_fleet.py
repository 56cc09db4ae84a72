"""The default fleet as real processes: headend, launcher and seven agents on loopback.

One fleet serves the tests that only read and dispatch; each test that breaks something starts its own.
"""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from tests.e2e.processes import Api, Processes, Program, open_api, open_processes

ASSETS = 152
AGENTS = 7
# Bounds a failure: on a busy machine a start takes long, and an agent dials again after up to 30 s.
CONNECT_WITHIN_S = 60
# What is promised.
STOP_WITHIN_S = 10


@dataclass(frozen=True, kw_only=True)
class RunningFleet:
    processes: Processes
    state_dir: Path
    headend: Program
    launcher: Program
    api: Api
    http_addr: str
    grpc_addr: str


async def start_headend(
    processes: Processes, state_dir: Path, *, http: str = "127.0.0.1:0", grpc: str = "127.0.0.1:0"
) -> tuple[Program, str, str]:
    """Start a headend and return it with its REST and gRPC addresses, once it answers."""
    headend = await processes.start(
        "trioder.headend",
        env={
            "HEADEND_HTTP_ADDR": http,
            "HEADEND_GRPC_ADDR": grpc,
            "DATABASE_URL": "none",
            "STATE_DIR": str(state_dir),
        },
    )
    ready = await headend.logged("^headend ready$")
    return headend, ready["http_addr"], ready["grpc_addr"]


@asynccontextmanager
async def open_fleet(state_dir: Path) -> AsyncIterator[RunningFleet]:
    """Start the default fleet and yield it with every asset connected."""
    async with open_processes() as processes:
        with trio.fail_after(CONNECT_WITHIN_S):
            headend, http_addr, grpc_addr = await start_headend(processes, state_dir)
        async with open_api(http_addr) as api:
            launcher = await processes.start(
                "trioder.launcher",
                "--shard-size",
                "25",
                env={"HEADEND_GRPC": grpc_addr, "STATE_DIR": str(state_dir)},
            )
            with trio.fail_after(CONNECT_WITHIN_S):
                await api.until_connected(ASSETS)
            yield RunningFleet(
                processes=processes,
                state_dir=state_dir,
                headend=headend,
                launcher=launcher,
                api=api,
                http_addr=http_addr,
                grpc_addr=grpc_addr,
            )


async def until_power(api: Api, asset_id: str, *, setpoint_mw: float) -> None:
    while True:
        telemetry = await api.get(f"/telemetry/{asset_id}")
        applied = telemetry["setpoint_mw"] == setpoint_mw and abs(telemetry["current_mw"] - setpoint_mw) < 0.1
        if applied and telemetry["source"] == "agent":
            return
        await trio.sleep(0.1)


async def test_a_dispatch_shows_in_the_telemetry_within_a_pulse(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        asset = (await fleet.api.get("/assets", limit=1))[0]
        setpoint_mw = asset["max_mw"] / 2

        answer = await fleet.api.post(
            "/dispatch", {"asset_id": asset["id"], "mw": setpoint_mw, "duration_s": 60}
        )
        assert (answer["status"], answer["delivery"]) == ("ok", "sent")
        with trio.fail_after(CONNECT_WITHIN_S):
            await until_power(fleet.api, asset["id"], setpoint_mw=setpoint_mw)


async def test_the_default_fleet_is_seven_agents(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        assert len(fleet.processes.pids(containing="trioder.agent")) == AGENTS
        health = await fleet.api.get("/health")
        assert (health["status"], health["db"], health["agents"]) == ("ok", "disabled", AGENTS)


async def test_a_killed_agent_reconnects_under_a_new_session(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        before = await fleet.api.connected()
        victim = fleet.processes.pids(containing="trioder.agent")[0]
        os.kill(victim, signal.SIGKILL)

        # It may be running again before anybody has noticed that it was down.
        with trio.fail_after(CONNECT_WITHIN_S):
            while len(back := await fleet.api.connected()) < ASSETS or back == before:
                await trio.sleep(0.05)
        lost = {asset_id for asset_id, row in back.items() if row != before[asset_id]}
        [agent_id] = {before[asset_id]["agent_id"] for asset_id in lost}
        assert lost == {asset_id for asset_id, row in before.items() if row["agent_id"] == agent_id}
        assert all(back[asset_id]["connected_at"] > before[asset_id]["connected_at"] for asset_id in lost)


async def test_a_restarted_headend_gets_its_fleet_back(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        with trio.fail_after(STOP_WITHIN_S):
            assert await fleet.headend.stop() == 0
        with trio.fail_after(CONNECT_WITHIN_S):
            await start_headend(fleet.processes, tmp_path, http=fleet.http_addr, grpc=fleet.grpc_addr)
            await fleet.api.until_connected(ASSETS)


async def test_a_killed_headend_gets_its_fleet_back(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.headend.stop(signal.SIGKILL)
        with trio.fail_after(CONNECT_WITHIN_S):
            await start_headend(fleet.processes, tmp_path, http=fleet.http_addr, grpc=fleet.grpc_addr)
            await fleet.api.until_connected(ASSETS)


async def test_everything_stops_on_request_and_leaves_nothing(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        with trio.fail_after(STOP_WITHIN_S):
            assert await fleet.launcher.stop() == 0
        assert fleet.processes.pids(containing="trioder.agent") == []
        with trio.fail_after(STOP_WITHIN_S):
            assert await fleet.headend.stop(signal.SIGINT) == 0
        assert fleet.processes.pids() == []


async def test_a_headend_stops_with_its_agents_connected(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        with trio.fail_after(STOP_WITHIN_S):
            assert await fleet.headend.stop() == 0


async def test_a_killed_launcher_leaves_no_orphan(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.launcher.stop(signal.SIGKILL)
        with trio.fail_after(STOP_WITHIN_S):
            while fleet.processes.pids(containing="trioder.agent"):
                await trio.sleep(0.05)


async def test_one_agent_stops_on_request(tmp_path: Path) -> None:
    async with open_processes() as processes:
        with trio.fail_after(CONNECT_WITHIN_S):
            _, http_addr, grpc_addr = await start_headend(processes, tmp_path)
        async with open_api(http_addr) as api:
            asset = (await api.get("/assets", limit=1))[0]
            agent = await processes.start(
                "trioder.agent",
                env={
                    "HEADEND_GRPC": grpc_addr,
                    "ASSET_ID": asset["id"],
                    "ASSET_NAME": asset["name"],
                    "SITE_ID": asset["site_id"],
                    "SITE_NAME": asset["site_name"],
                    "CAPACITY_MWHR": str(asset["capacity_mwhr"]),
                    "MAX_MW": str(asset["max_mw"]),
                    "MIN_MW": str(asset["min_mw"]),
                    "EFFICIENCY": str(asset["efficiency"]),
                    "RAMP_RATE_MW_PER_MIN": str(asset["ramp_rate_mw_per_min"]),
                    "STATE_DIR": str(tmp_path),
                },
            )
            with trio.fail_after(CONNECT_WITHIN_S):
                assert list(await api.until_connected(1)) == [asset["id"]]
            with trio.fail_after(STOP_WITHIN_S):
                assert await agent.stop() == 0
            with trio.fail_after(CONNECT_WITHIN_S):
                await api.until_connected(0)


async def test_a_second_headend_on_the_same_ports_is_refused(tmp_path: Path) -> None:
    async with open_processes() as processes:
        with trio.fail_after(CONNECT_WITHIN_S):
            _, http_addr, grpc_addr = await start_headend(processes, tmp_path)
            second = await processes.start(
                "trioder.headend",
                env={
                    "HEADEND_HTTP_ADDR": "127.0.0.1:0",
                    "HEADEND_GRPC_ADDR": grpc_addr,
                    "DATABASE_URL": "none",
                },
            )
            assert await second.process.wait() == 2
            assert any(grpc_addr in str(entry) for entry in second.log)

            third = await processes.start(
                "trioder.headend",
                env={
                    "HEADEND_HTTP_ADDR": http_addr,
                    "HEADEND_GRPC_ADDR": "127.0.0.1:0",
                    "DATABASE_URL": "none",
                },
            )
            assert await third.process.wait() == 2
            assert any(http_addr in str(entry) for entry in third.log)
