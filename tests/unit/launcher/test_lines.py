from hypothesis import given
from hypothesis import strategies as st

from trioder.launcher.process import LineSplitter


def split(chunks: list[bytes], *, longest: int) -> list[str]:
    splitter = LineSplitter(longest=longest)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return lines + splitter.finish()


@given(st.lists(st.binary(max_size=8)))
def test_how_the_bytes_are_cut_makes_no_difference(chunks: list[bytes]) -> None:
    assert split(chunks, longest=10) == split([b"".join(chunks)], longest=10)


def test_lines_are_returned_without_their_ends() -> None:
    assert split([b"one\ntw", b"o\r\n\nthree"], longest=100) == ["one", "two", "", "three"]


def test_a_line_too_long_is_cut_short_and_the_next_is_whole() -> None:
    assert split([b"123456", b"789\nnext\n"], longest=5) == ["12345 [cut short]", "next"]


def test_nothing_beyond_the_longest_is_remembered() -> None:
    splitter = LineSplitter(longest=5)
    for _ in range(100):
        assert splitter.feed(b"x" * 1000) == []
    assert splitter.finish() == ["xxxxx [cut short]"]


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert split([b"\xff\xfe\n"], longest=5) == ["\ufffd\ufffd"]
