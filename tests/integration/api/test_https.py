"""The REST port over TLS: handshakes, plain requests, peers that are slow, half-closed or gone."""

import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from http.client import HTTPSConnection
from pathlib import Path

import pytest
import structlog
import trio

from tests.integration.api.ports import MAX_BODY, Port, open_port, parse_response, read_all
from tests.unit.access.certificates import Authority
from trioder.access.tls import ServerTls
from trioder.access.tls_stream import TlsStream

GET = b"GET /quick HTTP/1.1\r\nhost: localhost\r\n\r\n"
LAST_GET = GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def tls(authority: Authority) -> ServerTls:
    return ServerTls(*authority.issue("localhost", "127.0.0.1"), alpn=["http/1.1"])


@pytest.fixture
def client(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


@pytest.fixture
def logs() -> Iterator[list[dict[str, object]]]:
    with structlog.testing.capture_logs() as entries:
        yield entries  # type: ignore[misc]


@asynccontextmanager
async def connected(port: Port, client: ssl.SSLContext) -> AsyncIterator[TlsStream]:
    async with TlsStream(await port.connect(), client, server_hostname="localhost") as stream:
        await stream.do_handshake()
        yield stream


async def refused(port: Port, logs: list[dict[str, object]]) -> str:
    """Return why the one handshake failed, once it has."""
    while port.counters.rest_connections_refused == 0:
        await trio.sleep(0.01)
    assert port.counters.rest_connections_refused == 1
    (reason,) = [str(entry["detail"]) for entry in logs if entry.get("reason") == "tls"]
    return reason


async def test_python_s_http_client_gets_several_responses_over_one_connection(
    tls: ServerTls, client: ssl.SSLContext
) -> None:
    def ask(port: int) -> list[bytes]:
        connection = HTTPSConnection("localhost", port, context=client, timeout=5)
        bodies = []
        for body in (b"", b"x" * MAX_BODY):
            connection.request("POST", "/length", body=body)
            bodies.append(connection.getresponse().read())
        connection.close()
        return bodies

    async with open_port(tls=tls) as port:
        assert await trio.to_thread.run_sync(ask, port.address[1]) == [b"0", b"%d" % MAX_BODY]


async def test_http_1_1_is_negotiated_and_never_h2(tls: ServerTls, client: ssl.SSLContext) -> None:
    async with open_port(tls=tls) as port, connected(port, client) as stream:
        assert stream.alpn_protocol == "http/1.1"


async def test_a_last_response_is_followed_by_a_closure_alert(tls: ServerTls, client: ssl.SSLContext) -> None:
    # Without it OpenSSL reports a truncated response.
    received, unsent = ssl.MemoryBIO(), ssl.MemoryBIO()
    side = client.wrap_bio(received, unsent, server_hostname="localhost")
    async with open_port(tls=tls) as port, await port.connect() as stream:
        with pytest.raises(ssl.SSLWantReadError):
            side.do_handshake()
        await stream.send_all(unsent.read())
        received.write(await stream.receive_some())
        side.do_handshake()
        side.write(LAST_GET)
        await stream.send_all(unsent.read())
        received.write(await read_all(stream))
        received.write_eof()
        assert side.read(65536).endswith(b"{}")
        assert side.read(1) == b""


async def test_a_plain_request_on_the_tls_port_is_closed_and_logged(
    tls: ServerTls, logs: list[dict[str, object]]
) -> None:
    async with open_port(tls=tls) as port:
        assert b"200" not in await port.exchange(GET)
        assert "plain HTTP to a TLS port: use https://" in await refused(port, logs)


async def test_a_tls_request_on_a_plain_port_is_refused_with_the_reason(
    client: ssl.SSLContext, logs: list[dict[str, object]]
) -> None:
    async with open_port() as port:
        with pytest.raises(trio.BrokenResourceError, match="WRONG_VERSION_NUMBER"):
            async with connected(port, client):
                pass
        assert port.counters.rest_requests_refused == 1
    assert "speaks TLS on a connection without it" in str(logs)


async def test_a_client_that_does_not_trust_the_ca_is_logged(
    tls: ServerTls, logs: list[dict[str, object]]
) -> None:
    async with open_port(tls=tls) as port:
        with pytest.raises(trio.BrokenResourceError, match="CERTIFICATE_VERIFY_FAILED"):
            async with connected(port, ssl.create_default_context()):
                pass
        assert "does not trust the CA" in await refused(port, logs)


async def test_a_handshake_has_a_time_limit(
    tls: ServerTls, logs: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioder.api.http.http1._TLS_HANDSHAKE_WITHIN_S", 0.3)
    async with open_port(tls=tls) as port, await port.connect() as stream:
        await stream.send_all(b"\x16\x03\x01\x02\x00")
        assert await read_all(stream) == b""
        assert "took too long" in await refused(port, logs)


async def test_a_failed_handshake_is_reported_where_refusals_are_recorded(
    tls: ServerTls, logs: list[dict[str, object]]
) -> None:
    reported: list[tuple[str, str]] = []
    async with open_port(tls=tls, tls_refused=lambda *refused: reported.append(refused)) as port:
        async with await port.connect() as stream:
            own = stream.socket.getsockname()
            await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
            await read_all(stream)
        while not reported:
            await trio.sleep(0.01)
    [(address, reason)] = reported
    assert address == f"{own[0]}:{own[1]}"
    assert reason
    assert not [entry for entry in logs if entry.get("event") == "peer refused"]


async def test_a_port_check_without_a_byte_is_no_failed_handshake(
    tls: ServerTls, client: ssl.SSLContext, logs: list[dict[str, object]]
) -> None:
    async with open_port(tls=tls) as port:
        await (await port.connect()).aclose()
        async with connected(port, client):
            pass
        assert port.counters.rest_connections_refused == 0
    assert not [entry for entry in logs if entry.get("reason") == "tls"]


async def test_unfinished_handshakes_are_closed_for_new_connections(
    tls: ServerTls, client: ssl.SSLContext
) -> None:
    async with open_port(tls=tls, max_connections=1) as port, await port.connect() as silent:
        async with connected(port, client) as stream:
            await stream.send_all(LAST_GET)
            assert b" 200 " in await read_all(stream)
        assert await silent.receive_some() == b""
        assert port.counters.rest_connections_closed_idle == 1


async def test_a_half_closed_client_is_gone_as_without_tls(tls: ServerTls, client: ssl.SSLContext) -> None:
    async with open_port(tls=tls) as port, connected(port, client) as stream:
        await stream.send_all(b"GET /hold HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await port.holding.wait()
        await stream.send_eof()
        assert await read_all(stream) == b""


async def test_a_client_that_is_gone_cancels_its_request(tls: ServerTls, client: ssl.SSLContext) -> None:
    async with open_port(tls=tls, max_connections=1) as port:
        async with connected(port, client) as stream:
            await stream.send_all(b"GET /hold HTTP/1.1\r\nhost: localhost\r\n\r\n")
            await port.holding.wait()
            await trio.aclose_forcefully(stream.transport_stream)
        with trio.fail_after(2):
            while True:
                try:
                    async with connected(port, client):
                        return
                except trio.BrokenResourceError:
                    await trio.sleep(0.01)


async def test_a_client_that_does_not_read_is_disconnected(
    tls: ServerTls, client: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioder.api.http.http1._SEND_TIMEOUT_S", 0.3)
    async with open_port(tls=tls) as port, connected(port, client) as stream:
        await stream.send_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await port.holding.wait()
        await trio.sleep(1)
        # What was sent is received; then the connection is closed.
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                pass


async def test_an_endless_body_times_out(tls: ServerTls, client: ssl.SSLContext) -> None:
    async with open_port(tls=tls) as port, connected(port, client) as stream:
        await stream.send_all(b"POST /length HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nabc")
        status, _, body = parse_response(await read_all(stream))
        assert (status, json.loads(body)["error"]) == (408, "request_timeout")


async def test_shutdown_closes_idle_connections_without_delay(tls: ServerTls, client: ssl.SSLContext) -> None:
    async with open_port(tls=tls) as port, connected(port, client) as stream, await port.connect():
        await stream.send_all(GET)
        assert b" 200 " in await stream.receive_some()
        port.shutdown.set()
        with trio.fail_after(1):
            await port.ended.wait()
