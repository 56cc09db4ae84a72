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

# A chatty peer keeps the inbox full; the other tasks get their turn every so often.
_RECEIVES_A_TURN = 32


class Exchange:
    """One stream of a connection. One task may send while another receives."""

    __slots__ = (
        "_arrival",
        "_connection",
        "_decoder",
        "_inbox",
        "_inbox_bytes",
        "_room",
        "_turn",
        "_unacknowledged",
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
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._unacknowledged = 0
        self._arrival: trio.Event | None = None
        self._room: trio.Event | None = None
        self._turn = 0
        self.remote_ended = False
        self.local_ended = False
        self.closed = False
        self.error: RpcError | None = None
        # What is cancelled when the peer gives the call up; a server's handler runs in it.
        self.scope = trio.CancelScope()

    # Fed by the connection.

    def data_arrived(self, data: bytes, flow_controlled_length: int) -> None:
        """Take data, and acknowledge it unless too much waits to be received already.

        Raises:
            RpcError: the data breaks the framing or a bound; the call cannot go on.
        """
        self._unacknowledged += flow_controlled_length
        for message in self._decoder.feed(data):
            self._inbox.append(message)
            self._inbox_bytes += len(message)
        self._acknowledge_if_room()
        if self._inbox:
            self._wake_receiver()

    def remote_end_arrived(self, error: RpcError | None = None) -> None:
        """The peer has said all, or ended the call with an error."""
        if self.remote_ended:
            return
        if error is None and self._decoder.unfinished:
            error = RpcError(StatusCode.INTERNAL, "the stream ended inside a message")
        self.error = self.error or error
        self.remote_ended = True
        self._wake_receiver()

    def failed(self, error: RpcError) -> None:
        """The call is over: what waits on it is woken, what arrived and was not received is dropped."""
        self.error = self.error or error
        self.remote_ended = True
        self.closed = True
        self._inbox.clear()
        self._wake_receiver()
        self.room_made()

    def room_made(self) -> None:
        """The flow control may let the sender go on."""
        if self._room is not None:
            self._room.set()
            self._room = None

    def release_all(self) -> None:
        """Acknowledge what will never be received, for the sake of the other calls."""
        self._inbox.clear()
        self._inbox_bytes = 0
        self._acknowledge_if_room()

    # Used by the call.

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
        if not self.closed and not self.local_ended:
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
        while not self._inbox:
            if self.remote_ended:
                await trio.lowlevel.checkpoint()
                if self.error is not None:
                    raise self.error
                raise trio.EndOfChannel
            self._arrival = trio.Event()
            await self._arrival.wait()
        self._turn = (self._turn + 1) % _RECEIVES_A_TURN
        if self._turn == 0:
            await trio.lowlevel.checkpoint()
            if not self._inbox:  # failed meanwhile
                return await self.receive()
        message = self._inbox.popleft()
        self._inbox_bytes -= len(message)
        if self._unacknowledged:
            self._acknowledge_if_room()
        return message

    async def send(self, message: bytes) -> None:
        """Send one message; waits while the peer or the wire takes no more.

        Raises:
            RpcError: the call has ended.
        """
        data = framed(message)
        core = self._connection.core
        position = 0
        await self._connection.outbound_room()
        while True:
            if self.closed or self.local_ended:
                raise self._ended()
            try:
                sendable = min(core.sendable_bytes(self.stream_id), len(data) - position)
                if sendable > 0:
                    core.send_data(self.stream_id, data[position : position + sendable])
            except h2.exceptions.ProtocolError:
                raise self._ended() from None
            if sendable > 0:
                position += sendable
                self._connection.flush_soon()
                if position == len(data):
                    return
                await self._connection.outbound_room()
            else:
                self._room = self._room or trio.Event()
                await self._room.wait()

    def reset(self, error_code: ErrorCodes) -> None:
        """Give the call up; nothing happens if it has ended."""
        if not self.closed:
            self.closed = True
            self._connection.core.reset(self.stream_id, error_code)
            self._connection.flush_soon()

    def _ended(self) -> RpcError:
        return self.error or RpcError(StatusCode.CANCELLED, "the call has ended")

    def _wake_receiver(self) -> None:
        if self._arrival is not None:
            self._arrival.set()
            self._arrival = None

    def _acknowledge_if_room(self) -> None:
        if self._unacknowledged and self._inbox_bytes <= self._connection.options.inbound_queue_bytes:
            self._connection.acknowledge(self.stream_id, self._unacknowledged)
            self._unacknowledged = 0
