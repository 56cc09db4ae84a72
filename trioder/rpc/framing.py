"""Messages in the data of a stream: one byte of flags, four of length, the message."""

from collections.abc import Iterator
from struct import Struct

from trioder.rpc.status import RpcError, StatusCode

_PREFIX = Struct(">BI")


def framed(message: bytes) -> bytes:
    """Return a message with its prefix, uncompressed."""
    return _PREFIX.pack(0, len(message)) + message


class MessageDecoder:
    """Cuts the data of one stream into messages; synchronous, holds one unfinished message at most."""

    __slots__ = ("_buffer", "_max_message_bytes")

    def __init__(self, max_message_bytes: int) -> None:
        self._buffer = bytearray()
        self._max_message_bytes = max_message_bytes

    @property
    def unfinished(self) -> bool:
        """Whether the data so far ends inside a message."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take data and yield the messages that it completes.

        Raises:
            RpcError: RESOURCE_EXHAUSTED for a message over the limit, UNIMPLEMENTED for a compressed one.
        """
        buffer = self._buffer
        buffer += data
        position = 0
        try:
            while len(buffer) - position >= _PREFIX.size:
                flags, length = _PREFIX.unpack_from(buffer, position)
                if flags != 0:
                    raise RpcError(StatusCode.UNIMPLEMENTED, "compressed messages are not supported")
                if length > self._max_message_bytes:
                    raise RpcError(
                        StatusCode.RESOURCE_EXHAUSTED,
                        f"a message of {length} bytes; at most {self._max_message_bytes} are taken",
                    )
                end = position + _PREFIX.size + length
                if len(buffer) < end:
                    break
                yield bytes(buffer[position + _PREFIX.size : end])
                position = end
        finally:
            del buffer[:position]
