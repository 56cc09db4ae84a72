"""Dispatches over real processes: groups, leases, silence, and restarts of either end."""

import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio

from tests.e2e.processes import Api, Processes, Program, open_api, open_processes
from trioder.store.embedded.layout import DataFolder

ASSETS = 152
# Bounds a failure. An agent may wait for up to 30 s until it dials again, and all may be slow.
WITHIN_S = 60
TICK_S = "0.5"
WAIT = "?wait=ack&wait_s=30"
pytestmark = pytest.mark.timeout(420)


@dataclass(kw_only=True)
class Fleet:
    processes: Processes
    headend: Program
    api: Api
    environment: Mapping[str, str]

    async def start_launcher(self, **variables: str) -> None:
        environment = {
            "HEADEND_GRPC": self.environment["HEADEND_GRPC_ADDR"],
            "STATE_DIR": self.environment["STATE_DIR"],
            "TICK_S": TICK_S,
        }
        await self.processes.start("trioder.launcher", "--shard-size", "25", env=environment | variables)

    async def stop_launcher(self) -> None:
        for pid in self.processes.pids(containing="trioder.launcher"):
            os.kill(pid, signal.SIGTERM)
        await self.api.until_connected(0)

    async def command(self, asset: dict[str, Any], mw: float, *, query: str = "", **asked: float) -> str:
        answer = await self.api.post(f"/dispatch{query}", {"asset_id": asset["id"], "mw": mw, **asked})
        return str(answer["dispatch_id"])

    async def restart_headend(self, *, after_s: float = 0.0) -> None:
        """Kill it, and start it again on the same ports."""
        self.headend.process.kill()
        await self.headend.process.wait()
        await trio.sleep(after_s)
        self.headend = await self.processes.start("trioder.headend", env=self.environment)
        await self.headend.logged("^headend ready$")

    async def until_recorded(self, *dispatch_ids: str) -> None:
        """Wait until the database has these dispatches, as their agents have answered them."""
        url = DataFolder.below(Path(self.environment["STATE_DIR"])).url
        statement = (
            "SELECT count(*) FROM dispatches WHERE dispatch_id = ANY(%s::uuid[]) AND state = 'tracking'"
        )
        with trio.fail_after(WITHIN_S):
            while True:
                with psycopg.connect(url) as connection:
                    found = connection.execute(statement, (list(dispatch_ids),)).fetchone()
                if found == (len(dispatch_ids),):
                    return
                await trio.sleep(0.1)

    async def command_until_recorded(self, asset: dict[str, Any]) -> tuple[str, float]:
        """A short dispatch that is recorded as tracking before its end, and when that is.

        A busy machine needs longer for it: tried again with a longer one.
        """
        for duration_s in (4, 12, 36):
            dispatch_id = await self.command(asset, 1.0, query=WAIT, duration_s=duration_s)
            ends_s = trio.current_time() + duration_s
            with trio.move_on_at(ends_s - 1.0):
                await self.until_recorded(dispatch_id)
                return dispatch_id, ends_s
        raise AssertionError("no dispatch was recorded while it ran")

    async def until_state(self, dispatch_id: str, state: str) -> dict[str, Any]:
        while True:
            found: dict[str, Any] = await self.api.get(f"/dispatch/{dispatch_id}")
            if found["state"] == state:
                return found
            await trio.sleep(0.1)


@asynccontextmanager
async def open_fleet(state_dir: Path, *, stale_after_s: str = "30", **launcher: str) -> AsyncIterator[Fleet]:
    """The default fleet, pulsing twice a second, over a headend with its database."""
    async with open_processes() as processes:
        environment = {
            "HEADEND_HTTP_ADDR": "127.0.0.1:0",
            "HEADEND_GRPC_ADDR": "127.0.0.1:0",
            "STATE_DIR": str(state_dir),
            "STALE_AFTER_S": stale_after_s,
        }
        with trio.fail_after(WITHIN_S):
            headend = await processes.start("trioder.headend", env=environment)
            ready = await headend.logged("^headend ready$")
        environment |= {"HEADEND_HTTP_ADDR": ready["http_addr"], "HEADEND_GRPC_ADDR": ready["grpc_addr"]}
        async with open_api(ready["http_addr"]) as api:
            await processes.start(
                "trioder.launcher",
                "--shard-size",
                "25",
                env={
                    "HEADEND_GRPC": ready["grpc_addr"],
                    "STATE_DIR": str(state_dir),
                    "TICK_S": TICK_S,
                    **launcher,
                },
            )
            fleet = Fleet(processes=processes, headend=headend, api=api, environment=environment)
            with trio.fail_after(WITHIN_S):
                await api.until_connected(ASSETS)
                while (await api.get("/fleet"))["by_quality"]["good"] < ASSETS:
                    await trio.sleep(0.1)
            yield fleet
            with trio.fail_after(WITHIN_S):
                await fleet.stop_launcher()
        with trio.fail_after(WITHIN_S):
            assert await fleet.headend.stop() == 0
            await processes.none_left()


async def test_a_group_is_answered_tracked_and_re_split_when_an_agent_falls_silent(tmp_path: Path) -> None:
    # Long enough that agents on a busy machine are not silent for it, as they pulse twice a second.
    async with open_fleet(tmp_path, stale_after_s="6") as fleet:
        api = fleet.api
        answer = await api.post("/dispatch?wait=ack&wait_s=30", {"fleet": True, "mw": 500, "duration_s": 300})
        # Those that pulsed before the last one accepted it may track it already.
        assert answer["by_state"].keys() <= {"accepted", "tracking"}
        assert (answer["status"], sum(answer["by_state"].values())) == ("ok", ASSETS)
        assert sum(row["mw"] for row in answer["allocations"]) == pytest.approx(500, abs=1e-6)
        with trio.fail_after(WITHIN_S):
            await fleet.until_state(answer["dispatch_id"], "tracking")
            while (await api.get("/fleet"))["current_mw"] != pytest.approx(500, rel=0.03):
                await trio.sleep(0.1)

        silent = fleet.processes.pids(containing="trioder.agent")[0]
        os.kill(silent, signal.SIGSTOP)
        with trio.fail_after(WITHIN_S):
            while not (found := await api.get(f"/dispatch/{answer['dispatch_id']}"))["resplits"]:
                await trio.sleep(0.1)
        resplit, *_ = found["resplits"]
        dropped = {row["asset_id"] for row in resplit["dropped"]}
        assert all("stale" in row["reason"] for row in resplit["dropped"])
        assert resplit["shortfall_mw"] == 0
        shares = {row["asset_id"]: row for row in found["allocations"]}
        assert sum(row["mw"] for key, row in shares.items() if key not in dropped) == pytest.approx(
            500, abs=1e-6
        )
        assert {shares[key]["state"] for key in dropped} == {"failed"}

        # Reconnected, and released from what others have taken over.
        os.kill(silent, signal.SIGCONT)
        with trio.fail_after(WITHIN_S):
            while (await api.get("/fleet"))["current_mw"] != pytest.approx(500, rel=0.01):
                await trio.sleep(0.1)


async def test_a_killed_headend_goes_on_with_its_dispatches_and_their_ends(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        assets = await fleet.api.get("/assets", limit=2)
        long = await fleet.command(assets[0], 1.0, query=WAIT, duration_s=600)
        await fleet.until_recorded(long)
        short, ends_s = await fleet.command_until_recorded(assets[1])
        # It ends while the headend is down; the longer that is, the longer agents wait until they dial again.
        await fleet.restart_headend(after_s=max(0.0, ends_s + 0.5 - trio.current_time()))
        with trio.fail_after(WITHIN_S):
            await fleet.api.until_connected(ASSETS)
            assert (await fleet.until_state(long, "tracking"))["duration_s"] == 600
            await fleet.until_state(short, "completed")
            row = await fleet.api.get(f"/telemetry/{assets[0]['id']}")
            assert row["dispatch_id"] == long
            assert 0 < row["remaining_s"] < 600
            # The agent ended it by itself, without the headend.
            assert (await fleet.api.get(f"/telemetry/{assets[1]['id']}"))["setpoint_mw"] == 0.0


async def test_batteries_without_a_headend_for_too_long_revert_and_report_it(tmp_path: Path) -> None:
    async with open_fleet(tmp_path, COMMS_LOSS_HOLD_S="2") as fleet:
        [asset] = await fleet.api.get("/assets", limit=1)
        dispatch_id = await fleet.command(asset, 5.0, query=WAIT, duration_s=600, reversion_mw=-1.0)
        await fleet.until_recorded(dispatch_id)
        await fleet.restart_headend(after_s=4)
        with trio.fail_after(WITHIN_S):
            found = await fleet.until_state(dispatch_id, "failed")
            assert "no headend for" in found["allocations"][0]["reason"]
            await fleet.headend.logged("agent event")
            while (await fleet.api.get(f"/telemetry/{asset['id']}"))["setpoint_mw"] != -1.0:
                await trio.sleep(0.1)


async def test_a_dispatch_to_a_disconnected_asset_is_delivered_or_expires(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        with trio.fail_after(WITHIN_S):
            await fleet.stop_launcher()
        assets = await fleet.api.get("/assets", limit=2)
        expired = await fleet.command(assets[0], 2.0, expires_in_s=1)
        delivered = await fleet.command(assets[1], 2.0)
        with trio.fail_after(WITHIN_S):
            found = await fleet.until_state(expired, "expired")
        assert found["allocations"][0]["reason"] == "its agent was away for 1 s"
        await fleet.start_launcher()
        with trio.fail_after(WITHIN_S):
            await fleet.api.until_connected(ASSETS)
            await fleet.until_state(delivered, "tracking")
        assert (await fleet.api.get(f"/telemetry/{assets[0]['id']}"))["setpoint_mw"] == 0.0
