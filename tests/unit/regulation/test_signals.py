"""What signals are read from, and how faults of their files are reported."""

import re
from pathlib import Path

import pytest

from scripts.regulation.signals import Signal, load_signal, read_signal


def read(text: str, *, column: str | None = None, full_mw: float = 1.0) -> tuple[float, tuple[float, ...]]:
    return read_signal(text, source="test.csv", column=column, full_mw=full_mw)


def signal_of(steps: int) -> Signal:
    return Signal(name="test", title="Test", step_s=2.0, values=(0.0,) * steps)


def test_the_qualification_wave_is_forty_minutes_of_two_seconds() -> None:
    signal = load_signal("regd", day=None)
    assert (signal.step_s, len(signal.values)) == (2.0, 1201)
    assert signal.values[0] == 0.00633


@pytest.mark.parametrize("day", [None, "2016-04-18", "2016-05-19"])
def test_a_day_of_the_caiso_signal_is_four_hours_of_four_seconds(day: str | None) -> None:
    signal = load_signal("caiso", day=day)
    assert (signal.step_s, signal.duration_s) == (4.0, 4.0 * 3600.0)
    assert max(map(abs, signal.values)) == 1.0


def test_values_in_mw_are_read_per_unit() -> None:
    assert read("s,mw\n0,50\n4,-100\n", full_mw=100.0) == (4.0, (0.5, -1.0))


def test_a_column_is_found_by_its_heading() -> None:
    assert read("s,a,b\n0,0.1,0.2\n4,0.3,0.4\n", column="b") == (4.0, (0.2, 0.4))


def test_a_file_is_named_after_itself(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("s,pu\n0,0\n1,1\n", encoding="utf-8")
    assert load_signal(str(path), day=None) == Signal(
        name="mine", title="mine", step_s=1.0, values=(0.0, 1.0)
    )


def test_minutes_cut_a_signal() -> None:
    signal = signal_of(100)
    assert len(signal.first(1.0).values) == 30
    assert signal.first(1000.0) == signal


def test_minutes_without_a_step_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.01 minutes hold no step of 2 s"):
        signal_of(100).first(0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "test.csv, line 1: a heading of a time and at least one column"),
        ("s\n0\n2\n", "test.csv, line 1: a heading of a time and at least one column"),
        ("s,a,b\n0,0,0\n2,0,0\n", "test.csv, line 1: one of its columns must be named: a, b"),
        ("s,pu\n", "test.csv: 0 values; a signal has at least two"),
        ("s,pu\n0,0.1\n", "test.csv: 1 values; a signal has at least two"),
        ("s,pu\n\n\n", "test.csv: 0 values; a signal has at least two"),
        ("\n\n", "test.csv, line 1: a heading of a time and at least one column"),
        ("s,pu\n0,0.1\n\n\n2,0.1\n", "test.csv, line 3: an empty line; they may only be at the end"),
        ("\ns,pu\n0,0.1\n2,0.1\n", "test.csv, line 1: an empty line; they may only be at the end"),
        ("s,pu\n0,0.1\n2,NaN\n", "test.csv, line 3: 'NaN' is not a finite number"),
        ("s,pu\nnan,0.1\n2,0.1\n", "test.csv, line 2: 'nan' is not a finite number"),
        ("s,pu\n0,0.1\n2,-inf\n", "test.csv, line 3: '-inf' is not a finite number"),
        ("s,pu\n0,0.1\n2,0\x00\n", "test.csv, line 3: "),
        ('s,pu\n0,0.1\n2,"0.1\n', "test.csv, line 3: not CSV: unexpected end of data"),
        ("s,pu\n0," + "1" * 200_000 + "\n", "test.csv, line 2: not CSV: field larger than field limit"),
        ("s,pu\n0,0.1\n2\n", "test.csv, line 3: 1 fields, but the heading has 2"),
        ("s,pu\n0,0.1\n2,x\n", "test.csv, line 3: 'x' is not a number"),
        ("s,pu\n0,0.1\n2,\n", "test.csv, line 3: '' is not a number"),
        ("s,pu\n0,0.1\n2,nan\n", "test.csv, line 3: 'nan' is not a finite number"),
        ("s,pu\n0,0.1\n2,1.5\n", "test.csv, line 3: 1.5 is outside of -1..1"),
        ("s,pu\n0,0.1\n2,0.1\n2,0.1\n", "test.csv, line 4: the time 2 s does not follow 2 s"),
        ("s,pu\n4,0.1\n2,0.1\n", "test.csv, line 3: the time 2 s does not follow 4 s"),
        ("s,pu\n0,0.1\n2,0.1\n6,0.1\n", "test.csv, line 4: a step of 4 s; the first one was 2 s"),
    ],
)
def test_a_fault_is_reported_with_its_line_and_rule(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read(text)


def test_a_column_that_is_not_there_is_reported_with_those_that_are() -> None:
    with pytest.raises(
        ValueError, match=r"no column '2016-01-01'; there are 2016-04-18, 2016-05-19, 2016-09"
    ):
        load_signal("caiso", day="2016-01-01")


def test_the_qualification_wave_has_no_days() -> None:
    with pytest.raises(ValueError, match="RegD signal has no days"):
        load_signal("regd", day="2016-04-18")


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n\n", "  \n", "\t\n\n", ",\n", ",\n,\n\n", "\r\r"])
def test_empty_lines_at_the_end_count_for_nothing(end: str) -> None:
    assert read("s,pu\n0,0.1\n2,0.2\n" + end) == (2.0, (0.1, 0.2))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_spreadsheets_of_every_system_are_read(tmp_path: Path, newline: str, mark: bytes) -> None:
    path = tmp_path / "sheet.csv"
    path.write_bytes(mark + newline.join(["s,pu", "0,0.1", "2,0.2", ""]).encode())
    assert load_signal(str(path), day="pu").values == (0.1, 0.2)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("t_s,Gr\u00f6\u00dfe\n0,0.1\n2,0.2\n".encode("latin-1"), 1),
        (b"t_s,pu\n0,0.1\n2,0.2\n4,\xa00.3\n", 4),
        ("t_s,pu\n0,0.1\n".encode("utf-16"), 1),
    ],
)
def test_a_file_that_is_not_utf_8_is_named_with_the_line(tmp_path: Path, content: bytes, line: int) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}, line {line}: not UTF-8: ")):
        load_signal(str(path), day=None)
