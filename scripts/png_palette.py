"""Makes PNGs of screens small: they have few colours, so that a byte for a pixel is enough.

The most frequent colours stay as they are, and so do rare ones that none of these is near, such as those of a
small sign. Of the rest, the edges of letters mostly, each becomes the nearest.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_TRUE_COLOUR, _PALETTE = 2, 3
_COLOURS: Final = 256
_MOST_FREQUENT: Final = 128
_CHANNELS: Final = 3


def with_palette(png: bytes) -> bytes:
    """Return the picture with a palette of 256 colours at most.

    Raises:
        ValueError: it is no PNG of 8-bit RGB without interlacing.
    """
    chunks = list(_chunks_of(png))
    header = chunks[0][1] if chunks else b""
    if png[:8] != _SIGNATURE or header[8:] != bytes([8, _TRUE_COLOUR, 0, 0, 0]):
        raise ValueError("it must be a PNG of 8-bit RGB without interlacing")
    data = zlib.decompress(b"".join(content for kind, content in chunks if kind == b"IDAT"))
    rows = [_colours_of(row) for row in _rows_of(data, int.from_bytes(header[:4]) * _CHANNELS)]
    palette, places = _choose(Counter(colour for row in rows for colour in row))
    # Without a filter: of indexes the neighbours say nothing.
    pixels = b"".join(b"\0" + bytes(places[colour] for colour in row) for row in rows)
    return _SIGNATURE + b"".join(
        [
            _chunk(b"IHDR", header[:8] + bytes([8, _PALETTE, 0, 0, 0])),
            _chunk(b"PLTE", b"".join(palette)),
            _chunk(b"IDAT", zlib.compress(pixels, level=9)),
            _chunk(b"IEND", b""),
        ]
    )


def _choose(counts: Counter[bytes]) -> tuple[list[bytes], dict[bytes, int]]:
    """Return the palette, and the place in it that stands for each colour."""
    by_frequency = [colour for colour, _ in counts.most_common()]
    palette = by_frequency[:_MOST_FREQUENT]
    places = {colour: place for place, colour in enumerate(palette)}
    # Each other colour, with its nearest so far.
    others = {
        colour: min((_distance(chosen, colour), place) for place, chosen in enumerate(palette))
        for colour in by_frequency[_MOST_FREQUENT:]
    }
    while others and len(palette) < _COLOURS:
        farthest = max(others, key=lambda colour: others[colour][0])
        del others[farthest]
        place = places[farthest] = len(palette)
        palette.append(farthest)
        others = {
            colour: min(nearest, (_distance(farthest, colour), place)) for colour, nearest in others.items()
        }
    places |= {colour: place for colour, (_, place) in others.items()}
    return palette, places


def _distance(one: bytes, other: bytes) -> int:
    return (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2 + (one[2] - other[2]) ** 2


def _colours_of(row: bytearray) -> list[bytes]:
    return [bytes(row[place : place + _CHANNELS]) for place in range(0, len(row), _CHANNELS)]


def _rows_of(data: bytes, width: int) -> Iterator[bytearray]:
    """Undo the filters of PNG: each row is stored as the difference from what its neighbours predict."""
    above = bytearray(width)
    for start in range(0, len(data), width + 1):
        row = bytearray(data[start + 1 : start + 1 + width])
        for place, predicted in _predictions(data[start], row, above):
            row[place] = (row[place] + predicted) & 0xFF
        yield row
        above = row


def _predictions(kind: int, row: bytearray, above: bytearray) -> Iterable[tuple[int, int]]:
    """Yield what is to be added at each place, of a row that is restored meanwhile."""
    padded = bytes(_CHANNELS) + bytes(above)
    for place in range(len(row)):
        left = row[place - _CHANNELS] if place >= _CHANNELS else 0
        match kind:
            case 0:
                return
            case 1:
                yield place, left
            case 2:
                yield place, above[place]
            case 3:
                yield place, (left + above[place]) // 2
            case _:
                yield place, _paeth(left, above[place], padded[place])


def _paeth(left: int, above: int, diagonal: int) -> int:
    estimate = left + above - diagonal
    return min((left, above, diagonal), key=lambda value: abs(estimate - value))


def _chunks_of(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_SIGNATURE)
    while place < len(png):
        length = int.from_bytes(png[place : place + 4])
        yield png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        place += 12 + length


def _chunk(kind: bytes, content: bytes) -> bytes:
    return b"".join([len(content).to_bytes(4), kind, content, zlib.crc32(kind + content).to_bytes(4)])
