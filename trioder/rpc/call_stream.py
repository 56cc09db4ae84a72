"""One call's stream as both ends see it: what arrived, what may be sent, and how it ended.

Synchronous towards the connection, which feeds it; the two waits are here.
"""

from collections import deque
from typing import TYPE_CHECKING

import h2.exceptions
import trio
from h2.errors import ErrorCodes

from trioder.rpc.framing import MessageDecoder, framed
from trioder.rpc.status import RpcError, StatusCode

if TYPE_CHECKING:
    from trioder.rpc.connection import Connection

# A chatty peer keeps the inbox full; the other tasks get their turn every so often: some 1 ms of messages,
# small ones of telemetry (their overhead counts) or batches, which take some 70 us a KiB.
_BYTES_A_TURN = 16 * 1024
_LEAST_BYTES = 512
# What a small message weighs beside its bytes: without it, a flood of empty ones would weigh nothing.
_MESSAGE_OVERHEAD_BYTES = 64


class CallStream:
    """One stream of a connection. One task may send while another receives."""

    __slots__ = (
        "_arrival",
        "_connection",
        "_decoder",
        "_inbox",
        "_inbox_bytes",
        "_muted",
        "_registered",
        "_room",
        "_turn",
        "_unacknowledged",
        "_unfinished_bytes",
        "closed",
        "error",
        "local_ended",
        "remote_ended",
        "scope",
        "stream_id",
    )

    def __init__(self, connection: "Connection", stream_id: int) -> None:
        self._connection = connection
        self.stream_id = stream_id
        self._decoder = MessageDecoder(connection.options.max_message_bytes)
        self._registered = False
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._unacknowledged = 0
        self._unfinished_bytes = 0
        # Whether sending is over, whoever ended it.
        self._muted = False
        self._arrival: trio.Event | None = None
        self._room: trio.Event | None = None
        self._turn = 0
        self.remote_ended = False
        self.local_ended = False
        self.closed = False
        self.error: RpcError | None = None
        # What is cancelled when the peer gives the call up; a server's handler runs in it.
        self.scope = trio.CancelScope()

    @property
    def max_message_bytes(self) -> int:
        """How large a message may be."""
        return self._decoder.max_message_bytes

    @max_message_bytes.setter
    def max_message_bytes(self, count: int) -> None:
        self._decoder.max_message_bytes = count

    # Fed by the connection.

    def data_arrived(self, data: bytes, flow_controlled_length: int) -> int:
        """Take data, and acknowledge it unless too much waits to be received already.

        Returns how many messages it completed.

        Raises:
            RpcError: the data breaks the framing or a bound; the call cannot go on.
        """
        self._unacknowledged += flow_controlled_length
        messages = self._decoder.feed(data)
        if messages:
            self._inbox += messages
            count = sum(map(len, messages)) + _MESSAGE_OVERHEAD_BYTES * len(messages)
            self._inbox_bytes += count
            self._connection.account.hold(count)
            self._wake_receiver()
        if self._decoder.unfinished_bytes != self._unfinished_bytes:
            self._count_unfinished(self._decoder.unfinished_bytes)
            self._connection.check_unfinished()
        self._connection.account.check_bound()
        self._acknowledge_if_room()
        return len(messages)

    def abort(self, error: RpcError) -> None:
        """End the call with an error of ours: what arrived is dropped, and its handler cancelled."""
        self._drop_inbound()
        if not self.remote_ended or self.error is None:
            self.error = error
            self.remote_ended = True
        self._wake_receiver()
        self.scope.cancel()

    def remote_end_arrived(self, error: RpcError | None = None) -> None:
        """The peer has said all, or ended the call with an error."""
        if self.remote_ended:
            return
        if error is None and self._decoder.unfinished_bytes:
            error = RpcError(StatusCode.INTERNAL, "the stream ended inside a message")
        self.error = self.error or error
        self.remote_ended = True
        self._wake_receiver()
        if self._connection.client_side:
            # A server's last word ends the call, whether or not the client has said all.
            self._mute()

    def failed(self, error: RpcError) -> None:
        """The call is over at once; what arrived before can still be received.

        A server that has given its status resets the stream when the client has not said all: then the
        status stands.
        """
        if not self.remote_ended:
            self.error = self.error or error
            self.remote_ended = True
            self._wake_receiver()
        self.closed = True
        self._mute()

    def room_made(self) -> None:
        """The flow control may let the sender go on."""
        if self._room is not None:
            self._room.set()
            self._room = None

    def release_all(self) -> None:
        """Acknowledge what will never be received, for the sake of the other calls."""
        self.closed = True
        self._mute()
        self._drop_inbound()
        self._acknowledge_if_room()
        if self._registered:
            self._registered = False
            self._connection.account.unregister()

    # Used by the call.

    def register_peer(self, max_message_bytes: int | None) -> None:
        """Lift the bounds of unregistered peers while the call lasts; bound its messages from now on."""
        if not self._registered:
            self._registered = True
            self._connection.account.register()
        self.max_message_bytes = max_message_bytes or self._connection.options.max_message_bytes

    def start_response(self) -> None:
        """Send the headers of a server's answer.

        Raises:
            RpcError: the call has ended.
        """
        try:
            self._connection.core.start_response(self.stream_id)
        except h2.exceptions.ProtocolError:
            raise self._ended() from None

    def end_call(self, outcome: RpcError | None, *, started: bool) -> None:
        """Send the status of a server's answer, its last word."""
        core = self._connection.core
        try:
            core.end_call(self.stream_id, outcome, started=started)
        except h2.exceptions.ProtocolError:
            return
        if not self.remote_ended:
            # What the client still says is not waited for.
            core.reset(self.stream_id, ErrorCodes.NO_ERROR)
        self._connection.flush_soon()

    def end_request(self) -> None:
        """Tell the server that there is no more to come; nothing happens if the call has ended."""
        if not self._muted:
            self._mute()
            self.local_ended = True
            try:
                self._connection.core.send_data(self.stream_id, b"", end_stream=True)
            except h2.exceptions.ProtocolError:
                return
            self._connection.flush_soon()

    async def receive(self) -> bytes:
        """Return the next message.

        Raises:
            trio.EndOfChannel: there are no more.
            RpcError: the call ended with an error.
        """
        [message] = await self.receive_some(most=1)
        return message

    async def receive_some(self, *, most: int | None = None) -> list[bytes]:
        """Return the next messages that have arrived: one at least, and no more than one turn's.

        Raises:
            trio.EndOfChannel: there are no more.
            RpcError: the call ended with an error.
        """
        while True:
            while not self._inbox:
                if self.remote_ended:
                    await trio.lowlevel.checkpoint()
                    if self.error is not None:
                        raise self._ended()
                    raise trio.EndOfChannel
                self._arrival = trio.Event()
                await self._arrival.wait()
            if self._turn >= _BYTES_A_TURN:
                self._turn = 0
                await trio.lowlevel.checkpoint()
            # Empty again if the call was aborted meanwhile.
            if messages := self._taken_from_inbox(most):
                return messages

    def _taken_from_inbox(self, most: int | None) -> list[bytes]:
        inbox, count = self._inbox, 0
        messages: list[bytes] = []
        while inbox and (most is None or len(messages) < most) and self._turn < _BYTES_A_TURN:
            message = inbox.popleft()
            messages.append(message)
            count += len(message) + _MESSAGE_OVERHEAD_BYTES
            self._turn += max(len(message), _LEAST_BYTES)
        self._inbox_bytes -= count
        self._connection.account.hold(-count)
        if self._unacknowledged:
            self._acknowledge_if_room()
        return messages

    async def send(self, message: bytes) -> None:
        """Send one message; waits while the peer or the wire takes no more.

        Raises:
            RpcError: the call has ended.
        """
        data = framed(message)
        sent = 0
        await self._give_others_a_turn(len(data))
        try:
            while sent < len(data):
                if self._connection.outbound_full:
                    await self._connection.outbound_room()
                if not (count := self._send_some(data, sent)):
                    self._room = self._room or trio.Event()
                    await self._room.wait()
                sent += count
        finally:
            if 0 < sent < len(data):
                # Cancelled inside a message; nothing that follows would be understood.
                self.reset(ErrorCodes.CANCEL)
                self.failed(RpcError(StatusCode.CANCELLED, "a message was cut off"))

    def reset(self, error_code: ErrorCodes) -> None:
        """Give the call up; nothing happens if it has ended."""
        if not self.closed:
            self.closed = True
            self._mute()
            self._connection.core.reset(self.stream_id, error_code)
            self._connection.flush_soon()

    def _send_some(self, data: bytes, start: int) -> int:
        """Send what fits into a frame and the flow control's windows now; return how much that is."""
        if self._muted:
            raise self._ended()
        core = self._connection.core
        try:
            count = min(core.sendable_bytes(self.stream_id), len(data) - start)
            if count <= 0:
                return 0
            core.send_data(self.stream_id, data if count == len(data) else data[start : start + count])
        except h2.exceptions.ProtocolError:
            raise self._ended() from None
        self._connection.flush_soon()
        return count

    async def _give_others_a_turn(self, count: int) -> None:
        self._turn += max(count, _LEAST_BYTES)
        if self._turn >= _BYTES_A_TURN:
            self._turn = 0
            await trio.lowlevel.checkpoint()

    def _drop_inbound(self) -> None:
        self._connection.account.hold(-self._inbox_bytes)
        self._inbox.clear()
        self._inbox_bytes = 0
        self._decoder.forget()
        self._count_unfinished(0)

    def _mute(self) -> None:
        self._muted = True
        self.room_made()

    def _count_unfinished(self, count: int) -> None:
        fresh = count - self._unfinished_bytes
        self._connection.unfinished_bytes += fresh
        self._connection.account.hold(fresh)
        self._unfinished_bytes = count

    def _ended(self) -> RpcError:
        # A new one each time: the traceback of a kept one would refer to this call, and this call to it.
        # Nobody collects such cycles soon, and what the frames hold is as large as a message.
        if self.error is None:
            return RpcError(StatusCode.CANCELLED, "the call has ended")
        return RpcError(self.error.status, self.error.message)

    def _wake_receiver(self) -> None:
        if self._arrival is not None:
            self._arrival.set()
            self._arrival = None

    def _acknowledge_if_room(self) -> None:
        if self._unacknowledged and self._inbox_bytes <= self._connection.options.inbound_queue_bytes:
            self._connection.acknowledge(self.stream_id, self._unacknowledged)
            self._unacknowledged = 0
