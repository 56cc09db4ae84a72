"""Checks the mappings of a file against what each kind may have, and reports every error with its line.

The kinds themselves are in `check` (fleets) and `scenario`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, NamedTuple

from trioder.domain.text import MAX_NAME_LENGTH
from trioder.fleet.faults import Findings, describe
from trioder.fleet.parse import Section

Values = dict[str, Any]


class Kind(NamedTuple):
    """A kind of mapping.

    Attributes:
        noun: for messages.
        checks: of each key; returns the value to use, or raises ValueError with the message.
        required: the keys that it must have.
        rules: between the keys, from the valid values and all that is given: the errors by key.
    """

    noun: str
    checks: Mapping[str, Callable[[object], Any]]
    required: Sequence[str] = ()
    rules: Callable[[Values, Section], Iterable[tuple[str, str]]] = lambda *_: ()

    def check(self, section: Section, findings: Findings, path: str = "") -> Values:
        """Return the valid values of a mapping; report every error in it."""
        values: Values = {}
        faults = []
        for key, value in section.items():
            try:
                values[key] = self.checks[key](value)
            except KeyError:
                faults.append((key, f"is not a key of {self.noun}{suggestion(key, frozenset(self.checks))}"))
            except ValueError as error:
                faults.append((key, str(error)))
        faults += [(key, "is missing") for key in self.required if key not in section]
        faults += self.rules(values, section)
        for key, message in faults:
            findings.add(message, field=f"{path}.{key}" if path else key, line=section.line_of(key))
        return values


def mappings(entries: Sequence[Any], findings: Findings, path: str) -> Iterator[tuple[str, Section]]:
    """Yield the mappings in a list, each with its path; report what is none."""
    lines = getattr(entries, "lines", [None] * len(entries))
    for position, (entry, line) in enumerate(zip(entries, lines, strict=True)):
        place = f"{path}[{position}]"
        if isinstance(entry, Section):
            yield place, entry
        else:
            findings.add(f"is {describe(entry)}; it must be a mapping", field=place, line=line)


@lru_cache(maxsize=256)  # the same misspelling is often in every record of a generated file
def suggestion(key: str, known: frozenset[str]) -> str:
    """Return a hint at the known key that is nearest to a misspelt one, if one is near."""
    near = get_close_matches(key[:80], sorted(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


# Checks of one value.


def entries_of(value: object) -> list[Any]:
    """Return a list with at least one entry."""
    if not isinstance(value, list) or not value:
        what = "an empty list" if isinstance(value, list) else describe(value)
        raise ValueError(f"is {what}; it must be a list with at least one entry")
    return value


def text(value: object, *, min_length: int = 0) -> str:
    """Return a printable text."""
    if not isinstance(value, str):
        raise must_be("text (in quotes, if it looks like a number)", value)
    if not min_length <= len(value) <= MAX_NAME_LENGTH or not value.isprintable():
        raise must_be(f"{min_length}..{MAX_NAME_LENGTH} printable characters", value)
    return value


def number(value: object) -> float:
    """Return a number, which may be infinite or NaN."""
    # bool is an int to Python, and a mistake in a file.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise must_be("a number", value)
    try:
        return float(value)
    except OverflowError:
        raise must_be("a finite number", value) from None


def whole_number(value: object, *, low: int, high: int) -> int:
    """Return a whole number within the limits."""
    if isinstance(value, bool) or not (isinstance(value, int) and low <= value <= high):
        raise must_be(f"a whole number within {low}..{high}", value)
    return value


def must_be(rule: str, value: object) -> ValueError:
    """Return the error of a value that breaks a rule."""
    return ValueError(f"is {describe(value)}; it must be {rule}")
