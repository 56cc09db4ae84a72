"""Requests that are passed on to a headend, over real sockets: what crosses, and what if a side leaves."""

import gzip

import pytest
import trio
from structlog.testing import capture_logs

from tests.integration.api.ports import leave, parse_response, read_all
from tests.integration.api.test_stream import open_served
from tests.integration.console.rig import (
    Console,
    answering,
    open_console,
    open_scripted,
    until,
)
from tests.ports import free_port
from tests.unit.api.rest import make_fleet

CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"


def head_of(request: bytes) -> tuple[str, dict[str, str]]:
    line, *fields = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return line, dict(field.lower().split(": ", 1) for field in fields)


@pytest.mark.parametrize(
    "target",
    [
        "/assets?limit=3&site_id=a%20b",
        "/telemetry/a%2Fb",
        "//evil.example/x",
        "/../whoami",
        "/a?b?c=%00;d=\"'",
        "/",
    ],
)
async def test_the_path_and_query_cross_as_they_are(target: str) -> None:
    async with open_scripted(answering()) as headend, open_console(headend.port) as console:
        assert (await console.ask("GET", f"/api{target}")).status == 200
        line, fields = head_of(headend.requests[0])
        assert line == f"GET {target} HTTP/1.1"
        assert fields["host"] == f"127.0.0.1:{headend.port}"


async def test_only_known_headers_of_a_request_cross() -> None:
    async with open_scripted(answering()) as headend, open_console(headend.port) as console:
        console.cookie = "other=1"
        await console.ask(
            "GET",
            "/api/assets",
            accept="application/json",
            if_none_match='"1"',
            last_event_id="7",
            idempotency_key="k",
            x_request_id="mine-1",
            authorization="Bearer of-the-client",
            proxy_authorization="Basic x",
            x_forwarded_for="1.2.3.4",
            te="trailers",
        )
        fields = head_of(headend.requests[0])[1]
    assert fields == {
        "host": f"127.0.0.1:{headend.port}",
        "accept": "application/json",
        "if-none-match": '"1"',
        "last-event-id": "7",
        "idempotency-key": "k",
        "x-request-id": "mine-1",
    }


async def test_only_known_headers_of_a_response_cross() -> None:
    headers = (
        'etag: "1"\r\ncontent-type: text/plain\r\nretry-after: 5\r\nvary: Accept, Authorization\r\n'
        "set-cookie: a=b\r\nserver: x\r\naccess-control-allow-origin: *\r\nwww-authenticate: Bearer\r\n"
        "content-security-policy: default-src *\r\n"
    )
    answer = answering("429 Too Many Requests", headers=headers)
    async with open_scripted(answer) as headend, open_console(headend.port) as console:
        response = await console.ask("GET", "/api/assets")
    assert response.status == 429
    passed = {name: response.headers.get(name) for name in ("etag", "content-type", "retry-after", "vary")}
    assert passed == {
        "etag": '"1"',
        "content-type": "text/plain",
        "retry-after": "5",
        "vary": "Accept, Cookie",
    }
    assert not response.headers.keys() & {
        "set-cookie",
        "server",
        "access-control-allow-origin",
        "www-authenticate",
    }
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert response.headers["cache-control"] == "private, no-cache"


async def test_a_compressed_body_crosses_as_it_is() -> None:
    body = gzip.compress(b"[1]")
    answer = answering(body=body, headers="content-encoding: gzip\r\n")
    async with open_scripted(answer) as headend, open_console(headend.port) as console:
        response = await console.ask("GET", "/api/assets")
    assert (response.headers["content-encoding"], response.body) == ("gzip", body)


async def test_a_body_crosses() -> None:
    async with open_scripted(answering()) as headend, open_console(headend.port) as console:
        await console.ask("POST", "/api/dispatch", body=b'{"mw": 1}')
        await console.ask("POST", "/api/resume")
        chunked = console.request("POST", "/api/stop", transfer_encoding="chunked", connection="close")
        assert (await console.send(chunked + b"3\r\nabc\r\n0\r\n\r\n")).status == 200
    bodies = [request.partition(b"\r\n\r\n")[2] for request in headend.requests]
    assert bodies == [b'{"mw": 1}', b"", b"3\r\nabc\r\n0\r\n\r\n"]
    assert head_of(headend.requests[1])[1]["content-length"] == "0"


async def test_a_body_that_is_too_large_is_refused() -> None:
    async with open_scripted(answering()) as headend, open_console(headend.port) as console:
        stated = console.request("POST", "/api/stop", content_length="1000001")
        assert (await console.send(stated)).status == 413
        chunked = console.request("POST", "/api/stop", transfer_encoding="chunked")
        assert (await console.send(chunked + b"F4241\r\n" + b"x" * 1_000_001)).status == 413
        # What is begun is not finished in the headend either.
        await until(lambda: headend.connections == 0)
        assert headend.requests == []


async def test_a_body_of_which_the_client_sends_only_a_part_is_not_taken_for_all_of_it() -> None:
    async with open_scripted(answering()) as headend, open_console(headend.port) as console:
        async with await console.connect() as stream:
            chunked = console.request("POST", "/api/stop", transfer_encoding="chunked")
            await stream.send_all(chunked + b"2\r\n{}\r\n")
            await until(lambda: headend.connections == 1)
        await until(lambda: headend.connections == 0)
        assert headend.requests == []


async def test_an_unknown_method_is_refused() -> None:
    async with open_scripted(answering()) as headend, open_console(headend.port) as console:
        assert (await console.ask("TRACE", "/api/assets")).status == 405
        assert headend.requests == []


async def test_a_headend_that_is_away_is_a_502_at_once() -> None:
    async with open_console(port := free_port()) as console:
        for path in ("/api/assets", "/api/stream", "/session"):
            with trio.fail_after(1):
                response = await console.ask("GET", path)
            assert (response.status, response.json["error"]) == (502, "unavailable")
            assert (
                f"the headend at http://127.0.0.1:{port} does not respond: Connection refused"
                in response.json["message"]
            )


async def test_a_headend_that_is_away_is_logged_once_and_its_return_too() -> None:
    port = free_port()
    with capture_logs() as lines:
        async with open_console(port) as console:
            for _ in range(3):
                await console.ask("GET", "/api/fleet")
            async with open_served(port=port):
                for _ in range(3):
                    assert (await console.ask("GET", "/api/fleet")).status == 200
    events = [line["event"] for line in lines if line["event"].startswith("the headend ")]
    assert events == ["the headend does not respond", "the headend responds again"]


async def drop_second(stream: trio.SocketStream, request: bytes) -> None:
    """Answer the first request of a connection; close it when the second comes."""
    if b"second" in request:
        await stream.aclose()
    else:
        await answering()(stream, request)


async def test_a_read_on_a_connection_that_has_just_been_closed_is_asked_again() -> None:
    seen = 0

    async def drop_once(stream: trio.SocketStream, request: bytes) -> None:
        nonlocal seen
        if b"second" in request and (seen := seen + 1) == 1:
            await stream.aclose()
        else:
            await answering()(stream, request)

    async with open_scripted(drop_once) as headend, open_console(headend.port) as console:
        assert (await console.ask("GET", "/api/first")).status == 200
        assert (await console.ask("GET", "/api/second")).status == 200


async def test_a_command_is_never_sent_twice() -> None:
    async with open_scripted(drop_second) as headend, open_console(headend.port) as console:
        assert (await console.ask("GET", "/api/first")).status == 200
        assert (await console.ask("POST", "/api/second", body=b"{}")).status == 502
        assert [request.split()[1] for request in headend.requests] == [b"/first", b"/second"]


async def test_a_response_that_the_headend_breaks_off_is_broken_off() -> None:
    async def break_off(stream: trio.SocketStream, _request: bytes) -> None:
        await stream.send_all(CHUNKED + b"3\r\n[1,\r\n")
        await stream.aclose()

    async with open_scripted(break_off) as headend, open_console(headend.port) as console:
        response = await console.ask("GET", "/api/assets")
    assert (response.status, response.body) == (200, b"3\r\n[1,\r\n")


async def test_a_list_of_10_000_assets_is_what_the_headend_gives() -> None:
    fleet = make_fleet(sites=10, assets_a_site=1000)
    async with open_served(fleet) as served, open_console(served.port) as console:
        compressed = await console.ask("GET", "/api/assets", accept_encoding="gzip")
        plain = await console.ask("GET", "/api/assets")
    assert compressed.headers["content-encoding"] == "gzip"
    assert compressed.headers["etag"] == plain.headers["etag"]
    assert plain.body.count(b'"site_id"') == 10_000


async def test_a_list_that_has_not_changed_is_not_sent_again_and_head_has_no_body() -> None:
    async with open_served() as served, open_console(served.port) as console:
        first = await console.ask("GET", "/api/sites")
        again = await console.ask("GET", "/api/sites", if_none_match=first.headers["etag"])
        head = await console.ask("HEAD", "/api/sites")
    assert (again.status, again.body) == (304, b"")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(first.body)))


async def test_a_long_response_is_never_held_as_a_whole() -> None:
    sent = 0

    async def endless(stream: trio.SocketStream, _request: bytes) -> None:
        nonlocal sent
        await stream.send_all(CHUNKED)
        while True:
            await stream.send_all(b"10000\r\n" + b" " * 65_536 + b"\r\n")
            sent += 65_536

    async with open_scripted(endless) as headend, open_console(headend.port) as console:
        async with await console.connect() as stream:
            await stream.send_all(console.request("GET", "/api/assets"))
            before = -1
            while sent != before:
                before = sent
                await trio.sleep(0.3)
            # What the buffers of the four sockets hold.
            assert 0 < sent < 20_000_000
        await until(lambda: headend.connections == 0)


async def hold(stream: trio.SocketStream, _request: bytes) -> None:
    await stream.receive_some()


@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_that_leaves_before_the_response_ends_the_request(reset: bool) -> None:
    with capture_logs() as lines:
        async with open_scripted(hold) as headend, open_console(headend.port) as console:
            stream = await console.connect()
            await stream.send_all(console.request("GET", "/api/assets"))
            await until(lambda: headend.requests != [])
            await leave(stream, reset=reset)
            with trio.fail_after(1):
                await until(lambda: headend.connections == 0)
            await until(lambda: any(line["event"] == "request" for line in lines))
    assert [line["status"] for line in lines if line["event"] == "request"] == ["client left"]


async def test_clients_that_leave_at_any_moment_leave_nothing_behind() -> None:
    async def come_and_go(console: Console, steps: int) -> None:
        async with await console.connect() as stream:
            await stream.send_all(console.request("GET", "/api/assets"))
            for _ in range(steps):
                await trio.lowlevel.checkpoint()

    with capture_logs() as lines:
        async with open_served() as served, open_console(served.port) as console:
            async with trio.open_nursery() as nursery:
                for steps in range(0, 200, 4):
                    nursery.start_soon(come_and_go, console, steps)
            # The connections of all are free again.
            assert (await console.ask("GET", "/api/fleet")).status == 200
            await until(lambda: console.client.open_requests == 0)
    assert not [line for line in lines if "crash" in str(line["event"])]


async def test_requests_on_one_connection_are_answered_in_turn() -> None:
    async with (
        open_scripted(answering(body=b"[]")) as headend,
        open_console(headend.port) as console,
        await console.connect() as stream,
    ):
        first = console.request("GET", "/api/1")
        last = console.request("GET", "/api/2", connection="close")
        await stream.send_all(first + last)
        both = await read_all(stream)
    assert both.count(b"HTTP/1.1 200") == 2
    assert parse_response(both)[0] == 200
    assert [head_of(request)[0] for request in headend.requests] == ["GET /1 HTTP/1.1", "GET /2 HTTP/1.1"]


async def test_a_head_that_never_ends_is_a_502(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trioder.console.headend._HEAD_WITHIN_S", 0.2)

    async def go_on(stream: trio.SocketStream, _request: bytes) -> None:
        while True:
            await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            await trio.sleep(0.01)

    async with open_scripted(go_on) as headend, open_console(headend.port) as console:
        response = await console.ask("GET", "/api/assets")
        assert response.status == 502
        assert "no response within 0.2 s" in response.json["message"]
        await until(lambda: headend.connections == 0)
