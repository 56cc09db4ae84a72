"""One mapping of a fleet file or document under check: its keys, their types, and its faults' places.

Nothing here knows what a site or an asset is; `trioder.fleet.entries` does.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

from trioder.fleet.tree import Findings, Section, shown

# The same as the wire allows: a name that no agent could register is refused here already.
MAX_NAME_LENGTH = 256
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The keys of one kind of record. Every key that is not named here is refused."""

    noun: str
    ids: frozenset[str]
    names: frozenset[str]
    texts: frozenset[str] = frozenset()
    numbers: frozenset[str]
    required: tuple[str, ...]


class Record:
    """One record under check: its sound values, and its faults with their place."""

    def __init__(self, section: Section, path: str, shape: Shape, findings: Findings) -> None:
        self._section = section
        self._path = path
        self._findings = findings
        self.is_sound = True
        self.texts: dict[str, str] = {}
        self.numbers: dict[str, float] = {}
        for key, value in section.items():
            if key in shape.numbers:
                self._take_number(key, value)
            elif key in shape.ids:
                self._take_id(key, value)
            elif key in shape.names:
                self._take_text(key, value, at_least=1)
            elif key in shape.texts:
                self._take_text(key, value, at_least=0)
            else:
                known = shape.ids | shape.names | shape.texts | shape.numbers
                self.fault(key, f"is not a key of {shape.noun}{did_you_mean(key, known)}")
        for key in shape.required:
            if key not in section:
                self.fault(key, "is missing")

    def fault(self, key: str, message: str) -> None:
        """Note a fault of a key, whether it is there or not."""
        self.is_sound = False
        field = f"{self._path}.{key}" if self._path else key
        self._findings.add(message, field=field, line=self._section.line_of(key))

    def has(self, key: str) -> bool:
        """Say whether the key was given, sound or not."""
        return key in self._section

    def _take_id(self, key: str, value: object) -> None:
        if isinstance(value, str) and _UUID(value):
            self.texts[key] = value.lower()
        else:
            self.fault(
                key, f"is {shown(value)}; it must be a UUID such as 123e4567-e89b-12d3-a456-426614174000"
            )

    def _take_text(self, key: str, value: object, *, at_least: int) -> None:
        if not isinstance(value, str):
            self.fault(key, f"is {shown(value)}; it must be text (in quotes, if it looks like a number)")
        elif not at_least <= len(value) <= MAX_NAME_LENGTH or not value.isprintable():
            self.fault(
                key, f"is {shown(value)}; it must be {at_least}..{MAX_NAME_LENGTH} printable characters"
            )
        else:
            self.texts[key] = value

    def _take_number(self, key: str, value: object) -> None:
        # bool is an int to Python, and a mistake in a fleet.
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fault(key, f"is {shown(value)}; it must be a number")
            return
        try:
            self.numbers[key] = float(value)
        except OverflowError:
            self.fault(key, f"is {shown(value)}; it must be a finite number")


def did_you_mean(word: str, known: frozenset[str]) -> str:
    """Return the words that point from a slip to what was meant; empty when nothing is near."""
    near = _nearest(word[:80], known)
    return f" (did you mean {near}?)" if near else ""


@lru_cache(maxsize=256)
def _nearest(word: str, known: frozenset[str]) -> str | None:
    # One slip is often made in every record of a generated file.
    near = get_close_matches(word, sorted(known), n=1)
    return near[0] if near else None
