"""What a benchmark prints, and when it says that its figures are invalid."""

import json
from pathlib import Path

import click
import pytest

from scripts.benchmarks.benchmark import Case, Report, medians, run_benchmark, spread_rows
from scripts.benchmarks.ingest import case_of


def a_report(*, lost: int = 0, doubled: int = 0) -> Report:
    rows = {"rows/s": 1234.5, "replays": 123456, "late, ms": None, "range": "1 to 2"}
    good: Case = {**rows, "headend: rows lost": 0, "headend: rows doubled": 0}
    case: Case = {**rows, "headend: rows lost": lost, "headend: rows doubled": doubled}
    return Report(title="ingest", cases={"25 an agent": good, "1,000": case})


async def measured(report: Report) -> Report:
    return report


def test_all_lines_of_the_table_have_the_same_length() -> None:
    table = [line for line in a_report().as_text().splitlines() if line.startswith("|")]
    assert len(table) == 8
    assert len({len(line) for line in table}) == 1


@pytest.mark.parametrize(
    ("row", "cell"), [("rows/s", "1,234"), ("replays", "123,456"), ("late, ms", "-"), ("range", "1 to 2")]
)
def test_counts_are_whole_and_measured_values_have_three_digits_or_more(row: str, cell: str) -> None:
    (line,) = [line for line in a_report().as_text().splitlines() if line.startswith(f"| {row} ")]
    assert [part.strip() for part in line.split("|")[2:4]] == [cell, cell]


def test_the_figures_are_written_as_json(tmp_path: Path) -> None:
    run_benchmark(lambda: measured(a_report()), json_path=tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert ", PostgreSQL 18." in figures["machine"]
    assert figures["cases"]["25 an agent"]["rows/s"] == 1234.5


def test_a_run_without_a_fault_passes(capsys: pytest.CaptureFixture[str]) -> None:
    run_benchmark(lambda: measured(a_report()), json_path=None)
    assert "| headend: rows lost" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("report", "fault"),
    [
        (a_report(lost=3), "1,000: 3 headend: rows lost"),
        (a_report(doubled=4), "1,000: 4 headend: rows doubled"),
        (a_report(lost=-1), "1,000: -1 headend: rows lost"),
    ],
)
def test_a_lost_or_doubled_row_fails_the_run(
    report: Report, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(click.ClickException, match=fault):
        run_benchmark(lambda: measured(report), json_path=None)
    assert "| headend: rows lost" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values_s", "figures"),
    [
        ([milliseconds / 1000 for milliseconds in range(100, 0, -1)], [50, 99, 100, 100]),
        ([0.25], [250, 250, 250, 1]),
        ([], [None, None, None, 0]),
    ],
)
def test_quantiles_are_values_that_occurred(values_s: list[float], figures: list[float | None]) -> None:
    rows = spread_rows("late", values_s)
    assert list(rows) == ["late, p50, ms", "late, p99, ms", "late, max, ms", "late, of"]
    assert list(rows.values()) == figures


def test_a_row_that_a_case_lacks_is_a_dash() -> None:
    text = Report(title="fleet", cases={"one": {"a": 1}, "two": {"a": 2, "b": 3}}).as_text()
    assert [line for line in text.splitlines() if line.startswith("| b")] == ["| b |   - |   3 |"]


def test_rounds_are_merged_by_medians_and_no_lost_row_is_outvoted() -> None:
    rounds: list[Case] = [
        {"TLS / headend": ratio, "p50, ms": None, "headend: rows lost": lost}
        for ratio, lost in ((0.8, 0), (0.9, 1), (0.7, 0))
    ]
    assert medians(rounds) == {"TLS / headend": 0.8, "p50, ms": None, "headend: rows lost": 1}
    assert case_of(rounds, "TLS / headend")["TLS / headend, range"] == "0.70 to 0.90"
