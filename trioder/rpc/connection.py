"""One connection's tasks: a reader, a writer and a watch for silence, over any Trio stream.

It knows calls only as exchanges; what begins and ends them lives in `server` and `client`.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h2.events
import structlog
import trio
from h2.errors import ErrorCodes

from trioder.rpc.core import Core, ProtocolViolationError
from trioder.rpc.exchange import Exchange
from trioder.rpc.options import ConnectionOptions
from trioder.rpc.status import RpcError, StatusCode

log = structlog.stdlib.get_logger(__name__)

# Small messages take a while to work through, and nobody else runs meanwhile.
_READ_BYTES = 64 * 1024
_CLOSE_WITHIN_S = 1.0
# Answers to a peer that asks and does not read: acknowledgements, statuses, resets.
_UNREAD_ANSWERS_BYTES = 1024 * 1024
# A client may cancel a thousand calls at once; nobody needs more control frames than this for long.
_CONTROL_FRAMES_AT_ONCE = 10_000
_CONTROL_FRAMES_PER_S = 1_000.0

_STATUS_OF_RESET = {
    ErrorCodes.REFUSED_STREAM: StatusCode.UNAVAILABLE,
    ErrorCodes.CANCEL: StatusCode.CANCELLED,
    ErrorCodes.ENHANCE_YOUR_CALM: StatusCode.RESOURCE_EXHAUSTED,
    ErrorCodes.INADEQUATE_SECURITY: StatusCode.PERMISSION_DENIED,
}


class Connection:
    """One HTTP/2 connection; `run` owns its tasks.

    Attributes:
        on_headers: called with each HEADERS event (a request, a response or its trailers).
        exchanges: the calls whose handlers or callers are not done with them, by stream.
        unfinished_bytes: what all calls hold of messages whose rest has not arrived.
    """

    def __init__(self, stream: trio.abc.Stream, *, client_side: bool, options: ConnectionOptions) -> None:
        self._stream = stream
        self.options = options
        self.client_side = client_side
        self.unfinished_bytes = 0
        # A client's last word is an empty frame, a server's is a status.
        self._end_without_status = (
            RpcError(StatusCode.INTERNAL, "the peer ended the call without a status") if client_side else None
        )
        self.core = Core(client_side=client_side, options=options)
        self.exchanges: dict[int, Exchange] = {}
        self.on_headers: Callable[[h2.events.Event], None] = _pass_over
        self.draining = False
        self.end_reason: str | None = None
        self._takers: dict[type[h2.events.Event], Callable[[Any], None]] = {
            h2.events.DataReceived: self._take_data,
            h2.events.StreamEnded: self._take_stream_end,
            h2.events.StreamReset: self._take_reset,
            h2.events.WindowUpdated: self._take_window,
            h2.events.RemoteSettingsChanged: self._make_room_for_all,
            h2.events.ConnectionTerminated: self._take_goaway,
            h2.events.RequestReceived: self._take_headers,
            h2.events.ResponseReceived: self._take_headers,
            h2.events.TrailersReceived: self._take_headers,
        }
        self._over = trio.Event()
        self._lifetime = trio.CancelScope()
        self._outbound = trio.Event()
        self._outbound.set()  # the preface and our settings go first, whoever speaks first
        self._outbound_room = trio.lowlevel.ParkingLot()
        self._writing = False
        self._heard_at = trio.current_time()
        self._control_frames_seen = 0
        self._control_budget = float(_CONTROL_FRAMES_AT_ONCE)
        self._control_budget_at = self._heard_at

    async def run(self) -> None:
        """Serve the connection until it ends, for whatever reason; then every call has ended too.

        Resource handling: the stream is closed. Error handling: what the peer or the wire does is told
        in `end_reason`, never raised.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                nursery.start_soon(self._write)
                nursery.start_soon(self._watch_for_silence)
                with self._lifetime:
                    await self._over.wait()
                nursery.cancel_scope.cancel()
        except Exception:
            # The last wall: a defect of ours ends one connection, and its calls are told so.
            log.exception("connection crashed")
        finally:
            self.end("the connection was closed")
            error = RpcError(StatusCode.UNAVAILABLE, self.end_reason or "")
            for exchange in list(self.exchanges.values()):
                exchange.failed(error)
                exchange.scope.cancel()
            self.exchanges.clear()
            self._outbound_room.unpark_all()
            with trio.move_on_after(_CLOSE_WITHIN_S, shield=True):
                await self._say_farewell()
            with trio.move_on_after(_CLOSE_WITHIN_S, shield=True), suppress(trio.BrokenResourceError):
                await self._stream.aclose()  # closes it, even when it runs out of time

    def end(self, reason: str) -> None:
        """End the connection soon; the first reason given is the one that is told."""
        if self.end_reason is None:
            self.end_reason = reason
        self._over.set()

    def drain(self) -> None:
        """Let no more calls begin, and end once those that stand have ended."""
        if not self.draining:
            self.draining = True
            self.core.goaway()
            self.flush_soon()

    def opened(self, exchange: Exchange) -> None:
        """Count a call in."""
        self.exchanges[exchange.stream_id] = exchange

    def finished(self, exchange: Exchange) -> None:
        """Count a call out, whatever is left of it."""
        self.exchanges.pop(exchange.stream_id, None)
        exchange.release_all()
        if self.draining:
            self.flush_soon()  # the writer ends the connection after its last word

    def acknowledge(self, stream_id: int, flow_controlled_length: int) -> None:
        """Let the peer send as much again."""
        if not self._over.is_set():
            self.core.acknowledge_received_data(stream_id, flow_controlled_length)
            self.flush_soon()

    def flush_soon(self) -> None:
        """Have the writer send what is pending, with all that is added until it gets to it."""
        self._outbound.set()

    @property
    def outbound_full(self) -> bool:
        """Whether the wire takes less than is sent."""
        return self.core.pending_bytes > self.options.outbound_bytes and not self._over.is_set()

    async def outbound_room(self) -> None:
        """Wait while the wire takes less than is sent."""
        while self.outbound_full:
            await self._outbound_room.park()

    def check_unfinished(self) -> None:
        """Check the bound of what the calls hold of unfinished messages.

        Raises:
            RpcError: RESOURCE_EXHAUSTED; the call that got more has to end.
        """
        if self.unfinished_bytes > self.options.connection_window_bytes:
            raise RpcError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"more than {self.options.connection_window_bytes} bytes of unfinished messages",
            )

    async def _read(self) -> None:
        try:
            while data := await self._stream.receive_some(_READ_BYTES):
                self._heard_at = trio.current_time()
                for event in self.core.receive(data):
                    self._take(event)
                self._bound_control_frames()
                self._bound_unread_answers()
                if self.core.pending_bytes:
                    self.flush_soon()
            self.end("the peer closed the connection")
        except ProtocolViolationError as violation:
            log.info("connection ended", reason=f"protocol violation: {violation}")
            self.end(f"protocol violation: {violation}")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.end(f"the connection was lost: {error.__cause__ or error}")

    async def _write(self) -> None:
        try:
            while True:
                await self._outbound.wait()
                self._outbound = trio.Event()
                while data := self.core.data_to_send():
                    self._writing = True
                    await self._stream.send_all(data)
                    self._writing = False
                    self._outbound_room.unpark_all()
                if self.draining and not self.exchanges:
                    self._part()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.end(f"the connection was lost: {error.__cause__ or error}")

    def _part(self) -> None:
        """End a drained connection whose last word is sent."""
        if self.client_side:
            self.end("the peer is going away")
        elif self.end_reason is None:
            # The client closes first: a socket closed on bytes that nobody read resets the connection, and
            # the client could lose what was sent last.
            self.end_reason = "the connection was drained"
            self._lifetime.deadline = trio.current_time() + _CLOSE_WITHIN_S

    async def _watch_for_silence(self) -> None:
        options = self.options
        while True:
            heard_at = self._heard_at
            await trio.sleep_until(heard_at + options.ping_interval_s)
            if self._heard_at != heard_at:
                continue
            self.core.ping()
            self.flush_soon()
            # From now on, not from what was heard last: this process may have been stopped meanwhile.
            await trio.sleep(options.ping_timeout_s)
            await trio.lowlevel.checkpoint()  # the reader goes first if it was woken together with us
            if self._heard_at == heard_at:
                silence_s = trio.current_time() - heard_at
                self.end(f"the peer was silent for {silence_s:.0f} s")
                return

    def _take(self, event: h2.events.Event) -> None:
        take = self._takers.get(type(event))
        if take is not None:
            take(event)

    def _take_headers(self, event: h2.events.Event) -> None:
        self.on_headers(event)

    def _take_stream_end(self, event: h2.events.StreamEnded) -> None:
        if exchange := self.exchanges.get(event.stream_id):
            exchange.remote_end_arrived(self._end_without_status)

    def _take_window(self, event: h2.events.WindowUpdated) -> None:
        if event.stream_id == 0:
            self._make_room_for_all(event)
        elif exchange := self.exchanges.get(event.stream_id):
            exchange.room_made()

    def _make_room_for_all(self, _: h2.events.Event) -> None:
        for exchange in self.exchanges.values():
            exchange.room_made()

    def _take_data(self, event: h2.events.DataReceived) -> None:
        exchange = self.exchanges.get(event.stream_id)
        if exchange is None or exchange.closed or exchange.remote_ended:
            # Sent before the peer knew that the call had ended.
            self.acknowledge(event.stream_id, event.flow_controlled_length)
            return
        try:
            exchange.data_arrived(event.data, event.flow_controlled_length)
        except RpcError as error:
            exchange.remote_end_arrived(error)
            exchange.scope.cancel()
            if self.client_side:
                exchange.reset(ErrorCodes.CANCEL)

    def _take_reset(self, event: h2.events.StreamReset) -> None:
        # It counts as a call until its handler is done: so opening and resetting gains nothing.
        if exchange := self.exchanges.get(event.stream_id):
            status = _STATUS_OF_RESET.get(event.error_code, StatusCode.INTERNAL)
            exchange.failed(RpcError(status, f"the peer reset the call ({_error_name(event.error_code)})"))
            exchange.scope.cancel()

    def _take_goaway(self, event: h2.events.ConnectionTerminated) -> None:
        if not self.client_side:
            return  # it only means that it would take no calls of ours, and a server makes none
        self.draining = True
        reason = f"the peer is going away ({_error_name(event.error_code)})"
        for stream_id, exchange in self.exchanges.items():
            if stream_id > event.last_stream_id:
                exchange.failed(RpcError(StatusCode.UNAVAILABLE, reason))
        self.flush_soon()

    def _bound_control_frames(self) -> None:
        fresh = self.core.control_frames - self._control_frames_seen
        if fresh == 0:
            return
        self._control_frames_seen = self.core.control_frames
        earned = (self._heard_at - self._control_budget_at) * _CONTROL_FRAMES_PER_S
        self._control_budget = min(_CONTROL_FRAMES_AT_ONCE, self._control_budget + earned) - fresh
        self._control_budget_at = self._heard_at
        if self._control_budget < 0:
            self.core.goaway(error_code=ErrorCodes.ENHANCE_YOUR_CALM)
            self.end(f"the peer sent more than {_CONTROL_FRAMES_AT_ONCE} control frames at once")

    def _bound_unread_answers(self) -> None:
        if self.core.pending_bytes > self.options.outbound_bytes + _UNREAD_ANSWERS_BYTES:
            self.end("the peer does not read what it asks for")

    async def _say_farewell(self) -> None:
        # A GOAWAY, the last status: if the wire still takes it.
        if not self._writing and (data := self.core.data_to_send()):
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._stream.send_all(data)


def _pass_over(_: h2.events.Event) -> None:
    """Headers before anybody listens for them: there are none."""


def _error_name(code: int) -> str:
    try:
        return str(ErrorCodes(code).name)
    except ValueError:
        return str(code)
