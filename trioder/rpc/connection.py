"""One connection's tasks over any Trio stream: a reader, a writer and a keepalive.

It feeds the calls' streams; `server` and `client` decide which calls are opened and what runs in them.
"""

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h2.events
import structlog
import trio
from h2.errors import ErrorCodes

from trioder.access.tls_errors import TLS_ON_PLAIN_CONNECTION, explain, is_certificate_refused, is_tls
from trioder.access.tls_stream import TlsStream
from trioder.rpc.call_stream import CallStream
from trioder.rpc.core import Core, ProtocolViolationError
from trioder.rpc.options import ConnectionOptions
from trioder.rpc.outbound import Outbound
from trioder.rpc.peer_limits import CALL_BYTES, PeerBudget, unlimited_budget
from trioder.rpc.refusals import PeerRates
from trioder.rpc.status import RpcError, StatusCode, error_name, error_of_reset

log = structlog.stdlib.get_logger(__name__)

# Small messages take long to process, and no other task runs meanwhile. Reads are smaller while a peer
# sends many messages in one, and before it is registered.
_READ_BYTES = 64 * 1024
_READ_BYTES_OF_MANY = 8 * 1024
_MANY = 1024
_READ_BYTES_UNREGISTERED = 16 * 1024
# What most honest peers send until they are registered: SETTINGS, their acknowledgement, HEADERS, a few
# WINDOW_UPDATEs and PINGs, and so much DATA. What follows is processed in slices that they all share.
_FRAMES_BEFORE_SHARING = 32
_BYTES_BEFORE_SHARING = 64 * 1024
_HEADERS_EVENTS = (h2.events.RequestReceived, h2.events.ResponseReceived, h2.events.TrailersReceived)
_WRITE_WITHIN_S = 30.0
_CLOSE_WITHIN_S = 1.0
# Responses that the peer does not read: acknowledgements, statuses, resets.
_UNREAD_RESPONSES_BYTES = 1024 * 1024
_UNREAD_RESPONSES_BYTES_UNREGISTERED = 64 * 1024


class Connection:
    """One HTTP/2 connection; `run` owns its tasks.

    Attributes:
        streams: the calls whose handlers or callers have not finished, by stream id.
        budget: what the peer may make us hold, together with all others.
        large_call: the one call of an unregistered peer whose first message may exceed that peer's bound.
        draining: no more calls are opened.
        close_reason: why the connection was closed; None while it is open.
    """

    def __init__(
        self,
        transport: trio.abc.Stream,
        *,
        client_side: bool,
        options: ConnectionOptions,
        budget: PeerBudget | None = None,
    ) -> None:
        self._transport = transport
        self.budget = budget or unlimited_budget()
        self.budget.terminate_connection = self.terminate
        self.large_call: CallStream | None = None
        self.options = options
        self._client_side = client_side
        # A client ends a call with an empty frame, a server with a status.
        self._end_without_status = (
            RpcError(StatusCode.INTERNAL, "the peer ended the call without a status") if client_side else None
        )
        self.core = Core(client_side=client_side, options=options)
        self.outbound = Outbound(transport, self.core, options)
        self.streams: dict[int, CallStream] = {}
        self.draining = False
        self.close_reason: str | None = None
        self.close_status = StatusCode.UNAVAILABLE
        self._on_event: dict[type[h2.events.Event], Callable[[Any], None]] = {
            h2.events.DataReceived: self._on_data,
            h2.events.StreamEnded: self._on_stream_end,
            h2.events.StreamReset: self._on_reset,
            h2.events.WindowUpdated: self._on_window_update,
            h2.events.RemoteSettingsChanged: self._wake_senders,
            h2.events.ConnectionTerminated: self._on_goaway,
        }
        self._closed = trio.Event()
        self._lifetime = trio.CancelScope()
        self._last_received_s = trio.current_time()
        self._messages_read = 0
        self._bytes_read = 0
        # Received, and not processed yet.
        self._unprocessed_bytes = 0
        # Nothing more is read of a peer that was refused; what is pending is still sent.
        self._reading_stopped = False
        self._goaway_code: ErrorCodes | None = None
        self._rates = PeerRates(options, now_s=self._last_received_s)

    async def run(self, on_headers: Callable[[Any], None]) -> None:
        """Serve the connection until it is closed, for whatever reason; then every call has ended too.

        Args:
            on_headers: called with each HEADERS event (a request, a response or its trailers).

        Resource handling: the stream is closed. Error handling: what the peer or the network does is
        reported in `close_reason`, never raised.
        """
        self._on_event |= dict.fromkeys(_HEADERS_EVENTS, on_headers)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                nursery.start_soon(self._write)
                nursery.start_soon(self._keep_alive)
                with self._lifetime:
                    await self._closed.wait()
                nursery.cancel_scope.cancel()
        except Exception:
            # A defect of ours ends this connection and its calls, nothing else.
            log.exception("connection crashed")
        finally:
            self.close("the connection was closed")
            error = RpcError(self.close_status, self.close_reason or "")
            for stream in list(self.streams.values()):
                stream.close(error)
                stream.scope.cancel()
            self.streams.clear()
            self.outbound.wake_senders()
            with trio.move_on_after(_CLOSE_WITHIN_S, shield=True):
                # A GOAWAY, the last status: if the transport still takes it.
                self._send_goaway()
                await self.outbound.send_last()
            with trio.move_on_after(_CLOSE_WITHIN_S, shield=True), suppress(trio.BrokenResourceError):
                await self._transport.aclose()  # closes it, even when it runs out of time

    def close(self, reason: str) -> None:
        """Close the connection soon; the first reason given is the one that is reported."""
        if self.close_reason is None:
            self.close_reason = reason
        self.outbound.closed = True
        self._closed.set()

    def _close_lost(self, error: Exception) -> None:
        """Close the connection, which was lost."""
        if self.close_reason is None and is_certificate_refused(error):
            # TLS 1.3: a client learns only now that its certificate was refused.
            self.close_status = StatusCode.UNAUTHENTICATED
        cause = explain(error) if isinstance(error.__cause__, ssl.SSLError) else error.__cause__ or error
        self.close(f"the connection was lost: {cause}")

    def terminate(self, error: RpcError, error_code: ErrorCodes | None) -> None:
        """End every call with an error now, release what they hold, and close the connection soon after.

        Args:
            error: of the calls.
            error_code: of the GOAWAY; None where it is sent already.
        """
        if self._closed.is_set():
            return
        for stream in list(self.streams.values()):
            stream.cancel(error)
        # Sent after the statuses: some clients read nothing after a GOAWAY with an error.
        self._goaway_code = error_code
        self.draining = True
        if self.close_reason is None:
            self.close_reason = error.message
        self._lifetime.deadline = trio.current_time() + _CLOSE_WITHIN_S
        self.outbound.flush_soon()

    def drain(self) -> None:
        """Send GOAWAY, and close once the open calls have ended."""
        if not self.draining:
            self.draining = True
            self.core.goaway()
            self.outbound.flush_soon()

    def accepts_call(self) -> bool:
        """Whether the peer may open one call more."""
        return len(self.streams) < self.options.max_concurrent_calls and self.budget.accepts_call()

    def open_stream(self, stream_id: int) -> CallStream:
        """Return a new call's stream, to be closed with `close_stream`."""
        stream = CallStream(stream_id, outbound=self.outbound, budget=self.budget, options=self.options)
        self.streams[stream_id] = stream
        self.budget.charge(CALL_BYTES)
        return stream

    def close_stream(self, stream: CallStream) -> None:
        """Release what a call holds, once its handler or caller has finished."""
        if self.streams.pop(stream.stream_id, None) is not None:
            self.budget.charge(-CALL_BYTES)
        if stream is self.large_call:
            self.large_call = None
            self.budget.extra_bytes = 0
        stream.release()
        if self.draining:
            self.outbound.flush_soon()  # the writer closes the connection after the last status

    async def _read(self) -> None:
        budget = self.budget
        try:
            while data := await self._transport.receive_some(self._read_bytes()):
                self._last_received_s = budget.last_received_s = trio.current_time()
                self._messages_read = 0
                if self._bytes_read == 0 and is_tls(data):
                    self._refuse_peer("tls", TLS_ON_PLAIN_CONNECTION, StatusCode.UNAVAILABLE, None)
                    return
                self._bytes_read += len(data)
                self._unprocessed_bytes = len(data)
                for number, piece in enumerate(self.core.slices(data)):
                    await self._next_slice(first=number == 0)
                    self._process(piece)
                    if self.outbound.closed or self._reading_stopped:
                        return
                self._unprocessed_bytes = 0
                self._charge_buffers()
            if self._client_side and self._bytes_read == 0 and not isinstance(self._transport, TlsStream):
                self.close("the peer closed the connection and sent nothing; it may require TLS (https://)")
            self.close("the peer closed the connection")
        except ProtocolViolationError as violation:
            # Its GOAWAY is pending already.
            self._refuse_peer(
                "protocol_violation", f"protocol violation: {violation}", StatusCode.UNAVAILABLE, None
            )
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._close_lost(error)

    def _read_bytes(self) -> int:
        if self.budget.unregistered and not self._shares_slices():
            return _READ_BYTES_UNREGISTERED
        return _READ_BYTES if self._messages_read < _MANY else _READ_BYTES_OF_MANY

    def _shares_slices(self) -> bool:
        return self.budget.unregistered and (
            self.core.other_frames > _FRAMES_BEFORE_SHARING or self._bytes_read > _BYTES_BEFORE_SHARING
        )

    async def _next_slice(self, *, first: bool) -> None:
        if self._shares_slices():
            self._charge_buffers()
            await self.budget.limits.turns.next_slice()
        elif self.budget.unregistered:
            await self.budget.limits.turns.next_first_slice()
        elif not first:
            await trio.lowlevel.checkpoint()

    def _process(self, piece: bytes) -> None:
        for event in self.core.receive(piece):
            handle = self._on_event.get(type(event))
            if handle is not None:
                handle(event)
        self._check_rates()
        self._check_unread_responses()
        limits = self.budget.limits
        if limits.used_bytes > limits.options.memory_bytes:
            limits.shed_load()
        if self.core.pending_bytes:
            self.outbound.flush_soon()

    def _charge_buffers(self) -> None:
        core = self.core
        self.budget.charge_buffers(
            self._unprocessed_bytes + core.arriving_bytes + core.pending_bytes + self.outbound.in_flight_bytes
        )

    async def _write(self) -> None:
        outbound = self.outbound
        try:
            while True:
                await outbound.wait_pending()
                while await outbound.send_pending():
                    self._charge_buffers()
                if self.draining and not self.streams:
                    self._finish_drain()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._close_lost(error)

    def _finish_drain(self) -> None:
        """Close a drained connection: the last call's status is sent."""
        if self._goaway_code is not None:
            self._send_goaway()
        elif self._client_side or self._reading_stopped:
            self.close("the peer is going away")
        elif self.close_reason is None:
            # The client closes first: a socket closed with unread bytes resets the connection, and the
            # client could lose what was sent last.
            self.close_reason = "the connection was drained"
            self._lifetime.deadline = trio.current_time() + _CLOSE_WITHIN_S

    def _send_goaway(self) -> None:
        if self._goaway_code is not None:
            self.core.goaway(error_code=self._goaway_code)
            self._goaway_code = None
            self.outbound.flush_soon()

    async def _keep_alive(self) -> None:
        options = self.options
        while True:
            last_received_s = self._last_received_s
            await trio.sleep_until(last_received_s + options.ping_interval_s)
            if self.outbound.blocked_s > _WRITE_WITHIN_S:
                self._close_unread(f"the peer read nothing for {_WRITE_WITHIN_S:g} s")
                return
            if self._last_received_s != last_received_s:
                continue
            self.core.ping()
            self.outbound.flush_soon()
            # Counted from the PING, not from the last byte: this process may have been suspended meanwhile.
            await trio.sleep(options.ping_timeout_s)
            await trio.lowlevel.checkpoint()  # the reader runs first if both were woken
            if self._last_received_s == last_received_s:
                silence_s = trio.current_time() - last_received_s
                self.close(f"the peer was silent for {silence_s:.0f} s")
                return

    def _on_stream_end(self, event: h2.events.StreamEnded) -> None:
        if stream := self.streams.get(event.stream_id):
            stream.close_remote(self._end_without_status)

    def _on_window_update(self, event: h2.events.WindowUpdated) -> None:
        if event.stream_id == 0:
            self._wake_senders(event)
        elif stream := self.streams.get(event.stream_id):
            stream.wake_sender()

    def _wake_senders(self, _: h2.events.Event) -> None:
        for stream in self.streams.values():
            stream.wake_sender()

    def _on_data(self, event: h2.events.DataReceived) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is None or stream.closed or stream.remote_closed:
            # Sent before the peer knew that the call had ended.
            self.outbound.acknowledge(event.stream_id, event.flow_controlled_length)
            return
        try:
            self._messages_read += stream.receive_data(event.data, event.flow_controlled_length)
        except RpcError as error:
            self.budget.refuse("call_bounds", error.message)
            if self._client_side:
                stream.close_remote(error.fresh())
                stream.reset(ErrorCodes.CANCEL)
            else:
                stream.cancel(error.fresh())

    def _on_reset(self, event: h2.events.StreamReset) -> None:
        # It counts as a call until its handler has finished: opening and resetting gains nothing.
        if stream := self.streams.get(event.stream_id):
            stream.close(error_of_reset(event.error_code))
            stream.scope.cancel()

    def _on_goaway(self, event: h2.events.ConnectionTerminated) -> None:
        if not self._client_side:
            return  # the client would refuse calls of the server, which opens none
        self.draining = True
        reason = f"the peer is going away ({error_name(event.error_code)})"
        for stream_id, stream in self.streams.items():
            if stream_id > event.last_stream_id:
                stream.close(RpcError(StatusCode.UNAVAILABLE, reason))
        self.outbound.flush_soon()

    def _check_rates(self) -> None:
        core = self.core
        exceeded = self._rates.exceeded(
            control_frames=core.control_frames, calls=core.requests, now_s=self._last_received_s
        )
        if exceeded is not None:
            self._refuse_peer(*exceeded, StatusCode.RESOURCE_EXHAUSTED, ErrorCodes.ENHANCE_YOUR_CALM)

    def _check_unread_responses(self) -> None:
        most = (
            _UNREAD_RESPONSES_BYTES_UNREGISTERED
            if self.budget.unregistered
            else self.options.outbound_bytes + _UNREAD_RESPONSES_BYTES
        )
        if self.core.pending_bytes > most:
            self._close_unread("the peer does not read what it asks for")

    def _close_unread(self, detail: str) -> None:
        self.budget.refuse("unread_responses", detail)
        self.close(detail)

    def _refuse_peer(
        self, reason: str, detail: str, status: StatusCode, error_code: ErrorCodes | None
    ) -> None:
        """Stop reading, and close the connection once what is pending is sent."""
        self.budget.refuse(reason, detail)
        self._reading_stopped = True
        self.terminate(RpcError(status, detail), error_code)
        if self._client_side:
            self.close(detail)  # without waiting for the callers
