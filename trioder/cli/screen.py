"""The terminal as a screen that is drawn again in place, and restored in any case."""

import os
import shutil
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_LFLAG, _IFLAG, _CC = 3, 0, 6


class Screen:
    """The alternate screen of a terminal, without a cursor; keys are read one by one and are not shown.

    Args:
        keyboard: descriptor of the terminal that is read; None if standard input is no terminal.
    """

    def __init__(self, keyboard: int | None) -> None:
        self.keyboard = keyboard
        self._saved = None if keyboard is None else termios.tcgetattr(keyboard)

    def enter(self) -> None:
        """Show the alternate screen."""
        if self.keyboard is not None:
            modes = termios.tcgetattr(self.keyboard)
            modes[_LFLAG] &= ~(termios.ICANON | termios.ECHO)
            # Ctrl-S would stop the drawing, and with it the whole program.
            modes[_IFLAG] &= ~termios.IXON
            modes[_CC][termios.VMIN], modes[_CC][termios.VTIME] = 1, 0
            termios.tcsetattr(self.keyboard, termios.TCSADRAIN, modes)
        self._write(_ENTER)

    def leave(self) -> None:
        """Show what was there before, with its cursor and modes."""
        try:
            self._write(_LEAVE)
        finally:
            if self.keyboard is not None and self._saved is not None:
                termios.tcsetattr(self.keyboard, termios.TCSADRAIN, self._saved)

    def draw(self, lines: list[str]) -> None:
        """Draw lines, each of which fits, in place of those before."""
        text = "\r\n".join(f"{line}\x1b[K" for line in lines)
        self._write(f"\x1b[H{text}\x1b[J")

    def size(self) -> tuple[int, int]:
        """Return the columns and lines of the terminal, at least 1."""
        size = shutil.get_terminal_size()
        try:
            size = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            return size
        return max(1, size.columns), max(1, size.lines)

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


@contextmanager
def open_screen(keyboard: int | None) -> Iterator[Screen]:
    """Yield the screen; whatever happens, the terminal is as before at the end."""
    screen = Screen(keyboard)
    try:
        screen.enter()
        yield screen
    finally:
        screen.leave()
