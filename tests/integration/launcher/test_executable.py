"""The launcher as a process: signals, exit codes, and no orphan whatever ends it."""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.integration.launcher.pids import running_pids, until
from tests.unit.launcher.fleets import fleet_of
from trioder.fleet import dump_fleet

LAUNCH_STAND_INS = str(Path(__file__).with_name("launch_stand_ins.py"))
ROOT = Path(__file__).parents[3]


@dataclass
class Launcher:
    process: trio.Process
    errors: Path

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.errors.read_text().splitlines()]

    def events(self) -> list[str]:
        return [str(entry["event"]) for entry in self.log()]


@asynccontextmanager
async def running(command: Sequence[str], folder: Path) -> AsyncIterator[Launcher]:
    """Yield a launcher process; bounded, and ended whatever the test does."""
    errors = folder / "errors"
    with trio.fail_after(90), errors.open("wb") as stderr:
        process = await trio.lowlevel.open_process(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            cwd=ROOT,
            start_new_session=True,
        )
        try:
            yield Launcher(process, errors)
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()


@asynccontextmanager
async def running_fleet(mode: str, folder: Path) -> AsyncIterator[Launcher]:
    """Yield a launcher whose three stand-ins are connected."""
    async with running([LAUNCH_STAND_INS, mode, str(folder)], folder) as launcher:
        await until(lambda: any(event.startswith("fleet connected") for event in launcher.events()))
        assert len(running_pids(folder)) == 3
        yield launcher


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_everything_with_exit_code_0(number: signal.Signals, tmp_path: Path) -> None:
    async with running_fleet("good", tmp_path) as launcher:
        launcher.process.send_signal(number)
        with trio.fail_after(10):
            assert await launcher.process.wait() == 0
        assert running_pids(tmp_path) == []
        assert launcher.events().count("agent summary") == 3
        total = launcher.log()[-1]
        assert (total["event"], total["agents"], total["restarts"]) == ("fleet summary", 3, 0)


async def test_an_agent_that_hangs_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    async with running_fleet("hangs", tmp_path) as launcher:
        launcher.process.send_signal(signal.SIGTERM)
        # The stand-in itself would take ten minutes.
        with trio.fail_after(30):
            assert await launcher.process.wait() == 0
        assert running_pids(tmp_path) == []


async def test_a_killed_launcher_leaves_no_orphan(tmp_path: Path) -> None:
    async with running_fleet("good", tmp_path) as launcher:
        launcher.process.kill()
        with trio.fail_after(30):
            await until(lambda: running_pids(tmp_path) == [])


async def test_a_second_signal_ends_the_launcher_at_once_and_its_agents_follow(tmp_path: Path) -> None:
    async with running_fleet("deaf", tmp_path) as launcher:
        launcher.process.send_signal(signal.SIGTERM)
        await until(lambda: "stop requested" in launcher.events())
        launcher.process.send_signal(signal.SIGTERM)
        with trio.fail_after(30):
            assert await launcher.process.wait() == 1
            await until(lambda: running_pids(tmp_path) == [])


async def test_giving_up_is_exit_code_1_with_the_reason_last(tmp_path: Path) -> None:
    async with running([LAUNCH_STAND_INS, "refuses-configuration", str(tmp_path)], tmp_path) as launcher:
        assert await launcher.process.wait() == 1
        assert running_pids(tmp_path) == []
    # The agents' own lines are text, as they wrote them.
    *_, entry, reason = launcher.errors.read_text().splitlines()
    assert json.loads(entry)["line"] == "MAX_MW is -3; it must be above 0"
    assert json.loads(reason)["reason"] == "the agent refuses its configuration (exit code 2)"


async def test_every_fault_of_the_fleet_is_reported_before_anything_starts(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.json"
    document = json.loads(dump_fleet(fleet_of(40), form="json"))
    for asset in document["assets"]:
        asset["capacity_mwhr"] = -1
    fleet.write_text(json.dumps(document))
    async with running(["-m", "trioder.launcher", "--assets-path", str(fleet)], tmp_path) as launcher:
        assert await launcher.process.wait() == 2
    lines = launcher.errors.read_text().splitlines()
    assert len(lines) == 40
    assert all(str(fleet) in line and "capacity_mwhr" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["--assets-path", "missing.yaml"], "missing.yaml"),
        (["--shard-size", "0"], "0 is not in the range x>=1"),
        (["--tick-s", "nan"], "nan is not a number of seconds above 0"),
        (["--tick-s", "0"], "0.0 is not a number of seconds above 0"),
        (["--comms-loss-hold-s", "inf"], "inf is not a number of seconds above 0"),
        (["--comms-loss-hold-s", "0"], "0.0 is not a number of seconds above 0"),
        (["--headend-grpc", "nowhere"], "'nowhere' is not an address"),
        (["--headend-grpc", "a:0"], "'a:0' has the port 0"),
        (["--shards"], "No such option"),
    ],
)
async def test_wrong_usage_is_exit_code_2_with_the_value_and_the_rule(
    arguments: list[str], rule: str, tmp_path: Path
) -> None:
    async with running(["-m", "trioder.launcher", *arguments], tmp_path) as launcher:
        assert await launcher.process.wait() == 2
    assert rule in " ".join(launcher.errors.read_text().split())


async def test_a_fleet_without_assets_is_refused(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("sites: []\nassets: []\n")
    async with running(["-m", "trioder.launcher", "--assets-path", str(fleet)], tmp_path) as launcher:
        assert await launcher.process.wait() == 2
    assert str(fleet) in launcher.errors.read_text()


async def test_every_error_of_a_scenario_is_reported_before_anything_starts(tmp_path: Path) -> None:
    fleet, scenario = tmp_path / "fleet.json", tmp_path / "scenario.yaml"
    fleet.write_text(dump_fleet(fleet_of(4), form="json"))
    scenario.write_text("actions:\n  - {do: trap, at_s: -1, assets: {sites: [South]}}\n")
    command = ["-m", "trioder.launcher", "--assets-path", str(fleet), "--scenario", str(scenario)]
    async with running(command, tmp_path) as launcher:
        assert await launcher.process.wait() == 2
    lines = launcher.errors.read_text().splitlines()
    assert sorted(line.split(": ")[1] for line in lines) == [
        "actions[0].assets.sites[0]",
        "actions[0].at_s",
        "actions[0].do",
    ]
    assert all(line.startswith(f"{scenario}:2: ") for line in lines)
