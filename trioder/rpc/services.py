"""What a server serves: methods, their handlers, and a call as its handler sees it."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Generic, Self, TypeAlias

import trio
from google.protobuf.message import DecodeError

from trioder.rpc.call_stream import CallStream
from trioder.rpc.headers import Metadata
from trioder.rpc.method import Method, Req, Res
from trioder.rpc.peer import Peer
from trioder.rpc.status import RpcError, StatusCode


class ServerCall(Generic[Req, Res]):
    """One call, as its handler sees it.

    Attributes:
        method: which method is called.
        metadata: the request's header fields.
        peer: the client.
        response_started: whether the response's header fields have been sent.
        check_bytes: called with each message before it is decoded, and raises to refuse it: a message may
            decode to a hundred times its size.
    """

    def __init__(self, stream: CallStream, method: Method[Req, Res], metadata: Metadata, peer: Peer) -> None:
        self._stream = stream
        self.method = method
        self.metadata = metadata
        self.peer = peer
        self.response_started = False
        self.check_bytes: Callable[[bytes], None] | None = None

    def register_peer(self, *, max_message_bytes: int | None = None) -> None:
        """Lift the bounds of unregistered peers from the connection for as long as the call lasts.

        Args:
            max_message_bytes: of each message that the call receives from now on.
        """
        self._stream.register_peer(max_message_bytes)

    async def receive(self) -> Req:
        """Return the client's next message.

        Raises:
            trio.EndOfChannel: the client has half-closed the call.
            RpcError: INVALID_ARGUMENT for bytes that do not decode.
            Exception: what `check_bytes` raises.
        """
        return self._decoded(await self._stream.receive())

    async def receive_some(self) -> Iterator[Req]:
        """Return the client's next messages: those that have arrived, up to one slice of work.

        Each is checked and decoded when it is iterated to, and raises then what `receive` does.

        Raises:
            trio.EndOfChannel: the client has half-closed the call.
        """
        return map(self._decoded, await self._stream.receive_some())

    def _decoded(self, data: bytes) -> Req:
        if self.check_bytes is not None:
            self.check_bytes(data)
        try:
            return self.method.request_type.FromString(data)
        except DecodeError:
            name = self.method.request_type.DESCRIPTOR.full_name
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"{len(data)} bytes that are no {name}") from None

    async def send(self, response: Res) -> None:
        """Send a message; waits while flow control or the transport is blocked."""
        if not self.response_started:
            self.response_started = True
            self._stream.start_response()
        await self._stream.send(response.SerializeToString())

    def __aiter__(self) -> Self:
        """Iterate over the client's messages."""
        return self

    async def __anext__(self) -> Req:
        """Return the next message of the iteration."""
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None


Handler: TypeAlias = Callable[[ServerCall[Any, Any]], Awaitable[None]]


class Services(Mapping[str, tuple[Method[Any, Any], Handler]]):
    """What a server serves: methods and their handlers, by path.

    Args:
        handlers: by method.
        first_message_bytes: of the methods by which a peer registers, how large the first message may be
            beyond the bound of unregistered peers; evaluated at each call.
    """

    def __init__(
        self,
        handlers: Mapping[Method[Any, Any], Handler],
        *,
        first_message_bytes: Mapping[Method[Any, Any], Callable[[], int]] | None = None,
    ) -> None:
        self._by_path = {method.path: (method, handler) for method, handler in handlers.items()}
        self._first_message_bytes = {m.path: size for m, size in (first_message_bytes or {}).items()}

    def first_message_bytes(self, path: str) -> int:
        """Return by how much the first message may exceed the bound of unregistered peers."""
        size = self._first_message_bytes.get(path)
        return 0 if size is None else size()

    def __getitem__(self, path: str) -> tuple[Method[Any, Any], Handler]:
        return self._by_path[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_path)

    def __len__(self) -> int:
        return len(self._by_path)
