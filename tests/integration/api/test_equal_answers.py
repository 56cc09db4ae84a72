"""Whatever a client sends: with the fast path it receives the bytes that it receives without it."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.unit.api.rest import Rest, make_fleet, open_rest, uuid_of
from tests.unit.api.tenants import EXPIRED, NO_LIMITS, WRONG, secret_of, tenants_fleet, tenants_table
from trioder.api import RestOptions, serve_rest
from trioder.domain.quality import Quality

# What differs between two responses to the same request.
VARIABLE = re.compile(rb"(\r\nx-request-id: )[0-9a-f]{32}\r\n|(\r\ndate: )[^\r]*\r\n")
LAST = b"GET /none HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A request as it is sent; `etag_of` puts the present entity tag of its path into If-None-Match."""

    line: bytes
    headers: Sequence[bytes]
    end: bytes = b"\r\n"
    etag_of: bytes | None = None

    def raw(self, etag: bytes = b"") -> bytes:
        lines = [*self.headers, *([b"if-none-match: " + etag] if etag else [])]
        return self.line + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + self.end

    @property
    def is_last(self) -> bool:
        """Whether the connection ends with its response: whether more is read then depends on chance."""
        return self.line.endswith(b"HTTP/1.0") or b"connection: close" in self.headers


ASSET, OTHERS = uuid_of(1000), uuid_of(1005)
PATHS = [
    *("/assets", "/agents", "/telemetry", "/sites", "/fleet", "/health"),
    *(f"/telemetry/{ASSET}", f"/telemetry/{ASSET.upper()}", f"/telemetry/{uuid_of(1001)}"),
    *(f"/telemetry/{OTHERS}", f"/telemetry/{uuid_of(5)}", f"/telemetry/{ASSET}/history", "/telemetry/nobody"),
    *(f"/telemetry?asset_id={ASSET}", f"/telemetry?asset_id={ASSET}&asset_id={OTHERS}&limit=1"),
    *(f"/telemetry?site_id={uuid_of(0)}", f"/telemetry?site_id={uuid_of(2)}", "/telemetry?limit=1"),
    *(f"/assets?site_id={uuid_of(0)}&limit=1", f"/assets?after={ASSET}", f"/assets?after={uuid_of(1)}"),
    *("/assets?limit=0", "/assets?limit=x", "/assets?limit=1&limit=2", "/assets?site_id=1", "/assets?"),
    *("/assets?limit=%31", "/assets?limit", "/assets?limit=", "/assets?a&&b", "/fleet?x=1", "/health?x=1"),
    *("/agents?limit=1", f"/agents?after={ASSET}", "/agents/sessions", "/whoami", "/metrics/none", "/"),
    *("/assets/", "//assets", "/%61ssets", "/ASSETS", "/assets#x", "http://localhost/assets", "assets", "*"),
    *("/fleet/reload", f"/assets/{ASSET}", "/dispatch", "/none", "/assets\\", "/assets;x", "/\xe9"),
]
LINES = st.builds(
    lambda method, path, version: f"{method} {path} {version}".encode("latin-1"),
    st.sampled_from(["GET"] * 30 + ["HEAD", "POST", "OPTIONS", "get", "GET ", "GE T"]),
    st.sampled_from(PATHS[:8] * 20 + PATHS),
    st.sampled_from(["HTTP/1.1"] * 60 + ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "http/1.1", "HTTP/1.1 "]),
)
VALID = [secret_of("viewer", "alpha"), secret_of("site", "alpha"), secret_of("admin", "*")]
SECRETS = [*VALID * 5, WRONG, EXPIRED]
TOKENS = st.sampled_from(SECRETS).map(lambda secret: f"Authorization: Bearer {secret}".encode())
HOSTS = st.sampled_from([b"host: localhost"] * 30 + [b"Host:127.0.0.1:80 ", b"host: evil.example", b"host: "])
ENCODINGS = [
    *("gzip", "gzip, deflate, br", "identity", "*", "gzip;q=0", "gzip;q=0.5, identity;q=0.9", "gzip;q=2"),
    *("identity;q=0.2,gzip;q=0.3", "*;q=0", "x-gzip", "", "GZIP ; Q=1", "deflate"),
]
ODD = [
    *(b"connection: keep-alive", b"Connection: Keep-Alive", b"connection: close", b"connection: upgrade"),
    *(b"content-length: 0", b"content-length: x", b"transfer-encoding: gzip"),
    *(b"connection: te", b"Connection: keep-alive, close", b"keep-alive: timeout=5", b"te: trailers"),
    *(b"trailer: x-after", b"proxy-connection: close", b"upgrade: websocket", b"http2-settings: AAMAAABk"),
    *(b"content-length: 5", b"transfer-encoding: chunked", b"Expect: 100-Continue", b"expect: 200-ok"),
    *(b"upgrade: h2c", b"expect: 100-continue", b"host: localhost", b"accept: application/json"),
    *(b"x-request-id: mine-1", b"x-request-id: not mine", b"x-empty:", b"x-tab:\ta\tb\t", b"x-latin: \xe9"),
    *(b"x-nul: a\x00b", b"x-del: \x7f", b"x-control: a\x01b", b"x-cr: a\rb", b"x-lf: a\nb: c"),
    *(
        b"bad header",
        b"x : space",
        b": no name",
        b"x\xe9: y",
        b"x-folded: a\r\n b",
        b" leading: x",
        b"x@y: z",
    ),
    *(b"if-none-match: *", b'if-none-match: "x", W/"y"', b"if-none-match: x", b"x-long: " + b"y" * 2_000),
    *(b"Authorization: Basic x", b"authorization: bearer", b"accept: application/x-ndjson, */*;q=0.1"),
    *(b"cookie: a=b; c=d", b"accept: application/json;q=0, */*", b"accept: text/html"),
]


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    headers = [draw(HOSTS)] if draw(st.integers(0, 30)) else []
    headers += draw(st.lists(TOKENS, max_size=2)) if draw(st.integers(0, 9)) == 0 else [draw(TOKENS)]
    if draw(st.booleans()):
        headers.append(f"Accept-Encoding: {draw(st.sampled_from(ENCODINGS))}".encode())
    if draw(st.integers(0, 3)) == 0:
        headers += draw(st.lists(st.sampled_from(ODD), max_size=2))
    line = draw(LINES)
    asks_again = draw(st.integers(0, 3)) == 0
    end = draw(st.sampled_from([b"\r\n"] * 60 + [b"\n", b"hello\r\n\r\n", b"\r\nhello", b"\r\n0\r\n\r\n"]))
    return Sent(line=line, headers=headers, end=end, etag_of=line.split(b" ")[1] if asks_again else None)


CUTS = st.lists(st.floats(0, 1), max_size=3)


@asynccontextmanager
async def open_ports(rest: Rest) -> AsyncIterator[tuple[tuple[str, int], tuple[str, int]]]:
    """Serve the same application without the fast path, and with it."""
    shutdown, addresses = trio.Event(), []
    async with trio.open_nursery() as nursery:
        for fast_reads in (None, rest.app.fast_reads):
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            addresses.append(listener.socket.getsockname())
            serve = partial(serve_rest, rest.app, [listener], shutdown=shutdown, fast_reads=fast_reads)
            await nursery.start(serve)
        yield addresses[0], addresses[1]
        shutdown.set()
        nursery.cancel_scope.cancel()


async def exchange(address: tuple[str, int], pieces: Sequence[bytes]) -> bytes:
    """Send the pieces one by one, and return all that is received until the end."""
    async with await trio.open_tcp_stream(*address) as stream:
        received = bytearray()

        async def send() -> None:
            # A refused request ends the connection, perhaps before all is sent.
            with suppress(trio.BrokenResourceError):
                for piece in pieces:
                    await stream.send_all(piece)
                    await trio.testing.wait_all_tasks_blocked()
                await stream.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            try:
                async for some in stream:
                    received += some
            except trio.BrokenResourceError:
                received += b" (reset)"
        return bytes(received)


def same_part(raw: bytes) -> bytes:
    return VARIABLE.sub(rb"\1\2-\r\n", VARIABLE.sub(rb"\1\2-\r\n", raw))


def pieces_of(data: bytes, cuts: Sequence[float]) -> Sequence[bytes]:
    places = [0, *sorted(round(cut * len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places) if start < end]


async def etag_of(address: tuple[str, int], request: Sent) -> bytes:
    tokens = [line for line in request.headers if line.startswith(b"Authorization: Bearer")]
    ask = Sent(
        line=b"GET %b HTTP/1.1" % (request.etag_of or b""),
        headers=[b"host: localhost", b"connection: close", *tokens[:1]],
    )
    match = re.search(rb'\r\netag: (W/"[^"]*")', await exchange(address, [ask.raw()]))
    return b'"other", ' + match[1] if match else b""


def populate(rest: Rest) -> None:
    rest.connect(0, 1, agent_id="agent-of-alpha")
    rest.connect(4, agent_id="agent-of-beta")
    rest.report(0, 4)
    rest.report(5, current_mw=float("nan"), quality=Quality.SUSPECT)


def until_the_last(sent: Sequence[Sent]) -> Sequence[Sent]:
    ends = next((place for place, one in enumerate(sent) if one.is_last), len(sent) - 1)
    return sent[: ends + 1]


PLAIN = [b"host: localhost", f"Authorization: Bearer {VALID[0]}".encode()]


# Shrinking takes minutes, and the requests are readable as they are.
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@example(
    sent=[Sent(line=f"GET /telemetry/{ASSET} HTTP/1.1".encode(), headers=[*PLAIN, b"expect: 100-continue"])],
    cuts=[0.99],
    has_tokens=True,
)
@given(
    sent=st.lists(requests(), min_size=1, max_size=4).map(until_the_last), cuts=CUTS, has_tokens=st.booleans()
)
def test_the_bytes_are_the_same(sent: Sequence[Sent], cuts: Sequence[float], has_tokens: bool) -> None:
    async def compare() -> None:
        access = tenants_table() if has_tokens else None
        options = RestOptions(limits=NO_LIMITS)
        async with (
            open_rest(fleet=tenants_fleet(), access=access, options=options) as rest,
            open_ports(rest) as (usual, fast),
        ):
            populate(rest)
            etags = [await etag_of(usual, one) if one.etag_of else b"" for one in sent]
            data = b"".join(one.raw(etag) for one, etag in zip(sent, etags, strict=True))
            data += b"" if sent[-1].is_last else LAST
            pieces = pieces_of(data, cuts)
            assert same_part(await exchange(fast, pieces)) == same_part(await exchange(usual, pieces))

    trio.run(compare, clock=trio.testing.MockClock())


@pytest.mark.parametrize("path", ["/assets", "/telemetry", "/agents", "/sites", "/fleet"])
@pytest.mark.parametrize("encoding", [b"", b"Accept-Encoding: gzip\r\n"])
def test_the_bytes_of_long_lists_are_the_same(path: str, encoding: bytes) -> None:
    async def compare() -> None:
        fleet = make_fleet(sites=3, assets_a_site=700)
        async with open_rest(fleet=fleet) as rest, open_ports(rest) as (usual, fast):
            rest.connect(*range(1_500))
            rest.report(*range(2_000))
            request = b"GET %b HTTP/1.1\r\nhost: localhost\r\n%b\r\n" % (path.encode(), encoding)
            answers = [same_part(await exchange(address, [request * 2 + LAST])) for address in (usual, fast)]
            assert answers[0] == answers[1]
            assert len(answers[0]) > 1_000

    trio.run(compare, clock=trio.testing.MockClock())
