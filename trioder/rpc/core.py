"""HTTP/2 and gRPC without I/O: purerpc's sans-I/O connection, with our settings and stricter checks.

Bytes go in and events come out; what is to be sent is pending until the connection takes it. Who waits for
what is the business of `connection`.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h2.events
import h2.exceptions
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings
from hyperframe.frame import (
    AltSvcFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from purerpc.grpclib.config import GRPCConfiguration
from purerpc.grpclib.connection import GRPCConnection
from purerpc.grpclib.status import Status

from trioder.rpc.coalescing import PREFACE_BYTES, DataCoalescer, FrameTooLargeError
from trioder.rpc.headers import Metadata, encode_timeout
from trioder.rpc.options import ConnectionOptions
from trioder.rpc.status import RpcError, StatusCode

_MAX_FRAME_BYTES = 64 * 1024
_MAX_HEADER_LIST_BYTES = 16 * 1024
_MAX_STATUS_MESSAGE_BYTES = 1024
_HTTP2_DEFAULT_WINDOW_BYTES = 65_535
# The compression table of the header fields that we send; a peer may ask for 4 GiB.
_MAX_ENCODER_TABLE_BYTES = 4096
# h2 keeps a value for each setting that it receives, of 65,536 possible ones.
_KNOWN_SETTINGS = frozenset(int(code) for code in SettingCodes)
# How many closed streams are remembered: by default 65,536, some 6 MiB a connection.
_CLOSED_STREAMS_KEPT = 2048
# The highest stream id: a GOAWAY with it permits the calls that are already in flight.
_EVERY_STREAM = 2**31 - 1

_Dispatched = tuple[list[Frame], list[h2.events.Event]]


class ProtocolViolationError(Exception):
    """The peer broke the protocol; the connection is over once what is pending is sent."""


class Core(GRPCConnection):  # type: ignore[misc]  # purerpc has no types
    """One connection's state machine.

    Attributes:
        client_side: which end of the connection it is.
        control_frames: RST_STREAM, PING, SETTINGS, PRIORITY and unknown frames that the peer sent so far, and
            DATA frames that are empty or of a closed stream; a flood of them costs us more than it costs the
            peer (CVE-2023-44487 and kin), so the caller bounds their rate.
        requests: HEADERS frames that opened a stream, so far; bounded likewise.
    """

    def __init__(self, *, client_side: bool, options: ConnectionOptions) -> None:
        self._options = options
        self.client_side = client_side
        self.control_frames = 0
        self.requests = 0
        self._coalescer = DataCoalescer(
            preface_bytes=0 if client_side else PREFACE_BYTES, max_frame_bytes=_MAX_FRAME_BYTES
        )
        super().__init__(
            GRPCConfiguration(client_side=client_side, max_message_length=options.max_message_bytes)
        )
        self.h2_connection.config.validate_inbound_headers = False  # `headers` does, a stream at a time
        self.h2_connection.decoder.max_header_list_size = _MAX_HEADER_LIST_BYTES
        self.h2_connection._closed_streams._size_limit = _CLOSED_STREAMS_KEPT  # noqa: SLF001  # no public setting
        dispatch = self.h2_connection._frame_dispatch_table  # noqa: SLF001  # h2 has no public hook
        # h2 forbids every frame after a GOAWAY; a graceful one lets the calls in flight end.
        dispatch[GoAwayFrame] = _on_goaway
        # Deprecated, and may be ignored (RFC 9113, 5.3.2); some make h2 end the connection.
        dispatch[PriorityFrame] = _ignore
        dispatch[SettingsFrame] = _with_known_settings(dispatch[SettingsFrame])
        dispatch[RstStreamFrame] = self._of_open_stream(dispatch[RstStreamFrame])
        for kind in (WindowUpdateFrame, RstStreamFrame):
            dispatch[kind] = _unless_stream_closed(dispatch[kind])
        for kind in (PingFrame, RstStreamFrame, SettingsFrame, PriorityFrame, AltSvcFrame, ExtensionFrame):
            dispatch[kind] = self._counted(dispatch[kind])
        dispatch[DataFrame] = self._counted_if_useless(dispatch[DataFrame])
        dispatch[HeadersFrame] = self._counted_if_request(dispatch[HeadersFrame])
        self.initiate_connection()
        # h2 would end the connection at one call above the limit; the server refuses only that call.
        self.h2_connection.local_settings = self._settings(max_concurrent_calls=_EVERY_STREAM)

    def _set_h2_connection_local_settings(self) -> None:
        self.h2_connection.local_settings = self._settings(
            max_concurrent_calls=self._options.max_concurrent_calls
        )
        self.h2_connection.max_inbound_frame_size = _MAX_FRAME_BYTES

    def _settings(self, *, max_concurrent_calls: int) -> Settings:
        return Settings(
            client=self.config.client_side,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: max_concurrent_calls,
                SettingCodes.INITIAL_WINDOW_SIZE: self._options.stream_window_bytes,
                SettingCodes.MAX_FRAME_SIZE: _MAX_FRAME_BYTES,
                SettingCodes.MAX_HEADER_LIST_SIZE: _MAX_HEADER_LIST_BYTES,
                SettingCodes.ENABLE_PUSH: 0,
            },
        )

    def initiate_connection(self) -> None:
        """Write the preface, our settings and the connection's window."""
        self.h2_connection.initiate_connection()
        self.h2_connection.increment_flow_control_window(
            self._options.connection_window_bytes - _HTTP2_DEFAULT_WINDOW_BYTES
        )

    def slices(self, data: bytes | bytearray) -> list[bytes]:
        """Take bytes from the peer and return them in pieces for `receive`, one for each slice of work.

        Raises:
            ProtocolViolationError: a frame, or a header block, is larger than any may be.
        """
        try:
            return self._coalescer.feed(data)
        except FrameTooLargeError as error:
            self.goaway(last_stream_id=0, error_code=error.error_code)
            raise ProtocolViolationError(str(error)) from None

    def receive(self, piece: bytes) -> list[h2.events.Event]:
        """Take a piece of `slices` and return its events.

        Raises:
            ProtocolViolationError: HTTP/2 forbids it; a GOAWAY is pending.
        """
        try:
            events: list[h2.events.Event] = self.h2_connection.receive_data(piece)
        except h2.exceptions.ProtocolError as error:
            raise ProtocolViolationError(f"{type(error).__name__}: {error}") from None
        except Exception as error:
            # hpack and hyperframe have errors of their own, and h2 fails in its own code at some frames;
            # whatever it is, it was caused by the peer's bytes.
            self.goaway(last_stream_id=0, error_code=ErrorCodes.PROTOCOL_ERROR)
            raise ProtocolViolationError(f"{type(error).__name__}: {error}") from error
        return events

    @property
    def other_frames(self) -> int:
        """Frames other than DATA that the peer sent so far."""
        return self._coalescer.other_frames

    @property
    def arriving_bytes(self) -> int:
        """The size of the part of a frame, or a header block, that has arrived."""
        buffer = self.h2_connection.incoming_buffer
        block: int = sum(len(frame.data) for frame in buffer._headers_buffer)  # noqa: SLF001  # empty, as a rule
        return len(buffer.data) + block

    @property
    def pending_bytes(self) -> int:
        """How much is pending to be sent."""
        return len(self.h2_connection._data_to_send)  # noqa: SLF001  # read at every send; the public call would consume it

    def goaway(self, *, last_stream_id: int = _EVERY_STREAM, error_code: int = ErrorCodes.NO_ERROR) -> None:
        """Send GOAWAY: the peer opens no more calls; those in flight go on."""
        frame = GoAwayFrame(0)
        frame.last_stream_id = last_stream_id
        frame.error_code = error_code
        self.h2_connection._data_to_send += frame.serialize()  # noqa: SLF001  # close_connection() would end it at once

    def ping(self) -> None:
        """Send PING; nothing happens if the connection is over."""
        with suppress(h2.exceptions.ProtocolError):
            self.h2_connection.ping(b"trioder\0")

    def acknowledge(self, stream_id: int, flow_controlled_length: int) -> None:
        """Open the flow-control windows by as much; nothing happens if the connection is over."""
        with suppress(h2.exceptions.ProtocolError):
            self.acknowledge_received_data(stream_id, flow_controlled_length)

    def sendable_bytes(self, stream_id: int) -> int:
        """How much may be sent on a stream now, in one frame."""
        return min(int(self.flow_control_window(stream_id)), _MAX_FRAME_BYTES)

    def reset(self, stream_id: int, error_code: int) -> None:
        """Send RST_STREAM; nothing happens if the stream has ended."""
        with suppress(h2.exceptions.ProtocolError):
            self.reset_stream(stream_id, error_code)

    def start_call(
        self,
        stream_id: int,
        path: str,
        *,
        scheme: str,
        authority: str,
        timeout_s: float | None,
        metadata: Metadata,
    ) -> None:
        """Send the header fields of a request.

        Raises:
            h2.exceptions.TooManyStreamsError: the peer allows no more at once.
        """
        fields = [
            (":method", "POST"),
            (":scheme", scheme),
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "trioder"),
            *metadata,
        ]
        if timeout_s is not None:
            fields.append(("grpc-timeout", encode_timeout(timeout_s)))
        self.h2_connection.send_headers(stream_id, fields)

    def send_http_status(self, stream_id: int, http_status: str) -> None:
        """Send the response to a request that is not gRPC.

        Raises:
            h2.exceptions.ProtocolError: the stream is closed: the peer reset it in the same read.
        """
        self.h2_connection.send_headers(stream_id, [(":status", http_status)], end_stream=True)

    def send_status(self, stream_id: int, outcome: RpcError | None, *, started: bool) -> None:
        """Send a call's status: as trailers after a response, or alone.

        Raises:
            h2.exceptions.ProtocolError: the stream is closed.
        """
        status = (
            Status(StatusCode.OK.value)
            if outcome is None
            else Status(outcome.status.value, _truncated(outcome.message))
        )
        send: Callable[..., None] = self.end_response if started else self.respond_status
        send(stream_id, status)

    def _counted(self, dispatch: Callable[[Frame], _Dispatched]) -> Callable[[Frame], _Dispatched]:
        def count(frame: Frame) -> _Dispatched:
            self.control_frames += 1
            return dispatch(frame)

        return count

    def _counted_if_useless(self, dispatch: Callable[[Frame], _Dispatched]) -> Callable[[Frame], _Dispatched]:
        def count(frame: Any) -> _Dispatched:
            frames, events = dispatch(frame)
            # h2 answers DATA of a closed stream with RST_STREAM.
            if frames or (not frame.data and "END_STREAM" not in frame.flags):
                self.control_frames += 1
            return frames, events

        return count

    def _counted_if_request(self, dispatch: Callable[[Frame], _Dispatched]) -> Callable[[Frame], _Dispatched]:
        def count(frame: Frame) -> _Dispatched:
            # As PRIORITY frames: a stream that depends on itself would end the connection.
            frame.flags.discard("PRIORITY")
            self.requests += frame.stream_id not in self.h2_connection.streams
            return dispatch(frame)

        return count

    def _of_open_stream(self, dispatch: Callable[[Frame], _Dispatched]) -> Callable[[Frame], _Dispatched]:
        connection = self.h2_connection

        def check(frame: Frame) -> _Dispatched:
            outbound = frame.stream_id % 2 == connection.config.client_side
            highest = (
                connection.highest_outbound_stream_id if outbound else connection.highest_inbound_stream_id
            )
            if frame.stream_id > highest:
                raise h2.exceptions.ProtocolError(f"RST_STREAM of the idle stream {frame.stream_id}")
            return dispatch(frame)

        return check


def _on_goaway(frame: Any) -> _Dispatched:
    event = h2.events.ConnectionTerminated()
    event.error_code = frame.error_code
    event.last_stream_id = frame.last_stream_id
    event.additional_data = frame.additional_data
    return [], [event]


def _ignore(_: Frame) -> _Dispatched:
    return [], []


def _with_known_settings(dispatch: Callable[[Frame], _Dispatched]) -> Callable[[Frame], _Dispatched]:
    def dispatch_known(frame: Any) -> _Dispatched:
        frame.settings = {code: value for code, value in frame.settings.items() if code in _KNOWN_SETTINGS}
        table = SettingCodes.HEADER_TABLE_SIZE
        if frame.settings.get(table, 0) > _MAX_ENCODER_TABLE_BYTES:
            frame.settings[table] = _MAX_ENCODER_TABLE_BYTES
        return dispatch(frame)

    return dispatch_known


def _unless_stream_closed(dispatch: Callable[[Frame], _Dispatched]) -> Callable[[Frame], _Dispatched]:
    """Ignore late frames of a closed stream: the peer sent them before it knew."""

    def dispatch_or_ignore(frame: Frame) -> _Dispatched:
        try:
            return dispatch(frame)
        except h2.exceptions.StreamClosedError:
            return [], []

    return dispatch_or_ignore


def _truncated(message: str) -> str:
    # A status is percent-encoded in a header (three bytes for one), and grpcio accepts 8 KiB of headers.
    encoded = message.encode(errors="replace")
    return encoded[:_MAX_STATUS_MESSAGE_BYTES].decode(errors="ignore")
