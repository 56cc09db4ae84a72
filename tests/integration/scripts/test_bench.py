"""`scripts/bench` in its shortest form: that the benchmarks work, not how fast anything is."""

import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.integration.launcher.pids import open_script, until, with_environment

ROOT = Path(__file__).parents[3]
SHORT_INGEST = ("ingest", "--assets", "10", "--shard-size", "5", "--single-samples", "5", "--seconds", "0.5")


@dataclass
class Script:
    process: trio.Process
    temporary: Path
    output: Path
    json_path: Path

    def pids(self, part: str = "") -> list[int]:
        """The processes that the script started and that still run."""
        return [pid for pid, command in with_environment(f"TMPDIR={self.temporary}") if part in command]

    def text(self) -> str:
        return self.output.read_text()

    def figures(self) -> Any:
        return json.loads(self.json_path.read_text())


@asynccontextmanager
async def running(folder: Path, *arguments: str, **variables: str) -> AsyncIterator[Script]:
    """Yield the script, set up already; bounded, and ended whatever the test does."""
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "bench", folder / "scripts" / "bench")
    (folder / "scripts" / "_environment.sh").write_text("prepare_environment() { :; }\n")
    for name in ("scripts/benchmarks", "scripts/make_fleet.py", "trioder", "schema.sql"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    temporary = folder / "tmp"
    temporary.mkdir()
    json_path = folder / "figures.json"
    command = [str(folder / "scripts" / "bench"), *arguments, "--json", str(json_path)]
    variables["TMPDIR"] = str(temporary)
    async with open_script(*command, variables=variables, output=folder / "output", mark="TMPDIR") as process:
        yield Script(process, temporary, folder / "output", json_path)


async def test_ingest_reports_what_the_database_has_committed(tmp_path: Path) -> None:
    async with running(tmp_path, *SHORT_INGEST) as script:
        assert await script.process.wait() == 0, script.text()
        assert script.pids() == []
        assert "PostgreSQL 18." in script.text()
        assert "| headend: rows/s committed" in script.text()
        figures = script.figures()
        assert figures["machine"].keys() == {"cores", "architecture", "python", "postgres"}
        batches, singles = figures["cases"]
        assert (batches["case"]["single_samples"], singles["case"]["single_samples"]) == (False, True)
        for case, samples_per_message in ((batches, 5), (singles, 1)):
            for served in (case["headend"], case["grpcio"]):
                assert served["rows"] == served["messages"] * samples_per_message > 0
                assert (served["rows_lost"], served["rows_doubled"]) == (0, 0)
                assert min(served["rows_per_s"], served["peak_rss_mib"]) > 0
                assert min(served[name] for name in served if name.endswith("_cpu_pct")) >= 0
            assert (
                min(case[name] for name in ("copy_rows_per_s", "headend_per_copy", "headend_per_grpcio")) > 0
            )
        for served in (batches["headend"], batches["grpcio"]):
            assert 0 < served["acknowledged_p50_ms"] <= served["acknowledged_p99_ms"]
        assert singles["headend"]["acknowledged_p50_ms"] is None


async def test_dispatch_reports_when_setpoints_were_answered_applied_and_acknowledged(tmp_path: Path) -> None:
    arguments = (
        *("dispatch", "--dispatches", "10", "--per-s", "20", "--agent-assets", "5", "--tick-s", "0.5"),
        *("--samples-per-s", "100", "--streams", "2"),
        *("--group-assets", "20", "--group-agents", "2", "--group-repeats", "2"),
    )
    async with running(tmp_path, *arguments) as script:
        assert await script.process.wait() == 0, script.text()
        assert script.pids() == []
        assert "PostgreSQL 18." in script.text()
        assert "| POST to applied (agent's clock), alone" in script.text()
        figures = script.figures()
        alone, beside = figures["singles"]
        assert alone["load"] is None
        # 25 assets a stream, 2 streams, 2 pulses a second; as far as a busy machine keeps the pace.
        assert 0 < beside["load"]["samples_per_s"] < 150
        for case in (alone, beside):
            counts = [case["dispatches"][name]["count"] for name in ("answered", "applied", "acknowledged")]
            assert counts == [5, 10, 5]
            assert case["dispatches"]["acknowledged"]["p50_ms"] > 0
        assert figures["groups"]["answered"]["count"] == figures["groups"]["acknowledged"]["count"] == 2


async def test_rest_reports_requests_per_second_beside_an_empty_handler(tmp_path: Path) -> None:
    arguments = (
        *("rest", "--assets", "50", "--site-assets", "10", "--clients", "2"),
        *("--rounds", "2", "--seconds", "0.3"),
    )
    async with running(tmp_path, *arguments) as script:
        assert await script.process.wait() == 0, script.text()
        assert script.pids() == []
        assert "| requests/s, median of rounds" in script.text()
        empty, one, site = script.figures()["targets"]
        assert (empty["ratio"], empty["body_bytes"]) == (1.0, 2)
        assert min(target["requests_per_s"] for target in (one, site)) > 0
        # The response for a site is ten of one asset's.
        assert 9 < site["body_bytes"] / one["body_bytes"] < 11


async def test_pulse_reports_how_late_the_pulses_were(tmp_path: Path) -> None:
    arguments = ("pulse", "--assets", "10", "--tick-s", "0.2", "--pulses", "3")
    async with running(tmp_path, *arguments) as script:
        assert await script.process.wait() == 0, script.text()
        assert script.pids() == []
        assert "| pulse: the clock wakes the assets" in script.text()
        figures = script.figures()
        assert (figures["assets"], figures["pulses"], figures["connected"]) == (10, 3, True)
        assert 0 <= figures["pulse_lateness_ms"]["p50"] <= figures["pulse_lateness_ms"]["max"]


async def test_fleet_reports_what_the_real_processes_use_and_loses_nothing(tmp_path: Path) -> None:
    arguments = ("fleet", "--assets", "20", "--shard-size", "10", "--tick-s", "0.5", "--seconds", "2")
    async with running(tmp_path, *arguments) as script:
        assert await script.process.wait() == 0, script.text()
        assert script.pids() == []
        (case,) = script.figures()["cases"]
        assert (case["assets"], case["agents"]) == (20, 2)
        assert (case["rows_lost"], case["rows_doubled"]) == (0, 0)
        assert case["rows"] >= 20
        assert 0 <= case["late_p50_ms"] <= case["late_p99_ms"] <= case["late_max_ms"]
        assert case["connected_s"] > 0


async def test_storm_reports_when_all_streams_have_reconnected_to_the_restarted_headend(
    tmp_path: Path,
) -> None:
    arguments = ("storm", "--streams", "10", "--shard-size", "2", "--pulse-s", "0.5", "--seconds", "1")
    async with running(tmp_path, *arguments) as script:
        assert await script.process.wait() == 0, script.text()
        assert script.pids() == []
        figures = script.figures()
        assert (figures["streams"], figures["assets"]) == (10, 20)
        assert 0 < figures["half_registered_s"] <= figures["p99_registered_s"] <= figures["all_registered_s"]
        assert figures["start_to_ready_s"] < figures["start_to_all_registered_s"]
        # Each has lost its connection once.
        assert figures["attempts_failed"] >= 10
        assert figures["rows"] == 2 * figures["batches"] > 0
        assert (figures["rows_lost"], figures["rows_doubled"]) == (0, 0)


async def test_growth_reports_and_draws_what_a_sample_costs(tmp_path: Path) -> None:
    plot = tmp_path / "growth.png"
    load = ("--shard-size", "10", "--samples-per-s", "400", "--seconds", "1")
    async with running(
        tmp_path, "growth", "--assets", "10", "--assets", "40", *load, "--plot", str(plot)
    ) as script:
        assert await script.process.wait() == 0, script.text()
        assert script.pids() == []
        sizes = script.figures()["sizes"]
        assert [(size["assets"], size["streams"]) for size in sizes] == [(10, 1), (40, 4)]
        assert all(size["cost_s"] > 0 and size["rows"] > 0 for size in sizes)
        assert all((size["rows_lost"], size["rows_doubled"]) == (0, 0) for size in sizes)
        assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_stop_in_the_middle_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    async with running(tmp_path, *SHORT_INGEST, "--seconds", "3") as script:
        await until(lambda: script.pids("scripts.benchmarks.generator") != [], every_s=0.2)
        # A terminal's Ctrl-C goes to the whole group.
        os.killpg(script.process.pid, number)
        with trio.fail_after(60):
            assert await script.process.wait() == 130
        assert script.pids() == []
        assert list(script.temporary.iterdir()) == []


async def test_a_headend_that_does_not_start_is_an_error_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running(tmp_path, *SHORT_INGEST, STALE_AFTER_S="-1") as script:
        assert await script.process.wait() == 1
        assert script.pids() == []
        assert 'trioder.headend ended without "headend ready"; the end of its log:' in script.text()
        assert "-1.0 is not a finite number of seconds" in script.text()
        assert list(script.temporary.iterdir()) == []
