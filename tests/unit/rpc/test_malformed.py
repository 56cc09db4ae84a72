"""Peers that violate the protocol: their call or their connection ends, and nothing else."""

from contextlib import suppress
from dataclasses import replace
from struct import pack

import h2.connection
import pytest
import structlog.testing
import trio
import trio.testing
from h2.errors import ErrorCodes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.unit.rpc.probe import DEFAULTS, UNARY, Probe, call_unary, message
from tests.unit.rpc.raw_peer import REQUEST, Fields, RawClient, open_raw_client
from trioder.rpc import RpcError, open_channel, serve_connection

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def raw_frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return pack(">I", len(payload))[1:] + pack(">BBI", kind, flags, stream_id) + payload


async def still_answers(client: RawClient) -> bool:
    stream_id = await client.request(REQUEST)
    await client.receive()
    return client.fields_on(stream_id).get("grpc-status") == "0"


def replaced(name: str, value: str) -> Fields:
    return [(key, value if key == name else old) for key, old in REQUEST]


@pytest.mark.parametrize(
    "fields",
    [
        [field for field in REQUEST if field[0] != ":path"],
        [field for field in REQUEST if field[0] != ":method"],
        [*REQUEST, (":path", "/late")],
        [(":path", "/twice"), *REQUEST],
        [(":colour", "red"), *REQUEST],
        [*REQUEST, ("X-Upper", "a")],
        [*REQUEST, ("x space", "a")],
        [*REQUEST, ("", "a")],
        [*REQUEST, ("x-break", "a\r\nb: c")],
        [*REQUEST, ("x-nul", "a\0")],
        [*REQUEST, ("x-outer", " a")],
        [*REQUEST, ("connection", "close")],
        [*REQUEST, ("transfer-encoding", "chunked")],
        [*REQUEST, ("host", "elsewhere")],
        replaced("te", "gzip"),
    ],
)
async def test_a_malformed_request_is_reset_alone(fields: Fields, autojump_clock: MockClock) -> None:
    async with open_raw_client() as client:
        stream_id = await client.request(fields)
        await client.receive()

        assert client.resets() == {stream_id: ErrorCodes.PROTOCOL_ERROR}
        assert await still_answers(client)


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        (replaced(":method", "GET"), ":status", "405"),
        (replaced("content-type", "text/html"), ":status", "415"),
        (replaced("content-type", "application/grpcsomething"), ":status", "415"),
        (replaced("content-type", "application/grpc+proto"), "grpc-status", "0"),
        (replaced(":path", "/"), "grpc-status", "12"),
        (replaced(":path", "*"), "grpc-status", "12"),
        ([*REQUEST, ("grpc-timeout", "soon")], "grpc-status", "13"),
        ([*REQUEST, ("grpc-timeout", "123456789S")], "grpc-status", "13"),
        ([*replaced(":path", "/probe.Probe/Hang"), ("grpc-timeout", "0n")], "grpc-status", "4"),
    ],
)
async def test_a_request_that_cannot_be_served_is_answered(
    fields: Fields, name: str, value: str, autojump_clock: MockClock
) -> None:
    async with open_raw_client() as client:
        stream_id = await client.request(fields)
        await client.receive()

        assert client.fields_on(stream_id)[name] == value
        assert await still_answers(client)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"\1\0\0\0\1x", "12"),  # compressed
        (b"\0\xff\xff\xff\xff", "8"),  # 4 GiB announced
        (b"\0\0\0\0\5ab", "13"),  # ends inside a message
        (b"\0\0\0\0\2\xff\xff", "3"),  # no such message
        (b"", "3"),
    ],
)
async def test_a_malformed_message_ends_its_call(body: bytes, status: str, autojump_clock: MockClock) -> None:
    async with open_raw_client() as client:
        stream_id = await client.request(REQUEST, body)
        await client.receive()

        assert client.fields_on(stream_id)["grpc-status"] == status
        assert await still_answers(client)


async def test_one_call_too_many_is_refused_and_may_be_tried_again(autojump_clock: MockClock) -> None:
    probe = Probe()
    async with open_raw_client(probe, options=replace(DEFAULTS, max_concurrent_calls=2)) as client:
        hang = replaced(":path", "/probe.Probe/Hang")
        first, _ = [await client.request(hang, None) for _ in range(2)]
        refused = await client.request(REQUEST)
        await client.receive()
        assert client.resets() == {refused: ErrorCodes.REFUSED_STREAM}

        client.h2.reset_stream(first, ErrorCodes.CANCEL)
        await client.receive()
        assert await still_answers(client)


async def test_resets_as_fast_as_can_be_end_the_connection(autojump_clock: MockClock) -> None:
    probe = Probe()
    async with open_raw_client(probe) as client:
        opened_and_reset = b"".join(
            client.headers_frame(stream_id, replaced(":path", "/probe.Probe/Hang"))
            + raw_frame(3, 0, stream_id, b"\0\0\0\x08")
            for stream_id in range(1, 22_001, 2)
        )
        await client.send(opened_and_reset)
        with trio.fail_after(1):
            while await client.stream.receive_some():
                pass  # until the server closes the connection

        assert probe.hanging == 0


@pytest.mark.parametrize(
    "frame",
    [
        raw_frame(6, 0, 0, b"are you?"),  # PING
        raw_frame(4, 0, 0, b""),  # SETTINGS
        raw_frame(2, 0, 1, b"\0\0\0\0\1"),  # PRIORITY
        raw_frame(3, 0, 1, b"\0\0\0\0"),  # RST_STREAM of a stream that is over
        raw_frame(0, 0, 1, b""),  # empty DATA
    ],
)
async def test_a_flood_of_control_frames_ends_the_connection(frame: bytes, autojump_clock: MockClock) -> None:
    async with open_raw_client() as client:
        client.h2.send_headers(1, replaced(":path", "/probe.Probe/Hang"))
        for _ in range(11):
            await client.send(frame * 1000)
        await client.receive()

        assert client.server_ended.is_set()


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS hello
        PREFACE + raw_frame(4, 0, 0, b"") + raw_frame(1, 4, 1, b"\xff" * 50),  # no HPACK
        PREFACE + raw_frame(4, 0, 0, b"") + raw_frame(0, 0, 7, b"data of no call"),
        PREFACE + raw_frame(4, 0, 0, b"\0\4\xff\xff\xff\xff"),  # a window of 4 GiB
        PREFACE + raw_frame(4, 0, 0, b"") + raw_frame(5, 4, 1, b"\0\0\0\2"),  # PUSH_PROMISE by a client
        PREFACE + raw_frame(4, 0, 0, b"") + raw_frame(9, 4, 1, b"x"),  # CONTINUATION of nothing
        PREFACE + raw_frame(4, 0, 0, b"") + b"\xff\xff\xff" + b"\0" * 6,  # 16 MiB announced
        PREFACE + raw_frame(4, 0, 0, b"") + raw_frame(1, 0, 1, b"\x82") + raw_frame(9, 0, 1, b"\x82") * 70,
    ],
)
async def test_garbage_ends_the_connection(raw: bytes, autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_all(raw)

    with trio.fail_after(1), structlog.testing.capture_logs() as logs:
        await serve_connection(theirs, Probe().services)

    assert not [line for line in logs if line["log_level"] in ("error", "critical")]


async def test_a_header_bomb_ends_the_connection(autojump_clock: MockClock) -> None:
    async with open_raw_client() as client:
        await client.request([*REQUEST, ("x-big", "a" * 20_000)])
        await client.receive()

        assert client.server_ended.is_set()


async def test_a_client_survives_a_server_that_is_none(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
    async with open_channel(ours, authority="probe") as channel:
        with pytest.raises(RpcError, match="UNAVAILABLE"):
            await call_unary(channel, UNARY, message(b""))


def recorded_session() -> bytes:
    """What a conforming client sends for two calls."""
    client = h2.connection.H2Connection()
    client.initiate_connection()
    for path, body in (("/probe.Probe/Echo", b"\0\0\0\0\3\n\1x"), ("/probe.Probe/Unary", b"\0\0\0\0\0")):
        stream_id = client.get_next_available_stream_id()
        client.send_headers(stream_id, replaced(":path", path))
        client.send_data(stream_id, body, end_stream=True)
    client.ping(b"12345678")
    return bytes(client.data_to_send())


CONFORMING = recorded_session()
SENT = st.one_of(
    st.binary(max_size=300).map(lambda tail: PREFACE + tail),
    st.lists(
        st.tuples(st.integers(0, 11), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=40)),
        max_size=12,
    ).map(lambda frames: PREFACE + raw_frame(4, 0, 0, b"") + b"".join(raw_frame(*frame) for frame in frames)),
    st.lists(st.tuples(st.integers(len(PREFACE), len(CONFORMING) - 1), st.integers(0, 255)), max_size=4).map(
        lambda changes: _changed(dict(changes))
    ),
)


def _changed(changes: dict[int, int]) -> bytes:
    return bytes(changes.get(index, byte) for index, byte in enumerate(CONFORMING))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sent=SENT, cut=st.integers(1, 400))
def test_whatever_a_client_sends_nothing_escapes_and_the_connection_ends(sent: bytes, cut: int) -> None:
    async def check() -> None:
        ours, theirs = trio.testing.memory_stream_pair()

        async def talk() -> None:
            with suppress(trio.BrokenResourceError):
                for piece in (sent[:cut], sent[cut:]):
                    await ours.send_all(piece)
                    await trio.sleep(0.1)
            await ours.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            await serve_connection(theirs, Probe().services)

    with structlog.testing.capture_logs() as logs:
        trio.run(check, clock=MockClock(autojump_threshold=0))
    crashes = [line for line in logs if line["log_level"] in ("error", "critical")]
    assert not crashes


@settings(max_examples=150, deadline=None)
@given(
    frames=st.lists(
        st.tuples(
            st.sampled_from([0, 1, 3, 4, 6, 7, 8]),
            st.integers(0, 255),
            st.integers(0, 3),
            st.binary(max_size=40),
        ),
        max_size=12,
    )
)
def test_whatever_a_server_sends_a_call_ends_with_an_rpc_error(
    frames: list[tuple[int, int, int, bytes]],
) -> None:
    async def check() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(raw_frame(4, 0, 0, b"") + b"".join(raw_frame(*frame) for frame in frames))
        async with open_channel(ours, authority="probe") as channel:
            with pytest.raises(RpcError):
                await call_unary(channel, UNARY, message(b""), timeout_s=60)

    trio.run(check, clock=MockClock(autojump_threshold=0))
