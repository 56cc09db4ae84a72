"""One call's HTTP/2 stream, as both ends see it: messages received, messages sent, and how it ended.

The connection feeds it synchronously; `receive` and `send` are what waits.
"""

from collections import deque

import h2.exceptions
import trio
from h2.errors import ErrorCodes

from trioder.rpc.framing import MessageDecoder, framed
from trioder.rpc.options import ConnectionOptions
from trioder.rpc.outbound import Outbound
from trioder.rpc.peer_limits import PeerBudget
from trioder.rpc.status import RpcError, StatusCode

# A peer that sends without pause keeps the inbox full. Other tasks run after each slice: some 1 ms of small
# telemetry messages (their overhead counts) or of batches, which take some 70 us a KiB.
_SLICE_BYTES = 16 * 1024
_MIN_MESSAGE_BYTES = 512
# Charged for a message beside its bytes: without it, a flood of empty ones would cost nothing.
_MESSAGE_OVERHEAD_BYTES = 64


class CallStream:
    """One stream of a connection. One task may send while another receives.

    Attributes:
        scope: cancelled when the peer cancels the call; a server's handler runs in it.
        remote_closed: the peer has sent its last message, or the call has failed.
        local_closed: a client has half-closed the call.
        closed: both directions have ended.
        error: how the call ended; None for OK, or while it is open.
    """

    __slots__ = (
        "_arrival",
        "_budget",
        "_decoder",
        "_inbox",
        "_inbox_bytes",
        "_options",
        "_outbound",
        "_registered",
        "_send_closed",
        "_slice_bytes",
        "_unacknowledged",
        "_unfinished_bytes",
        "_window_update",
        "closed",
        "error",
        "local_closed",
        "remote_closed",
        "scope",
        "stream_id",
    )

    def __init__(
        self, stream_id: int, *, outbound: Outbound, budget: PeerBudget, options: ConnectionOptions
    ) -> None:
        self.stream_id = stream_id
        self._outbound = outbound
        self._budget = budget
        self._options = options
        self._decoder = MessageDecoder(options.max_message_bytes)
        self._registered = False
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._unacknowledged = 0
        self._unfinished_bytes = 0
        self._send_closed = False
        self._arrival: trio.Event | None = None
        self._window_update: trio.Event | None = None
        self._slice_bytes = 0
        self.remote_closed = False
        self.local_closed = False
        self.closed = False
        self.error: RpcError | None = None
        self.scope = trio.CancelScope()

    def limit_messages(self, max_message_bytes: int) -> None:
        """Set how large a message may be."""
        self._decoder.max_message_bytes = max_message_bytes

    # Called by the connection.

    def receive_data(self, data: bytes, flow_controlled_length: int) -> int:
        """Take data, and acknowledge it unless the inbox is full. Returns how many messages it completed.

        Raises:
            RpcError: the data breaks the framing or a bound; the call cannot go on.
        """
        self._unacknowledged += flow_controlled_length
        messages = self._decoder.feed(data)
        if messages:
            self._inbox += messages
            count = sum(map(len, messages)) + _MESSAGE_OVERHEAD_BYTES * len(messages)
            self._inbox_bytes += count
            self._budget.charge(count)
            self._wake_receiver()
        if self._decoder.unfinished_bytes != self._unfinished_bytes:
            self._charge_unfinished(self._decoder.unfinished_bytes)
        self._budget.check_bounds(unfinished_bytes=self._options.connection_window_bytes)
        self._acknowledge_if_room()
        return len(messages)

    def cancel(self, error: RpcError) -> None:
        """End the call with an error of ours: discard what was received, and cancel the handler."""
        self._discard_inbound()
        if not self.remote_closed or self.error is None:
            self.error = error
            self.remote_closed = True
        self._wake_receiver()
        self.scope.cancel()

    def close_remote(self, error: RpcError | None = None) -> None:
        """The peer has half-closed the stream, or ended the call with an error."""
        if self.remote_closed:
            return
        if error is None and self._decoder.unfinished_bytes:
            error = RpcError(StatusCode.INTERNAL, "the stream ended inside a message")
        self.error = self.error or error
        self.remote_closed = True
        self._wake_receiver()
        if self._outbound.core.client_side:
            # A server's status ends the call, whether or not the client has half-closed it.
            self._close_send()

    def close(self, error: RpcError) -> None:
        """End the call at once; what was received before can still be read.

        A server that has sent its status resets the stream if the client has not half-closed it: the status
        is kept then.
        """
        if not self.remote_closed:
            self.error = self.error or error
            self.remote_closed = True
            self._wake_receiver()
        self.closed = True
        self._close_send()

    def wake_sender(self) -> None:
        """A flow-control window was opened: the sender may try again."""
        if self._window_update is not None:
            self._window_update.set()
            self._window_update = None

    def release(self) -> None:
        """Acknowledge what will never be received, for the sake of the other calls, and free the budget."""
        self.closed = True
        self._close_send()
        self._discard_inbound()
        self._acknowledge_if_room()
        if self._registered:
            self._registered = False
            self._budget.unregister()

    # Called by the handler or the caller.

    def register_peer(self, max_message_bytes: int | None) -> None:
        """Lift the bounds of unregistered peers while the call lasts; bound its messages from now on."""
        if not self._registered:
            self._registered = True
            self._budget.register()
        self.limit_messages(max_message_bytes or self._options.max_message_bytes)

    def start_response(self) -> None:
        """Send a response's header fields.

        Raises:
            RpcError: the call has ended.
        """
        try:
            self._outbound.core.start_response(self.stream_id)
        except h2.exceptions.ProtocolError:
            raise self._ended() from None

    def send_status(self, outcome: RpcError | None, *, started: bool) -> None:
        """Send a response's status, which ends the call."""
        core = self._outbound.core
        try:
            core.send_status(self.stream_id, outcome, started=started)
        except h2.exceptions.ProtocolError:
            return
        if not self.remote_closed:
            # The client may stop sending.
            core.reset(self.stream_id, ErrorCodes.NO_ERROR)
        self._outbound.flush_soon()

    def half_close(self) -> None:
        """End the request's messages; nothing happens if the call has ended."""
        if not self._send_closed:
            self._close_send()
            self.local_closed = True
            try:
                self._outbound.core.send_data(self.stream_id, b"", end_stream=True)
            except h2.exceptions.ProtocolError:
                return
            self._outbound.flush_soon()

    async def receive(self) -> bytes:
        """Return the next message.

        Raises:
            trio.EndOfChannel: there are no more.
            RpcError: the call ended with an error.
        """
        [message] = await self.receive_some(most=1)
        return message

    async def receive_some(self, *, most: int | None = None) -> list[bytes]:
        """Return the next messages that have arrived: at least one, and no more than one slice of work.

        Raises:
            trio.EndOfChannel: there are no more.
            RpcError: the call ended with an error.
        """
        while True:
            while not self._inbox:
                if self.remote_closed:
                    await trio.lowlevel.checkpoint()
                    if self.error is not None:
                        raise self._ended()
                    raise trio.EndOfChannel
                self._arrival = trio.Event()
                await self._arrival.wait()
            if self._slice_bytes >= _SLICE_BYTES:
                self._slice_bytes = 0
                await trio.lowlevel.checkpoint()
            # Empty again if the call was cancelled meanwhile.
            if messages := self._pop_messages(most):
                return messages

    def _pop_messages(self, most: int | None) -> list[bytes]:
        inbox, count = self._inbox, 0
        messages: list[bytes] = []
        while inbox and (most is None or len(messages) < most) and self._slice_bytes < _SLICE_BYTES:
            message = inbox.popleft()
            messages.append(message)
            count += len(message) + _MESSAGE_OVERHEAD_BYTES
            self._slice_bytes += max(len(message), _MIN_MESSAGE_BYTES)
        self._inbox_bytes -= count
        self._budget.charge(-count)
        if self._unacknowledged:
            self._acknowledge_if_room()
        return messages

    async def send(self, message: bytes) -> None:
        """Send one message; waits while flow control or the transport is blocked.

        Raises:
            RpcError: the call has ended.
        """
        data = framed(message)
        sent = 0
        self._slice_bytes += max(len(data), _MIN_MESSAGE_BYTES)
        if self._slice_bytes >= _SLICE_BYTES:
            self._slice_bytes = 0
            await trio.lowlevel.checkpoint()
        try:
            while sent < len(data):
                if self._outbound.full:
                    await self._outbound.wait_for_room()
                if not (count := self._send_some(data, sent)):
                    self._window_update = self._window_update or trio.Event()
                    await self._window_update.wait()
                sent += count
        finally:
            if 0 < sent < len(data):
                # Cancelled inside a message: the peer could not decode what follows.
                self.reset(ErrorCodes.CANCEL)
                self.close(RpcError(StatusCode.CANCELLED, "a message was cut off"))

    def reset(self, error_code: ErrorCodes) -> None:
        """Send RST_STREAM; nothing happens if the call has ended."""
        if not self.closed:
            self.closed = True
            self._close_send()
            self._outbound.core.reset(self.stream_id, error_code)
            self._outbound.flush_soon()

    def _send_some(self, data: bytes, start: int) -> int:
        """Send what fits into a frame and the flow-control windows now; return how much that is."""
        if self._send_closed:
            raise self._ended()
        core = self._outbound.core
        try:
            count = min(core.sendable_bytes(self.stream_id), len(data) - start)
            if count <= 0:
                return 0
            core.send_data(self.stream_id, data if count == len(data) else data[start : start + count])
        except h2.exceptions.ProtocolError:
            raise self._ended() from None
        self._outbound.flush_soon()
        return count

    def _close_send(self) -> None:
        self._send_closed = True
        self.wake_sender()

    def _discard_inbound(self) -> None:
        self._budget.charge(-self._inbox_bytes)
        self._inbox.clear()
        self._inbox_bytes = 0
        self._decoder.discard()
        self._charge_unfinished(0)

    def _charge_unfinished(self, count: int) -> None:
        self._budget.charge_unfinished(count - self._unfinished_bytes)
        self._unfinished_bytes = count

    def _ended(self) -> RpcError:
        if self.error is None:
            return RpcError(StatusCode.CANCELLED, "the call has ended")
        return self.error.fresh()

    def _wake_receiver(self) -> None:
        if self._arrival is not None:
            self._arrival.set()
            self._arrival = None

    def _acknowledge_if_room(self) -> None:
        if self._unacknowledged and self._inbox_bytes <= self._options.inbound_queue_bytes:
            self._outbound.acknowledge(self.stream_id, self._unacknowledged)
            self._unacknowledged = 0
