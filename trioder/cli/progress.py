"""A line of progress on standard error: redrawn on a terminal, printed when it changes elsewhere."""

import shutil
import sys
from types import TracebackType
from typing import Self

from trioder.cli.output import is_terminal, note
from trioder.cli.printable import shortened

_CLEAR_LINE = "\r\x1b[K"


class Progress:
    """Shows what is waited for; use it with `with`, at whose end its line is gone."""

    def __init__(self) -> None:
        self._redraws = is_terminal(sys.stderr)
        self._shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._redraws and self._shown:
            self._write(_CLEAR_LINE)

    def show(self, text: str) -> None:
        """Show a line, harmless already."""
        if text == self._shown:
            return
        self._shown = text
        if self._redraws:
            self._write(_CLEAR_LINE + shortened(text, shutil.get_terminal_size().columns - 1))
        else:
            note(text)

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
