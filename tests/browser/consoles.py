"""Whole systems for the browser: a headend with its database, real agents and a console, each a process.

They outlive single tests, so that what is here is synchronous; tests use REST by `Console.open_rest`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.e2e.processes import ROOT, Api, open_api
from tests.ports import free_port
from trioder.access.directory import AccessDirectory
from trioder.access.document import DEFAULT_TRUST_DOMAIN
from trioder.domain.access import Role
from trioder.domain.fleet import Fleet
from trioder.fleet import dump_fleet

_POLL_S = 0.05
_READY_WITHIN_S = 90.0
_STOP_WITHIN_S = 20.0
_LAST_LINES = 15


@dataclass(kw_only=True)
class Program:
    """A `python -m module` that runs, or has been killed, and its log in a file."""

    module: str
    log: Path
    env: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it; the log begins anew."""
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                env={**os.environ, "LOG_FORMAT": "json", "LOG_LEVEL": "info", **self.env},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def logged(self, event: str) -> dict[str, Any]:
        """Wait for a log line that begins with these words, and return it."""
        assert self.process is not None
        deadline = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < deadline:
            has_ended = self.process.poll() is not None
            for entry in self.entries():
                if str(entry.get("event", "")).startswith(event):
                    return entry
            if has_ended:
                break
            time.sleep(_POLL_S)
        raise AssertionError(f"{self.module} has not logged {event!r}:\n{self._end_of_log()}")

    def entries(self) -> list[dict[str, Any]]:
        """Return what it has logged so far."""
        entries = []
        for line in self.log.read_text(errors="replace").splitlines():
            with suppress(ValueError):
                entries.append(json.loads(line))
        return entries

    def kill(self) -> None:
        """Kill the process itself, as the system does when memory is short, and wait for its end."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """Ask it to stop, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def end(self) -> None:
        """Wait until it has stopped, and kill whatever is left of its process group."""
        if self.process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_STOP_WITHIN_S)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _end_of_log(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:])


@dataclass(kw_only=True)
class Console:
    """A console with all that is behind it.

    Attributes:
        origin: where the browser finds it, as http://127.0.0.1:3000.
        rest: where the headend's REST is, as 127.0.0.1:3001.
        tokens: by their names; none where access is open.
    """

    origin: str
    rest: str
    fleet: Fleet
    folder: Path
    headend: Program
    launcher: Program
    server: Program
    tokens: Mapping[str, str] = field(default_factory=dict)

    def open_rest(self, token: str = "admin") -> AbstractAsyncContextManager[Api]:
        """Return a client of the headend's REST with one of the tokens, by its name."""
        return open_api(self.rest, token=self.tokens.get(token, ""))

    def access(self) -> AccessDirectory:
        """Return the access directory, to create and revoke tokens."""
        return AccessDirectory(self.folder / "access", user="tests")

    def start_headend(self) -> None:
        """Start the headend again on the same ports, once it was killed; return when it is ready."""
        self.headend.start()
        self.headend.logged("headend ready")


@contextmanager
def open_console(
    folder: Path,
    fleet: Fleet,
    *,
    shard_size: int = 80,
    tick_s: float = 1.0,
    database_url: str = "embedded",
    tokens: Mapping[str, tuple[Role, str]] | None = None,
    trips: str = "",
    scenario: Path | None = None,
    proxy: Callable[[str], AbstractContextManager[str]] = nullcontext,
) -> Iterator[Console]:
    """Start everything with its state in a folder, wait until all assets have reported; stop it at the end.

    Args:
        folder: must have a short path: the database has a socket below it.
        fleet: all of its assets are driven by agents.
        shard_size: assets of one agent process.
        tick_s: seconds between two samples of an asset.
        database_url: as DATABASE_URL.
        tokens: that REST needs, one named `admin` among them: role and tenant by their names.
        trips: the id of an asset whose inverter trips after 3 s, which is an alarm.
        scenario: instead, a file that says what happens to the assets.
        proxy: opens what is between the console and the REST at a host:port, and yields its own host:port.
    """
    fleet_path = folder / "fleet.json"
    fleet_path.write_text(dump_fleet(fleet, form="json"), encoding="utf-8")
    grpc, http = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    env = {
        "ASSETS_PATH": str(fleet_path),
        "DATABASE_URL": database_url,
        "STATE_DIR": str(folder),
        "HEADEND_GRPC_ADDR": grpc,
        "HEADEND_HTTP_ADDR": http,
        "HEADEND_TICK_S": "0",
    }
    for_launcher = env | {
        "HEADEND_GRPC": grpc,
        "SHARD_SIZE": str(shard_size),
        "TICK_S": str(tick_s),
    }
    if trips:
        scenario = _write_trip(folder, trips)
    if scenario is not None:
        for_launcher["SCENARIO"] = str(scenario)
    with proxy(http) as headend_http:
        for_console = {"CONSOLE_HTTP_ADDR": "127.0.0.1:0", "HEADEND_HTTP": headend_http}
        console = Console(
            origin="",
            rest=http,
            fleet=fleet,
            folder=folder,
            headend=Program(module="trioder.headend", log=folder / "headend.log", env=env),
            launcher=Program(module="trioder.launcher", log=folder / "launcher.log", env=for_launcher),
            server=Program(module="trioder.console", log=folder / "console.log", env=for_console),
            tokens=_make_tokens(folder, tokens) if tokens else {},
        )
        programs = (console.launcher, console.headend, console.server)
        try:
            for program in programs:
                program.start()
            console.origin = f"http://{console.server.logged('console ready')['http_addr']}"
            console.headend.logged("headend ready")
            console.launcher.logged("fleet connected")
            _wait_for_values(console)
            yield console
        finally:
            for program in programs:
                program.terminate()
            for program in programs:
                program.end()


def _write_trip(folder: Path, asset_id: str) -> Path:
    path = folder / "scenario.json"
    action = {"do": "trip", "assets": {"ids": [asset_id]}, "at_s": 3}
    path.write_text(json.dumps({"name": "An asset trips", "actions": [action]}), encoding="utf-8")
    return path


def _wait_for_values(console: Console) -> None:
    """Wait until every asset has reported a value that counts."""
    headers = {"Authorization": f"Bearer {console.tokens['admin']}"} if console.tokens else {}
    request = Request(f"http://{console.rest}/fleet", headers=headers)
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline:
        with urlopen(request, timeout=_READY_WITHIN_S) as response:
            sums = json.load(response)
        if sums["live_assets"] == len(console.fleet.assets):
            return
        time.sleep(_POLL_S)
    raise AssertionError(f"not every asset has reported: {sums}")


def _make_tokens(folder: Path, tokens: Mapping[str, tuple[Role, str]]) -> dict[str, str]:
    directory = AccessDirectory(folder / "access", user="tests")
    directory.initialise(DEFAULT_TRUST_DOMAIN)
    return {
        name: directory.create_token(name, role=role, tenant=tenant)
        for name, (role, tenant) in tokens.items()
    }
