"""Ambiguous requests, requests for other hosts, and clients that disconnect: over raw sockets."""

import json
from functools import partial

import pytest
import trio
from structlog.testing import capture_logs

from tests.integration.api.ports import Port, leave, open_port, parse_response, read_all
from trioder.api.http import http1
from trioder.api.http.hosts import AllowedHosts

POST = b"POST /length HTTP/1.1\r\nHost: localhost\r\n"
SMUGGLED = b"GET /quick HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def still_serves(port: Port) -> bool:
    response = await port.exchange(b"GET /quick HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return parse_response(response)[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        POST + b"tRANSFER-eNCODING: Chunked\r\ncontent-LENGTH: 0\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
        POST + b"Content-Length: 0, 44\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: identity\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        POST + b"X: y\r\n Content-Length: 0\r\n\r\n",
        POST + b"X: y\r\n\tfolded\r\nContent-Length: 0\r\n\r\n",
        POST + b" Content-Length: 0\r\n\r\n",
        POST + b"Content-Length: 0\n\r\n",
        POST + b"Content-Length: 0\n\n",
        POST + b"X: y\nContent-Length: 0\r\n\r\n",
        POST + b"X: y\rContent-Length: 0\r\n\r\n",
        POST + b"X: y\x00\r\nContent-Length: 0\r\n\r\n",
        b"POST /length HTTP/1.1\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: +0\r\n\r\n",
        POST + b"Content-Length: 0x0\r\n\r\n",
        POST + b"Content-Length: 1e1\r\n\r\n",
        POST + b"Content-Length: 1_0\r\n\r\n",
        POST + b"Content-Length: \r\n\r\n",
        POST + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n",
        b"POST /length HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\r\nPOST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        b"GET localhost/quick HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET  /quick HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /quick HTTP/1.1 x\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_an_ambiguous_request_is_refused_and_smuggled_ones_get_no_response(
    head: bytes,
) -> None:
    async with open_port() as port:
        raw = await port.exchange(head + SMUGGLED)
        status, headers, body = parse_response(raw)
        assert (status, headers["connection"]) == (400, "close")
        # One response, and nothing after it.
        assert json.loads(body)["error"] == "bad_request"
        assert raw.count(b"content-type: ") == 1
        assert port.counters.rest_requests_refused == 1
        assert await still_serves(port)


@pytest.mark.parametrize(
    "body",
    [
        b"5;x=y\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: y\n\r\n",
        b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n",
        b"f" * 30 + b"\r\nhello\r\n0\r\n\r\n",
    ],
)
async def test_an_ambiguous_chunked_body_ends_the_connection(body: bytes) -> None:
    async with open_port() as port:
        raw = await port.exchange(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body + SMUGGLED)
        assert raw.count(b"content-type: ") == 1
        assert parse_response(raw)[0] == 400
        assert await still_serves(port)


async def test_a_head_may_be_received_byte_by_byte() -> None:
    async with open_port() as port, await port.connect() as stream:
        for byte in POST + b"Content-Length: 5\r\nConnection: close\r\n\r\nhello":
            await stream.send_all(bytes([byte]))
        assert parse_response(await read_all(stream))[0] == 200


async def test_a_chunked_body_may_have_a_trailer() -> None:
    async with open_port() as port:
        chunked = (
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\n"
        )
        status, _, body = parse_response(await port.exchange(POST + chunked))
        assert (status, body) == (200, b"5")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /quick HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET /none HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"POST /length HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /quick HTTP/1.0\r\nHost: evil.example\r\n\r\n",
        b"GET /quick HTTP/1.1\r\n\r\n",
        b"GET /quick HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET /quick HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET /quick HTTP/1.1\r\nHost: localhost\r\nhOST: evil.example\r\n\r\n",
        b"GET /quick HTTP/1.1\r\nHost: localhost, evil.example\r\n\r\n",
        b"GET /quick HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n",
        b"GET /quick HTTP/1.1\r\nHost: evil.example@localhost\r\n\r\n",
        b"GET /quick HTTP/1.1\r\nHost: localhost/evil.example\r\n\r\n",
        b"GET /quick HTTP/1.1\r\nHost: localhost:80:80\r\n\r\n",
        b"GET /quick HTTP/1.1\r\nHost: localhost:\r\n\r\n",
        b"GET /quick HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET /quick HTTP/1.1\r\nHost: [::ffff:127.0.0.1]\r\n\r\n",
        b"GET http://evil.example/quick HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://localhost@evil.example/quick HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://localhost/quick HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET HTTP://evil.example?/quick HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    ],
)
async def test_a_request_for_another_host_is_misdirected(head: bytes) -> None:
    async with open_port() as port:
        raw = await port.exchange(head + SMUGGLED)
        status, headers, body = parse_response(raw)
        assert (status, headers["content-type"], headers["connection"]) == (421, "application/json", "close")
        assert json.loads(body)["error"] == "misdirected_request"
        assert "HEADEND_HTTP_HOSTS" in json.loads(body)["message"]
        assert raw.count(b"content-type: ") == 1
        assert port.counters.rest_requests_refused == 1
        assert await still_serves(port)


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"/quick", b"localhost"),
        (b"/quick", b"LocalHost:3001"),
        (b"/quick", b"127.0.0.1"),
        (b"/quick", b"127.0.0.1:65535"),
        (b"/quick", b"[::1]"),
        (b"/quick", b"[0:0:0:0:0:0:0:1]:80"),
        (b"http://localhost/quick", b"127.0.0.1"),
        (b"http://127.0.0.1:80/quick?", b"localhost"),
    ],
)
async def test_loopback_hosts_are_allowed_by_default(target: bytes, host: bytes) -> None:
    async with open_port() as port:
        head = b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
        assert parse_response(await port.exchange(head))[::2] == (200, b"{}")


async def test_http_1_0_needs_no_host_header() -> None:
    async with open_port() as port:
        assert parse_response(await port.exchange(b"GET /quick HTTP/1.0\r\n\r\n"))[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"headend.example", 200),
        (b"headend.example:8080", 200),
        (b"b:3001", 200),
        (b"b", 421),
        (b"localhost", 421),
    ],
)
async def test_a_list_of_hosts_replaces_the_default(host: bytes, status: int) -> None:
    async with open_port(hosts=AllowedHosts(["headend.example", "b:3001"])) as port:
        head = b"GET /quick HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
        assert parse_response(await port.exchange(head))[0] == status


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("path", [b"/slices", b"/endless", b"/quick", b"/hold", b"/crash"])
async def test_clients_that_disconnect_before_the_response_cause_no_crash(
    path: bytes, reset: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashes: list[str] = []
    monkeypatch.setattr(http1.log, "exception", crashes.append)

    async def ask_and_leave(port: Port, steps: int) -> None:
        stream = await port.connect()
        await stream.send_all(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        await leave(stream, reset=reset)

    async with open_port() as port, await port.connect() as other:
        async with trio.open_nursery() as nursery:
            for steps in range(40):
                nursery.start_soon(partial(ask_and_leave, port, steps))
        # Another connection, open all the while, is served as before.
        await other.send_all(b"GET /quick HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert parse_response(await read_all(other))[0] == 200
        port.release.set()
        port.shutdown.set()
        await port.ended.wait()
    assert crashes == []


async def test_clients_that_half_close_after_the_request_get_a_response() -> None:
    async with open_port() as port, await port.connect() as stream:
        await stream.send_all(b"GET /slices HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        raw = b""
        while not raw.endswith(b"0\r\n\r\n"):
            raw += await stream.receive_some()
        assert raw.count(b"x" * 1000) == 2_000


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization: Bearer trd_secret\x01",
        b"Authorization : Bearer trd_secret",
        b"Authorization; Bearer trd_secret",
        b"Authorization: Bearer trd_secret\xff\x00",
        b"Proxy-Authorization: trd_secret\x00",
        b"Bearer trd_secret",
        b"X-Token: trd_secret\x7f",
    ],
)
async def test_a_malformed_header_with_a_secret_is_neither_logged_nor_sent_back(line: bytes) -> None:
    with capture_logs() as lines:
        async with open_port() as port:
            response = await port.exchange(
                b"GET /quick HTTP/1.1\r\nHost: localhost\r\n" + line + b"\r\nConnection: close\r\n\r\n"
            )
    assert parse_response(response)[0] in {200, 400}
    assert b"trd_secret" not in response
    assert "trd_secret" not in repr(lines)
