"""The live feed over real sockets: real clients, clients that do not read, a headend that starts again."""

import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
import trio
from structlog.testing import capture_logs

from tests.unit.access.certificates import Authority
from tests.unit.api.rest import Rest, make_fleet, uuid_of
from trioder.access.table import AccessTable
from trioder.access.tls import ServerTls
from trioder.access.tls_stream import TlsStream
from trioder.api import AllowedHosts, create_app, serve_rest
from trioder.api.context import Headend
from trioder.api.stream import feed as feed_module
from trioder.domain.fleet import Fleet
from trioder.headend.service import open_headend
from trioder.process.wall_time import WallClock
from trioder.store.none import NoneStore

ROOT = Path(__file__).parents[3]
# What a client that does not read can make the system hold: the send buffer, which Linux doubles.
SEND_BUFFER_BYTES = 256 * 1024


@dataclass(kw_only=True)
class Served:
    """A served headend."""

    headend: Headend
    rest: Rest
    port: int
    ended: trio.Event = field(default_factory=trio.Event)

    async def connect(self, query: str = "", *, version: str = "1.1", receive_buffer: int = 0) -> "Stream":
        """Open a stream by a request of our own."""
        sock = trio.socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await sock.connect(("127.0.0.1", self.port))
        stream = trio.SocketStream(sock)
        await stream.send_all(f"GET /stream{query} HTTP/{version}\r\nhost: localhost\r\n\r\n".encode())
        return Stream(stream)

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await trio.sleep(0.01)


class Stream:
    """The bytes of a response."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self.stream = stream
        self.received = b""

    async def until(self, part: bytes) -> bytes:
        """Read until this part has come; return what has come by then."""
        while part not in self.received:
            data = await self.stream.receive_some()
            if not data:
                raise EOFError(self.received)
            self.received += data
        return self.received

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await trio.aclose_forcefully(self.stream)


@asynccontextmanager
async def open_served(
    fleet: Fleet | None = None,
    *,
    port: int = 0,
    tls: ServerTls | None = None,
    access: AccessTable | None = None,
    hosts: AllowedHosts | None = None,
) -> AsyncIterator[Served]:
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    with trio.fail_after(60):
        async with (
            open_headend(
                fleet=fleet or make_fleet(),
                store=NoneStore(),
                wall=WallClock.starting_now(),
                rng=random.SystemRandom(),
                tick_s=0.5,
                access=access,
            ) as headend,
            trio.open_nursery() as nursery,
        ):
            app = create_app(headend)
            served = Served(
                headend=headend,
                rest=Rest(headend=headend, app=app),
                port=listeners[0].socket.getsockname()[1],
            )

            async def serve(task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC128  # serve_rest calls it
                await serve_rest(
                    app, listeners, shutdown=headend.closing, hosts=hosts, tls=tls, task_status=task_status
                )
                served.ended.set()

            await nursery.start(serve)
            yield served
            headend.closing.set()
            await served.ended.wait()


def chunks_of(body: bytes) -> bytes:
    """Decode a body in chunks, as far as it has come."""
    decoded = b""
    while b"\r\n" in body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        decoded += rest[:length]
        if len(rest) < length + 2:
            break
        assert rest[length : length + 2] == b"\r\n"
        body = rest[length + 2 :]
    return decoded


async def test_a_response_is_in_well_formed_chunks_and_ends_in_order() -> None:
    async with open_served() as served, await served.connect() as stream:
        await stream.until(b"event: complete")
        await stream.until(b"event: telemetry")
        served.headend.closing.set()
        await stream.until(b"\r\n0\r\n\r\n")
        head, _, body = stream.received.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    assert b"content-type: text/event-stream" in head.lower()
    events = chunks_of(body).decode()
    assert events.startswith("retry: 2000\n\nevent: begin\ndata: {")
    assert json.loads(events.rstrip().rpartition("data: ")[2])["reason"] == "the headend is stopping"
    assert served.ended.is_set()


async def test_http_1_0_gets_a_body_without_chunks() -> None:
    async with open_served() as served, await served.connect("?topics=fleet", version="1.0") as stream:
        await stream.until(b"event: complete")
        served.headend.closing.set()
        with pytest.raises(EOFError):
            await stream.until(b"never")
    assert b"\r\n\r\nretry: 2000\n\nevent: begin\n" in stream.received
    assert stream.received.endswith(b"}\n\n")


async def test_a_stream_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = ServerTls(*authority.issue("localhost", "127.0.0.1"), alpn=["http/1.1"])
    async with open_served(tls=tls) as served:
        plain = await trio.open_tcp_stream("127.0.0.1", served.port)
        stream = TlsStream(
            plain, ssl.create_default_context(cafile=str(authority.file)), server_hostname="localhost"
        )
        async with Stream(stream) as client:
            await stream.do_handshake()
            await stream.send_all(b"GET /stream HTTP/1.1\r\nhost: localhost\r\n\r\n")
            await client.until(b"event: complete")
            await client.until(b"event: telemetry")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
async def test_curl_shows_events_as_they_come() -> None:
    async with open_served() as served:
        command = ["curl", "-sN", f"http://127.0.0.1:{served.port}/stream?topics=fleet,telemetry"]
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        async with Stream(process.stdout) as output:
            await output.until(b"event: complete")
            received = len(await output.until(b"event: telemetry"))
            output.received = b""
            assert received
            await output.until(b"event: fleet")
        process.kill()
        await process.wait()
        await served.until(lambda: len(served.headend.feed) == 0)


async def test_a_client_that_leaves_frees_what_it_had() -> None:
    with capture_logs() as lines:
        async with open_served() as served:
            for _ in range(3):
                async with await served.connect() as stream:
                    await stream.until(b"event: complete")
                await served.until(lambda: len(served.headend.feed) == 0)
            assert served.headend.feed.clients == set()
    ended = [line for line in lines if line["event"] == "stream ended"]
    assert [line["reason"] for line in ended] == ["the client left"] * 3
    requests = [line for line in lines if line["event"] == "request"]
    assert [(line["path"], line["status"]) for line in requests] == [("/stream", 200)] * 3


async def test_what_a_client_that_does_not_read_pins_is_bounded() -> None:
    async with (
        open_served(make_fleet(sites=1, assets_a_site=5_000)) as served,
        await served.connect("?topics=telemetry", receive_buffer=4096),
        await served.connect("?topics=telemetry") as other,
        trio.open_nursery() as nursery,
    ):
        feed, counters = served.headend.feed, served.headend.counters
        await other.until(b"event: complete")

        def stuck_clients() -> list[Any]:
            return [each for each in feed.clients if each.sending_s < trio.current_time() - 1.0]

        nursery.start_soon(other.until, b"never")
        await served.until(lambda: stuck_clients() != [])
        [client] = stuck_clients()
        sent_bytes = client._bytes
        written = counters.stream_bytes
        # Others are sent what changes meanwhile.
        await served.until(lambda: counters.stream_bytes > written + 2_000_000)
        assert client._bytes == sent_bytes
        # One event of it is being written: its bytes are shared.
        assert sent_bytes < SEND_BUFFER_BYTES + 4096
        nursery.cancel_scope.cancel()


async def test_a_client_that_does_not_read_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "SEND_TIMEOUT_S", 1.0)
    with capture_logs() as lines:
        async with (
            open_served(make_fleet(sites=1, assets_a_site=5_000)) as served,
            await served.connect(receive_buffer=4096) as stuck,
        ):
            await served.until(lambda: served.headend.counters.streams_dropped == 1)
            await served.until(lambda: len(served.headend.feed) == 0)
            # What the system has taken can still be read, then the connection is at its end.
            with pytest.raises((EOFError, trio.BrokenResourceError)):
                await stuck.until(b"never")
    assert "stream dropped: its client does not read" in [line["event"] for line in lines]
    assert "connection crashed" not in [line["event"] for line in lines]


async def test_many_clients_that_leave_at_any_moment_leave_nothing_behind() -> None:
    async with open_served() as served:

        async def come_and_go(steps: int) -> None:
            async with await served.connect():
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()

        with capture_logs() as lines:
            async with trio.open_nursery() as nursery:
                for steps in range(60):
                    nursery.start_soon(partial(come_and_go, 5 * steps))
            await served.until(lambda: len(served.headend.feed) == 0)
        assert not [line for line in lines if "crash" in str(line["event"])]
        async with await served.connect() as stream:
            await stream.until(b"event: complete")


async def test_the_example_follows_a_headend_across_its_restart(tmp_path: Path) -> None:
    output = tmp_path / "output"
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}

    def lines() -> list[str]:
        return output.read_text().splitlines()

    with output.open("wb") as file:
        async with open_served() as served:
            url = f"http://127.0.0.1:{served.port}/stream?topics=fleet"
            process = await trio.lowlevel.open_process(
                [sys.executable, str(ROOT / "examples" / "follow_fleet.py"), url],
                stdout=file,
                stderr=file,
                env=env,
            )
            await served.until(lambda: len([line for line in lines() if line.startswith("fleet")]) >= 2)
        try:
            before = len(lines())
            async with open_served(port=served.port) as again:
                await again.until(lambda: any(line.startswith("fleet") for line in lines()[before:]))
                # It has sent the id of the headend before.
                [begin] = [line for line in lines()[before:] if line.startswith("begin")]
                assert "Last-Event-ID is of another run of the feed" in begin
        finally:
            process.send_signal(signal.SIGKILL)
            with trio.move_on_after(5, shield=True):
                await process.wait()
    assert next(line for line in lines() if line.startswith("end")).endswith("'the headend is stopping'}")
    assert uuid_of(0) not in output.read_text()
