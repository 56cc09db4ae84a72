"""A file's text as plain values with their lines; knows nothing of assets.

A mapping becomes a `Section`, a sequence a `Listing`, a scalar str, bool, int, float or None.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from math import inf, isfinite, nan
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from trioder.fleet.faults import Findings, describe

# A fleet is three levels deep; a much deeper file must not exhaust the stack.
MAX_DEPTH = 16
_MAX_DIGITS = 400
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?").fullmatch
# YAML 1.2's core schema; words also with a capital letter, or in capitals.
_WORDS = {"null": None, "true": True, "false": False, ".inf": inf, "+.inf": inf, "-.inf": -inf, ".nan": nan}
_CONSTANTS = {"": None, "~": None} | {
    form: value for word, value in _WORDS.items() for form in (word, word.title(), word.upper())
}


class Section(dict[str, Any]):
    """A mapping, the line where it begins, and the line of each key; a JSON file has no lines."""

    line: int | None = None
    lines: Mapping[str, int] = MappingProxyType({})

    def line_of(self, key: str) -> int | None:
        """Return the key's line, or where the section begins when it has no such key."""
        return self.lines.get(key, self.line)


class Listing(list[Any]):
    """A sequence of a YAML file, and the line of each item."""

    lines: list[int]


def finite(value: object) -> float | None:
    """Return a finite number as a float; None for anything else."""
    # bool is an int to Python.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None


def parse_file(path: Path, findings: Findings, *, keys: str = "sites and assets") -> Section:
    """Return the mapping in a file: JSON when its name ends in .json, else YAML. A key's first value counts.

    Args:
        path: of the file.
        findings: receives the errors.
        keys: what the mapping must have, for the message.

    Raises:
        CheckedFileError: it cannot be read or parsed, holds no mapping, or has anchors, aliases or tags,
            which could make a small file large.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise findings.fatal(f"cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise findings.fatal(f"not UTF-8: {error.reason}", line=line) from None
    root = (_parse_json if path.suffix.lower() == ".json" else _parse_yaml)(text, findings)
    if not isinstance(root, Section):
        what = "the file is empty" if root is None else f"the file holds {describe(root)}"
        raise findings.fatal(f"{what}; it must be a mapping with the keys {keys}")
    return root


def _parse_json(text: str, findings: Findings) -> Any:
    def section(pairs: list[tuple[str, Any]]) -> Section:
        found = Section(pairs)
        if len(found) < len(pairs):
            for key, count in Counter(key for key, _ in pairs).items():
                if count > 1:
                    findings.add("is given twice in one object", field=key)
            found.update(reversed(pairs))  # of two equal keys the first counts
        return found

    line = None
    try:
        return json.loads(text, object_pairs_hook=section)
    except json.JSONDecodeError as error:
        message, line = f"{error.msg} (column {error.colno})", error.lineno
    except RecursionError:
        message = "nested too deep"
    except ValueError:  # Python refuses to convert integers of thousands of digits
        message = "a number is too long"
    raise findings.fatal(f"not valid JSON: {message}", line=line)


def _parse_yaml(text: str, findings: Findings) -> Any:
    try:
        return _Composer(text, findings).document()
    except yaml.MarkedYAMLError as error:
        message, mark, start = error.problem, error.problem_mark, error.context_mark
        if start is not None:
            message = f"{message} ({error.context} that begins in line {start.line + 1})"
        line = None if mark is None else mark.line + 1
    except yaml.reader.ReaderError as error:
        message, line = error.reason, text.count("\n", 0, error.position) + 1
    raise findings.fatal(f"not valid YAML: {message}", line=line)


class _Composer:
    """Composes a YAML document from libyaml's events; yaml's own composer follows aliases."""

    def __init__(self, text: str, findings: Findings) -> None:
        self._findings = findings
        self._next_event = _Loader(text).get_event
        self._has_extras = False

    def document(self) -> Any:
        """Return the value of the one document; None when there is none."""
        self._next_event()  # the stream begins
        if type(self._next_event()) is yaml.StreamEndEvent:
            return None
        root = self._value(self._next_event(), depth=0)
        self._next_event()  # the document ends
        if type(event := self._next_event()) is yaml.DocumentStartEvent:
            raise self._findings.fatal("a second document begins; only one is read", line=_line(event))
        if self._has_extras:
            self._findings.raise_any()
        return root

    def _value(self, event: Any, depth: int) -> Any:
        kind = type(event)
        self._refuse_extras(event)
        if kind is yaml.ScalarEvent:
            # A plain scalar may be a number or a constant; a quoted one is text.
            return _scalar(event.value) if event.implicit[0] else event.value
        if kind is yaml.AliasEvent:
            return None
        if depth == MAX_DEPTH:
            raise self._findings.fatal(f"nested more than {MAX_DEPTH} deep", line=_line(event))
        return (self._section if kind is yaml.MappingStartEvent else self._listing)(event, depth + 1)

    def _section(self, start: Any, depth: int) -> Section:
        lines: dict[str, int] = {}
        section = Section()
        section.line, section.lines = _line(start), lines
        while type(event := self._next_event()) is not yaml.MappingEndEvent:
            self._refuse_extras(event)
            if type(event) is not yaml.ScalarEvent:
                raise self._findings.fatal("a key must be text", line=_line(event))
            key, line = event.value, _line(event)
            if key in section:
                message = f"is given twice; it stands in line {lines[key]} already"
                self._findings.add(message, field=key, line=line)
            lines.setdefault(key, line)
            section.setdefault(key, self._value(self._next_event(), depth))
        return section

    def _listing(self, _start: Any, depth: int) -> Listing:
        listing = Listing()
        listing.lines = []
        while type(event := self._next_event()) is not yaml.SequenceEndEvent:
            listing.lines.append(_line(event))
            listing.append(self._value(event, depth))
        return listing

    def _refuse_extras(self, event: Any) -> None:
        if type(event) is yaml.AliasEvent:
            found = [f"alias *{event.anchor}; aliases are not read, write the value out"]
        else:
            found = [] if event.anchor is None else [f"anchor &{event.anchor}; anchors are not read"]
            found += [] if event.tag is None else [f"tag {event.tag}; tags are not read"]
        for message in found:
            self._has_extras = True
            self._findings.add(message, line=_line(event))


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _scalar(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if not _NUMBER(text):
        return text
    is_integer = text.lstrip("+-").isdecimal() and len(text) <= _MAX_DIGITS
    return int(text) if is_integer else float(text)
