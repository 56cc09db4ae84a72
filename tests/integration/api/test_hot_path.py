"""Hot reads on real connections: limits, records, slow and greedy clients, the end of a connection."""

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from tests.integration.api.ports import parse_response, read_all
from tests.unit.access.certificates import Authority
from tests.unit.api.rest import Rest, make_fleet, open_rest, uuid_of
from tests.unit.api.tenants import secret_of, tenants_fleet, tenants_table
from trioder.access.limits import Rate
from trioder.access.tls import ServerTls
from trioder.api import RestLimits, RestOptions, serve_rest
from trioder.api.fast_reads import FastReads
from trioder.api.http.hot_path import Client, HotResponse
from trioder.api.http.hot_requests import HotRequest

ONE = f"/telemetry/{uuid_of(1000)}"


def get(path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode()


@dataclass
class Counted:
    """The fast reads of an application, and how many they answered."""

    reads: FastReads
    answered: int = 0

    def respond(self, request: HotRequest, client: Client) -> HotResponse | None:
        response = self.reads.respond(request, client)
        self.answered += response is not None
        return response


@dataclass(frozen=True, kw_only=True)
class Port:
    rest: Rest
    address: tuple[str, int]
    counted: Counted
    shutdown: trio.Event
    ended: trio.Event

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(*self.address)


@asynccontextmanager
async def open_hot_port(*, tls: ServerTls | None = None, **options: Any) -> AsyncIterator[Port]:
    shutdown, ended = trio.Event(), trio.Event()
    with trio.fail_after(20):
        async with open_rest(**options) as rest, trio.open_nursery() as nursery:
            counted = Counted(rest.app.fast_reads)
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            address = listeners[0].socket.getsockname()
            run = partial(serve_rest, rest.app, listeners, shutdown=shutdown, fast_reads=counted, tls=tls)

            async def serve(task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC128  # run calls it
                await run(task_status=task_status)
                ended.set()

            await nursery.start(serve)
            yield Port(rest=rest, address=address, counted=counted, shutdown=shutdown, ended=ended)
            nursery.cancel_scope.cancel()


async def read_one(stream: trio.abc.ReceiveStream) -> tuple[int, dict[str, str], bytes]:
    """Receive one response with a content-length, and nothing after it."""
    raw = b""
    while True:
        head, found, body = raw.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head)
        if found and len(body) >= (0 if length is None else int(length[1])):
            return parse_response(raw)
        some = bytes(await stream.receive_some())
        assert some, raw
        raw += some


async def ask(stream: trio.SocketStream, path: str, *headers: str) -> tuple[int, dict[str, str], bytes]:
    await stream.send_all(get(path, *headers))
    return await read_one(stream)


async def test_every_read_is_answered_beside_the_application() -> None:
    async with open_hot_port() as port, await port.connect() as stream:
        port.rest.connect(0, 1)
        port.rest.report(0, 1)
        paths = [ONE, "/telemetry", "/assets", "/agents", "/fleet", "/sites", "/health", "/assets?limit=1"]
        for path in paths:
            assert (await ask(stream, path))[0] == 200
        assert port.counted.answered == len(paths)
        _, headers, _ = await ask(stream, "/assets")
        status, _, body = await ask(stream, "/assets", f"if-none-match: {headers['etag']}")
        assert (status, body) == (304, b"")
        # What is not there, or not allowed, is the application's.
        answered = port.counted.answered
        for path, status in (("/telemetry/" + uuid_of(1), 404), ("/assets?limit=0", 400), ("/whoami", 200)):
            assert (await ask(stream, path))[0] == status
        assert port.counted.answered == answered


async def test_requests_are_recorded_as_all_others() -> None:
    async with open_hot_port(fleet=tenants_fleet(), access=tenants_table()) as port:
        port.rest.report(0)
        token = f"authorization: Bearer {secret_of('viewer', 'alpha')}"
        with capture_logs() as lines:
            async with await port.connect() as stream:
                _, headers, _ = await ask(stream, "/assets?limit=1", token, "x-request-id: of-client.7")
                assert headers["x-request-id"] == "of-client.7"
                _, headers, _ = await ask(stream, ONE, token)
                assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"])
                _, _, metrics = await ask(
                    stream, "/metrics", f"authorization: Bearer {secret_of('viewer', '*')}"
                )
                local = stream.socket.getsockname()
        first, second = [line for line in lines if line["event"] == "request"][:2]
        assert first.pop("duration_ms") >= 0
        assert first == {
            "event": "request",
            "log_level": "info",
            "method": "GET",
            "path": "/assets",
            "status": 200,
            "peer": f"127.0.0.1:{local[1]}",
            "request_id": "of-client.7",
            "principal": "alpha-viewer",
        }
        assert (second["path"], second["request_id"]) == (ONE, headers["x-request-id"])
        sample = 'trioder_http_request_duration_seconds_count{method="GET",route="%s",status="200"} 1.0'
        for route in ("/assets", "/telemetry/<asset_id>"):
            assert (sample % route).encode() in metrics


async def test_a_tenant_sees_its_own_also_after_another_one_on_the_same_connection() -> None:
    async with (
        open_hot_port(fleet=tenants_fleet(), access=tenants_table()) as port,
        await port.connect() as stream,
    ):
        tags: dict[str, str] = {}
        for tenant in ("alpha", "beta", "alpha"):
            token = f"authorization: Bearer {secret_of('viewer', tenant)}"
            status, headers, body = await ask(stream, "/assets", token)
            assert status == 200
            assert tenant.encode() in body
            assert {"alpha": b"beta ", "beta": b"alpha "}[tenant] not in body
            tags[tenant] = headers["etag"]
        token = f"authorization: Bearer {secret_of('viewer', 'beta')}"
        assert (await ask(stream, "/assets", token, f"if-none-match: {tags['alpha']}"))[0] == 200
        assert port.counted.answered == 4
        assert (await ask(stream, "/assets"))[0] == 401
        assert (await ask(stream, "/assets", "authorization: Bearer nobody's"))[0] == 401
        assert (await ask(stream, "/health"))[0] == 200


async def test_requests_are_limited_as_all_others() -> None:
    options = RestOptions(limits=RestLimits(requests=Rate(per_s=0.001, burst=3)))
    async with (
        open_hot_port(fleet=tenants_fleet(), access=tenants_table(), options=options) as port,
        await port.connect() as stream,
    ):
        token = f"authorization: Bearer {secret_of('viewer', 'alpha')}"
        statuses = [(await ask(stream, "/assets", token))[0] for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        assert port.counted.answered == 3


async def test_long_responses_of_a_principal_are_limited() -> None:
    options = RestOptions(limits=RestLimits(open_streams=1))
    fleet = make_fleet(sites=1, assets_a_site=9_000)
    async with open_hot_port(fleet=fleet, access=tenants_table(), options=options) as port:
        token = f"authorization: Bearer {secret_of('viewer', '*')}"
        async with await port.connect() as reader, await port.connect() as other:
            # Kept in memory from now on.
            assert (await ask(other, "/assets", token))[0] == 200
            # More than all buffers between the two ends.
            await reader.send_all(get("/assets", token) * 20)
            await trio.sleep(0.5)
            assert (await ask(other, "/assets", token))[0] == 429
            assert (await ask(other, "/assets?limit=1", token))[0] == 200


@pytest.mark.parametrize("host", ["", "evil.example", "localhost:99999"])
async def test_other_hosts_are_misdirected(host: str) -> None:
    async with open_hot_port() as port, await port.connect() as stream:
        await stream.send_all(get("/assets").replace(b"host: localhost", b"host: " + host.encode()))
        status, _, _ = parse_response(await read_all(stream))
        assert (status, port.counted.answered) == (421, 0)


async def test_reads_before_and_after_another_request_are_answered_in_order() -> None:
    async with open_hot_port() as port, await port.connect() as stream:
        port.rest.report(0)
        await stream.send_all(get("/assets") + get("/whoami") + get("/fleet") + get(ONE)[:30])
        await trio.sleep(0.05)
        await stream.send_all(get(ONE)[30:] + get("/none", "connection: close"))
        raw = await read_all(stream)
        marks = [b'"efficiency"', b'"anonymous"', b'"live_assets"', b'"age_s"', b"there is nothing at"]
        assert [raw.count(mark) for mark in marks] == [4, 1, 1, 1, 1]
        assert sorted(marks, key=raw.index) == marks
        assert port.counted.answered == 1


async def test_a_connection_is_closed_after_a_thousand_responses() -> None:
    async with open_hot_port() as port, await port.connect() as stream:
        await stream.send_all(get("/health") * 1_001)
        raw = await read_all(stream)
        assert raw.count(b"HTTP/1.1 200") == 1_000
        assert raw.count(b"connection: close") == 1
        assert port.counted.answered == 999


async def test_a_client_that_sends_many_requests_at_once_delays_nobody() -> None:
    async with open_hot_port() as port, trio.open_nursery() as nursery:
        port.rest.report(0)

        async def flood() -> None:
            while True:
                async with await port.connect() as stream, trio.open_nursery() as both:
                    both.start_soon(stream.send_all, get(ONE) * 999)
                    await read_all(stream)

        async def flood_without_reading() -> None:
            async with await port.connect() as stream:
                await stream.send_all(get("/telemetry") * 100_000)

        nursery.start_soon(flood)
        nursery.start_soon(flood_without_reading)
        async with await port.connect() as stream:
            for _ in range(20):
                with trio.fail_after(2):
                    assert (await ask(stream, "/fleet"))[0] == 200
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def test_a_client_that_reads_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trioder.api.http.http1._SEND_TIMEOUT_S", 0.5)
    monkeypatch.setattr("trioder.api.http.serving._IDLE_TIMEOUT_S", 0.5)
    fleet = make_fleet(sites=1, assets_a_site=5_000)
    async with open_hot_port(fleet=fleet) as port, await port.connect() as other:
        await ask(other, "/assets")
        async with await port.connect() as stream:
            await stream.send_all(get("/assets") * 50)
            began_s = trio.current_time()
            await trio.sleep(2.0)
            received = b""
            with suppress(trio.BrokenResourceError):
                while some := await stream.receive_some(1024 * 1024):
                    received += some
            assert received.count(b"HTTP/1.1 200") < 10
            assert trio.current_time() - began_s < 10


async def test_an_idle_connection_is_closed_after_its_last_response(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trioder.api.http.serving._IDLE_TIMEOUT_S", 0.6)
    async with open_hot_port() as port, await port.connect() as stream:
        for _ in range(4):
            await trio.sleep(0.3)
            assert (await ask(stream, "/assets"))[0] == 200
        began_s = trio.current_time()
        assert await stream.receive_some() == b""
        assert 0.4 < trio.current_time() - began_s < 2


async def test_shutdown_lets_a_response_end_and_closes_the_connection() -> None:
    fleet = make_fleet(sites=1, assets_a_site=9_000)
    async with open_hot_port(fleet=fleet) as port, await port.connect() as idle:
        assert (await ask(idle, "/assets"))[0] == 200
        async with await port.connect() as stream:
            await stream.send_all(get("/assets") * 20)
            raw = bytes(await stream.receive_some(1000))
            port.shutdown.set()
            assert await idle.receive_some() == b""
            raw += await read_all(stream)
        assert raw.count(b"HTTP/1.1 200") < 20
        # The last of them is whole.
        assert raw.endswith(b"}]")
        await port.ended.wait()


async def test_hot_reads_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = ServerTls(*authority.issue("localhost", "127.0.0.1"), alpn=["http/1.1"])
    fleet = make_fleet(sites=1, assets_a_site=2_000)
    async with open_hot_port(tls=tls, fleet=fleet) as port:
        context = ssl.create_default_context(cafile=str(authority.file))
        async with trio.SSLStream(
            await port.connect(), context, server_hostname="localhost", https_compatible=True
        ) as stream:
            for _ in range(3):
                await stream.send_all(get("/assets"))
                status, headers, body = await read_one(stream)
                assert (status, len(body)) == (200, int(headers["content-length"]))
            assert port.counted.answered == 2
