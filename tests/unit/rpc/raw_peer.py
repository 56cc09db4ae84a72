"""A client that sends HTTP/2 frame by frame, including frames that no conforming client sends."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events
import trio
import trio.testing
from hyperframe.frame import HeadersFrame

from tests.unit.rpc.probe import DEFAULTS, Probe
from trioder.rpc import ConnectionOptions, serve_connection

Fields = Sequence[tuple[str, str]]
REQUEST: Fields = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/probe.Probe/Unary"),
    (":authority", "probe"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)


class RawClient:
    """A client on one end of a stream in memory, our server at the other."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        config = h2.config.H2Configuration(
            header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.server_ended = trio.Event()

    async def flush(self) -> None:
        await self.send(b"")

    async def send(self, raw: bytes) -> None:
        """Send what is pending, and raw bytes after it."""
        try:
            await self.stream.send_all(self.h2.data_to_send() + raw)
        except trio.BrokenResourceError:
            self.server_ended.set()

    async def receive(self) -> list[h2.events.Event]:
        """Receive until the server sends nothing more for now; return all events so far."""
        await self.flush()
        while True:
            with trio.move_on_after(0.1) as quiet:
                data = await self.stream.receive_some(1 << 20)
            if quiet.cancelled_caught:
                return self.events
            if not data:
                self.server_ended.set()
                return self.events
            self.events += self.h2.receive_data(data)
            await self.flush()

    async def request(self, fields: Fields, body: bytes | None = b"\0\0\0\0\0") -> int:
        """Send a request; return its stream."""
        stream_id: int = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream_id, fields, end_stream=body is None)
        if body is not None:
            self.h2.send_data(stream_id, body, end_stream=True)
        await self.flush()
        return stream_id

    def headers_frame(self, stream_id: int, fields: Fields = REQUEST) -> bytes:
        """A frame of a stream that the state machine does not track."""
        frame = HeadersFrame(stream_id)
        frame.data = self.h2.encoder.encode(fields)
        frame.flags.add("END_HEADERS")
        return bytes(frame.serialize())

    def fields_on(self, stream_id: int) -> dict[str, str]:
        """All header fields and trailers received on a stream."""
        return {
            name: value
            for event in self.events
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived)
            and event.stream_id == stream_id
            for name, value in event.headers
        }

    def resets(self) -> dict[int, int]:
        return {
            event.stream_id: int(event.error_code)
            for event in self.events
            if isinstance(event, h2.events.StreamReset)
        }


@asynccontextmanager
async def open_raw_client(
    probe: Probe | None = None, *, options: ConnectionOptions = DEFAULTS, lockstep: bool = False
) -> AsyncIterator[RawClient]:
    pair = trio.testing.lockstep_stream_pair if lockstep else trio.testing.memory_stream_pair
    ours, theirs = pair()
    served = trio.Event()

    async def serve(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await serve_connection(theirs, (probe or Probe()).services, options=options)
        served.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(serve)
        yield RawClient(ours)
        await ours.aclose()
        with trio.fail_after(60):
            await served.wait()
