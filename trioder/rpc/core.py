"""HTTP/2 and gRPC without I/O: purerpc's sans-I/O connection, with our settings and its gaps closed.

Bytes go in and events come out; what is to be sent gathers in `pending`. Who waits for what is the
business of `connection`.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h2.events
import h2.exceptions
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from purerpc.grpclib.config import GRPCConfiguration
from purerpc.grpclib.connection import GRPCConnection
from purerpc.grpclib.status import Status

from trioder.rpc.headers import Metadata, written_timeout
from trioder.rpc.joining import PREFACE_BYTES, DataJoiner, FrameTooLargeError
from trioder.rpc.options import ConnectionOptions
from trioder.rpc.status import RpcError, StatusCode

# Also bounds a header block: h2 gathers up to 64 frames of one.
_MAX_FRAME_BYTES = 64 * 1024
_MAX_HEADER_LIST_BYTES = 16 * 1024
_MAX_STATUS_MESSAGE_BYTES = 1024
_HTTP2_DEFAULT_WINDOW_BYTES = 65_535
# The highest stream there can be: a GOAWAY that still lets in what was already sent.
_EVERY_STREAM = 2**31 - 1

_Dispatched = tuple[list[Frame], list[h2.events.Event]]


class ProtocolViolationError(Exception):
    """The peer broke the protocol; the connection is over once `pending` is sent."""


class Core(GRPCConnection):  # type: ignore[misc]  # purerpc has no types
    """One connection's state machine.

    Attributes:
        control_frames: RST_STREAM, PING, SETTINGS and PRIORITY frames that the peer sent so far, and DATA
            frames that say nothing; a flood of them costs us more than it costs the peer (CVE-2023-44487
            and kin), so the caller bounds their rate.
    """

    def __init__(self, *, client_side: bool, options: ConnectionOptions) -> None:
        self._options = options
        self.control_frames = 0
        self._joiner = DataJoiner(
            preface_bytes=0 if client_side else PREFACE_BYTES, max_frame_bytes=_MAX_FRAME_BYTES
        )
        super().__init__(
            GRPCConfiguration(client_side=client_side, max_message_length=options.max_message_bytes)
        )
        self.h2_connection.config.validate_inbound_headers = False  # `headers` does, a stream at a time
        self.h2_connection.decoder.max_header_list_size = _MAX_HEADER_LIST_BYTES
        dispatch = self.h2_connection._frame_dispatch_table  # noqa: SLF001  # h2 has no public hook for these
        # h2 forbids every frame after a GOAWAY; a graceful one lets the calls in flight end.
        dispatch[GoAwayFrame] = _on_goaway
        for kind in (WindowUpdateFrame, RstStreamFrame):
            dispatch[kind] = _unless_stream_closed(dispatch[kind])
        for kind in (PingFrame, RstStreamFrame, SettingsFrame, PriorityFrame):
            dispatch[kind] = self._counted(dispatch[kind])
        dispatch[DataFrame] = self._counted_if_empty(dispatch[DataFrame])
        self.initiate_connection()
        # h2 ends the whole connection over one call too many; the server refuses that call alone.
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

    def receive(self, data: bytes | bytearray) -> list[h2.events.Event]:
        """Take bytes from the peer and return what they mean.

        Raises:
            ProtocolViolationError: they mean nothing that HTTP/2 allows.
        """
        try:
            events: list[h2.events.Event] = self.h2_connection.receive_data(self._joiner.feed(data))
        except FrameTooLargeError as error:
            self.goaway(last_stream_id=0, error_code=ErrorCodes.FRAME_SIZE_ERROR)
            raise ProtocolViolationError(str(error)) from error
        except Exception as error:
            # h2, hpack and hyperframe each have errors of their own, and UnicodeDecodeError slips through;
            # whatever it is, it came of the peer's bytes.
            raise ProtocolViolationError(f"{type(error).__name__}: {error}") from error
        return events

    @property
    def pending_bytes(self) -> int:
        """How much waits to be sent."""
        return len(self.h2_connection._data_to_send)  # noqa: SLF001  # asked for at every send; the public call would take it

    def goaway(self, *, last_stream_id: int = _EVERY_STREAM, error_code: int = ErrorCodes.NO_ERROR) -> None:
        """Tell the peer to begin no more calls; those in flight go on."""
        frame = GoAwayFrame(0)
        frame.last_stream_id = last_stream_id
        frame.error_code = error_code
        self.h2_connection._data_to_send += frame.serialize()  # noqa: SLF001  # close_connection() would end it at once

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.h2_connection.ping(b"trioder\0")

    def sendable_bytes(self, stream_id: int) -> int:
        """How much may be sent on a stream now, in one frame."""
        return min(int(self.flow_control_window(stream_id)), _MAX_FRAME_BYTES)

    def reset(self, stream_id: int, error_code: int) -> None:
        """End a stream at once; nothing happens if it has ended."""
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
            fields.append(("grpc-timeout", written_timeout(timeout_s)))
        self.h2_connection.send_headers(stream_id, fields)

    def answer_http_status(self, stream_id: int, http_status: str) -> None:
        """Answer a request that is not gRPC."""
        self.h2_connection.send_headers(stream_id, [(":status", http_status)], end_stream=True)

    def end_call(self, stream_id: int, outcome: RpcError | None, *, started: bool) -> None:
        """Send a call's status: as trailers after a response, or alone."""
        status = (
            Status(StatusCode.OK.value)
            if outcome is None
            else Status(outcome.status.value, _short(outcome.message))
        )
        send: Callable[..., None] = self.end_response if started else self.respond_status
        send(stream_id, status)

    def _counted(self, dispatch: Callable[[Frame], _Dispatched]) -> Callable[[Frame], _Dispatched]:
        def count(frame: Frame) -> _Dispatched:
            self.control_frames += 1
            return dispatch(frame)

        return count

    def _counted_if_empty(self, dispatch: Callable[[Frame], _Dispatched]) -> Callable[[Frame], _Dispatched]:
        def count(frame: Any) -> _Dispatched:
            if not frame.data and "END_STREAM" not in frame.flags:
                self.control_frames += 1
            return dispatch(frame)

        return count


def _on_goaway(frame: Any) -> _Dispatched:
    event = h2.events.ConnectionTerminated()
    event.error_code = frame.error_code
    event.last_stream_id = frame.last_stream_id
    event.additional_data = frame.additional_data
    return [], [event]


def _unless_stream_closed(dispatch: Callable[[Frame], _Dispatched]) -> Callable[[Frame], _Dispatched]:
    """A late word about a stream that has ended is no breach: the two sides cross."""

    def dispatch_or_pass(frame: Frame) -> _Dispatched:
        try:
            return dispatch(frame)
        except h2.exceptions.StreamClosedError:
            return [], []

    return dispatch_or_pass


def _short(message: str) -> str:
    # A status travels in a header, three bytes for one, and grpcio takes no more than 8 KiB of headers.
    encoded = message.encode(errors="replace")
    return encoded[:_MAX_STATUS_MESSAGE_BYTES].decode(errors="ignore")
