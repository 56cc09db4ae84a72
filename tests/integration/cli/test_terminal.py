"""`trioder` in a real terminal: tables that fit, progress, and `watch`, which leaves it as it was."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.cli.headends import (
    AWAY,
    FAULTY,
    GOOD,
    ROOT,
    WITHIN_S,
    Trioder,
    eventually,
    running_agents,
    running_headend,
    write_fleet,
)
from tests.ports import free_port

# Ctrl-C and Ctrl-Z are for the session's own terminal.
_IN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "trioder.cli", *sys.argv[1:]])
"""
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watch")
    write_fleet(folder)
    return folder


@pytest.fixture(scope="module")
def trioder(folder: Path) -> Iterator[Trioder]:
    with running_headend(folder, database="none") as ready, running_agents(folder, ready["grpc_addr"]):
        yield Trioder(url=f"http://{ready['http_addr']}", home=folder)


class Terminal:
    """A program in a terminal of its own, and what that shows."""

    def __init__(self, trioder: Trioder, *arguments: str, columns: int, lines: int, **env: str) -> None:
        self.controller, self.terminal = pty.openpty()
        self.resize(columns, lines)
        self.modes_before = termios.tcgetattr(self.terminal)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _IN_TERMINAL, *arguments],
            env=trioder.env(TERM="xterm", **env),
            cwd=ROOT,
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=self.terminal,
            start_new_session=True,
        )
        self.output = b""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self.controller, 65536)
            except OSError:
                return
            if not part:
                return
            self.output += part

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self.controller, keys.encode())

    @property
    def styled_screen(self) -> list[str]:
        """The lines of the last frame that is whole."""
        text = self.output.decode(errors="replace").rpartition("\x1b[J")[0].rpartition("\x1b[H")[2]
        return [line.strip("\r").removesuffix("\x1b[K") for line in text.split("\n")]

    @property
    def screen(self) -> list[str]:
        """The same without styles."""
        return [_STYLE.sub("", line) for line in self.styled_screen]

    def until(self, pattern: str) -> list[str]:
        """Wait until a line of the screen matches, and return the screen."""
        ends = time.monotonic() + WITHIN_S
        while True:
            screen = self.screen
            if any(re.search(pattern, line) for line in screen):
                return screen
            assert self.process.poll() is None, self.output.decode()
            assert time.monotonic() < ends, "\n".join(screen)
            time.sleep(0.05)

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(WITHIN_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)
        self._thread.join()
        os.close(self.controller)


@contextmanager
def terminal(
    trioder: Trioder, *arguments: str, columns: int = 150, lines: int = 24, **env: str
) -> Iterator[Terminal]:
    opened = Terminal(trioder, *arguments, columns=columns, lines=lines, **env)
    try:
        yield opened
    finally:
        opened.close()


def assert_restored(opened: Terminal) -> None:
    assert termios.tcgetattr(opened.terminal) == opened.modes_before
    # What it wrote last; it is read by a thread.
    eventually(lambda: opened.output.endswith(b"\x1b[?25h\x1b[?1049l"))


def test_the_table_is_drawn_in_place_and_fits(trioder: Trioder) -> None:
    with terminal(trioder, "watch") as opened:
        screen = opened.until(rf"^{GOOD} .* good ")
        assert screen[0].startswith(f"{trioder.url}  live  ")
        assert re.search(rf"^{FAULTY} .* bad ", "\n".join(screen), re.MULTILINE)
        assert len(screen) == 24
        opened.press("q")
        assert opened.end() == 0
        assert_restored(opened)


def test_it_follows_the_size_of_the_terminal(trioder: Trioder) -> None:
    with terminal(trioder, "watch") as opened:
        opened.until(rf"^{GOOD}")
        opened.resize(60, 8)
        screen = opened.until(r"^1 to 3 of 5, by fleet")
        assert len(screen) == 8
        assert max(map(len, screen)) <= 60


def test_keys_change_what_is_shown(trioder: Trioder) -> None:
    with terminal(trioder, "watch") as opened:
        opened.until(rf"^{GOOD} .* good ")
        opened.press("n")
        screen = opened.until("of 2 not good, by fleet")
        assert not any(line.startswith(GOOD) for line in screen)
        opened.press("ns")
        screen = opened.until("of 5, by name")
        assert screen[4].startswith(GOOD)


@pytest.mark.parametrize(
    ("signum", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)],
)
def test_the_terminal_is_restored_after_a_signal(signum: int, code: int, trioder: Trioder) -> None:
    with terminal(trioder, "watch") as opened:
        opened.until(rf"^{GOOD}")
        assert termios.tcgetattr(opened.terminal) != opened.modes_before
        if signum == signal.SIGINT:
            opened.press("\x03")
        else:
            opened.process.send_signal(signum)
        assert opened.end() == code
        assert_restored(opened)


def test_ctrl_z_shows_the_terminal_as_it_was_until_it_is_continued(trioder: Trioder) -> None:
    with terminal(trioder, "watch") as opened:
        opened.until(rf"^{GOOD}")
        opened.press("\x1a")
        _, status = os.waitpid(opened.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert_restored(opened)
        opened.process.send_signal(signal.SIGCONT)
        opened.output = b""
        opened.until(rf"^{GOOD}")


def test_an_error_before_the_table_leaves_the_terminal_alone(trioder: Trioder) -> None:
    with terminal(trioder, "watch", "--site", "nonsuch") as opened:
        assert opened.end() == 5
        assert termios.tcgetattr(opened.terminal) == opened.modes_before


@pytest.mark.parametrize(("no_colour", "styled"), [("", True), ("1", False)])
def test_a_table_fits_the_terminal(no_colour: str, styled: bool, trioder: Trioder) -> None:
    with terminal(trioder, "assets", columns=80, NO_COLOR=no_colour) as opened:
        assert opened.end() == 0
        eventually(lambda: AWAY[:10] in opened.output.decode())
        text = opened.output.decode()
    assert ("\x1b[33m" in text) == styled
    assert max(map(len, _STYLE.sub("", text).split("\r\n"))) <= 80


def test_progress_is_one_line_that_is_gone_at_the_end(trioder: Trioder) -> None:
    command = ["dispatch", "asset", AWAY, "0.5", "--for", "1m", "--wait", "ack", "--timeout", "1s"]
    with terminal(trioder, *command) as opened:
        assert opened.end() == 7
        eventually(lambda: b"It goes on" in opened.output)
        text = opened.output.decode()
    assert text.startswith("\r\x1b[K0 of 1 acknowledged (1 queued)\r\x1b[Kdispatch ")


def test_a_lost_feed_is_said_and_all_is_old_until_it_is_back(folder: Path) -> None:
    http, grpc = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    trioder = Trioder(url=f"http://{http}", home=folder)
    with terminal_of_killed_headend(folder, trioder, http, grpc) as opened:
        opened.until(rf"^{GOOD} .* old ")
        screen, styled = opened.screen, opened.styled_screen
        assert re.match(r"FEED LOST since \S+ \S+ UTC \(\d+s\), all values are old: ", screen[0])
        rows = range(4, 9)
        assert all(" old " in screen[row] and styled[row].startswith("\x1b[2m") for row in rows)
        with running_headend(folder, database="none", http_addr=http, grpc_addr=grpc):
            screen = opened.until(rf"^{GOOD} .* (good|synthesized) ")
            assert "live" in screen[0]


@contextmanager
def terminal_of_killed_headend(folder: Path, trioder: Trioder, http: str, grpc: str) -> Iterator[Terminal]:
    with running_headend(folder, database="none", http_addr=http, grpc_addr=grpc) as ready:
        opened = Terminal(trioder, "watch", columns=150, lines=24)
        try:
            opened.until(rf"^{GOOD} .* synthesized ")
            os.kill(ready["pid"], signal.SIGKILL)
        except BaseException:
            opened.close()
            raise
    try:
        yield opened
    finally:
        opened.close()
