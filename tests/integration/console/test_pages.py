"""The page's files over real sockets: what is served, as what, when again, and with which headers."""

import gzip
import re
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.integration.console.rig import (
    Console,
    Response,
    answering,
    open_console,
    open_scripted,
)
from tests.ports import free_port

INDEX = b"<!doctype html><title>page</title>"
SCRIPT = b"export const answer = 42;\n" * 100


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "static"
    (folder / "core").mkdir(parents=True)
    (folder / "index.html").write_bytes(INDEX)
    (folder / "core" / "dom.js").write_bytes(SCRIPT)
    (folder / ".hidden.js").write_bytes(SCRIPT)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    return folder


PROTECTION = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
}
open_files = partial(open_console, 1)


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/assets", "/assets/a-1", "/sites/s%201", "/dispatch", "/dispatch/d1", "/schedules"),
        *(
            "/schedules/s1",
            "/alarms",
            "/alarms/12",
            "/events",
            "/agents",
            "/audit",
            "/docs",
            "/login",
            "/assets?limit=3",
        ),
    ],
)
async def test_each_page_is_the_index(files: Path, path: str) -> None:
    async with open_files(files=files) as console:
        response = await console.ask("GET", path)
    assert (response.status, response.body) == (200, INDEX)
    assert response.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    "path", ["/asset", "/assets/", "/assets/a/b", "/sites", "/static", "/api", "/%2fassets"]
)
async def test_what_is_no_page_is_not_found(files: Path, path: str) -> None:
    async with open_files(files=files) as console:
        response = await console.ask("GET", path)
    assert (response.status, response.json["error"]) == (404, "not_found")


async def test_a_browser_gets_the_page_that_says_that_there_is_none(files: Path) -> None:
    async with open_files(files=files) as console:
        response = await console.ask("GET", "/nothing", accept="text/html,*/*;q=0.8")
    assert (response.status, response.body) == (404, INDEX)


@pytest.mark.parametrize(
    "path",
    [
        *("/static/../secret.txt", "/static/%2e%2e/secret.txt", "/static/core/../../secret.txt"),
        *(
            "/static/..%2fsecret.txt",
            "/static/..%5csecret.txt",
            "/static//etc/passwd",
            "/static/%2fetc/passwd",
        ),
        *("/static/link.txt", "/static/.hidden.js", "/static/", "/static/core", "/static/core/"),
        *("/static/dom.js%00", "/static/%00", "/static/" + "a" * 5000, "/static/%ff%fe"),
    ],
)
async def test_nothing_but_the_files_is_served(files: Path, path: str) -> None:
    async with open_files(files=files) as console:
        response = await console.ask("GET", path)
    assert response.status == 404
    assert b"secret" not in response.body.replace(b"secret.txt", b"")


async def test_a_file_is_asked_for_again_only_if_it_has_changed(files: Path) -> None:
    async with open_files(files=files) as console:
        first = await console.ask("GET", "/static/core/dom.js")
        assert (first.status, first.body) == (200, SCRIPT)
        assert first.headers["content-type"] == "text/javascript; charset=utf-8"
        assert first.headers["cache-control"] == "no-cache"
        same = await console.ask("GET", "/static/core/dom.js", if_none_match=first.headers["etag"])
        assert (same.status, same.body) == (304, b"")
        (files / "core" / "dom.js").write_bytes(b"export const answer = 43;\n")
        changed = await console.ask("GET", "/static/core/dom.js", if_none_match=first.headers["etag"])
        assert (changed.status, changed.body) == (200, b"export const answer = 43;\n")


async def test_a_file_is_compressed_for_those_who_accept_that(files: Path) -> None:
    async with open_files(files=files) as console:
        response = await console.ask("GET", "/static/core/dom.js", accept_encoding="gzip, br")
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(response.body) == SCRIPT


async def test_head_has_the_headers_alone(files: Path) -> None:
    async with open_files(files=files) as console:
        response = await console.ask("HEAD", "/static/core/dom.js")
    assert (response.status, response.body) == (200, b"")
    assert response.headers["content-length"] == str(len(SCRIPT))


async def test_a_file_cannot_be_written(files: Path) -> None:
    async with open_files(files=files) as console:
        response = await console.ask("PUT", "/static/core/dom.js", body=b"x")
    assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")
    assert (files / "core" / "dom.js").read_bytes() == SCRIPT


async def test_the_package_has_the_page() -> None:
    async with open_console(1) as console:
        page = (await console.ask("GET", "/")).body
        for path in re.findall(rb'(?:src|href)="(/[^"]+\.js)"', page):
            assert (await console.ask("GET", path.decode())).status == 200, path


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.2:80", "localhost.evil.example", ""])
async def test_another_host_is_misdirected(files: Path, host: str) -> None:
    async with open_files(files=files) as console:
        response = await console.ask("GET", "/", host=host)
    assert (response.status, response.json["error"]) == (421, "misdirected_request")
    if host:
        assert "CONSOLE_HTTP_HOSTS" in response.json["message"]


def assert_protected(response: Response, status: int) -> None:
    assert response.status == status
    assert {name: response.headers[name] for name in PROTECTION} == PROTECTION
    policy = set(response.headers["content-security-policy"].split("; "))
    assert policy >= POLICY
    assert "unsafe" not in response.headers["content-security-policy"]
    assert "camera=()" in response.headers["permissions-policy"]


async def test_every_kind_of_response_has_the_security_headers(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_scripted(answering()) as headend, open_console(headend.port, files=files) as console:
        page = await console.ask("GET", "/")
        assert_protected(page, 200)
        assert_protected(await console.ask("GET", "/", if_none_match=page.headers["etag"]), 304)
        assert_protected(await console.ask("GET", "/nothing"), 404)
        assert_protected(await console.ask("POST", "/"), 405)
        assert_protected(await console.ask("POST", "/api/stop", sec_fetch_site="cross-site"), 403)
        assert_protected(await console.ask("GET", "/", host="evil.example"), 421)
        assert_protected(await console.send(b"GET / HTTP/1.1\r\nx: " + b"y" * 200_000), 431)
        assert_protected(await console.send(b"nonsense\r\n\r\n"), 400)
        assert_protected(await console.ask("GET", "/api/assets"), 200)
        assert_protected(await console.ask("DELETE", "/session"), 204)
        assert_protected(await console.ask("POST", "/session", body=b"{}"), 400)
        monkeypatch.setattr("trioder.console.app._PAGES", None)
        assert_protected(await console.ask("GET", "/"), 500)


async def test_a_bad_gateway_has_the_security_headers(files: Path) -> None:
    async with open_console(free_port(), files=files) as console:
        assert_protected(await console.ask("GET", "/api/assets"), 502)


async def test_a_console_that_is_full_says_so_with_the_security_headers(files: Path) -> None:
    async def busy(console: Console) -> None:
        stream = await console.connect()
        async with stream:
            await stream.send_all(
                console.request("POST", "/session", content_length="9", content_type="application/json")
            )
            occupied.set()
            await trio.sleep_forever()

    occupied = trio.Event()
    async with open_files(files=files, max_connections=1) as console, trio.open_nursery() as nursery:
        nursery.start_soon(busy, console)
        await occupied.wait()
        response = await console.ask("GET", "/")
        while response.status != 503:
            response = await console.ask("GET", "/")
        assert_protected(response, 503)
        assert "this console already serves 1" in response.json["message"]
        nursery.cancel_scope.cancel()
