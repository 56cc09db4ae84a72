"""A fleet file as plain values that still know their lines; nothing here knows of batteries.

A mapping is a `Section`, a sequence a `Listing`, a scalar str, bool, int, float or None.
"""

from collections.abc import Iterable
from typing import Any

from trioder.fleet.faults import Fault, FleetFileError

# A fleet is three deep; a file much deeper is none, and must not cost a stack.
MAX_DEPTH = 16


class Section(dict[str, Any]):
    """A mapping. `line` is where it begins, `lines` where each key stands; none in a JSON file."""

    __slots__ = ("line", "lines")

    def __init__(self, pairs: Iterable[tuple[str, Any]] = ()) -> None:
        super().__init__(pairs)
        self.line: int | None = None
        self.lines: dict[str, int] = {}

    def line_of(self, key: str) -> int | None:
        """Return the key's line, or where the section begins when it has no such key."""
        return self.lines.get(key, self.line)


class Listing(list[Any]):
    """A sequence. `lines` holds each item's line; empty in a JSON file."""

    __slots__ = ("lines",)

    def __init__(self, items: Iterable[Any] = ()) -> None:
        super().__init__(items)
        self.lines: list[int] = []

    def line_of(self, position: int) -> int | None:
        """Return the item's line where the format tells it."""
        return self.lines[position] if self.lines else None


class Findings:
    """The faults found so far in one file."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._faults: list[Fault] = []

    def add(self, message: str, *, field: str = "", line: int | None = None) -> None:
        """Note one fault."""
        self._faults.append(Fault(file=self._file, line=line, field=field, message=message))

    def raise_any(self) -> None:
        """Raise what was found, in the order of the lines.

        Raises:
            FleetFileError: anything was found.
        """
        if self._faults:
            raise FleetFileError(tuple(sorted(self._faults, key=lambda fault: fault.line or 0)))

    def last(self, message: str, *, line: int | None = None) -> FleetFileError:
        """Return, to be raised, what was found and one last fault that ends the reading."""
        self.add(message, line=line)
        return FleetFileError(tuple(self._faults))


def shown(value: object) -> str:
    """Return a value as a fault tells it: short, and on one line."""
    match value:
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case None:
            return "empty"
        case bool():
            return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
