"""An emergency stop and deferred dispatches outlast a headend that is killed: real agent, real database."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import trio

from tests.integration.headend.test_database import DRIVEN, SYNTHESIZED, System, open_system, variables
from tests.integration.store.servers import run_sql
from trioder.store.embedded.layout import DataFolder


async def post(system: System, path: str, body: object) -> Any:
    answer = await system.client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def until_recorded(system: System) -> None:
    """Until the database has the stop, and that both dispatches are deferred."""
    url = DataFolder.below(system.folder / "state").url
    found = "priority = 'emergency' OR state = 'deferred'"
    query = f"SELECT priority, count(*) FROM dispatches WHERE {found} GROUP BY 1"  # constants only
    while dict(run_sql(url, query)) != {"emergency": 1, "operator": 2}:
        await trio.sleep(0.05)


@asynccontextmanager
async def restarted(system: System) -> AsyncIterator[System]:
    """Start another headend in its place; the agent finds it."""
    headend = await system.processes.start(
        "trioder.headend", env=variables(system.folder, HEADEND_GRPC_ADDR=system.grpc_addr)
    )
    ready = await headend.logged("^headend ready$")
    async with httpx2.AsyncClient(base_url=f"http://{ready['http_addr']}", timeout=15) as client:
        yield replace(system, headend=headend, client=client)


async def test_a_stop_holds_over_a_kill_until_it_is_resumed(tmp_path: Path) -> None:
    async with open_system(tmp_path) as system:
        await system.start_agent()
        await post(system, "/dispatch?wait=ack", {"asset_id": DRIVEN.id, "mw": 5.0})
        await post(system, "/dispatch", {"asset_id": SYNTHESIZED.id, "mw": 4.0, "expires_in_s": 600})
        limits = f"/sites/{DRIVEN.site_id}/limits"
        await system.client.put(limits, json={"export_limit_mw": 15.0})
        [stop] = (await post(system, "/stop", {"fleet": True}))["stops"]
        await until_recorded(system)
        await system.headend.stop(signal.SIGKILL)
        async with restarted(system) as again:
            await again.until("/health", lambda _, health: health["assets_connected"] == 1)
            for asset in (DRIVEN, SYNTHESIZED):
                await again.until(
                    f"/telemetry/{asset.id}",
                    lambda status, row: status == 200 and row["setpoint_mw"] == 0.0,
                )
            late = await post(again, "/dispatch", {"asset_id": SYNTHESIZED.id, "mw": 2.0})
            assert late["delivery"] == "deferred"
            record = await again.ask(f"/dispatch/{stop['dispatch_id']}")
            assert (record["priority"], record["mw"]) == ("emergency", 0.0)
            assert (await again.ask(limits))["export_limit_mw"] == 15.0
            answer = await post(again, "/resume", {"fleet": True})
            assert (answer["assets"], answer["dispatched"]) == (2, 2)
            await again.until(f"/telemetry/{DRIVEN.id}", lambda _, row: row["setpoint_mw"] == 5.0)
            await again.until(f"/telemetry/{SYNTHESIZED.id}", lambda _, row: row["setpoint_mw"] == 2.0)


async def test_a_stop_while_the_database_is_away_is_obeyed_and_recorded_later(tmp_path: Path) -> None:
    async with open_system(tmp_path) as system:
        await system.start_agent()
        await post(system, "/dispatch?wait=ack", {"asset_id": DRIVEN.id, "mw": 5.0})
        await system.until(f"/telemetry/{DRIVEN.id}", lambda _, row: row["current_mw"] == 5.0)
        processes = system.processes
        watchdog = processes.pids(containing="watchdog.py")
        hanging = set(processes.pids(containing="postgres")).difference(watchdog)
        for pid in hanging:
            os.kill(pid, signal.SIGSTOP)
        try:
            await system.until("/health", lambda _, health: health["db_backlog_rows"] > 0)
            with trio.fail_after(3):
                [stop] = (await post(system, "/stop", {"fleet": True}))["stops"]
                await system.until(f"/telemetry/{DRIVEN.id}", lambda _, row: row["current_mw"] == 0.0)
        finally:
            for pid in hanging:
                os.kill(pid, signal.SIGCONT)
        url = DataFolder.below(system.folder / "state").url
        query = "SELECT dispatch_id::text FROM dispatches WHERE priority = 'emergency' AND living"
        while run_sql(url, query) != [(stop["dispatch_id"],)]:
            await trio.sleep(0.05)
        await system.headend.stop(signal.SIGKILL)
        async with restarted(system) as again:
            # Before an agent is there: whatever it is sent comes after it.
            late = await post(again, "/dispatch", {"asset_id": DRIVEN.id, "mw": 2.0})
            assert late["delivery"] == "deferred"
            assert (await post(again, "/resume", {"fleet": True}))["dispatched"] == 1
            await again.until(f"/telemetry/{DRIVEN.id}", lambda _, row: row["setpoint_mw"] == 2.0)
