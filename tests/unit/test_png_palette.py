"""Pictures with a palette have the pixels that they had."""

import zlib

import pytest

from scripts.png_palette import with_palette

_PIXELS = [[(10, 20, 30), (10, 20, 31), (200, 5, 5)], [(10, 20, 30), (7, 7, 7), (255, 0, 255)]]
_END = b"\0\0\0\0IEND\xae\x42\x60\x82"


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4])
def test_few_colours_stay_as_they_are_whatever_the_filter(kind: int) -> None:
    small = with_palette(_png(_PIXELS, kind))
    assert _pixels_of(small, width=3) == _PIXELS


def test_of_too_many_colours_a_rare_one_becomes_the_nearest() -> None:
    frequent = [(n, n, n) for n in range(256)] * 2
    small = with_palette(_png([[*frequent, (100, 100, 102)]], 0))
    assert _pixels_of(small, width=513) == [[*frequent, (101, 101, 101)]]


def test_a_rare_colour_that_none_is_near_stays() -> None:
    many = [(n, n, k) for n in range(256) for k in (0, 1)] * 2
    small = with_palette(_png([[*many, (255, 0, 255)]], 0))
    assert _pixels_of(small, width=len(many) + 1)[0][-1] == (255, 0, 255)


def test_what_is_no_picture_of_rgb_is_refused() -> None:
    with pytest.raises(ValueError, match="8-bit RGB"):
        with_palette(b"GIF89a")


def _png(pixels: list[list[tuple[int, int, int]]], kind: int) -> bytes:
    rows = [bytes(value for colour in row for value in colour) for row in pixels]
    data = b""
    above = bytes(len(rows[0]))
    for row in rows:
        data += bytes(
            [kind, *((value - _predicted(kind, row, above, n)) % 256 for n, value in enumerate(row))]
        )
        above = row
    width = len(pixels[0])
    header = width.to_bytes(4) + len(pixels).to_bytes(4) + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(data)) + _END


def _predicted(kind: int, row: bytes, above: bytes, n: int) -> int:
    a, b, c = (row[n - 3], above[n], above[n - 3]) if n >= 3 else (0, above[n], 0)
    p = a + b - c
    paeth = (
        a if abs(p - a) <= abs(p - b) and abs(p - a) <= abs(p - c) else b if abs(p - b) <= abs(p - c) else c
    )
    return (0, a, b, (a + b) // 2, paeth)[kind]


def _chunk(name: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4) + name + content + zlib.crc32(name + content).to_bytes(4)


def _pixels_of(png: bytes, *, width: int) -> list[list[tuple[int, ...]]]:
    chunks = {}
    place = 8
    while place < len(png):
        length = int.from_bytes(png[place : place + 4])
        chunks[png[place + 4 : place + 8]] = png[place + 8 : place + 8 + length]
        place += 12 + length
    palette = [tuple(chunks[b"PLTE"][n : n + 3]) for n in range(0, len(chunks[b"PLTE"]), 3)]
    data = zlib.decompress(chunks[b"IDAT"])
    return [[palette[n] for n in data[at + 1 : at + 1 + width]] for at in range(0, len(data), width + 1)]
