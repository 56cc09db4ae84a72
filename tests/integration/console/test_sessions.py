"""Logging in and out with a token, over real sockets, with a headend that needs one."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from tests.integration.api.test_stream import Served, open_served
from tests.integration.console.rig import Console, Handler, answering, open_console, open_scripted, until
from tests.ports import free_port
from tests.unit.access.certificates import Authority
from tests.unit.access.documents import document_of, token_entry
from trioder.access.table import AccessTable, token_sha256
from trioder.access.tls import ServerTls
from trioder.api import AllowedHosts

OPERATOR, EXPIRED, WRONG = "trd_operator-secret", "trd_expired-secret", "trd_wrong-secret"
WHOAMI = {"open": False, "name": "console", "kind": "token", "role": "operator", "tenant": "default"}


def tokens() -> AccessTable:
    operator = token_entry(sha256=token_sha256(OPERATOR), role="operator", tenant="default")
    expired = token_entry(
        name="old", sha256=token_sha256(EXPIRED), tenant="default", expires_at="2025-12-31T00:00:00.000Z"
    )
    return AccessTable(document_of(operator, expired))


@asynccontextmanager
async def open_both() -> AsyncIterator[tuple[Served, Console]]:
    async with open_served(access=tokens()) as served, open_console(served.port) as console:
        yield served, console


async def test_a_login_sets_a_cookie_and_requests_have_its_token() -> None:
    async with open_both() as (_, console):
        assert (await console.ask("GET", "/api/whoami")).status == 401
        assert (await console.ask("GET", "/session")).status == 401
        response = await console.log_in(OPERATOR)
        assert response.status == 200
        assert WHOAMI.items() <= response.json.items()
        cookie = response.headers["set-cookie"]
        assert cookie == f"trioder-session-{console.port}={OPERATOR}; HttpOnly; SameSite=Strict; Path=/"
        assert WHOAMI.items() <= (await console.ask("GET", "/session")).json.items()
        assert (await console.ask("GET", "/api/whoami")).json["name"] == "console"


async def test_over_tls_the_cookie_is_for_tls_alone(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = ServerTls(*authority.issue("localhost", "127.0.0.1"), alpn=["http/1.1"])
    context = ssl.create_default_context(cafile=str(authority.file))
    async with (
        open_served(access=tokens(), tls=tls) as served,
        open_console(served.port, tls=tls, context=context, headend_context=context) as console,
    ):
        response = await console.log_in(OPERATOR)
        assert (await console.ask("GET", "/api/whoami")).json["role"] == "operator"
    name = f"__Host-trioder-session-{console.port}"
    assert response.headers["set-cookie"] == f"{name}={OPERATOR}; HttpOnly; SameSite=Strict; Path=/; Secure"


async def test_behind_a_proxy_that_ends_tls_the_cookie_is_for_tls_alone() -> None:
    async with open_both() as (_, console):
        body = msgspec.json.encode({"token": OPERATOR})
        response = await console.ask("POST", "/session", body=body, origin=f"https://{console.authority}")
        name = f"__Host-trioder-session-{console.port}"
        assert response.headers["set-cookie"].startswith(f"{name}={OPERATOR}; ")
        assert response.headers["set-cookie"].endswith("; Secure")
        console.cookie = f"{name}={OPERATOR}"
        assert (await console.ask("GET", "/session")).status == 200


async def test_over_tls_a_cookie_that_plain_http_could_have_set_is_ignored(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = ServerTls(*authority.issue("localhost", "127.0.0.1"), alpn=["http/1.1"])
    context = ssl.create_default_context(cafile=str(authority.file))
    async with (
        open_served(access=tokens()) as served,
        open_console(served.port, tls=tls, context=context) as console,
    ):
        console.cookie = f"trioder-session-{console.port}={OPERATOR}"
        assert (await console.ask("GET", "/session")).status == 401


async def test_a_logout_removes_the_cookie() -> None:
    async with open_both() as (_, console):
        await console.log_in(OPERATOR)
        response = await console.ask("DELETE", "/session")
        assert response.status == 204
        assert f"trioder-session-{console.port}=; " in response.headers["set-cookie"]
        assert "Max-Age=0" in response.headers["set-cookie"]


@pytest.mark.parametrize("token", [WRONG, EXPIRED])
async def test_a_wrong_token_is_refused_with_the_headend_s_reason(token: str) -> None:
    async with open_both() as (_, console):
        response = await console.log_in(token)
        assert (response.status, response.json["error"]) == (401, "unauthorized")
        assert "set-cookie" not in response.headers
        assert "the token is unknown" in response.json["message"] or "expired" in response.json["message"]


@pytest.mark.parametrize("path", ["/session", "/api/assets"])
async def test_a_cookie_whose_token_has_ended_is_removed(path: str) -> None:
    async with open_both() as (_, console):
        console.cookie = f"trioder-session-{console.port}={EXPIRED}"
        response = await console.ask("GET", path)
        assert response.status == 401
        assert "Max-Age=0" in response.headers["set-cookie"]


async def test_a_refusal_for_another_reason_leaves_the_cookie() -> None:
    async with open_both() as (_, console):
        await console.log_in(OPERATOR)
        response = await console.ask("GET", "/api/audit")
        assert response.status == 403
        assert "set-cookie" not in response.headers


async def test_many_wrong_tokens_of_an_address_are_not_passed_on() -> None:
    answer = answering("401 Unauthorized", body=b'{"error":"unauthorized","message":"no"}')
    async with open_scripted(answer) as headend, open_console(headend.port) as console:
        statuses = [(await console.log_in(WRONG)).status for _ in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        assert len(headend.requests) == 10
        response = await console.log_in(WRONG)
        assert 1 <= int(response.headers["retry-after"]) <= 10


async def test_the_headend_s_own_limit_is_passed_on() -> None:
    body = b'{"error":"too_many_requests","message":"too many wrong tokens from this address"}'
    answer = answering("429 Too Many Requests", body=body, headers="retry-after: 7\r\n")
    async with open_scripted(answer) as headend, open_console(headend.port) as console:
        response = await console.log_in(WRONG)
    assert (response.status, response.headers["retry-after"]) == (429, "7")
    assert response.json["error"] == "too_many_requests"


async def test_where_no_token_is_needed_nobody_logs_in() -> None:
    async with open_served() as served, open_console(served.port) as console:
        session = (await console.ask("GET", "/session")).json
        assert (session["open"], session["role"]) == (True, "admin")
        assert session["headend_url"] == f"http://127.0.0.1:{served.port}"
        response = await console.log_in(WRONG)
        assert (response.status, response.json["open"]) == (200, True)
        assert "set-cookie" not in response.headers


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{}", "application/json", 400),
        (b'{"token": 1}', "application/json", 400),
        (b'{"token": ""}', "application/json", 400),
        (b'{"token": "a b"}', "application/json", 400),
        (b'{"token": "a;b"}', "application/json", 400),
        (b'{"token": "a\\r\\nx: y"}', "application/json", 400),
        (b'{"token": "a", "more": 1}', "application/json", 400),
        (b'{"token": "\xff"}', "application/json", 400),
        (b'{"token": "%s"}' % (b"a" * 3_901), "application/json", 400),
        (b'{"token": "%s"}' % (b"a" * 20_000), "application/json", 413),
        (b"token=a", "application/x-www-form-urlencoded", 415),
        (b'{"token": "a"}', "text/plain", 415),
    ],
)
async def test_what_is_no_login_is_refused_without_the_headend(
    body: bytes, content_type: str, status: int
) -> None:
    async with open_scripted(answering()) as headend, open_console(headend.port) as console:
        response = await console.ask("POST", "/session", body=body, content_type=content_type)
        assert response.status == status
        assert headend.requests == []


async def test_consoles_on_other_ports_of_a_host_have_sessions_of_their_own() -> None:
    async with open_both() as (_, console):
        console.cookie = f"trioder-session={OPERATOR}; trioder-session-{free_port()}={OPERATOR}"
        assert (await console.ask("GET", "/session")).status == 401
        console.cookie += f"; trioder-session-{console.port}={OPERATOR}"
        assert (await console.ask("GET", "/session")).status == 200


async def test_what_responds_for_the_headend_but_is_none_is_named() -> None:
    async with open_scripted(answering(body=b"<html>")) as headend, open_console(headend.port) as console:
        response = await console.ask("GET", "/session")
    assert (response.status, response.json["error"]) == (502, "unavailable")


async def test_a_headend_that_breaks_off_is_a_502() -> None:
    async def break_off(stream: trio.SocketStream, _request: bytes) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        await stream.aclose()

    async with open_scripted(break_off) as headend, open_console(headend.port) as console:
        response = await console.ask("GET", "/session")
    assert (response.status, response.json["error"]) == (502, "unavailable")


async def test_no_token_is_in_the_log() -> None:
    with capture_logs() as lines:
        async with open_both() as (_, console):
            await console.log_in(OPERATOR)
            await console.log_in(WRONG)
            await console.ask("GET", "/api/fleet")
            await console.ask("POST", "/session", body=b'{"token": "%s", "x": 1}' % OPERATOR.encode())
    assert len(lines) > 4
    text = msgspec.json.encode([{key: str(value) for key, value in line.items()} for line in lines]).decode()
    assert OPERATOR not in text
    assert WRONG not in text


async def test_the_session_is_not_kept_by_the_browser_s_cache() -> None:
    async with open_both() as (_, console):
        assert (await console.log_in(OPERATOR)).headers["cache-control"] == "no-store"
        assert (await console.ask("GET", "/session")).headers["cache-control"] == "no-store"


async def test_a_headend_under_another_name_is_asked_by_that_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = ServerTls(*authority.issue("fleet.example"), alpn=["http/1.1"])
    context = ssl.create_default_context(cafile=str(authority.file))
    hosts = AllowedHosts(["fleet.example"])
    async with open_served(tls=tls, hosts=hosts) as served:
        async with open_console(
            served.port, headend_context=context, headend_host="fleet.example"
        ) as console:
            assert (await console.ask("GET", "/session")).status == 200
        async with open_console(served.port, headend_context=context) as console:
            response = await console.ask("GET", "/session")
            assert response.status == 502
            assert "the server's certificate is for other addresses" in response.json["message"]


@pytest.mark.parametrize(
    "answer",
    [
        answering(body=b"{}"),
        answering("302 Found", body=b'{"error":"x","message":"y"}', headers="location: /x\r\n"),
        answering("404 Not Found", body=b'{"message":1}'),
    ],
    ids=["200", "302", "404"],
)
async def test_an_answer_that_no_headend_gives_logs_nobody_in(answer: Handler) -> None:
    async with open_scripted(answer) as headend, open_console(headend.port) as console:
        for response in (await console.log_in(WRONG), await console.ask("GET", "/session")):
            assert (response.status, response.json["error"]) == (502, "unavailable")
            assert "set-cookie" not in response.headers


async def test_a_cookie_that_another_port_has_set_for_a_longer_path_does_not_count() -> None:
    async with open_both() as (_, console):
        name = f"trioder-session-{console.port}"
        # Browsers send the longest path first.
        console.cookie = f"{name}={EXPIRED}; {name}={OPERATOR}"
        assert (await console.ask("GET", "/session")).status == 200


async def test_a_cookie_that_is_for_tls_alone_counts_before_one_that_is_not() -> None:
    async with open_both() as (_, console):
        name = f"trioder-session-{console.port}"
        console.cookie = f"__Host-{name}={OPERATOR}; {name}={EXPIRED}"
        assert (await console.ask("GET", "/session")).status == 200
        console.cookie = f"{name}={EXPIRED}; __Host-{name}={OPERATOR}"
        assert (await console.ask("GET", "/session")).status == 200


async def test_an_answer_without_an_end_is_no_headend_s() -> None:
    async def go_on(stream: trio.SocketStream, _request: bytes) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"10000\r\n%b\r\n" % (b"x" * 65_536))

    async with open_scripted(go_on) as headend, open_console(headend.port) as console:
        response = await console.ask("GET", "/session")
        assert (response.status, response.json["error"]) == (502, "unavailable")
        await until(lambda: headend.connections == 0)
