"""Which peers a server serves, and the end of open connections whose peer is no longer one of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from h2.errors import ErrorCodes

from trioder.rpc.connection import Connection
from trioder.rpc.peer import Peer
from trioder.rpc.status import RpcError, StatusCode

Refusal = Callable[[Peer], str | None]


class PeerAccess:
    """Checks the peer of each call, and of open connections on request.

    Args:
        refusal: why a peer is not served; None when it is.
    """

    def __init__(self, refusal: Refusal = lambda _: None) -> None:
        self.refusal = refusal
        self._open: dict[Connection, Peer] = {}

    @contextmanager
    def serving(self, peer: Peer, connection: Connection) -> Iterator[None]:
        """The connection is open around the block."""
        self._open[connection] = peer
        try:
            yield
        finally:
            del self._open[connection]

    def check_open(self) -> None:
        """End the open connections whose peer is not served any more; their calls are UNAUTHENTICATED."""
        for connection, peer in tuple(self._open.items()):
            if (reason := self.refusal(peer)) is not None:
                # The handler that has registered a peer has reported the end of its session.
                if not connection.budget.registrations:
                    connection.budget.refuse_peer("certificate", peer, reason)
                connection.terminate(RpcError(StatusCode.UNAUTHENTICATED, reason), ErrorCodes.NO_ERROR)
