"""Ctrl-S on the terminal that everything writes to: nothing waits for it; the log goes on after Ctrl-Q."""

import fcntl
import os
import re
import signal
import struct
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.e2e.processes import Api, Processes, Program, open_api, open_processes
from tests.unit.launcher.fleets import fleet_of
from trioder.fleet import dump_fleet

WITHIN_S = 60
ASSETS = 4
CTRL_S, CTRL_Q = b"\x13", b"\x11"


@dataclass(kw_only=True)
class Terminal:
    """The screen's side of a terminal, and what is on it."""

    keyboard: trio.lowlevel.FdStream
    slave: int
    screen: str = ""
    _news: trio.Event = field(default_factory=trio.Event)

    async def read(self) -> None:
        # A terminal whose programs have all left is an error to read from, on Linux.
        try:
            async for chunk in self.keyboard:
                self.screen += chunk.decode(errors="replace")
                self._news.set()
                self._news = trio.Event()
        except trio.BrokenResourceError:
            pass

    async def shows(self, pattern: str) -> re.Match[str]:
        while (found := re.search(pattern, self.screen)) is None:
            await self._news.wait()
        return found


@asynccontextmanager
async def open_terminal() -> AsyncIterator[Terminal]:
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    terminal = Terminal(keyboard=trio.lowlevel.FdStream(master), slave=slave)
    async with terminal.keyboard, trio.open_nursery() as nursery:
        nursery.start_soon(terminal.read)
        try:
            yield terminal
        finally:
            os.close(slave)
            nursery.cancel_scope.cancel()


@dataclass(kw_only=True)
class Everything:
    terminal: Terminal
    processes: Processes
    headend: Program
    launcher: Program
    api: Api


@asynccontextmanager
async def open_everything(folder: Path) -> AsyncIterator[Everything]:
    """Yield headend and launcher on one terminal, and every battery connected."""
    fleet = folder / "fleet.json"
    fleet.write_text(dump_fleet(fleet_of(ASSETS), form="json"))
    common = {"ASSETS_PATH": str(fleet), "STATE_DIR": str(folder), "LOG_LEVEL": "debug", "TERM": "dumb"}
    async with open_terminal() as terminal, open_processes() as processes:
        with trio.fail_after(WITHIN_S):
            headend = await processes.start(
                "trioder.headend",
                env=common
                | {
                    "HEADEND_HTTP_ADDR": "127.0.0.1:0",
                    "HEADEND_GRPC_ADDR": "127.0.0.1:0",
                    "DATABASE_URL": "none",
                },
                stderr=terminal.slave,
            )
            ready = await terminal.shows(r'"http_addr": "([^"]*)", "grpc_addr": "([^"]*)"')
            launcher = await processes.start(
                "trioder.launcher",
                env=common
                | {"HEADEND_GRPC": ready[2], "SHARD_SIZE": "2", "TICK_S": "0.1", "LOG_FORMAT": "auto"},
                stderr=terminal.slave,
            )
            async with open_api(ready[1]) as api:
                await api.until_connected(ASSETS)
                await terminal.shows(f"assets connected {ASSETS}/{ASSETS}")
                yield Everything(
                    terminal=terminal, processes=processes, headend=headend, launcher=launcher, api=api
                )


async def until_setpoint(api: Api, asset_id: str, mw: float) -> None:
    while True:
        row = await api.get(f"/telemetry/{asset_id}")
        if row["setpoint_mw"] == mw and row["quality"] == "good":
            return
        await trio.sleep(0.05)


async def test_leases_end_and_rest_answers_while_the_terminal_is_stopped(tmp_path: Path) -> None:
    async with open_everything(tmp_path) as all_of_it:
        api, terminal = all_of_it.api, all_of_it.terminal
        [asset] = await api.get("/assets", limit=1)
        await terminal.keyboard.send_all(CTRL_S)
        # Each request is a log line; from here on nobody shows them.
        for _ in range(20):
            await api.get("/health")
        shown = terminal.screen
        answer = await api.post("/dispatch?wait=ack", {"asset_id": asset["id"], "mw": 1.0, "duration_s": 2})
        assert answer["delivery"] == "sent"
        await until_setpoint(api, asset["id"], 1.0)
        # An agent that is restarted logs with all its levels, and the launcher about it.
        agent, *_ = all_of_it.processes.pids(containing="trioder.agent")
        os.kill(agent, signal.SIGKILL)
        await until_setpoint(api, asset["id"], 0.0)
        await api.until_connected(ASSETS)
        assert terminal.screen == shown
        assert "path=/dispatch" not in terminal.screen

        await terminal.keyboard.send_all(CTRL_Q)
        await terminal.shows('"path": "/dispatch')
        await terminal.shows("agent ended; starting it again")
        await terminal.shows(f"assets connected {ASSETS}/{ASSETS}, restarts 1")
        assert await all_of_it.launcher.stop() == 0
        assert await all_of_it.headend.stop() == 0
        await terminal.shows("headend stopped")


async def test_everything_stops_on_request_while_the_terminal_is_stopped(tmp_path: Path) -> None:
    async with open_everything(tmp_path) as all_of_it:
        await all_of_it.terminal.keyboard.send_all(CTRL_S)
        for _ in range(20):
            await all_of_it.api.get("/health")
        with trio.fail_after(10):
            assert await all_of_it.launcher.stop() == 0
        with trio.fail_after(10):
            assert await all_of_it.headend.stop() == 0
        with trio.fail_after(WITHIN_S):
            await all_of_it.processes.none_left()
