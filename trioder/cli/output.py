"""Standard output: tables for people, JSON for programs, and what happens when nobody reads it."""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from trioder.cli.exit_codes import CommandError, OutputClosedError
from trioder.cli.tables import Table, TableLayout

_LINES_PER_WRITE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where a command prints.

    Attributes:
        as_json: one document of JSON, or a line for each of a stream's.
        layout: of tables.
    """

    as_json: bool
    layout: TableLayout

    def lines(self, lines: Iterable[str]) -> None:
        """Print lines as they are; those of text from outside must be harmless already."""
        with _closed_output():
            chunk: list[str] = []
            for line in lines:
                chunk.append(line)
                if len(chunk) >= _LINES_PER_WRITE:
                    _write(chunk)
                    chunk = []
            _write(chunk)
            sys.stdout.flush()

    def document(self, document: object) -> None:
        """Print one document of JSON, in ASCII: also a terminal can show any text in it."""
        self.lines([json_text(document, indent=2 if is_terminal(sys.stdout) else None)])

    def json_lines(self, documents: Iterable[object]) -> None:
        """Print a line of JSON for each."""
        self.lines(json_text(document) for document in documents)

    def json_array(self, documents: Iterable[object]) -> None:
        """Print an array of JSON, each element when it is read."""
        self.lines(_array_lines(documents))

    def table(self, table: Table, *, empty: str) -> None:
        """Print a table; without rows, what there is none of, on standard error."""
        if table.rows:
            self.lines(table.lines(self.layout))
        else:
            note(empty)


def open_output(*, as_json: bool) -> Output:
    """Return the output of a command, as the environment and the terminal have it.

    Raises:
        CommandError: there is none: nothing is to be commanded whose outcome nobody sees.
    """
    if sys.stdout is None:
        raise CommandError("standard output is closed; /dev/null takes what nobody reads")
    terminal = is_terminal(sys.stdout)
    return Output(
        as_json=as_json,
        layout=TableLayout(
            width=shutil.get_terminal_size().columns if terminal else None,
            colour=terminal and has_colour(),
        ),
    )


def has_colour() -> bool:
    """Whether a terminal may be sent colours: https://no-color.org."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def is_terminal(stream: object) -> bool:
    """Whether this stream is open, and a terminal."""
    try:
        return bool(stream is not None and stream.isatty())  # type: ignore[attr-defined]
    except ValueError:
        return False


def note(text: str) -> None:
    """Print a line for people on standard error."""
    click.echo(text, err=True)


def json_text(document: object, *, indent: int | None = None) -> str:
    """Return a document as JSON in ASCII; structs as objects with the names of the API."""
    return json.dumps(document, default=_to_builtins, indent=indent, ensure_ascii=True)


def _array_lines(documents: Iterable[object]) -> Iterator[str]:
    before = "["
    for document in documents:
        yield before + json_text(document)
        before = ","
    yield "]" if before == "," else "[]"


def _to_builtins(value: object) -> Any:
    import msgspec  # noqa: PLC0415  # commands that print no JSON start faster

    return msgspec.to_builtins(value)


def _write(lines: list[str]) -> None:
    if lines:
        sys.stdout.write("\n".join(lines) + "\n")


@contextmanager
def _closed_output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        # The interpreter would report at its end that it cannot flush.
        with open(os.devnull, "w") as null:  # noqa: PTH123
            os.dup2(null.fileno(), sys.stdout.fileno())
        raise OutputClosedError from None
    except OSError as error:
        raise CommandError(f"standard output cannot be written: {error.strerror}") from None
