"""A headless Chromium of its own: found, started with an empty profile, and ended with all its processes."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

MISSING = "Chromium is not installed: apt-get install chromium"

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
_STARTED_WITHIN_S = 60.0
_ENDED_WITHIN_S = 10.0
_POLL_S = 0.02
_NOT_NEEDED = (
    # Pages of the address bar, loaded for each browser context: two thirds of what one costs.
    *("WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "SpareRendererForSitePerProcess"),
    *("Translate", "OptimizationHints", "MediaRouter", "DialMediaRouteProvider"),
)
_ARGUMENTS = (
    "--headless",
    "--remote-debugging-address=127.0.0.1",
    # The port that it chose stands in DevToolsActivePort.
    "--remote-debugging-port=0",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-features=" + ",".join(_NOT_NEEDED),
    "--metrics-recording-only",
    "--password-store=basic",
    "--use-mock-keychain",
    "--force-color-profile=srgb",
    "--lang=en-GB",
    # No name of another host resolves, whatever a page asks for.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    "about:blank",
)


class ChromiumError(Exception):
    """Chromium did not start; the text has what it wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chromium:
    """A running Chromium: its process and the ws:// address of its DevTools."""

    pid: int
    url: str
    profile: Path

    def processes(self) -> list[psutil.Process]:
        """Return all its processes that run."""
        return _processes(self.profile)


def find_chromium() -> str | None:
    """Return the program: CHROMIUM of the environment, or what is installed; None if there is none."""
    if named := os.environ.get("CHROMIUM"):
        return named
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    return found or (str(_MAC) if _MAC.exists() else None)


@contextmanager
def open_chromium(program: str | None = None) -> Iterator[Chromium]:
    """Start Chromium and kill it at the end, together with every process that it started.

    Raises:
        ChromiumError: it is not installed, or did not start.
    """
    program = program or find_chromium()
    if program is None:
        raise ChromiumError(MISSING)
    profile = Path(tempfile.mkdtemp(prefix="trioder-chromium-"))
    try:
        with (profile / "output").open("wb") as output:
            process = subprocess.Popen(
                [program, f"--user-data-dir={profile}", *_sandbox(), *_ARGUMENTS],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield Chromium(pid=process.pid, url=_devtools_url(process, profile), profile=profile)
        finally:
            _end(process, profile)
    finally:
        shutil.rmtree(profile, ignore_errors=True)


def _sandbox() -> list[str]:
    # Chromium refuses to run as root with its sandbox.
    return ["--no-sandbox"] if os.geteuid() == 0 else []


def _devtools_url(process: subprocess.Popen[bytes], profile: Path) -> str:
    deadline = time.monotonic() + _STARTED_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(FileNotFoundError, ValueError):
            port, path = (profile / "DevToolsActivePort").read_text().splitlines()
            return f"ws://127.0.0.1:{port}{path}"
        time.sleep(_POLL_S)
    output = (profile / "output").read_text(errors="replace")[-2000:]
    raise ChromiumError(f"Chromium did not start (exit code {process.poll()}):\n{output}")


def _end(process: subprocess.Popen[bytes], profile: Path) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # Its crash handler has a session of its own.
    left = _processes(profile)
    for child in left:
        with suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(left, timeout=_ENDED_WITHIN_S)


def _processes(profile: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            # A process that has ended, and whose parent does not wait for it, has no command line.
            if any(str(profile) in argument for argument in process.cmdline()):
                found.append(process)
    return found
