"""A shipped scenario over real processes: the launcher runs it, and the headend replaces what fails."""

from pathlib import Path
from typing import Any

import pytest
import trio

from tests.e2e.processes import ROOT, Api, open_api, open_processes
from trioder.fleet import load_fleet

ASSETS = 152
# Bounds a failure: the machine may be busy.
WITHIN_S = 90
pytestmark = pytest.mark.timeout(420)


def shortened(folder: Path) -> Path:
    """The scenario in which a site trips, but every 40 s, for 20 s each time."""
    text = (ROOT / "examples" / "scenarios" / "site_trips.yaml").read_text(encoding="utf-8")
    path = folder / "site_trips.yaml"
    assert "at_s: 300\n    for_s: 600\n" in text
    path.write_text(text.replace("at_s: 300\n    for_s: 600\n", "at_s: 20\n    for_s: 20\n    every_s: 40\n"))
    return path


async def until_available(api: Api, asset_ids: list[str], *, available: bool) -> None:
    """Wait until all of them report that they can discharge, or that none can."""
    while True:
        rows = [await api.get(f"/telemetry/{asset_id}") for asset_id in asset_ids]
        if all((row["available_discharge_mw"] > 0) == available for row in rows):
            return
        await trio.sleep(0.1)


async def until_rejected(api: Api, dispatch_id: str, asset_ids: list[str]) -> dict[str, Any]:
    """Wait until the agents of these assets have refused, and return the dispatch."""
    while True:
        dispatch: dict[str, Any] = await api.get(f"/dispatch/{dispatch_id}")
        states = {row["asset_id"]: row["state"] for row in dispatch["allocations"] if "state" in row}
        if {states.get(asset_id) for asset_id in asset_ids} == {"rejected"}:
            return dispatch
        await trio.sleep(0.1)


async def test_a_site_that_trips_on_order_is_replaced_in_a_group_dispatch(tmp_path: Path) -> None:
    crimson = [asset.id for asset in load_fleet(ROOT / "assets.yaml").assets if asset.site_name == "Crimson"]
    async with open_processes() as processes:
        environment = {
            "HEADEND_HTTP_ADDR": "127.0.0.1:0",
            "HEADEND_GRPC_ADDR": "127.0.0.1:0",
            "DATABASE_URL": "none",
            "STATE_DIR": str(tmp_path),
        }
        with trio.fail_after(WITHIN_S):
            headend = await processes.start("trioder.headend", env=environment)
            ready = await headend.logged("^headend ready$")
        launcher = await processes.start(
            "trioder.launcher",
            "--scenario",
            str(shortened(tmp_path)),
            env={"HEADEND_GRPC": ready["grpc_addr"], "STATE_DIR": str(tmp_path), "TICK_S": "0.5"},
        )
        with trio.fail_after(WITHIN_S):
            warning = await launcher.logged("^a scenario lets assets misbehave$")
        assert (warning["scenario"], warning["agents"]) == ("A site trips in a group dispatch", 1)
        async with open_api(ready["http_addr"]) as api:
            with trio.fail_after(WITHIN_S):
                await api.until_connected(ASSETS)
                # The end of a trip: the next one is 20 s later.
                await until_available(api, crimson, available=False)
                await until_available(api, crimson, available=True)
                answer = await api.post("/dispatch", {"fleet": True, "mw": 500, "duration_s": 300})
                dispatch = await until_rejected(api, answer["dispatch_id"], crimson)
            assert dispatch["shortfall_mw"] == 0
            assert {row["reason"] for row in dispatch["allocations"] if row["asset_id"] in crimson} == {
                "the inverter has tripped"
            }
            reported = [entry for entry in headend.log if entry["event"] == "agent event"]
            assert {(entry["event_type"], entry["asset_id"]) for entry in reported} == {
                (event_type, asset_id)
                for event_type in ("INVERTER_FAULT", "INVERTER_FAULT_CLEARED")
                for asset_id in crimson
            }
        with trio.fail_after(WITHIN_S):
            assert await launcher.stop() == 0
            assert await headend.stop() == 0
            await processes.none_left()
