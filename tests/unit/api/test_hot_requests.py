"""What is recognised as a hot read is, to h11 with strict parsing, the same request."""

from collections.abc import Sequence

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioder.api.http.hot_requests import HotRequest, HotRequestParser
from trioder.api.http.strict_h11 import StrictConnection

READ = {
    b"host",
    b"connection",
    b"authorization",
    b"if-none-match",
    b"accept-encoding",
    b"accept",
    b"x-request-id",
}
ID = "0f0e0d0c-0b0a-0908-0706-050403020100"
HEAD = b"GET /assets HTTP/1.1\r\nhost: localhost\r\n\r\n"


def parse(head: bytes) -> HotRequest | None:
    return HotRequestParser().parse(head)


def strict(head: bytes) -> h11.Request:
    connection = StrictConnection(max_head_bytes=64 * 1024)
    connection.receive_data(head)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    # There is no body, and nothing is left.
    assert isinstance(connection.next_event(), h11.EndOfMessage)
    assert connection.trailing_data == (b"", False)
    return request


def test_a_plain_get_is_recognised() -> None:
    head = b"GET /telemetry?site_id=%b&limit=5 HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip \r\nx: y\r\n\r\n"
    assert parse(head % ID.encode()) == HotRequest(
        "/telemetry", {"site_id": [ID], "limit": ["5"]}, {b"host": b"a", b"accept-encoding": b"gzip"}
    )


def test_the_same_headers_are_read_once_and_others_anew() -> None:
    parser = HotRequestParser()
    heads = [HEAD, HEAD.replace(b"assets", b"fleet"), HEAD.replace(b"localhost", b"other"), HEAD]
    seen = [parser.parse(head) for head in heads]
    assert [(one.path, one.headers[b"host"]) for one in seen if one is not None] == [
        ("/assets", b"localhost"),
        ("/fleet", b"localhost"),
        ("/assets", b"other"),
        ("/assets", b"localhost"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"content-length: 0",
        b"content-length: 5",
        b"transfer-encoding: chunked",
        b"upgrade: h2c",
        b"expect: 100-continue",
        b"connection: close",
        b"connection: keep-alive, upgrade",
        b"host: other",
        b"x: a\r\n b",
        b"x: a\nb: c",
        b"x: a\rb",
        b"x : a",
        b"x: a\x00b",
        b"no colon",
    ],
)
def test_what_the_usual_way_decides_is_not_recognised_nor_what_follows_it_changed(line: bytes) -> None:
    parser = HotRequestParser()
    assert parser.parse(HEAD[:-2] + line + b"\r\n\r\n") is None
    assert parser.parse(HEAD) is not None


@pytest.mark.parametrize(
    "line",
    [
        b"HEAD /assets HTTP/1.1",
        b"POST /assets HTTP/1.1",
        b"GET /assets HTTP/1.0",
        b"GET  /assets HTTP/1.1",
        b"GET /%61ssets HTTP/1.1",
        b"GET /assets?limit=%31 HTTP/1.1",
        b"GET /assets?a HTTP/1.1",
        b"GET http://localhost/assets HTTP/1.1",
        b"\r\nGET /assets HTTP/1.1",
    ],
)
def test_other_lines_are_not_recognised(line: bytes) -> None:
    assert parse(line + b"\r\nhost: localhost\r\n\r\n") is None


BYTES = st.binary(max_size=6)
NAMES = st.one_of(
    st.sampled_from(
        [b"host", b"Host", b"x", b"X-Request-Id", b"authorization", b"accept", b"content-length"]
    ),
    BYTES,
)
LINES = st.builds(
    lambda name, between, value: name + between + value,
    NAMES,
    st.sampled_from([b": ", b":", b" : ", b":\t ", b""]),
    st.one_of(st.sampled_from([b"localhost", b"gzip", b"", b"a b", b"\xe9", b"\x7f", b"a\tb ", b"0"]), BYTES),
)
ENDS = st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r\n ", b"\r", b"\r\n\t"])


@given(
    st.sampled_from([b"/assets", b"/fleet?limit=1", b"/telemetry/" + ID.encode(), b"/a?b=c&b=d"]),
    st.lists(st.tuples(LINES, ENDS), max_size=4),
)
def test_h11_reads_the_same(target: bytes, lines: Sequence[tuple[bytes, bytes]]) -> None:
    head = b"GET %b HTTP/1.1\r\nhost: localhost\r\n" % target
    head += b"".join(line + end for line, end in lines) + b"\r\n"
    end = head.find(b"\r\n\r\n") + 4
    request = None if end < 4 else parse(head[:end])
    if request is None:
        return
    head = head[:end]
    read = strict(head)
    query = "&".join(f"{name}={value}" for name, values in request.query.items() for value in values)
    assert read.target.decode() == request.path + (f"?{query}" if query else "")
    assert (read.method, read.http_version) == (b"GET", b"1.1")
    assert {name: value for name, value in read.headers if name in READ} == request.headers
