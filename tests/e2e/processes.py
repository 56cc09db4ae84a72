"""Real processes for the end-to-end tests: started, spoken to, killed, and none left behind."""

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import trio

ROOT = Path(__file__).parents[2]
_MARK = "TRIODER_TEST_MARK"


@dataclass(kw_only=True)
class Program:
    """A running program of ours and the log lines that it wrote so far."""

    process: trio.Process
    log: list[dict[str, Any]] = field(default_factory=list)
    _news: trio.Event = field(default_factory=trio.Event)

    def append(self, entry: dict[str, Any]) -> None:
        self.log.append(entry)
        self._news.set()
        self._news = trio.Event()

    async def logged(self, pattern: str, *, after: int = 0) -> dict[str, Any]:
        """Wait for a log line whose event matches, from position `after` on."""
        position = after
        while True:
            for entry in self.log[position:]:
                if re.search(pattern, str(entry.get("event"))):
                    return entry
            position = len(self.log)
            await self._news.wait()

    async def stop(self, signum: int = signal.SIGTERM) -> int:
        """Send the signal and return the exit code."""
        self.process.send_signal(signum)
        return await self.process.wait()


class Processes:
    """Everything one test starts, marked so that what is left behind can be found."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._mark = f"{_MARK}={uuid.uuid4()}"

    async def start(
        self,
        module: str,
        *arguments: str,
        env: Mapping[str, str],
        within: Sequence[str] = (),
        stderr: int = subprocess.PIPE,
    ) -> Program:
        """Start `python -m module` with JSON logs; `within` runs it, if given.

        They are followed from now on, unless `stderr` is a descriptor that they go to instead.
        """
        name, _, value = self._mark.partition("=")
        process = await trio.lowlevel.open_process(
            [*within, sys.executable, "-m", module, *arguments],
            env={**os.environ, "LOG_FORMAT": "json", **env, name: value},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
        program = Program(process=process)
        if stderr != subprocess.PIPE:
            return program
        self._nursery.start_soon(_follow, program)
        return program

    def pids(self, containing: str = "") -> list[int]:
        """The running processes of this test, by a part of their command line."""
        if Path("/proc/self/environ").exists():
            return [pid for pid in _pids_by_proc(self._mark) if containing in _command_line(pid)]
        listing = subprocess.run(
            ["ps", "axeww", "-o", "pid=,command="], capture_output=True, text=True, check=True
        ).stdout
        lines = [line for line in listing.splitlines() if self._mark in line and containing in line]
        return [int(line.split(None, 1)[0]) for line in lines]

    async def none_left(self) -> None:
        """Wait until every process of this test has ended."""
        while self.pids():
            await trio.sleep(0.05)


@asynccontextmanager
async def open_processes() -> AsyncIterator[Processes]:
    """Yield a starter of processes; whatever it started is killed at the end."""
    async with trio.open_nursery() as nursery:
        processes = Processes(nursery)
        try:
            yield processes
        finally:
            for pid in processes.pids():
                os.kill(pid, signal.SIGKILL)


async def _follow(program: Program) -> None:
    # Ends when every holder of the pipe has: a program's children write to it too.
    assert program.process.stderr is not None
    with trio.CancelScope(shield=True):
        async with program.process.stderr as stream:
            rest = b""
            async for chunk in stream:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    program.append(_entry(line))
        await program.process.wait()


def _entry(line: bytes) -> dict[str, Any]:
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:
        return {"event": line.decode(errors="replace")}
    return entry


def _pids_by_proc(mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:  # it ended meanwhile, or is not ours
                continue
    return found


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


class Api:
    """The headend's REST, as a user of curl sees it."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def get(self, path: str, **query: str | int) -> Any:
        response = await self._client.get(path, params=query)
        response.raise_for_status()
        return response.json()

    async def health(self) -> dict[str, Any]:
        """The body of `/health`, whatever its status."""
        answer: dict[str, Any] = (await self._client.get("/health")).json()
        return answer

    async def post(self, path: str, body: object) -> Any:
        response = await self._client.post(path, json=body)
        response.raise_for_status()
        return response.json()

    async def connected(self) -> dict[str, dict[str, Any]]:
        """The live sessions by asset id; none while the headend is down."""
        try:
            return {row["asset_id"]: row for row in await self.get("/agents")}
        except httpx2.TransportError:
            return {}

    async def until_connected(self, count: int) -> dict[str, dict[str, Any]]:
        """Wait until so many assets have a live session."""
        while len(sessions := await self.connected()) != count:
            await trio.sleep(0.1)
        return sessions


@asynccontextmanager
async def open_api(address: str, *, ca: Path | None = None, token: str = "") -> AsyncIterator[Api]:
    """Yield a client of the headend at host:port; over TLS with the CA of its certificate, if given."""
    base_url = f"http://{address}" if ca is None else f"https://{address}"
    async with httpx2.AsyncClient(
        base_url=base_url,
        timeout=30,
        verify=True if ca is None else ssl.create_default_context(cafile=ca),
        headers={"Authorization": f"Bearer {token}"} if token else {},
    ) as client:
        yield Api(client)
