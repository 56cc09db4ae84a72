"""Text from outside in a terminal: harmless, bounded, and of known width."""

import pytest

from trioder.cli.printable import display_width, line_of, printable, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Moss Landing 1", "Moss Landing 1"),
        ("Straßenbahn-Depot Köln", "Straßenbahn-Depot Köln"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x9b31m", r"\x9b31m"),
        ("\x7f", r"\x7f"),
        ("evil\u202egnp.exe", r"evil\u202egnp.exe"),
        ("\u2066\u2069\u200b\ufeff", r"\u2066\u2069\u200b\ufeff"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\ud800", r"\ud800"),
        ("\ue000", r"\ue000"),
    ],
)
def test_what_a_terminal_could_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_at_most_two_marks_stand_on_a_character() -> None:
    assert printable("a" + "\u0301" * 3) == "a\u0301\u0301" + r"\u0301"


def test_a_right_to_left_name_does_not_reorder_what_follows() -> None:
    assert printable("תחנה") == "תחנה\u200e"
    assert shortened(printable("תחנה ארוכה"), 5) == "תחנה…\u200e"


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("電池", 4), ("a\u0301", 1), ("תחנה\u200e", 4)])
def test_width_is_in_columns_of_the_terminal(text: str, columns: int) -> None:
    assert display_width(text) == columns


@pytest.mark.parametrize(("text", "cut"), [("abcdef", "abc…"), ("abcd", "abcd"), ("電池電池", "電…")])
def test_a_text_is_cut_to_columns(text: str, cut: str) -> None:
    assert shortened(text, 4) == cut
    assert display_width(cut) <= 4


def test_a_text_in_a_message_is_bounded() -> None:
    assert line_of("\x1b" * 5000, 60) == shortened(r"\x1b" * 15, 60)[:59] + "…"
    assert len(line_of("x" * 5000)) == 200
