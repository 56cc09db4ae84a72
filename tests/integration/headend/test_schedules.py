"""Real processes: a schedule whose headend is killed in the middle of a step, and again at a step's start."""

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trio

from tests.integration.headend.test_database import DRIVEN, System, open_system, variables

STEPS = ((4, 4.0), (5, -3.0), (6, 2.0))


async def kill_and_restart(system: System) -> None:
    http_addr = system.client.base_url.netloc.decode()
    await system.headend.stop(signal.SIGKILL)
    system.headend = await system.processes.start(
        "trioder.headend",
        env=variables(system.folder, HEADEND_GRPC_ADDR=system.grpc_addr, HEADEND_HTTP_ADDR=http_addr),
    )
    await system.headend.logged("^headend ready$")


async def sleep_until(instant: datetime) -> None:
    await trio.sleep(max(0.0, (instant - datetime.now(UTC)).total_seconds()))


async def occurrences(system: System, schedule_id: str) -> list[dict[str, Any]]:
    body = await system.ask(f"/schedules/{schedule_id}/occurrences")
    return body if isinstance(body, list) else body["occurrences"]


async def test_each_step_is_begun_once_and_without_a_dip_whenever_the_headend_is_killed(
    tmp_path: Path,
) -> None:
    async with open_system(tmp_path) as system:
        await system.start_agent()
        start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
        posted = await system.client.post(
            "/schedules",
            json={
                "asset_id": DRIVEN.id,
                "start": start.isoformat(),
                "steps": [{"duration_s": duration_s, "mw": mw} for duration_s, mw in STEPS],
                "misfire_s": 0,
            },
        )
        assert posted.status_code == 201, posted.text
        schedule_id = posted.json()["schedule_id"]
        # In the middle of the first step; ...
        await sleep_until(start + timedelta(seconds=2))
        await kill_and_restart(system)
        # ... and just when the third one begins, before or after it was sent or recorded.
        await sleep_until(start + timedelta(seconds=9, milliseconds=20))
        await kill_and_restart(system)
        end = start + timedelta(seconds=sum(duration_s for duration_s, _ in STEPS))
        await sleep_until(end + timedelta(seconds=0.7))

        [occurrence] = await occurrences(system, schedule_id)
        assert occurrence["state"] == "completed"
        dispatched = [row for row in await system.ask("/dispatch") if row["priority"] == "schedule"]
        assert sorted(row["mw"] for row in dispatched) == sorted(mw for _, mw in STEPS)
        path = f"/telemetry/{DRIVEN.id}/history?limit=200"
        rows = await system.until(
            path, lambda _, rows: bool(rows) and rows[0]["timestamp"] > end.isoformat()[:-6]
        )
    setpoints = [row["setpoint_mw"] for row in reversed(rows) if row["source"] == "agent"]
    changes = [mw for mw, before in zip(setpoints, [None, *setpoints], strict=False) if mw != before]
    # No other power in between, 0 least of all.
    assert changes == [0.0, *(mw for _, mw in STEPS), 0.0]
