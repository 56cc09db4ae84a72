"""The REST port over real sockets: limits, refusals and shutdown."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx2
import pytest
import trio
import trio.testing

from tests.integration.api.ports import MAX_BODY, open_port, parse_response, read_all
from trioder.api.http.http1 import Http1Connection

GET = b"GET /quick HTTP/1.1\r\nhost: localhost\r\n\r\n"
LAST_GET = GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")


@pytest.mark.parametrize(("method", "body"), [("GET", b"{}"), ("HEAD", b"")])
async def test_a_response_with_a_length_is_sent_in_one_piece(
    method: str, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[bytes] = []
    send = Http1Connection._send

    async def note(connection: Http1Connection, data: bytes) -> None:
        pieces.append(data)
        await send(connection, data)

    monkeypatch.setattr(Http1Connection, "_send", note)
    async with open_port() as port:
        await port.exchange(
            f"{method} /quick HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
        )
    (piece,) = pieces
    status, headers, sent_body = parse_response(piece)
    assert (status, headers["content-length"], sent_body) == (200, "2", body)


async def test_one_connection_serves_many_requests_without_a_server_header() -> None:
    async with open_port() as port, httpx2.AsyncClient(base_url=port.url) as client:
        for _ in range(3):
            response = await client.get("/quick")
            assert response.json() == {}
            assert "server" not in response.headers
        assert response.http_version == "HTTP/1.1"


async def test_pipelined_requests_get_responses_in_order() -> None:
    async with open_port() as port:
        raw = await port.exchange(GET + b"GET /none HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert raw.index(b" 200 ") < raw.index(b" 404 ")


async def test_a_body_of_the_maximum_size_is_accepted() -> None:
    async with open_port() as port, httpx2.AsyncClient(base_url=port.url) as client:
        assert (await client.post("/length", content=b"x" * MAX_BODY)).json() == MAX_BODY


@pytest.mark.parametrize("size", [MAX_BODY + 1, 30 * MAX_BODY])
async def test_a_larger_body_is_refused_with_a_readable_response(size: int) -> None:
    async with open_port() as port, httpx2.AsyncClient(base_url=port.url) as client:
        response = await client.post("/length", content=b"x" * size)
        assert response.status_code == 413
        assert response.json() == {
            "error": "payload_too_large",
            "message": "the body is larger than 1000000 bytes",
        }
        assert (await client.get("/quick")).status_code == 200


@pytest.mark.parametrize("size", [MAX_BODY + 1, 5 * MAX_BODY])
async def test_a_larger_chunked_body_is_refused(size: int) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, size, 50_000):
            yield b"x" * min(50_000, size - start)

    async with open_port() as port, httpx2.AsyncClient(base_url=port.url) as client:
        response = await client.post("/length", content=chunks())
        assert (response.status_code, response.json()["error"]) == (413, "payload_too_large")


async def test_an_endless_body_times_out() -> None:
    async with open_port() as port:
        stream = await port.connect()
        await stream.send_all(b"POST /length HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nabc")
        status, _, body = parse_response(await read_all(stream))
        assert (status, json.loads(body)["error"]) == (408, "request_timeout")
        await stream.aclose()


async def test_endless_headers_time_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trioder.api.http.http1.HEAD_TIMEOUT_S", 0.3)
    async with open_port() as port, await port.connect() as stream, trio.open_nursery() as nursery:

        async def trickle() -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                for byte in b"GET /quick HTTP/1.1\r\nhost: " + b"x" * 1_000:
                    await stream.send_all(bytes([byte]))
                    await trio.sleep(0.02)

        nursery.start_soon(trickle)
        status, _, body = parse_response(await read_all(stream))
        assert (status, json.loads(body)["error"]) == (408, "request_timeout")
        assert port.counters.rest_requests_refused == 1
        nursery.cancel_scope.cancel()


async def test_each_request_head_has_its_own_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trioder.api.http.http1.HEAD_TIMEOUT_S", 0.6)
    async with open_port() as port, await port.connect() as stream:
        for number in range(4):
            # The rest of one and the beginning of the next arrive together.
            await stream.send_all(GET[3:] + GET[:3] if number else GET + GET[:3])
            assert b" 200 " in await stream.receive_some()
            await trio.sleep(0.2)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)), 400),
        (b"hello\r\n\r\n", 400),
        (b"GET /quick HTTP/1.1\r\nhost: localhost\r\nbad header\r\n\r\n", 400),
        (b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
        (b"POST /length HTTP/1.1\r\nhost: localhost\r\ncontent-length: ten\r\n\r\n", 400),
        (b"POST /length HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"POST /length HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /quick HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 200_000 + b"\r\n\r\n", 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), 505),
        (b"GET /quick HTTP/3.0\r\nhost: localhost\r\n\r\n", 505),
    ],
)
async def test_anything_but_http_1_is_refused_in_json(raw: bytes, status: int) -> None:
    async with open_port() as port:
        got, headers, body = parse_response(await port.exchange(raw))
        assert got == status
        assert headers["content-type"] == "application/json"
        assert set(json.loads(body)) == {"error", "message"}
        assert (await port.exchange(LAST_GET)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "upgrade",
    [
        b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__",
        b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: eA==",
    ],
)
async def test_an_upgrade_is_ignored(upgrade: bytes) -> None:
    async with open_port() as port, await port.connect() as stream:
        await stream.send_all(b"GET /quick HTTP/1.1\r\nhost: localhost\r\n" + upgrade + b"\r\n\r\n")
        status, headers, _ = parse_response(await stream.receive_some())
        assert status == 200
        assert "upgrade" not in headers


@pytest.mark.parametrize("framing", [b"", b"content-length: 0\r\n"])
async def test_a_request_without_content_does_not_wait_for_100_continue(framing: bytes) -> None:
    request = GET[:-2] + framing + b"expect: 100-continue\r\n\r\n"
    async with open_port() as port:
        raw = await port.exchange(request + LAST_GET)
        assert re.findall(rb"HTTP/1\.1 (\d+)", raw) == [b"200", b"200"]


async def test_content_is_sent_after_100_continue() -> None:
    head = b"POST /length HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n"
    async with open_port() as port, await port.connect() as stream:
        await stream.send_all(head)
        assert parse_response(await stream.receive_some())[0] == 100
        await stream.send_all(b"hello")
        status, _, body = parse_response(await stream.receive_some())
        assert (status, body) == (200, b"5")


async def test_100_continue_precedes_a_response_that_does_not_wait_for_the_content(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send = Http1Connection._send

    async def send_100_slowly(connection: Http1Connection, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 100"):
            await trio.testing.wait_all_tasks_blocked()
        await send(connection, data)

    monkeypatch.setattr(Http1Connection, "_send", send_100_slowly)
    async with open_port() as port:
        raw = await port.exchange(GET[:-2] + b"content-length: 5\r\nexpect: 100-continue\r\n\r\n")
        assert re.findall(rb"HTTP/1\.1 (\d+)", raw) == [b"100", b"200"]


@pytest.mark.parametrize("after", [b"\r\n", b"hello", GET])
async def test_what_follows_the_last_request_is_ignored(after: bytes) -> None:
    async with open_port() as port:
        assert await port.exchange(LAST_GET + after) == await port.exchange(LAST_GET)


async def test_data_during_the_last_request_does_not_end_it() -> None:
    async with open_port() as port, await port.connect() as stream:
        await stream.send_all(LAST_GET.replace(b"/quick", b"/hold"))
        await port.holding.wait()
        await stream.send_all(GET)
        await trio.testing.wait_all_tasks_blocked()
        port.release.set()
        assert parse_response(await read_all(stream))[2] == b'"held"'


async def test_a_crash_gets_500_without_details_and_the_port_stays_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_port() as port, httpx2.AsyncClient(base_url=port.url) as client:
        response = await client.get("/crash")
        assert (response.status_code, response.json()["error"]) == (500, "internal_error")
        assert "secret" not in response.text
        assert (await client.get("/quick")).status_code == 200


async def test_connections_beyond_the_limit_get_503() -> None:
    async with open_port(max_connections=1) as port, await port.connect() as first:
        await first.send_all(GET.replace(b"quick", b"hold"))
        await port.holding.wait()
        status, _, body = parse_response(await port.exchange(GET))
        assert (status, json.loads(body)["error"]) == (503, "unavailable")
        assert port.counters.rest_connections_refused == 1


async def test_idle_connections_are_closed_for_new_ones() -> None:
    async with open_port(max_connections=2) as port:
        async with await port.connect() as silent, await port.connect() as slow:
            await slow.send_all(b"GET /qui")
            for _ in range(3):
                assert b" 200 " in await port.exchange(LAST_GET)
            assert await silent.receive_some() == b""
        assert port.counters.rest_connections_refused == 0
        assert port.counters.rest_connections_closed_idle >= 1


async def test_a_closed_connection_frees_its_slot() -> None:
    async with open_port(max_connections=1) as port:
        stream = await port.connect()
        await stream.send_all(GET)
        await stream.receive_some()
        await stream.aclose()
        with trio.fail_after(2):
            while b" 200 " not in await port.exchange(LAST_GET):
                await trio.sleep(0.01)


async def test_shutdown_closes_idle_connections_without_delay() -> None:
    async with open_port() as port, await port.connect() as stream:
        await stream.send_all(GET)
        response = b""
        while not response.endswith(b"{}"):
            response += await stream.receive_some()
        port.shutdown.set()
        with trio.fail_after(1):
            await port.ended.wait()
            assert await stream.receive_some() == b""


async def test_an_idle_connection_is_closed_after_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trioder.api.http.serving._IDLE_TIMEOUT_S", 0.3)
    async with open_port() as port:
        assert b" 200 " in await port.exchange(GET)


async def test_shutdown_waits_for_a_request_in_progress() -> None:
    async with open_port() as port, trio.open_nursery() as nursery:
        responses: list[bytes] = []

        async def ask() -> None:
            responses.append(await port.exchange(b"GET /hold HTTP/1.1\r\nhost: localhost\r\n\r\n"))

        nursery.start_soon(ask)
        await port.holding.wait()
        port.shutdown.set()
        while True:  # until it listens no more
            try:
                await (await port.connect()).aclose()
            except OSError:
                break
        port.release.set()
        with trio.fail_after(2):
            await port.ended.wait()
    assert responses[0].endswith(b'"held"')


@pytest.mark.parametrize("path", [b"/hold", b"/endless"])
async def test_shutdown_cancels_requests_after_the_grace_period(path: bytes) -> None:
    async with open_port() as port, await port.connect() as stream:
        await stream.send_all(b"GET " + path + b" HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await port.holding.wait()
        port.shutdown.set()
        with trio.fail_after(4):
            await port.ended.wait()
