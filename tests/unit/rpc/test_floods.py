"""Frames that cost more to receive than to send: they starve no other task, and end the connection."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from struct import pack

import h2.events
import pytest
import structlog.testing
import trio
import trio.testing
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from trio.testing import MockClock

from tests.unit.rpc.limited import calling, open_limited, written
from tests.unit.rpc.probe import Probe
from tests.unit.rpc.raw_peer import REQUEST, RawClient, open_raw_client
from tests.unit.rpc.test_malformed import PREFACE, raw_frame, still_answers
from trioder.rpc import ConnectionOptions, serve_connection
from trioder.rpc.call_stream import CallStream
from trioder.rpc.coalescing import PREFACE_BYTES, DataCoalescer
from trioder.rpc.core import Core

CANCEL = pack(">I", int(ErrorCodes.CANCEL))
SETTINGS = raw_frame(4, 0, 0, b"")
# Tasks run in any order within a pass: a slice at the end of one, another at the start of the next.
TWO_SLICES = 10


def header_frames(client: RawClient, count: int, *, name: str = "Nowhere", flags: int = 5) -> bytes:
    fields = calling(name)
    return b"".join(
        raw_frame(1, flags, 1 + 2 * number, client.h2.encoder.encode(fields)) for number in range(count)
    )


@pytest.mark.parametrize(
    ("frames", "a_slice"),
    [
        (b"".join(raw_frame(1, 5, number, b"\x82") for number in range(1, 2001, 2)), 5),
        (raw_frame(6, 0, 0, b"12345678") * 1000, 17),
        (raw_frame(4, 0, 0, b"") * 1000, 9),
        (raw_frame(8, 0, 0, b"\0\0\0\1") * 1000, 17),
        (b"".join(raw_frame(0, 0, number, b"x") for number in range(1, 2001, 2)), 17),
    ],
)
def test_a_read_is_processed_in_slices(frames: bytes, a_slice: int) -> None:
    coalescer = DataCoalescer(preface_bytes=PREFACE_BYTES, max_frame_bytes=1000)
    slices = coalescer.feed(PREFACE + frames)

    assert b"".join(slices) == PREFACE + frames
    size = len(frames) // 1000
    assert all(len(piece) <= a_slice * size + len(PREFACE) for piece in slices)


async def most_requests_a_pass(clients: list[RawClient], cores: list[Core]) -> int:
    """How many requests of all clients the server processes before other tasks run."""

    def requests() -> int:
        return sum(core.requests for core in cores)

    most = 0
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(client.send, header_frames(client, 500))
        last = requests()
        while last < 500 * len(clients):
            await trio.lowlevel.checkpoint()
            most, last = max(most, requests() - last), requests()
    return most


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> list[Core]:
    """The state machines of all connections from now on."""
    made: list[Core] = []
    original = Core.__init__

    def remember(self: Core, *, client_side: bool, options: ConnectionOptions) -> None:
        made.append(self)
        original(self, client_side=client_side, options=options)

    monkeypatch.setattr(Core, "__init__", remember)
    return made


async def test_a_flood_of_calls_does_not_starve_other_tasks(
    cores: list[Core], autojump_clock: MockClock
) -> None:
    async with open_raw_client() as client:
        await client.receive()
        assert await most_requests_a_pass([client], cores) <= TWO_SLICES


async def test_unregistered_peers_share_slices(cores: list[Core], autojump_clock: MockClock) -> None:
    async with open_limited() as server:
        clients = [await server.client() for _ in range(8)]
        for client in clients:
            # Beyond the frames that each may send at once.
            await client.send(SETTINGS * 40)
            await client.receive()
        assert await most_requests_a_pass(clients, cores) <= TWO_SLICES


@pytest.mark.parametrize("name", ["Nowhere", "Unary", "Hang"])
@pytest.mark.parametrize("headers", [4, 5])
async def test_a_reset_in_the_same_read_ends_the_call_alone(
    name: str, headers: int, autojump_clock: MockClock
) -> None:
    async with open_raw_client() as client:
        client.h2.send_headers(1, calling(name), end_stream=headers == 5)
        with structlog.testing.capture_logs() as logs:
            await client.send(raw_frame(3, 0, 1, CANCEL))
            await client.receive()

        assert not [line for line in logs if line["log_level"] in ("warning", "error", "critical")]
        assert not client.server_ended.is_set()
        client.h2.reset_stream(1)
        assert await still_answers(client)


@pytest.mark.parametrize(
    "fields",
    [
        [(key, "GET" if key == ":method" else value) for key, value in REQUEST],
        [*REQUEST, ("connection", "close")],
        [*REQUEST, ("grpc-timeout", "soon")],
    ],
)
async def test_a_refused_call_that_is_reset_in_the_same_read(
    fields: list[tuple[str, str]], autojump_clock: MockClock
) -> None:
    async with open_raw_client() as client:
        client.h2.send_headers(1, fields, end_stream=True)
        await client.send(raw_frame(3, 0, 1, CANCEL))
        await client.receive()
        assert await still_answers(client)


@pytest.mark.parametrize(
    ("frames", "outcome"),
    [
        (raw_frame(3, 0, 1, CANCEL) * 2, None),  # RST_STREAM twice
        (raw_frame(3, 0, 1, CANCEL) + raw_frame(8, 0, 1, b"\0\0\0\1"), None),  # WINDOW_UPDATE, closed stream
        (raw_frame(2, 0, 1, b"\0\0\0\1\0"), None),  # PRIORITY that depends on itself
        (raw_frame(2, 0, 99, b"\0\0\0\x63\0"), None),
        (raw_frame(0x55, 0xFF, 1, b"of another protocol"), None),
        (raw_frame(4, 0, 0, b"\xab\xcd\0\0\0\1"), None),  # an unknown setting
        (raw_frame(0, 1, 1, b"") + raw_frame(0, 0, 1, b"late"), 1),  # DATA after END_STREAM
        (raw_frame(3, 0, 99, CANCEL), ErrorCodes.PROTOCOL_ERROR),  # RST_STREAM, idle stream
        (raw_frame(3, 0, 2, CANCEL), ErrorCodes.PROTOCOL_ERROR),  # of ours, that there is not
        (raw_frame(3, 0, 0, CANCEL), ErrorCodes.PROTOCOL_ERROR),
        (raw_frame(8, 0, 99, b"\0\0\0\1"), ErrorCodes.PROTOCOL_ERROR),  # WINDOW_UPDATE, idle stream
        (raw_frame(8, 0, 0, b"\0\0\0\0"), ErrorCodes.PROTOCOL_ERROR),  # of nothing
        (raw_frame(6, 0, 0, b"short"), ErrorCodes.FRAME_SIZE_ERROR),  # PING
        (raw_frame(6, 0, 1, b"12345678"), ErrorCodes.PROTOCOL_ERROR),  # PING of a stream
        (raw_frame(0, 0, 0, b"x"), ErrorCodes.PROTOCOL_ERROR),  # DATA of no stream
        (raw_frame(0, 8, 1, b"\xff"), ErrorCodes.PROTOCOL_ERROR),  # more padding than frame
        (raw_frame(1, 4, 1, b"\x82"), ErrorCodes.PROTOCOL_ERROR),  # trailers that do not end the stream
        (raw_frame(1, 0, 3, b"\x82") + SETTINGS, ErrorCodes.PROTOCOL_ERROR),  # inside a header block
        (raw_frame(4, 0, 0, bytes(6) * 200), ErrorCodes.FRAME_SIZE_ERROR),  # 200 settings
    ],
)
async def test_a_breach_ends_what_it_must_and_nothing_crashes(
    frames: bytes, outcome: int | None, autojump_clock: MockClock
) -> None:
    async with open_raw_client() as client:
        client.h2.send_headers(1, calling("Hang"))
        with structlog.testing.capture_logs() as logs:
            await client.send(frames)
            await client.receive()

        assert not [line for line in logs if line["log_level"] in ("error", "critical")]
        assert len(logs) <= 1
        ended = [e.error_code for e in client.events if isinstance(e, h2.events.ConnectionTerminated)]
        if isinstance(outcome, ErrorCodes):
            assert len(ended) == 1
            assert ended[0] in (outcome, ErrorCodes.PROTOCOL_ERROR)
        else:
            assert not ended
            assert not client.server_ended.is_set()


@pytest.mark.parametrize("size", [0, 1, 1000])
async def test_continuations_without_end_are_not_held(size: int, autojump_clock: MockClock) -> None:
    async with open_raw_client() as client:
        await client.flush()
        await client.send(raw_frame(1, 0, 1, b"\x82") + raw_frame(9, 0, 1, bytes(size)) * 70)
        await client.receive()
        assert client.server_ended.is_set()


def test_unknown_settings_are_not_kept() -> None:
    core = Core(client_side=False, options=ConnectionOptions())
    for piece in core.slices(PREFACE + SETTINGS):
        core.receive(piece)
    before = len(core.h2_connection.remote_settings)
    for code in range(100, 1000):
        setting = pack(">HI", code, 1) + pack(">HI", SettingCodes.HEADER_TABLE_SIZE, 2**32 - 1)
        for piece in core.slices(raw_frame(4, 0, 0, setting)):
            core.receive(piece)

    assert len(core.h2_connection.remote_settings) == before
    assert core.h2_connection.encoder.header_table_size == 4096


def test_closed_streams_are_not_kept_without_bound() -> None:
    core = Core(client_side=False, options=ConnectionOptions())
    client = RawClient(trio.testing.memory_stream_pair()[0])
    for piece in core.slices(PREFACE + SETTINGS + header_frames(client, 5000)):
        core.receive(piece)
        for number in list(core.h2_connection.streams):
            core.reset(number, ErrorCodes.REFUSED_STREAM)

    assert len(core.h2_connection._closed_streams) <= 2048


@contextmanager
def leaving_no_stream() -> Iterator[None]:
    """Check that reference counts alone free every stream of the block."""
    gc.collect()
    gc.disable()
    try:
        yield
        left = [thing for thing in gc.get_objects() if type(thing) is CallStream]
    finally:
        gc.enable()
    assert not left


@pytest.mark.parametrize(
    ("name", "body"),
    [("Refuse", written(9_000)), ("Group", written(9_000)), ("Unary", b"\0\0\0\x23\x28" + bytes(9_000))],
)
async def test_a_refused_call_leaves_nothing_to_the_collector(
    name: str, body: bytes, autojump_clock: MockClock
) -> None:
    async with open_limited() as server:
        client = await server.client()
        with leaving_no_stream():
            for _ in range(5):
                await client.request(calling(name), body)
                await client.receive()
            server.probe.last_call = None


async def test_a_call_that_exceeds_a_bound_leaves_nothing_to_the_collector(
    autojump_clock: MockClock,
) -> None:
    async with open_limited(unregistered_bytes=20_000) as server:
        client = await server.client()
        with leaving_no_stream():
            for _ in range(5):
                client.h2.send_headers(stream_id := client.h2.get_next_available_stream_id(), calling("Hang"))
                client.h2.send_data(stream_id, written(30_000)[:16_000])
                client.h2.send_data(stream_id, written(30_000)[16_000:])
                await client.receive()


async def test_a_connection_that_is_only_opened_is_served_without_an_error(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await ours.aclose()
    with trio.fail_after(5):
        await serve_connection(theirs, Probe().services)
