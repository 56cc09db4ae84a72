"""The supervisor over real processes: a stand-in program takes the agent's place."""

import os
import random
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from tests.integration.launcher.pids import pids, running_pids, until
from tests.unit.launcher.fleets import shards_of
from trioder.launcher import process, supervisor
from trioder.launcher.progress import FleetProgress
from trioder.launcher.restarts import RestartLimits
from trioder.launcher.shards import LaunchSettings, Shard, shard_document
from trioder.launcher.supervisor import FleetFailedError, run_fleet

STAND_IN = Path(__file__).with_name("stand_in.py")
# Bounds a failure.
WITHIN_S = 90
HASTY = RestartLimits(first_delay_s=0.02, longest_delay_s=0.02)


@dataclass
class Launch:
    shards: tuple[Shard, ...]
    settings: LaunchSettings
    progress: FleetProgress
    lines: list[str] = field(default_factory=list)

    async def run(self) -> None:
        await run_fleet(
            self.shards,
            self.settings,
            progress=self.progress,
            relay=self.lines.append,
            rng=random.Random(1),
        )

    async def until_connected(self) -> None:
        await until(lambda: self.progress.snapshot().connected == self.progress.snapshot().assets)


def launch(mode: str, folder: Path, *, assets: int = 4, size: int = 2) -> Launch:
    shards = shards_of(assets=assets, size=size)
    settings = LaunchSettings(
        headend="127.0.0.1:1",
        command=(sys.executable, str(STAND_IN), mode, str(folder)),
        limits=HASTY,
    )
    return Launch(shards=shards, settings=settings, progress=FleetProgress(shards, now_s=trio.current_time()))


@asynccontextmanager
async def running(launched: Launch) -> AsyncIterator[None]:
    """Run the fleet around the block, which begins once every asset is connected."""
    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(launched.run)
            await launched.until_connected()
            yield
            nursery.cancel_scope.cancel()


async def test_every_shard_has_an_agent_that_ends_with_the_launcher(tmp_path: Path) -> None:
    launched = launch("good", tmp_path)
    async with running(launched):
        assert len(running_pids(tmp_path)) == 2
    assert running_pids(tmp_path) == []
    assert launched.progress.snapshot().agents_up == 0


async def test_an_agent_that_was_killed_is_started_again(tmp_path: Path) -> None:
    launched = launch("good", tmp_path)
    async with running(launched):
        os.kill(pids(tmp_path)[0], 9)
        await until(lambda: len(pids(tmp_path)) == 3)
        await launched.until_connected()
        assert sorted(record.restarts for record in launched.progress.records()) == [0, 1]


async def test_an_agent_that_ends_by_itself_is_started_again(tmp_path: Path) -> None:
    launched = launch("crashes-once", tmp_path, assets=2)
    async with running(launched):
        assert launched.progress.snapshot().restarts == 1


async def test_a_fleet_of_which_every_agent_keeps_crashing_ends_the_launcher_with_the_reason(
    tmp_path: Path,
) -> None:
    launched = launch("crashes", tmp_path)
    with trio.fail_after(WITHIN_S), pytest.raises(FleetFailedError) as failure:
        await launched.run()
    assert "more than 5 restarts within 60 s; last: killed by signal 6" in failure.value.reason
    assert "Traceback: the stand-in is broken" in failure.value.last_lines
    assert failure.value.agent_id in {shard.agent_id for shard in launched.shards}
    assert running_pids(tmp_path) == []


async def test_a_shard_that_keeps_crashing_is_quarantined_and_later_released(tmp_path: Path) -> None:
    launched = launch("first-crashes", tmp_path)
    limits = RestartLimits(
        first_delay_s=0.02, longest_delay_s=0.02, healthy_after_s=0.2, quarantine_retry_s=0.2
    )
    launched.settings = replace(launched.settings, limits=limits)
    first, second = (shard.agent_id for shard in launched.shards)
    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(launched.run)
            await until(lambda: launched.progress.snapshot().quarantined == (first,))
            entered = len(pids(tmp_path))
            await until(lambda: len(pids(tmp_path)) >= entered + 2)
            assert launched.progress.snapshot().connected == 2
            (tmp_path / "mended").write_text("")
            await launched.until_connected()
            await until(lambda: launched.progress.snapshot().quarantined == ())
            assert len(running_pids(tmp_path)) == 2
            nursery.cancel_scope.cancel()
    records = {record.agent_id: record for record in launched.progress.records()}
    assert (records[first].quarantines, records[second].quarantines, records[second].restarts) == (1, 0, 0)


async def test_a_refused_configuration_is_not_tried_again(tmp_path: Path) -> None:
    launched = launch("refuses-configuration", tmp_path, assets=2)
    with trio.fail_after(WITHIN_S), pytest.raises(FleetFailedError, match="exit code 2") as failure:
        await launched.run()
    assert failure.value.last_lines == ("MAX_MW is -3; it must be above 0",)
    assert len(pids(tmp_path)) == 1


async def test_a_program_that_cannot_be_started_ends_the_launcher_with_the_reason(tmp_path: Path) -> None:
    launched = launch("good", tmp_path, assets=2)
    launched.settings = LaunchSettings(
        headend="127.0.0.1:1", command=[str(tmp_path / "missing")], limits=HASTY
    )
    with trio.fail_after(WITHIN_S), pytest.raises(FleetFailedError) as failure:
        await launched.run()
    assert "No such file" in failure.value.last_lines[0]


@pytest.mark.parametrize("mode", ["dies-before-reading", "dies-while-reading"])
async def test_an_agent_that_dies_while_it_receives_its_shard_blocks_nothing(
    mode: str, tmp_path: Path
) -> None:
    launched = launch(mode, tmp_path, assets=20_000, size=20_000)
    with trio.fail_after(WITHIN_S), pytest.raises(FleetFailedError, match="exit code 3"):
        await launched.run()


async def test_a_large_shard_is_passed_to_its_agent_without_blocking_the_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = launch("good", tmp_path, assets=30_000, size=30_000)
    turns = 0
    turns_at_piece: list[int] = []

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    def noted(*arguments: Any, **options: Any) -> Iterator[bytes]:
        for piece in shard_document(*arguments, **options):
            turns_at_piece.append(turns)
            yield piece

    monkeypatch.setattr(supervisor, "shard_document", noted)
    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_turns)
            nursery.start_soon(launched.run)
            await launched.until_connected()
            nursery.cancel_scope.cancel()
    # A piece takes a few milliseconds, the whole of it more than a second: others have a turn for each, in
    # any order within one round.
    assert len(turns_at_piece) > 100
    assert turns_at_piece[-1] - turns_at_piece[0] >= len(turns_at_piece) - 2


async def test_garbage_on_the_status_pipe_is_ignored_and_logged_in_bounds(tmp_path: Path) -> None:
    launched = launch("garbage", tmp_path, assets=2)
    with structlog.testing.capture_logs() as entries:
        async with running(launched):
            assert launched.progress.snapshot().restarts == 0
    ignored = [entry for entry in entries if entry["event"] == "status line of an agent ignored"]
    assert len(ignored) == 5


async def test_an_agent_that_ignores_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "STOP_GRACE_S", 0.5)
    async with running(launch("hangs", tmp_path)):
        assert len(running_pids(tmp_path)) == 2
        asked_s = trio.current_time()
    assert running_pids(tmp_path) == []
    assert trio.current_time() - asked_s >= 0.5


async def test_what_an_agent_writes_while_it_stops_is_relayed_to_the_end(tmp_path: Path) -> None:
    launched = launch("writes-when-stopped", tmp_path, assets=2)
    async with running(launched):
        pass
    assert launched.lines[-1] == "the very end"
    assert len(launched.lines) == 5001


async def test_agents_are_started_a_few_at_a_time(tmp_path: Path) -> None:
    launched = launch("good", tmp_path, assets=40, size=1)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            snapshot = launched.progress.snapshot()
            most = max(most, snapshot.agents_up - snapshot.connected)
            await trio.sleep(0.005)

    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            nursery.start_soon(launched.run)
            await launched.until_connected()
            nursery.cancel_scope.cancel()
    assert 1 <= most <= 2 * (os.cpu_count() or 1)
