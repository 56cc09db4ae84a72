"""Text from outside: names are checked, and error messages quote values in a bounded, printable form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioder.domain.text import CANONICAL_UUID, TextError, escape, preview, valid_name


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("abc", "'abc'"),
        ("a\nb", r"'a\nb'"),
        ("\u0661", r"'\u0661'"),
        ("x" * 58, "'" + "x" * 58 + "'"),
        ("x" * 59, "'" + "x" * 56 + "..."),
        (10**100, "1" + "0" * 56 + "..."),
        ({"a": "\n"}, r"{'a': '\n'}"),
    ],
)
def test_a_value_is_previewed(value: object, quoted: str) -> None:
    assert preview(value) == quoted


@given(st.text())
def test_a_preview_is_printable_ascii_of_bounded_length(value: str) -> None:
    for text in (preview(value), escape(value, length=60)):
        assert text.isprintable() or not text
        assert text.isascii()
        assert len(text) <= 60


@pytest.mark.parametrize("value", ["", "x" * 257, "a\nb"])
def test_a_name_that_breaks_a_rule_is_refused(value: str) -> None:
    with pytest.raises(TextError, match=r"^agent_id is "):
        valid_name("agent_id", value)


def test_a_canonical_uuid_is_in_lower_case_and_has_hyphens() -> None:
    value = "0123abcd-0123-4567-89ab-0123456789ab"
    assert CANONICAL_UUID.fullmatch(value)
    for other in (value.upper(), value.replace("-", ""), "{" + value + "}", value + "\n"):
        assert not CANONICAL_UUID.fullmatch(other)
