"""What a benchmark prints, and when it says that its figures are worth nothing."""

import json
from pathlib import Path

import click
import pytest

from scripts.benchmarks.cases import Case, CaseFigures, Served
from scripts.benchmarks.command import run_benchmark
from scripts.benchmarks.ingest import _report
from scripts.benchmarks.report import Report


def served(*, lost: int = 0, doubled: int = 0) -> Served:
    return Served(
        elapsed_s=1.0,
        messages=200,
        rows=1000,
        rows_per_s=1000.0,
        rows_lost=lost,
        rows_doubled=doubled,
        replays=0,
        acknowledged_p50_ms=1.0,
        acknowledged_p99_ms=None,
        server_cpu_pct=1.0,
        postgres_cpu_pct=1.0,
        generator_cpu_pct=1.0,
        others_cpu_pct=1.0,
        peak_rss_mib=1.0,
    )


def a_report(headend: Served | None = None, grpcio: Served | None = None) -> Report:
    figures = CaseFigures(
        case=Case(assets=10, assets_per_stream=5, single_samples=False, seconds=1.0),
        headend=headend or served(),
        grpcio=grpcio or served(),
        copy_rows_per_s=4000.0,
        headend_per_copy=0.25,
        headend_per_grpcio=1.0,
    )
    return _report([figures], version="18.4")


async def measured(report: Report) -> Report:
    return report


def test_all_lines_of_the_table_are_of_one_length() -> None:
    table = [line for line in a_report().as_text().splitlines() if line.startswith("|")]
    assert len(table) == 28
    assert len({len(line) for line in table}) == 1


def test_the_figures_are_written_as_json(tmp_path: Path) -> None:
    run_benchmark(lambda: measured(a_report()), json_path=tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["machine"]["postgres"] == "18.4"
    assert figures["cases"][0]["headend"]["rows_per_s"] == 1000.0


def test_a_run_without_a_fault_passes(capsys: pytest.CaptureFixture[str]) -> None:
    run_benchmark(lambda: measured(a_report()), json_path=None)
    assert "0 / 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("report", "told"),
    [
        (a_report(headend=served(lost=3)), "headend: 3 rows lost, 0 doubled"),
        (a_report(headend=served(doubled=4)), "headend: 0 rows lost, 4 doubled"),
        (a_report(grpcio=served(lost=3)), "grpcio: 3 rows lost, 0 doubled"),
    ],
)
def test_a_lost_or_doubled_row_fails_the_run(
    report: Report, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(click.ClickException, match=told):
        run_benchmark(lambda: measured(report), json_path=None)
    assert "| headend: rows lost / doubled" in capsys.readouterr().out
