"""Writes the body of a long streamed response straight to its connection.

Each chunk would otherwise cross Quart, two layers of hypercorn and h11, which costs more than the write. The
head, the first chunk and the end of the response go that way; h11 keeps no state of the chunks in between.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

# The connection, in the ASGI scope's state.
CONNECTION: Final = "trioder.connection"
# For a client that does not read; the kernel doubles it. It is enough for 1 MB/s over 100 ms.
_SEND_BUFFER_BYTES = 128 * 1024


class Connection(Protocol):
    """A client's connection."""

    def limit_send_buffer(self, size: int) -> None:
        """Bound what the system holds of what was sent."""

    async def send_body(self, data: bytes) -> None:
        """Write bytes of the response in progress; waits for the client as long as it takes."""

    def close(self) -> None:
        """Close it without delay."""


class BodyWriter:
    """Writes chunks of a response whose head and first chunk were sent.

    Args:
        connection: of the request.
        chunked: whether the body is in chunks (HTTP/1.1), or ends with the connection (1.0).
    """

    def __init__(self, connection: Connection, *, chunked: bool) -> None:
        self._connection = connection
        self._chunked = chunked
        connection.limit_send_buffer(_SEND_BUFFER_BYTES)

    async def send(self, data: bytes) -> None:
        """Write a chunk that is not empty.

        *Cancellation*: the chunk may be written in part: the connection must be closed.
        """
        await self._connection.send_body(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def close(self) -> None:
        """Close the connection without delay."""
        self._connection.close()


def body_writer(scope: Mapping[str, Any]) -> BodyWriter:
    """Return a writer for the response to a request, by its ASGI scope."""
    return BodyWriter(scope["state"][CONNECTION], chunked=scope["http_version"] == "1.1")
