"""Text from outside for a terminal: nothing in it moves the cursor, changes the direction, or is too long.

Names and reasons are made by operators of plants and by agents, and may hold anything that Unicode has.
"""

import unicodedata

# Control, format (among them those that change the direction), surrogates, private use, not assigned, and the
# separators of lines and paragraphs.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_MARKS = frozenset({"Mn", "Me"})
# More of them on one character would cover the lines above and below.
_MAX_MARKS = 2
_RIGHT_TO_LEFT = frozenset({"R", "AL"})
_LEFT_TO_RIGHT_MARK = "\u200e"
_ELLIPSIS = "…"


def printable(text: str) -> str:
    """Return the text on one line, with an escape as in Python for what a terminal could obey."""
    # All of ASCII that is printable, and most names.
    if text.isascii() and text.isprintable():
        return text
    parts = []
    marks = 0
    right_to_left = False
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in _MARKS else 0
        if category in _UNSAFE or marks > _MAX_MARKS:
            parts.append(_escaped(character))
        else:
            parts.append(character)
            right_to_left = right_to_left or unicodedata.bidirectional(character) in _RIGHT_TO_LEFT
    if right_to_left:
        # Otherwise a terminal that orders both directions would draw what follows before it.
        parts.append(_LEFT_TO_RIGHT_MARK)
    return "".join(parts)


def display_width(text: str) -> int:
    """Return how many columns of a terminal a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_width_of, text))


def shortened(text: str, columns: int) -> str:
    """Return a printable text, cut to so many columns; an ellipsis marks the cut."""
    if display_width(text) <= columns:
        return text
    right_to_left = text.endswith(_LEFT_TO_RIGHT_MARK)
    kept: list[str] = []
    left = columns - 1
    for character in text:
        left -= _width_of(character)
        if left < 0:
            break
        kept.append(character)
    return "".join(kept) + _ELLIPSIS + (_LEFT_TO_RIGHT_MARK if right_to_left else "")


def line_of(text: str, columns: int = 200) -> str:
    """Return a text from outside as it may stand in a message: harmless, on one line, of bounded length."""
    # Text of any length is cut before each of its characters is examined.
    return shortened(printable(text[: columns + 1]), columns)


def _width_of(character: str) -> int:
    if character == _LEFT_TO_RIGHT_MARK or unicodedata.category(character) in _MARKS:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
