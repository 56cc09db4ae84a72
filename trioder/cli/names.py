"""Finds the asset or the site that a user names: by its id, its exact name, or the beginning of its id."""

import re
from collections.abc import Sequence
from typing import Protocol, TypeVar

from trioder.cli.exit_codes import NOT_FOUND, USAGE, CommandError
from trioder.cli.printable import line_of

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_MAX_CANDIDATES = 10
# A mistyped argument must not name an asset by chance.
MIN_PREFIX = 4


class Named(Protocol):
    """An asset or a site."""

    @property
    def id(self) -> str:
        """Its UUID."""

    @property
    def name(self) -> str:
        """Its name, which others may have, too."""


Row = TypeVar("Row", bound=Named)


def is_whole_id(text: str) -> bool:
    """Whether a text is a whole id, in any case."""
    return _ID.fullmatch(text.lower()) is not None


def find_named(rows: Sequence[Row], text: str, kind: str) -> Row:
    """Return the one row that a text names.

    Args:
        rows: all that the caller sees.
        text: an id, an exact name, or the beginning of an id.
        kind: ``asset`` or ``site``, for messages.

    Raises:
        CommandError: there is none, or more than one.
    """
    wanted = text.strip().lower()
    by_id = [row for row in rows if row.id == wanted]
    if by_id:
        return by_id[0]
    found = [row for row in rows if row.name == text]
    if not found and len(wanted) >= MIN_PREFIX:
        found = [row for row in rows if row.id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise CommandError(
            f"there is no {kind} {line_of(text, 60)!r}; it must be an exact name, an id, or the first "
            f"{MIN_PREFIX} or more characters of one",
            NOT_FOUND,
        )
    candidates = [f"  {line_of(row.id)}  {line_of(row.name, 60)}" for row in found[:_MAX_CANDIDATES]]
    if len(found) > _MAX_CANDIDATES:
        candidates.append(f"  and {len(found) - _MAX_CANDIDATES} more")
    raise CommandError(
        "\n".join([f"{line_of(text, 60)!r} names {len(found)} {kind}s; write more of the id:", *candidates]),
        USAGE,
    )
