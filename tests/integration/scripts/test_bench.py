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
SHORT_INGEST = (
    "ingest",
    "--assets",
    "10",
    "--shard-size",
    "5",
    "--single-samples",
    "5",
    "--seconds",
    "0.2",
    "--rounds",
    "1",
)


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


def checked_servers(cases: dict[str, Any], *names: str) -> None:
    """Each server of an ingest has committed what was sent."""
    for (heading, case), samples_per_message in zip(cases.items(), (5, 1), strict=False):
        for name in names:
            served = {row.removeprefix(f"{name}: "): case[row] for row in case if row.startswith(f"{name}: ")}
            assert served["rows"] == served["messages committed"] * samples_per_message > 0, heading
            assert (served["rows lost"], served["rows doubled"]) == (0, 0)
            assert min(served["rows/s committed"], served["peak memory of the server, MiB"]) > 0
            assert min(served[row] for row in served if row.startswith("CPU of")) >= 0


async def test_ingest_reports_what_the_database_has_committed(tmp_path: Path) -> None:
    async with running(tmp_path, *SHORT_INGEST) as script:
        assert await script.process.wait() == 0, script.text()
        assert script.pids() == []
        assert "PostgreSQL 18." in script.text()
        assert "| headend: rows/s committed" in script.text()
        figures = script.figures()
        assert "cores, " in figures["machine"]
        cases = figures["cases"]
        assert cases.keys() == {"5 an agent", "5 an agent, one a message"}
        checked_servers(cases, "headend", "grpcio")
        batches, singles = cases.values()
        for case in (batches, singles):
            assert min(case[row] for row in ("rows/s of raw COPY", "headend / COPY", "headend / grpcio")) > 0
        for name in ("headend", "grpcio"):
            row = f"{name}: sent to acknowledged, "
            assert 0 < batches[f"{row}p50, ms"] <= batches[f"{row}p99, ms"]
        assert singles["headend: sent to acknowledged, p50, ms"] is None


async def test_ingest_over_tls_is_measured_beside_plain(tmp_path: Path) -> None:
    async with running(tmp_path, *SHORT_INGEST, "--tls", "--single-samples", "0") as script:
        assert await script.process.wait() == 0, script.text()
        assert script.pids() == []
        cases = script.figures()["cases"]
        checked_servers(cases, "headend", "TLS")
        assert all(case["TLS / headend"] > 0 for case in cases.values())


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
        cases = script.figures()["cases"]
        alone, beside, group = cases.values()
        for case in (alone, beside):
            counts = [
                case[f"POST {what}, of"]
                for what in ("answered", "to applied (agent's clock)", "to acknowledged")
            ]
            assert counts == [5, 10, 5]
            assert case["POST to acknowledged, p50, ms"] > 0
        assert alone.keys() < beside.keys()
        # 25 assets a stream, 2 streams, 2 pulses a second; as far as a busy machine keeps the pace.
        assert 0 < beside["telemetry: samples/s"] < 150
        assert group["POST answered, of"] == group["POST to acknowledged, of"] == 2


async def test_stop_reports_when_all_have_acknowledged_the_stop_and_the_resume(tmp_path: Path) -> None:
    arguments = ("stop", "--assets", "20", "--agents", "2", "--tick-s", "0.5", "--repeats", "2")
    async with running(tmp_path, *arguments) as script:
        assert await script.process.wait() == 0, script.text()
        assert script.pids() == []
        case = script.figures()["cases"]["20 assets"]
        for path in ("/stop", "/resume"):
            assert case[f"POST {path} answered, of"] == case[f"POST {path} to acknowledged by all, of"] == 2
            assert case[f"POST {path} to acknowledged by all, p50, ms"] > 0


async def test_rest_reports_requests_and_rows_per_second_beside_stub_servers(tmp_path: Path) -> None:
    arguments = (
        *("rest", "--assets", "50", "--site-assets", "10", "--clients", "2"),
        *("--rounds", "2", "--seconds", "0.3"),
    )
    async with running(tmp_path, *arguments) as script:
        assert await script.process.wait() == 0, script.text()
        assert script.pids() == []
        assert "| requests/s" in script.text()
        cases = script.figures()["cases"]
        assert (
            cases["empty handler"]["/ empty handler"] == cases["bare connection"]["/ bare connection"] == 1.0
        )
        assert min(case["requests/s"] for case in cases.values()) > 0
        for target, rows in (("/telemetry?site_id=", 10), ("/telemetry", 50), ("/assets", 50)):
            per_request = cases[target]["rows/s"] / cases[target]["requests/s"]
            assert per_request == pytest.approx(rows)
            assert 350 * rows < cases[target]["bytes of a response"] < 600 * rows
        assert cases["/assets, 304"]["bytes of a response"] < 300


async def test_history_reports_how_long_a_range_of_one_asset_takes(tmp_path: Path) -> None:
    arguments = ("history", "--assets", "2", "--days", "2", "--step-s", "600", "--requests", "2")
    async with running(tmp_path, *arguments) as script:
        assert await script.process.wait() == 0, script.text()
        assert script.pids() == []
        samples, summaries = script.figures()["cases"].values()
        assert samples["rows in the table"] == summaries["rows in the table"] == 2 * 2 * 144
        assert samples["periods in the response"] == summaries["periods in the response"] == 2 * 96
        assert min(case["GET history, p50, ms"] for case in (samples, summaries)) > 0


async def test_pulse_reports_how_late_the_pulses_were(tmp_path: Path) -> None:
    arguments = ("pulse", "--assets", "10", "--tick-s", "0.2", "--pulses", "3")
    async with running(tmp_path, *arguments) as script:
        assert await script.process.wait() == 0, script.text()
        assert script.pids() == []
        assert "10 assets, 0.2 s a pulse, 3 pulses, a peer connected" in script.text()
        (case,) = script.figures()["cases"].values()
        row = "pulse due to: the clock wakes the assets, "
        assert 0 <= case[f"{row}p50, ms"] <= case[f"{row}max, ms"]


async def test_fleet_reports_what_the_real_processes_use_and_loses_nothing(tmp_path: Path) -> None:
    arguments = ("fleet", "--assets", "20", "--shard-size", "10", "--tick-s", "0.5", "--seconds", "2")
    async with running(tmp_path, *arguments) as script:
        assert await script.process.wait() == 0, script.text()
        assert script.pids() == []
        case = script.figures()["cases"]["20 assets"]
        assert case["agents"] == 2
        assert (case["rows lost"], case["rows doubled"]) == (0, 0)
        assert case["rows"] >= 20
        lateness = [case[f"lateness of the pulses, {name}, ms"] for name in ("p50", "p99", "max")]
        assert lateness == sorted(lateness)
        assert case["launcher's start to all connected, s"] > 0


@pytest.mark.parametrize("options", [(), ("--tls",)])
async def test_storm_reports_when_all_streams_have_reconnected_to_the_restarted_headend(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    arguments = ("storm", "--streams", "10", "--shard-size", "2", "--pulse-s", "0.5", "--seconds", "1")
    async with running(tmp_path, *arguments, *options) as script:
        assert await script.process.wait() == 0, script.text()
        assert script.pids() == []
        figures = script.figures()
        assert "10 agents, 20 assets" in figures["title"]
        case = figures["cases"]["over TLS" if options else "plain"]
        registered_s = [
            case[f"ready to {share} registered, s"]
            for share in ("half of the agents", "99 % of the agents", "all")
        ]
        assert registered_s[0] > 0
        assert registered_s == sorted(registered_s)
        # Each has lost its connection once.
        assert case["connections lost or attempts failed"] >= 10
        assert case["rows"] == 2 * case["messages committed"] > 0
        assert (case["rows lost"], case["rows doubled"]) == (0, 0)
        # Dispatches are posted until all is fresh.
        assert case["POST /dispatch meanwhile, of"] >= 1
        assert case["POST /dispatch meanwhile, p99, ms"] > 0


async def test_growth_reports_what_a_sample_costs(tmp_path: Path) -> None:
    load = ("--shard-size", "10", "--samples-per-s", "400", "--seconds", "1")
    async with running(tmp_path, "growth", "--assets", "10", "--assets", "40", *load) as script:
        assert await script.process.wait() == 0, script.text()
        assert script.pids() == []
        cases = script.figures()["cases"]
        assert [(heading, case["streams"]) for heading, case in cases.items()] == [
            ("10 assets", 1),
            ("40 assets", 4),
        ]
        for case in cases.values():
            assert min(case["CPU s per million samples"], case["rows/s committed"]) > 0
            assert (case["rows lost"], case["rows doubled"]) == (0, 0)


async def test_stream_reports_what_its_clients_have_received(tmp_path: Path) -> None:
    load = ("--assets", "60", "--site-assets", "30", "--shard-size", "15", "--pulse-s", "0.5")
    async with running(tmp_path, "stream", *load, "--clients", "4", "--seconds", "2") as script:
        assert await script.process.wait() == 0, script.text()
        assert script.pids() == []
        cases = script.figures()["cases"]
        assert cases.keys() == {"no client", "4 clients", "and one that does not read"}
        for heading in ("4 clients", "and one that does not read"):
            case = cases[heading]
            # Four clients with 30 assets each, twice a second.
            assert 150 < case["samples received/s"] < 330
            assert 0 < case["made to received, p50, ms"] <= case["made to received, p99, ms"]
            assert case["events received/s"] > 8
        assert min(case["CPU of the server, % of a core"] for case in cases.values()) > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_stop_in_the_middle_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    async with running(tmp_path, *SHORT_INGEST, "--seconds", "1") as script:
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
