"""The launcher with the agents that it is made for, and no headend at all."""

import random
from pathlib import Path

import trio

from tests.integration.launcher.pids import until
from tests.unit.launcher.fleets import shards_of
from trioder.launcher.progress import FleetProgress
from trioder.launcher.supervisor import LaunchSettings, run_fleet


async def test_agents_take_their_shards_and_wait_for_a_headend_that_is_away(tmp_path: Path) -> None:
    lines: list[str] = []
    shards = shards_of(assets=4, size=2)
    progress = FleetProgress(shards, now_s=trio.current_time())
    # Nobody listens on port 9 (discard): refused, as while a headend restarts.
    settings = LaunchSettings(headend="127.0.0.1:9", state_dir=str(tmp_path))

    async def run() -> None:
        await run_fleet(shards, settings, progress=progress, relay=lines.append, rng=random.Random(1))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await until(lambda: all(any(shard.agent_id in line for line in lines) for shard in shards))
            assert progress.snapshot().agents_up == 2
            nursery.cancel_scope.cancel()
    assert progress.snapshot().restarts == 0
    assert not any("Traceback" in line for line in lines)
