"""The console as a process: what it refuses to start with, how it says so, and how it ends."""

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
import trio

from tests.integration.api.test_stream import open_served
from tests.unit.access.certificates import Authority, Pair

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "trioder.console"]


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "CONSOLE_HTTP_ADDR": "127.0.0.1:0", "HEADEND_HTTP": "127.0.0.1:1", **variables}


async def refused(**variables: str) -> str:
    """Run a console that must not start, and return its error output."""
    with trio.fail_after(20):
        ended = await trio.run_process(
            COMMAND, env=environment(**variables), cwd=ROOT, capture_stderr=True, check=False
        )
    assert ended.returncode == 2
    return ended.stderr.decode()


class Running:
    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.output = ""

    async def until(self, pattern: str) -> str:
        """Read its log until this is in it; return the first group."""
        assert self.process.stderr is not None
        while (match := re.search(pattern, self.output)) is None:
            data = await self.process.stderr.receive_some()
            assert data, self.output
            self.output += data.decode()
        return match[1]


@asynccontextmanager
async def running(**variables: str) -> AsyncIterator[Running]:
    with trio.fail_after(30):
        process = await trio.lowlevel.open_process(
            COMMAND, env=environment(**variables), cwd=ROOT, stderr=subprocess.PIPE
        )
        try:
            yield Running(process)
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Pair:
    pair = Authority(tmp_path).issue("localhost", "127.0.0.1")
    pair.key.chmod(0o600)
    return pair


async def test_a_reachable_port_without_tls_is_refused_in_one_sentence() -> None:
    said = await refused(CONSOLE_HTTP_ADDR="0.0.0.0:0")
    assert said.startswith("Error: other machines could reach the console without protection")
    assert said.count("\n") == 1


async def test_a_port_in_use_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        said = await refused(CONSOLE_HTTP_ADDR=address)
    assert said == f"Error: CONSOLE_HTTP_ADDR {address} cannot be listened on: Address already in use\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_ends_the_feeds_and_exits_0(number: signal.Signals) -> None:
    async with open_served() as served, running(HEADEND_HTTP=f"127.0.0.1:{served.port}") as console:
        port = int(await console.until(r"console ready http_addr=127\.0\.0\.1:(\d+)"))
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"GET /api/stream HTTP/1.1\r\nhost: localhost\r\n\r\n")
            await stream.receive_some()
            console.process.send_signal(number)
            received = b"".join([part async for part in stream])
            assert received.endswith(b"0\r\n\r\n"), received[-300:]
        assert await console.process.wait() == 0
        await console.until("(console stopped)")


async def test_tls_on_both_sides(tmp_path: Path, server: Pair) -> None:
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    variables = {"CONSOLE_TLS_CERT": str(server.cert), "CONSOLE_TLS_KEY": str(server.key)}
    async with running(CONSOLE_HTTP_ADDR="0.0.0.0:0", **variables) as console:
        port = await console.until(r"console ready http_addr=0\.0\.0\.0:(\d+)")

        def get() -> bytes:
            with urlopen(f"https://localhost:{port}/alarms", context=context, timeout=5) as answer:
                body: bytes = answer.read()
                return body

        assert b"<!doctype html>" in await trio.to_thread.run_sync(get)


async def test_the_port_is_open_to_other_machines_if_that_is_intended() -> None:
    async with running(CONSOLE_HTTP_ADDR="0.0.0.0:0", CONSOLE_INSECURE="1") as console:
        await console.until("(other machines can reach the console without protection)")
        await console.until("(console ready)")
