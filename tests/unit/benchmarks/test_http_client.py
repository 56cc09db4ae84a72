"""The client of the benchmarks: whole responses, however they are split, and an error where there is none."""

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from scripts.benchmarks.benchmark import BenchmarkError
from scripts.benchmarks.http_client import HttpConnection

Ends = tuple[HttpConnection, trio.abc.HalfCloseableStream]

HEAD = b"HTTP/1.1 200 \r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n"


@pytest.fixture
def ends() -> Ends:
    """A connection, and the server's end of it."""
    ours, theirs = memory_stream_pair()
    return dialled(ours), theirs


def dialled(*streams: trio.abc.Stream) -> HttpConnection:
    """A connection that is made over each of the streams in turn."""
    waiting = list(streams)

    async def dial() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return waiting.pop(0)

    return HttpConnection(dial, "headend:1")


async def test_a_response_that_arrives_byte_by_byte_is_read_whole(ends: Ends) -> None:
    connection, theirs = ends

    async def send() -> None:
        for byte in HEAD + b'{"a": 1}':
            await theirs.send_all(bytes([byte]))
            await wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert await connection.exchange(b"x") == b'{"a": 1}'


async def test_a_request_has_the_length_of_its_body(ends: Ends) -> None:
    assert ends[0].request_bytes("POST", "/dispatch", {"mw": 1}) == (
        b"POST /dispatch HTTP/1.1\r\nhost: headend:1\r\ncontent-type: application/json\r\n"
        b'content-length: 9\r\n\r\n{"mw": 1}'
    )


async def test_another_status_than_200_is_an_error_with_its_body(ends: Ends) -> None:
    connection, theirs = ends
    await theirs.send_all(HEAD.replace(b"200", b"404") + b"no asset")
    with pytest.raises(BenchmarkError, match="GET /x: 404: no asset"):
        await connection.ask("GET", "/x")


async def test_a_response_without_a_content_length_is_an_error(ends: Ends) -> None:
    connection, theirs = ends
    await theirs.send_all(b"HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n")
    with pytest.raises(BenchmarkError, match="no content-length"):
        await connection.ask("GET", "/x")


async def test_a_connection_that_the_server_closes_after_its_response_is_dialled_again() -> None:
    (ours, theirs), (our_next, their_next) = memory_stream_pair(), memory_stream_pair()
    connection = dialled(ours, our_next)
    await theirs.send_all(HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + b"the last")
    assert await connection.exchange(b"x") == b"the last"
    await their_next.send_all(HEAD + b"the next")
    assert await connection.exchange(b"x") == b"the next"


async def test_a_connection_that_ends_in_the_middle_is_an_error(ends: Ends) -> None:
    connection, theirs = ends
    await theirs.send_all(HEAD + b"half")
    await theirs.send_eof()
    with pytest.raises(BenchmarkError, match="headend:1 closed a connection before its response"):
        await connection.ask("GET", "/x")


async def test_a_broken_connection_is_an_error(ends: Ends) -> None:
    connection, theirs = ends
    await theirs.aclose()
    with pytest.raises(BenchmarkError, match="a connection to headend:1 broke"):
        await connection.ask("GET", "/x")
