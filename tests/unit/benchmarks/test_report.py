"""What a benchmark prints, and when it says that its figures are worth nothing."""

import json
from pathlib import Path

import click
import pytest

from scripts.benchmarks.command import run_benchmark
from scripts.benchmarks.ingest import CaseFigures, _report
from scripts.benchmarks.report import Report


def a_report(*, lost: int = 0, doubled: int = 0) -> Report:
    case = CaseFigures(
        streams=2,
        assets_per_stream=5,
        elapsed_s=1.0,
        batches_acknowledged=200,
        rows=1000,
        rows_per_s=1000.0,
        rows_lost=lost,
        rows_doubled=doubled,
        replays=0,
        acknowledged_p50_ms=1.0,
        acknowledged_p99_ms=2.0,
        headend_cpu_pct=1.0,
        postgres_cpu_pct=1.0,
        generator_cpu_pct=1.0,
        others_cpu_pct=1.0,
        headend_peak_rss_mib=1.0,
        copy_rows_per_s=4000.0,
        share_of_copy=0.25,
    )
    return _report([case], version="18.4", streams=2, seconds=1.0)


async def measured(report: Report) -> Report:
    return report


def test_all_lines_of_the_table_are_of_one_length() -> None:
    table = [line for line in a_report().as_text().splitlines() if line.startswith("|")]
    assert len(table) == 16
    assert len({len(line) for line in table}) == 1


def test_the_figures_are_written_as_json(tmp_path: Path) -> None:
    run_benchmark(lambda: measured(a_report()), json_path=tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["machine"]["postgres"] == "18.4"
    assert figures["cases"][0]["rows_per_s"] == 1000.0


def test_a_run_without_a_fault_passes(capsys: pytest.CaptureFixture[str]) -> None:
    run_benchmark(lambda: measured(a_report()), json_path=None)
    assert "0 / 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("report", "told"),
    [(a_report(lost=3), "3 rows lost, 0 doubled"), (a_report(doubled=4), "0 rows lost, 4 doubled")],
)
def test_a_lost_or_doubled_row_fails_the_run(
    report: Report, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(click.ClickException, match=told):
        run_benchmark(lambda: measured(report), json_path=None)
    assert "| rows lost / doubled" in capsys.readouterr().out
