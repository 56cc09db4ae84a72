"""A fleet file's text as plain values with their lines, and the errors found in it; knows nothing of assets.

A mapping becomes a `Section`, a sequence a `Listing`, a scalar str, bool, int, float or None.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from trioder.domain.text import preview

MAX_FAULTS_SHOWN = 50
# A fleet is three levels deep; a much deeper file must not exhaust the stack.
MAX_DEPTH = 16
_MAX_DIGITS = 400
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?[0-9]+").fullmatch
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?").fullmatch
# YAML 1.2's core schema.
_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One error in a fleet file.

    Attributes:
        file: as given by the user.
        line: from 1; None where the format does not provide it.
        field: the path to the value, such as assets[17].max_mw; empty for the file as a whole.
        message: the value and the rule that it breaks.
    """

    file: str
    line: int | None
    field: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


class FleetFileError(ValueError):
    """A fleet that cannot be used. Its text has one line per error, up to MAX_FAULTS_SHOWN.

    Attributes:
        faults: all errors, in file order.
    """

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__(faults)
        self.faults = faults

    def __str__(self) -> str:
        lines = [str(fault) for fault in self.faults[:MAX_FAULTS_SHOWN]]
        if len(self.faults) > MAX_FAULTS_SHOWN:
            lines.append(f"... and {len(self.faults) - MAX_FAULTS_SHOWN} more")
        return "\n".join(lines)


class Findings:
    """The errors found so far in one file."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._faults: list[Fault] = []

    def add(self, message: str, *, field: str = "", line: int | None = None) -> None:
        """Record one error."""
        self._faults.append(Fault(file=self._file, line=line, field=field, message=message))

    def raise_any(self) -> None:
        """Raise FleetFileError with all errors by line number, if there are any."""
        if self._faults:
            raise FleetFileError(tuple(sorted(self._faults, key=lambda fault: fault.line or 0)))

    def fatal(self, message: str, *, line: int | None = None) -> FleetFileError:
        """Record an error after which parsing cannot continue; return the exception to raise."""
        self.add(message, line=line)
        return FleetFileError(tuple(self._faults))


class Section(dict[str, Any]):
    """A mapping, the line where it begins, and the line of each key; a JSON file has no lines."""

    def __init__(self, pairs: Iterable[tuple[str, Any]] = (), *, line: int | None = None) -> None:
        super().__init__(pairs)
        self.line = line
        self.lines: dict[str, int] = {}

    def line_of(self, key: str) -> int | None:
        """Return the key's line, or where the section begins when it has no such key."""
        return self.lines.get(key, self.line)


class Listing(list[Any]):
    """A sequence and the line of each item."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


def describe(value: object) -> str:
    """Return a value for an error message: short, and on one line."""
    match value:
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case None:
            return "empty"
        case bool():
            return "true" if value else "false"
    return preview(value)


def parse_json(text: str, findings: Findings) -> Any:
    """Return the value of a JSON text, its objects as sections. Raises FleetFileError: it is not JSON."""

    def section(pairs: list[tuple[str, Any]]) -> Section:
        for key, count in Counter(key for key, _ in pairs).items():
            if count > 1:
                findings.add("is given twice in one object", field=key)
        return Section(reversed(pairs))  # the first of two equal keys counts, as in YAML

    try:
        return json.loads(text, object_pairs_hook=section)
    except json.JSONDecodeError as error:
        message = f"not valid JSON: {error.msg} (column {error.colno})"
        raise findings.fatal(message, line=error.lineno) from None
    except RecursionError:
        raise findings.fatal("not valid JSON: nested too deep") from None
    except ValueError:
        # Python refuses to convert integers of thousands of digits.
        raise findings.fatal("not valid JSON: a number is too long") from None


def parse_yaml(text: str, findings: Findings) -> Any:
    """Return the one document of a YAML text; None when there is none. A key's first value counts.

    Raises:
        FleetFileError: it is not YAML, or has anchors, aliases or tags, which could make a small file large.
    """
    builder = _Builder(findings)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"not valid YAML: {error.problem or error.context}"
        if error.problem and error.context and error.context_mark:
            message += f" ({error.context} that begins in line {error.context_mark.line + 1})"
        raise findings.fatal(message, line=None if mark is None else mark.line + 1) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise findings.fatal(f"not valid YAML: {error.reason}", line=line) from None
    if builder.refused:
        findings.raise_any()
    return builder.root


class _Builder:
    """Builds the document from libyaml's events, without recursion."""

    def __init__(self, findings: Findings) -> None:
        self.root: Any = None
        self.refused = False
        self._findings = findings
        # The open collections, and the innermost section's key that waits for its value.
        self._open: list[Section | Listing] = []
        self._key: str | None = None
        self._documents = 0

    def take(self, event: Any) -> None:
        kind, line = type(event), event.start_mark.line + 1
        if kind is yaml.ScalarEvent:
            self._refuse_extras(event, line)
            # A plain scalar may be a number or a constant; a quoted one is text.
            self._put(event.value, line, plain=event.implicit[0])
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            self._refuse_extras(event, line)
            if len(self._open) == MAX_DEPTH:
                raise self._findings.fatal(f"nested more than {MAX_DEPTH} deep", line=line)
            collection = Section(line=line) if kind is yaml.MappingStartEvent else Listing()
            self._put(collection, line)
            self._open.append(collection)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self._open.pop()
        elif kind is yaml.AliasEvent:
            self._refuse(f"alias *{event.anchor}; aliases are not read, write the value out", line)
            self._put(None, line)
        elif kind is yaml.DocumentStartEvent:
            self._documents += 1
            if self._documents > 1:
                raise self._findings.fatal("a second document begins; only one is read", line=line)

    def _put(self, value: Any, line: int, *, plain: bool = False) -> None:
        into = self._open[-1] if self._open else None
        if type(into) is Section and self._key is None:
            if not isinstance(value, str):
                raise self._findings.fatal("a key must be text", line=line)
            self._key = value
            first = into.lines.setdefault(value, line)
            if value in into:
                self._findings.add(
                    f"is given twice; it stands in line {first} already", field=value, line=line
                )
            return
        if plain:
            value = _scalar(value)
        if type(into) is Section:
            into.setdefault(str(self._key), value)
            self._key = None
        elif type(into) is Listing:
            into.append(value)
            into.lines.append(line)
        else:
            self.root = value

    def _refuse_extras(self, event: Any, line: int) -> None:
        if event.anchor is not None:
            self._refuse(f"anchor &{event.anchor}; anchors are not read", line)
        if event.tag is not None:
            self._refuse(f"tag {event.tag}; tags are not read", line)

    def _refuse(self, message: str, line: int) -> None:
        self._findings.add(message, line=line)
        self.refused = True


def _scalar(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _FLOAT(text):
        return float(text) if not _INTEGER(text) or len(text) > _MAX_DIGITS else int(text)
    return text
