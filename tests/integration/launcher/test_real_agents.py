"""The launcher with the agents that it is made for, and no headend at all."""

import random
from pathlib import Path

import trio

from tests.integration.launcher.pids import until
from tests.unit.launcher.fleets import shards_of
from trioder.launcher.progress import FleetProgress
from trioder.launcher.shards import LaunchSettings
from trioder.launcher.supervisor import run_fleet


async def test_agents_take_their_shards_and_wait_for_an_unavailable_headend(tmp_path: Path) -> None:
    progress, lines = await launch_until("not connected to the headend", folder=tmp_path)
    assert progress.snapshot().restarts == 0
    assert not any("Traceback" in line for line in lines)


async def test_agents_receive_how_long_setpoints_hold_without_a_headend(tmp_path: Path) -> None:
    _, lines = await launch_until("setpoints reverted", folder=tmp_path, comms_loss_hold_s=0.25)
    assert sum("setpoints reverted" in line and "0.25" in line for line in lines) == 2


async def launch_until(
    message: str, *, folder: Path, comms_loss_hold_s: float | None = None
) -> tuple[FleetProgress, list[str]]:
    """Run two agents until each has logged this message; return their lines."""
    lines: list[str] = []
    shards = shards_of(assets=4, size=2)
    progress = FleetProgress(shards, now_s=trio.current_time())
    # Nobody listens on port 9 (discard): refused, as while a headend restarts.
    settings = LaunchSettings(
        headend="127.0.0.1:9", state_dir=str(folder), comms_loss_hold_s=comms_loss_hold_s
    )

    async def run() -> None:
        await run_fleet(shards, settings, progress=progress, relay=lines.append, rng=random.Random(1))

    with trio.fail_after(90):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await until(
                lambda: all(
                    any(message in line and shard.agent_id in line for line in lines) for shard in shards
                )
            )
            assert progress.snapshot().agents_up == 2
            nursery.cancel_scope.cancel()
    return progress, lines
