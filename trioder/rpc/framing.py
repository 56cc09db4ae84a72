"""gRPC framing: one byte of flags, four of length, the message."""

from struct import Struct

from trioder.rpc.status import RpcError, StatusCode

_PREFIX = Struct(">BI")


def framed(message: bytes) -> bytes:
    """Return a message with its prefix, uncompressed."""
    return _PREFIX.pack(0, len(message)) + message


class MessageDecoder:
    """Splits the data of one stream into messages; synchronous, holds one unfinished message at most."""

    __slots__ = ("_buffer", "max_message_bytes")

    def __init__(self, max_message_bytes: int) -> None:
        self._buffer = bytearray()
        self.max_message_bytes = max_message_bytes

    @property
    def unfinished_bytes(self) -> int:
        """The size of the part of a message that has arrived."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take data and return the messages that it completes.

        Raises:
            RpcError: RESOURCE_EXHAUSTED for a message over the limit, UNIMPLEMENTED for a compressed one.
        """
        if self._buffer:
            self._buffer += data
            messages, end = self._split(self._buffer)
            del self._buffer[:end]
        else:
            # Most often: the data is one message, or several.
            messages, end = self._split(data)
            if end < len(data):
                self._buffer += data[end:]
        return messages

    def discard(self) -> None:
        """Drop an unfinished message."""
        self._buffer = bytearray()

    def _split(self, data: bytes | bytearray) -> tuple[list[bytes], int]:
        messages = []
        start = 0
        while len(data) - start >= _PREFIX.size:
            flags, length = _PREFIX.unpack_from(data, start)
            if flags != 0:
                raise RpcError(StatusCode.UNIMPLEMENTED, "compressed messages are not supported")
            if length > self.max_message_bytes:
                raise RpcError(
                    StatusCode.RESOURCE_EXHAUSTED,
                    f"a message of {length} bytes; at most {self.max_message_bytes} are taken",
                )
            end = start + _PREFIX.size + length
            if len(data) < end:
                break
            start += _PREFIX.size
            # One copy, not two: a message may be as large as the peer's budget allows.
            messages.append(
                data[start:end] if isinstance(data, bytes) else bytes(memoryview(data)[start:end])
            )
            start = end
        return messages, start
