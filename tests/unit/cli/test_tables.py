"""Tables: aligned, as wide as the terminal, and without colour where there is none."""

from trioder.cli.tables import Column, Table, TableLayout, property_lines

NAME = Column(heading="name", flexible=True)
POWER = Column(heading="power", unit="MW", numeric=True, signed=True)
QUALITY = Column(heading="quality", style_of=lambda value: None if value == "good" else "yellow")


def test_numbers_are_right_aligned_below_a_heading_with_the_unit() -> None:
    table = Table(columns=[NAME, POWER], rows=[("A", 5.0), ("Battery B", -12.25), ("C", None)])
    assert table.lines(TableLayout()) == [
        "name       power MW",
        "A             +5.00",
        "Battery B    -12.25",
        "C                 -",
    ]


def test_wide_characters_stay_aligned() -> None:
    table = Table(columns=[NAME, POWER], rows=[("電池", 1.0), ("abcd", 1.0)])
    assert table.lines(TableLayout())[1:] == ["電池     +1.00", "abcd     +1.00"]


def test_texts_are_cut_where_the_terminal_is_narrow() -> None:
    table = Table(columns=[NAME, POWER], rows=[("x" * 40, 1.0)])
    lines = table.lines(TableLayout(width=30))
    assert [len(line) for line in lines] == [30, 30]
    assert lines[1].startswith("x" * 19 + "…")


def test_a_name_of_any_length_is_cut() -> None:
    table = Table(columns=[NAME, POWER], rows=[("x" * 5000, 1.0)])
    assert len(table.lines(TableLayout())[1]) < 80


def test_a_hostile_name_is_harmless() -> None:
    table = Table(columns=[NAME], rows=[("\x1b[31m\u202eabc\n",)])
    assert table.lines(TableLayout(colour=True))[1] == r"\x1b[31m\u202eabc\n"


def test_a_value_that_is_coloured_says_the_same_without_colour() -> None:
    table = Table(columns=[QUALITY], rows=[("good",), ("stale",)])
    assert table.lines(TableLayout()) == ["quality", "good", "stale"]
    assert table.lines(TableLayout(colour=True)) == ["\x1b[1mquality\x1b[0m", "good", "\x1b[33mstale\x1b[0m"]


def test_properties_are_aligned_and_those_without_a_value_left_out() -> None:
    assert property_lines({"id": "1", "quality": "good", "end": None}) == ["id       1", "quality  good"]


def test_the_text_of_a_property_is_harmless_and_bounded() -> None:
    [line] = property_lines({"reason": "\x1b" + "x" * 5000})
    assert line.startswith(r"reason  \x1bxxx")
    assert len(line) < 2100


def test_expendable_columns_are_left_out_of_a_narrow_terminal_before_names_are_cut_short() -> None:
    columns = [NAME, POWER, Column(heading="status", expendable=2), Column(heading="age", expendable=1)]
    table = Table(columns=columns, rows=[("x" * 40, 1.0, "discharging", "3s")])
    assert table.lines(TableLayout(width=50))[0].split() == ["name", "power", "MW", "status", "age"]
    assert table.lines(TableLayout(width=35))[0].split() == ["name", "power", "MW", "age"]
    assert table.lines(TableLayout(width=26))[0].split() == ["name", "power", "MW"]
    assert table.lines(TableLayout())[0].split() == ["name", "power", "MW", "status", "age"]


def test_a_column_without_values_is_left_out_if_it_is_optional() -> None:
    table = Table(columns=[NAME, Column(heading="until", optional=True)], rows=[("A", None)])
    assert table.lines(TableLayout()) == ["name", "A"]
