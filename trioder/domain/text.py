"""Checks of text received from outside, and its quotation in error messages."""

import re
from typing import Final

CANONICAL_UUID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Names appear in logs; neither a peer nor a client may fill them.
MAX_NAME_LENGTH = 256
_PREVIEW_LENGTH = 60


class TextError(ValueError):
    """A text that breaks a rule; the message names the field, the value and the rule."""


def valid_name(field: str, value: str) -> str:
    """Return a non-empty, printable name of at most `MAX_NAME_LENGTH` characters.

    Raises:
        TextError: it is empty, too long or not printable.
    """
    if not value:
        raise TextError(f"{field} is empty")
    if len(value) > MAX_NAME_LENGTH or not value.isprintable():
        raise TextError(
            f"{field} is {preview(value)}; it must be at most {MAX_NAME_LENGTH} printable characters"
        )
    return value


def preview(value: object) -> str:
    """Describe a received value in an error message: ASCII, on one line, of bounded length."""
    if isinstance(value, str):
        value = value[:_PREVIEW_LENGTH]
    return shorten(ascii(value), _PREVIEW_LENGTH)


def escape(text: str, *, length: int) -> str:
    """Return a text in printable ASCII, without quotes, cut at `length` characters."""
    return shorten(text[: length + 1].encode("unicode_escape").decode("ascii"), length)


def shorten(text: str, length: int) -> str:
    """Cut a text at `length` characters; an ellipsis marks the cut."""
    return text if len(text) <= length else text[: length - 3] + "..."
