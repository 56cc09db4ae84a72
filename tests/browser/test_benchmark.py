"""`scripts/bench console` in a short form: that it measures, not how much."""

import json
import sys
from pathlib import Path

import trio

from tests.browser.chromium import Chromium
from tests.e2e.processes import ROOT


async def test_all_figures_are_there(chromium: Chromium, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [
        sys.executable,
        "-m",
        "scripts.benchmarks",
        "console",
        "--assets",
        "6",
        "--seconds",
        "0.5",
        "--minutes",
        "0.1",
    ]
    with trio.fail_after(150):
        await trio.run_process([*command, "--json", str(report)], cwd=ROOT, capture_stdout=True)
    (case,) = json.loads(report.read_text())["cases"].values()
    assert len(case) >= 14
    assert all(value > 0 for name, value in case.items() if "CPU" not in name)
