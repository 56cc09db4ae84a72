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

from trioder.rpc.call_stream import CallStream
from trioder.rpc.core import Core, ProtocolViolationError
from trioder.rpc.options import ConnectionOptions
from trioder.rpc.peers import CALL_BYTES, PeerAccount, unlimited_account
from trioder.rpc.rates import PeerRates
from trioder.rpc.status import RpcError, StatusCode, error_name, error_of_reset

log = structlog.stdlib.get_logger(__name__)

# Small messages take a while to work through, and nobody else runs meanwhile. A peer is read in smaller
# pieces while it sends so many messages in one of these, and before it is registered.
_READ_BYTES = 64 * 1024
_READ_BYTES_OF_MANY = 8 * 1024
_MANY = 1024
_READ_BYTES_UNREGISTERED = 16 * 1024
# What most honest peers send until they are registered: SETTINGS, their acknowledgement, HEADERS, a few
# WINDOW_UPDATEs and PINGs, and so much DATA. What follows waits for a turn that all unregistered peers share.
_FRAMES_BEFORE_TURNS = 32
_BYTES_BEFORE_TURNS = 64 * 1024
# A peer that takes none of so many bytes for so long is gone.
_WRITE_BYTES = 256 * 1024
_WRITE_WITHIN_S = 30.0
_CLOSE_WITHIN_S = 1.0
# Answers to a peer that asks and does not read: acknowledgements, statuses, resets.
_UNREAD_ANSWERS_BYTES = 1024 * 1024
_UNREAD_ANSWERS_BYTES_UNREGISTERED = 64 * 1024


class Connection:
    """One HTTP/2 connection; `run` owns its tasks.

    Attributes:
        on_headers: called with each HEADERS event (a request, a response or its trailers).
        exchanges: the calls whose handlers or callers are not done with them, by stream.
        unfinished_bytes: what all calls hold of messages whose rest has not arrived.
        account: what the peer may make us hold, together with all others.
        large_call: the one call of an unregistered peer whose first message may be larger than its bound.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        client_side: bool,
        options: ConnectionOptions,
        account: PeerAccount | None = None,
    ) -> None:
        self._stream = stream
        self.account = account or unlimited_account()
        self.account.connection = self
        self.large_call: CallStream | None = None
        self.options = options
        self.client_side = client_side
        self.unfinished_bytes = 0
        # A client's last word is an empty frame, a server's is a status.
        self._end_without_status = (
            RpcError(StatusCode.INTERNAL, "the peer ended the call without a status") if client_side else None
        )
        self.core = Core(client_side=client_side, options=options)
        self.exchanges: dict[int, CallStream] = {}
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
        # Since when, on Trio's clock, the wire takes none of what is being sent; None between sends.
        self._sending_since_s: float | None = None
        self._heard_at = trio.current_time()
        self._messages_read = 0
        self._bytes_read = 0
        # Received, and not worked through yet.
        self._waiting_bytes = 0
        self._in_flight_bytes = 0
        # Nothing more is read of a peer that floods; what is pending is still sent.
        self._deaf = False
        self._parting_code: ErrorCodes | None = None
        self._rates = PeerRates(options, now_s=self._heard_at)

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

    def dismiss(self, error: RpcError, error_code: ErrorCodes | None) -> None:
        """End every call with an error now, release what they hold, and end the connection soon after.

        Args:
            error: of the calls.
            error_code: of the GOAWAY; None where it is written already.
        """
        if self._over.is_set():
            return
        for exchange in list(self.exchanges.values()):
            exchange.abort(error)
        # After the statuses, which `_part` waits for: some clients take nothing after a GOAWAY with an error.
        self._parting_code = error_code
        self.draining = True
        if self.end_reason is None:
            self.end_reason = error.message
        self._lifetime.deadline = trio.current_time() + _CLOSE_WITHIN_S
        self.flush_soon()

    def drain(self) -> None:
        """Let no more calls begin, and end once those that stand have ended."""
        if not self.draining:
            self.draining = True
            self.core.goaway()
            self.flush_soon()

    def opened(self, exchange: CallStream) -> None:
        """Count a call in."""
        self.exchanges[exchange.stream_id] = exchange
        self.account.hold(CALL_BYTES)

    def finished(self, exchange: CallStream) -> None:
        """Count a call out, whatever is left of it."""
        if self.exchanges.pop(exchange.stream_id, None) is not None:
            self.account.hold(-CALL_BYTES)
        if exchange is self.large_call:
            self.large_call = None
            self.account.larger_by = 0
        exchange.release_all()
        if self.draining:
            self.flush_soon()  # the writer ends the connection after its last word

    def acknowledge(self, stream_id: int, flow_controlled_length: int) -> None:
        """Let the peer send as much again."""
        if not self._over.is_set():
            self.core.acknowledge(stream_id, flow_controlled_length)
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

    def takes_call(self) -> bool:
        """Whether the peer may hold one call more."""
        return len(self.exchanges) < self.options.max_concurrent_calls and self.account.takes_call()

    async def _read(self) -> None:
        account = self.account
        try:
            while data := await self._stream.receive_some(self._read_bytes()):
                self._heard_at = account.heard_s = trio.current_time()
                self._messages_read = 0
                self._bytes_read += len(data)
                self._waiting_bytes = len(data)
                for number, piece in enumerate(self.core.turns(data)):
                    await self._next_turn(first=number == 0)
                    self._take_piece(piece)
                    if self._over.is_set() or self._deaf:
                        return
                self._waiting_bytes = 0
                self._count_buffers()
            self.end("the peer closed the connection")
        except ProtocolViolationError as violation:
            # A GOAWAY says so, which the writer may be at.
            self._leave(
                "protocol_violation", f"protocol violation: {violation}", StatusCode.UNAVAILABLE, None
            )
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.end(f"the connection was lost: {error.__cause__ or error}")

    def _read_bytes(self) -> int:
        if self.account.unregistered and not self._shares_turns():
            return _READ_BYTES_UNREGISTERED
        return _READ_BYTES if self._messages_read < _MANY else _READ_BYTES_OF_MANY

    def _shares_turns(self) -> bool:
        return self.account.unregistered and (
            self.core.other_frames > _FRAMES_BEFORE_TURNS or self._bytes_read > _BYTES_BEFORE_TURNS
        )

    async def _next_turn(self, *, first: bool) -> None:
        if self._shares_turns():
            self._count_buffers()
            await self.account.limits.next_turn()
        elif not first:
            await trio.lowlevel.checkpoint()

    def _take_piece(self, piece: bytes) -> None:
        for event in self.core.receive(piece):
            self._take(event)
        self._bound_rates()
        self._bound_unread_answers()
        limits = self.account.limits
        if limits.held_bytes > limits.options.memory_bytes:
            limits.relieve()
        if self.core.pending_bytes:
            self.flush_soon()

    def _count_buffers(self) -> None:
        core = self.core
        self.account.hold_buffers(
            self._waiting_bytes + core.arriving_bytes + core.pending_bytes + self._in_flight_bytes
        )

    async def _write(self) -> None:
        try:
            while True:
                await self._outbound.wait()
                self._outbound = trio.Event()
                while data := self.core.data_to_send():
                    self._in_flight_bytes = len(data)
                    await self._send(data)
                    self._in_flight_bytes = 0
                    self._count_buffers()
                    self._outbound_room.unpark_all()
                if self.draining and not self.exchanges:
                    self._part()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.end(f"the connection was lost: {error.__cause__ or error}")

    async def _send(self, data: bytes) -> None:
        for start in range(0, len(data), _WRITE_BYTES):
            # The watch has the time limit: a cancel scope a write costs as much as a small write.
            self._sending_since_s = trio.current_time()
            await self._stream.send_all(
                data if len(data) <= _WRITE_BYTES else data[start : start + _WRITE_BYTES]
            )
        self._sending_since_s = None

    def _part(self) -> None:
        """End a drained connection whose last word is sent."""
        if self._parting_code is not None:
            self._write_parting_code()
        elif self.client_side or self._deaf:
            self.end("the peer is going away")
        elif self.end_reason is None:
            # The client closes first: a socket closed on bytes that nobody read resets the connection, and
            # the client could lose what was sent last.
            self.end_reason = "the connection was drained"
            self._lifetime.deadline = trio.current_time() + _CLOSE_WITHIN_S

    def _write_parting_code(self) -> None:
        if self._parting_code is not None:
            self.core.goaway(error_code=self._parting_code)
            self._parting_code = None
            self.flush_soon()

    async def _watch_for_silence(self) -> None:
        options = self.options
        while True:
            heard_at = self._heard_at
            await trio.sleep_until(heard_at + options.ping_interval_s)
            since_s = self._sending_since_s
            if since_s is not None and trio.current_time() - since_s > _WRITE_WITHIN_S:
                self._end_unread(f"the peer read nothing for {_WRITE_WITHIN_S:g} s")
                return
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
            self._messages_read += exchange.data_arrived(event.data, event.flow_controlled_length)
        except RpcError as error:
            self.account.refuse("call_bounds", error.message)
            # A new one, without the traceback that refers to the call.
            refusal = RpcError(error.status, error.message)
            if self.client_side:
                exchange.remote_end_arrived(refusal)
                exchange.reset(ErrorCodes.CANCEL)
            else:
                exchange.abort(refusal)

    def _take_reset(self, event: h2.events.StreamReset) -> None:
        # It counts as a call until its handler is done: so opening and resetting gains nothing.
        if exchange := self.exchanges.get(event.stream_id):
            exchange.failed(error_of_reset(event.error_code))
            exchange.scope.cancel()

    def _take_goaway(self, event: h2.events.ConnectionTerminated) -> None:
        if not self.client_side:
            return  # it only means that it would take no calls of ours, and a server makes none
        self.draining = True
        reason = f"the peer is going away ({error_name(event.error_code)})"
        for stream_id, exchange in self.exchanges.items():
            if stream_id > event.last_stream_id:
                exchange.failed(RpcError(StatusCode.UNAVAILABLE, reason))
        self.flush_soon()

    def _bound_rates(self) -> None:
        core = self.core
        exceeded = self._rates.exceeded(
            control_frames=core.control_frames, calls=core.requests, now_s=self._heard_at
        )
        if exceeded is not None:
            self._leave(*exceeded, StatusCode.RESOURCE_EXHAUSTED, ErrorCodes.ENHANCE_YOUR_CALM)

    def _bound_unread_answers(self) -> None:
        most = (
            _UNREAD_ANSWERS_BYTES_UNREGISTERED
            if self.account.unregistered
            else self.options.outbound_bytes + _UNREAD_ANSWERS_BYTES
        )
        if self.core.pending_bytes > most:
            self._end_unread("the peer does not read what it asks for")

    def _end_unread(self, detail: str) -> None:
        self.account.refuse("unread_responses", detail)
        self.end(detail)

    def _leave(self, reason: str, detail: str, status: StatusCode, error_code: ErrorCodes | None) -> None:
        """Read no more of the peer, and end the connection once what is pending is sent."""
        self.account.refuse(reason, detail)
        self._deaf = True
        self.dismiss(RpcError(status, detail), error_code)
        if self.client_side:
            self.end(detail)  # its callers need not be done for that

    async def _say_farewell(self) -> None:
        # A GOAWAY, the last status: if the wire still takes it.
        self._write_parting_code()
        if self._sending_since_s is None and (data := self.core.data_to_send()):
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._stream.send_all(data)


def _pass_over(_: h2.events.Event) -> None:
    """Headers before anybody listens for them: there are none."""
