"""What a benchmark prints, and when it says that its figures are invalid."""

import json
from pathlib import Path
from typing import Any

import click
import pytest

from scripts.benchmarks.benchmark import Report, run_benchmark, spread_ms, table_rows
from scripts.benchmarks.ingest import report_of


def served(*, lost: int = 0, doubled: int = 0) -> dict[str, Any]:
    names = ("elapsed_s", "messages", "rows_per_s", "replays", "acknowledged_p50_ms", "peak_rss_mib")
    shares = [f"{name}_cpu_pct" for name in ("server", "postgres", "generator", "others")]
    counted = {"rows": 1000, "rows_lost": lost, "rows_doubled": doubled}
    return {**dict.fromkeys((*names, *shares), 1.0), "messages": 200, "acknowledged_p99_ms": None, **counted}


def a_report(headend: dict[str, Any] | None = None, grpcio: dict[str, Any] | None = None) -> Report:
    figures = {
        "case": {"assets": 10, "assets_per_stream": 5, "single_samples": False, "seconds": 1.0},
        "postgres": "18.4",
        "agents": 2,
        "headend": headend or served(),
        "grpcio": grpcio or served(),
        "copy_rows_per_s": 4000.0,
        "headend_per_copy": 0.25,
        "headend_per_grpcio": 1.0,
    }
    return report_of([figures])


async def measured(report: Report) -> Report:
    return report


def test_all_lines_of_the_table_have_the_same_length() -> None:
    table = [line for line in a_report().as_text().splitlines() if line.startswith("|")]
    assert len(table) == 28
    assert len({len(line) for line in table}) == 1


def test_an_unknown_value_is_a_dash() -> None:
    assert table_rows([{"ms": None}, {"ms": 1234.5}], ("late", "{ms:,.1f} ms")) == [
        ["late", "- ms", "1,234.5 ms"]
    ]


def test_the_figures_are_written_as_json(tmp_path: Path) -> None:
    run_benchmark(lambda: measured(a_report()), json_path=tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["machine"]["postgres"] == "18.4"
    assert figures["cases"][0]["headend"]["rows_per_s"] == 1.0


def test_a_run_without_a_fault_passes(capsys: pytest.CaptureFixture[str]) -> None:
    run_benchmark(lambda: measured(a_report()), json_path=None)
    assert "0 / 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("report", "fault"),
    [
        (a_report(headend=served(lost=3)), "headend: 3 rows lost, 0 doubled"),
        (a_report(headend=served(doubled=4)), "headend: 0 rows lost, 4 doubled"),
        (a_report(grpcio=served(lost=3)), "grpcio: 3 rows lost, 0 doubled"),
    ],
)
def test_a_lost_or_doubled_row_fails_the_run(
    report: Report, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(click.ClickException, match=fault):
        run_benchmark(lambda: measured(report), json_path=None)
    assert "| headend: rows lost / doubled" in capsys.readouterr().out


def test_quantiles_are_values_that_were_measured() -> None:
    values_s = [milliseconds / 1000 for milliseconds in range(100, 0, -1)]
    assert spread_ms(values_s) == {"count": 100, "p50_ms": 50.0, "p99_ms": 99.0, "max_ms": 100.0}
    assert spread_ms([0.25]) == {"count": 1, "p50_ms": 250.0, "p99_ms": 250.0, "max_ms": 250.0}
    with pytest.raises(ValueError, match="no durations"):
        spread_ms([])
