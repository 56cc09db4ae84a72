"""YAML text to a tree, from libyaml's events: fast, every line known, and no more of YAML than a fleet needs.

Scalars are read by YAML 1.2's core rules. Anchors, aliases and tags are refused, so a small file stays
small; a key given twice is a fault, and its first value counts.
"""

import re
from typing import Any

import yaml

from trioder.fleet.tree import MAX_DEPTH, Findings, Listing, Section

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?[0-9]+").fullmatch
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?").fullmatch
_MAX_DIGITS = 400
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


def read_yaml(text: str, findings: Findings) -> Any:
    """Return the one document of a YAML text; None when there is none.

    Raises:
        FleetFileError: it is not YAML, or uses what a fleet file may not.
    """
    builder = _Builder(findings)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        message = f"not valid YAML: {error.problem or error.context}"
        if error.problem and error.context and error.context_mark:
            message += f" ({error.context} that begins in line {error.context_mark.line + 1})"
        raise findings.last(message, line=line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise findings.last(f"not valid YAML: {error.reason}", line=line) from None
    if builder.refused:
        findings.raise_any()
    return builder.root


class _Builder:
    """Puts events together, without recursion; `root` is the document."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        # The collections that are open, and the innermost's key that waits for its value.
        self._open: list[Section | Listing] = []
        self._key: str | None = None
        self._documents = 0
        self.root: Any = None
        self.refused = False

    def take(self, event: Any) -> None:
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self._take_scalar(event)
        elif kind is yaml.MappingStartEvent:
            section = Section()
            section.line = _line(event)
            self._enter(section, event)
        elif kind is yaml.SequenceStartEvent:
            self._enter(Listing(), event)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self._open.pop()
        elif kind is yaml.AliasEvent:
            self._refuse(event, f"alias *{event.anchor}; aliases are not read, write the value out")
            self._put(None, event)
        elif kind is yaml.DocumentStartEvent:
            self._documents += 1
            if self._documents > 1:
                raise self._findings.last("a second document begins; only one is read", line=_line(event))

    def _take_scalar(self, event: Any) -> None:
        if event.anchor is not None or event.tag is not None:
            self._refuse_decoration(event)
        value = event.value
        into = self._open[-1] if self._open else None
        if type(into) is not Section or self._key is not None:
            # A plain scalar may be a number or a word; a quoted one is text.
            self._put(_plain(value) if event.implicit[0] else value, event)
            return
        self._key = value
        first = into.lines.setdefault(value, _line(event))
        if value in into:
            message = f"is given twice; it stands in line {first} already"
            self._findings.add(message, field=value, line=_line(event))

    def _enter(self, collection: Section | Listing, event: Any) -> None:
        if event.anchor is not None or event.tag is not None:
            self._refuse_decoration(event)
        if len(self._open) == MAX_DEPTH:
            raise self._findings.last(f"nested more than {MAX_DEPTH} deep", line=_line(event))
        self._put(collection, event)
        self._open.append(collection)

    def _put(self, value: Any, event: Any) -> None:
        into = self._open[-1] if self._open else None
        if type(into) is Section:
            if self._key is None:
                raise self._findings.last("a key must be text", line=_line(event))
            into.setdefault(self._key, value)
            self._key = None
        elif type(into) is Listing:
            into.append(value)
            into.lines.append(_line(event))
        else:
            self.root = value

    def _refuse_decoration(self, event: Any) -> None:
        if event.anchor is not None:
            self._refuse(event, f"anchor &{event.anchor}; anchors are not read")
        if event.tag is not None:
            self._refuse(event, f"tag {event.tag}; tags are not read")

    def _refuse(self, event: Any, message: str) -> None:
        self._findings.add(message, line=_line(event))
        self.refused = True


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _plain(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _FLOAT(text):
        return float(text) if not _INTEGER(text) or len(text) > _MAX_DIGITS else int(text)
    return text
