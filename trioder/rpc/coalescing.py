"""Received bytes split into slices of work, and adjacent DATA frames of a stream coalesced, before h2.

The boundaries of DATA frames have no meaning in HTTP/2 (RFC 9113, section 6.1), and h2 makes half a dozen
objects of each. An agent that sends one message per sample sends one frame per sample.
"""

from struct import Struct

from h2.errors import ErrorCodes

PREFACE_BYTES = 24

# Length (of which the first byte is the high one), type, flags, stream.
_HEAD = Struct(">BHBB4s")
_DATA, _HEADERS, _SETTINGS, _PUSH_PROMISE, _CONTINUATION = 0, 1, 4, 5, 9
_END_HEADERS = 4

# A slice ends at this weight: some 0.5 ms of h2's work. A HEADERS frame is one call: its header block, its
# handler, its status.
_SLICE_WEIGHT = 16
_WEIGHTS = {_HEADERS: 8, _SETTINGS: 4}
# What the largest header list that is accepted (16 KiB) takes at most, with padding and priority.
_MAX_HEADER_BLOCK_BYTES = 17 * 1024
# A SETTINGS frame has six bytes for each of some ten settings.
_MAX_SETTINGS_BYTES = 1024


class FrameTooLargeError(Exception):
    """A frame header announces more than may be sent."""

    error_code = ErrorCodes.FRAME_SIZE_ERROR


class HeaderBlockTooLargeError(FrameTooLargeError):
    """HEADERS and CONTINUATION frames together are larger than any header list that is accepted."""

    error_code = ErrorCodes.ENHANCE_YOUR_CALM


class DataCoalescer:
    """Rewrites one direction of a connection, without any I/O.

    DATA frames that are padded, end their stream or are empty stay as they are; so do all other frames.

    Args:
        preface_bytes: the size of what precedes the first frame.
        max_frame_bytes: of payload; frames are not coalesced beyond it, and larger ones are refused.
    """

    def __init__(self, *, preface_bytes: int, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        # The part of the preface, or of a frame that is passed on piecemeal, that has not arrived.
        self._rest_bytes = preface_bytes
        # The part of the next frame's header that has arrived.
        self._head = b""
        self._header_block_bytes = 0
        self.other_frames = 0  # than DATA, so far

    def feed(self, received: bytes | bytearray) -> list[bytes]:
        """Take bytes and return those that h2 receives, a piece for each slice of work.

        An incomplete frame header is held until the rest of it arrives.

        Raises:
            FrameTooLargeError: at its header: h2 would hold the whole frame before it checks its length.
            HeaderBlockTooLargeError: h2 would hold 64 CONTINUATION frames of any size.
        """
        data = self._head + received
        at = self._rest_bytes
        slices: list[bytes] = []
        parts: list[bytes] = []
        weight = 0
        # All before it is in `parts`.
        done = 0
        run = _Run(at, b"")
        while at + _HEAD.size <= len(data):
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            payload_bytes = high << 16 | low
            if payload_bytes > self._max_frame_bytes:
                raise FrameTooLargeError(
                    f"a frame of {payload_bytes} bytes; at most {self._max_frame_bytes} are taken"
                )
            if kind != _DATA:
                self.other_frames += 1
                self._check_other(kind, flags, payload_bytes)
            end = at + _HEAD.size + payload_bytes
            merges = kind == _DATA and flags == 0 and payload_bytes > 0 and end <= len(data)
            if (
                not merges
                or stream != run.stream
                or run.payload_bytes + payload_bytes > self._max_frame_bytes
            ):
                done = run.close(data, done, parts)
                run = _Run(at, stream if merges else b"")
                if weight >= _SLICE_WEIGHT:
                    slices.append(b"".join((*parts, data[done:at])))
                    parts.clear()
                    done = at
                    weight = 0
                weight += _WEIGHTS.get(kind, 1)
            if merges:
                run.add(data[at + _HEAD.size : end])
            at = end
        done = run.close(data, done, parts)
        self._head = data[at:]
        self._rest_bytes = max(0, at - len(data))
        slices.append(b"".join((*parts, data[done:at])))
        return slices

    def _check_other(self, kind: int, flags: int, payload_bytes: int) -> None:
        if kind == _SETTINGS and payload_bytes > _MAX_SETTINGS_BYTES:
            raise FrameTooLargeError(
                f"a SETTINGS frame of {payload_bytes} bytes; at most {_MAX_SETTINGS_BYTES} are taken"
            )
        if kind in {_HEADERS, _PUSH_PROMISE, _CONTINUATION}:
            self._header_block_bytes += payload_bytes
            if self._header_block_bytes > _MAX_HEADER_BLOCK_BYTES:
                raise HeaderBlockTooLargeError(
                    f"a header block of {self._header_block_bytes} bytes; "
                    f"at most {_MAX_HEADER_BLOCK_BYTES} are taken"
                )
            if flags & _END_HEADERS:
                self._header_block_bytes = 0


class _Run:
    """Adjacent frames that may be merged; none while `stream` is empty."""

    def __init__(self, start: int, stream: bytes) -> None:
        self.stream = stream
        self.payload_bytes = 0
        self._start = start
        self._payloads: list[bytes] = []

    def add(self, payload: bytes) -> None:
        self._payloads.append(payload)
        self.payload_bytes += len(payload)

    def close(self, data: bytes, done: int, parts: list[bytes]) -> int:
        """Append what precedes the run, and the run as one frame; return the offset after it."""
        if len(self._payloads) < 2:
            return done
        head = _HEAD.pack(self.payload_bytes >> 16, self.payload_bytes & 0xFFFF, _DATA, 0, self.stream)
        parts += [data[done : self._start], head, *self._payloads]
        return self._start + len(self._payloads) * _HEAD.size + self.payload_bytes
