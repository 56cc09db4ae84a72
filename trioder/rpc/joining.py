"""Neighbouring DATA frames of one stream as a single frame, before h2 looks at them.

Where one DATA frame ends and the next begins means nothing in HTTP/2 (RFC 9113, section 6.1), and h2 makes
half a dozen objects of each. An agent that sends a message a sample sends a frame a sample.
"""

from struct import Struct

PREFACE_BYTES = 24

# Length (of which the first byte is the high one), type, flags, stream.
_HEAD = Struct(">BHBB4s")
_DATA = 0


class FrameTooLargeError(Exception):
    """A head announces more than may be sent."""


class DataJoiner:
    """Rewrites one direction of a connection, without any I/O.

    What is padded, ends its stream, or is empty stays as it is; so does all that is no DATA.

    Args:
        preface_bytes: what comes before the first frame.
        max_frame_bytes: of payload; frames are not joined beyond it, and larger ones are refused.
    """

    def __init__(self, *, preface_bytes: int, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        # What is still to come of something that is passed on as it comes.
        self._rest_bytes = preface_bytes
        # Of the next frame's head, what is there already.
        self._head = b""

    def feed(self, arrived: bytes | bytearray) -> bytes:
        """Take bytes and return those that h2 is to see; the beginning of a head waits for the rest of it.

        Raises:
            FrameTooLargeError: at the head: h2 would hold all of the frame before it looks at its length.
        """
        data = self._head + arrived
        at = self._rest_bytes
        parts: list[bytes] = []
        # All before it stands in `parts`.
        done = 0
        run = _Run(at, b"")
        while at + _HEAD.size <= len(data):
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            payload_bytes = high << 16 | low
            if payload_bytes > self._max_frame_bytes:
                raise FrameTooLargeError(
                    f"a frame of {payload_bytes} bytes; at most {self._max_frame_bytes} are taken"
                )
            end = at + _HEAD.size + payload_bytes
            joins = kind == _DATA and flags == 0 and payload_bytes > 0 and end <= len(data)
            if not joins or stream != run.stream or run.payload_bytes + payload_bytes > self._max_frame_bytes:
                done = run.close(data, done, parts)
                run = _Run(at, stream if joins else b"")
            if joins:
                run.add(data[at + _HEAD.size : end])
            at = end
        done = run.close(data, done, parts)
        self._head = data[at:]
        self._rest_bytes = max(0, at - len(data))
        parts.append(data[done:at])
        return b"".join(parts)


class _Run:
    """Frames that may become one; none while `stream` is empty."""

    def __init__(self, start: int, stream: bytes) -> None:
        self.stream = stream
        self.payload_bytes = 0
        self._start = start
        self._payloads: list[bytes] = []

    def add(self, payload: bytes) -> None:
        self._payloads.append(payload)
        self.payload_bytes += len(payload)

    def close(self, data: bytes, done: int, parts: list[bytes]) -> int:
        """Write what lies before the run, and the run; return up to where that is done."""
        if len(self._payloads) < 2:
            return done
        head = _HEAD.pack(self.payload_bytes >> 16, self.payload_bytes & 0xFFFF, _DATA, 0, self.stream)
        parts += [data[done : self._start], head, *self._payloads]
        return self._start + len(self._payloads) * _HEAD.size + self.payload_bytes
