"""Coalesced DATA frames mean the same as before, however the bytes arrive."""

from dataclasses import dataclass
from struct import Struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioder.rpc.coalescing import DataCoalescer, FrameTooLargeError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = Struct(">BHBBI")
DATA, HEADERS, WINDOW_UPDATE, END_STREAM, PADDED = 0, 1, 8, 1, 8
MAX_BYTES = 300


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream_id: int
    payload: bytes

    def written(self) -> bytes:
        size = len(self.payload)
        return HEAD.pack(size >> 16, size & 0xFFFF, self.kind, self.flags, self.stream_id) + self.payload

    def may_join(self, other: "Frame") -> bool:
        """Whether both are plain DATA: no padding, no flags."""
        return all(
            frame.kind == DATA and frame.flags == 0 and frame.payload and frame.stream_id == self.stream_id
            for frame in (self, other)
        )


def read(data: bytes) -> list[Frame]:
    frames = []
    while data:
        high, low, kind, flags, stream_id = HEAD.unpack_from(data)
        end = HEAD.size + (high << 16 | low)
        assert len(data) >= end
        frames.append(Frame(kind, flags, stream_id, data[HEAD.size : end]))
        data = data[end:]
    return frames


def joined_freely(frames: list[Frame]) -> list[Frame]:
    """All adjacent frames coalesced, without any bound."""
    joined: list[Frame] = []
    for frame in frames:
        if joined and joined[-1].may_join(frame):
            joined[-1] = Frame(DATA, 0, frame.stream_id, joined[-1].payload + frame.payload)
        else:
            joined.append(frame)
    return joined


small = st.binary(max_size=40)
frames = st.builds(
    Frame,
    kind=st.sampled_from([DATA, DATA, DATA, DATA, HEADERS, WINDOW_UPDATE]),
    flags=st.sampled_from([0, 0, 0, 0, END_STREAM, PADDED]),
    stream_id=st.sampled_from([1, 3]),
    payload=st.one_of(small, small, st.binary(min_size=200, max_size=MAX_BYTES)),
)


@given(st.data(), st.lists(frames, max_size=30), st.booleans())
def test_the_meaning_is_the_same_in_frames_that_are_not_too_large(
    data: st.DataObject, sent: list[Frame], has_preface: bool
) -> None:
    preface = PREFACE if has_preface else b""
    wire = preface + b"".join(frame.written() for frame in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=10)))
    coalescer = DataCoalescer(preface_bytes=len(preface), max_frame_bytes=MAX_BYTES)
    seen = b""
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        seen += b"".join(coalescer.feed(wire[start:end]))
    assert seen.startswith(preface)
    received = read(seen[len(preface) :])
    assert joined_freely(received) == joined_freely(sent)
    assert all(len(frame.payload) <= MAX_BYTES for frame in received)


@given(st.lists(st.binary(min_size=1, max_size=10), min_size=1, max_size=30))
def test_messages_that_arrive_together_are_one_frame(payloads: list[bytes]) -> None:
    coalescer = DataCoalescer(preface_bytes=0, max_frame_bytes=MAX_BYTES)
    wire = b"".join(Frame(DATA, 0, 1, payload).written() for payload in payloads)
    assert read(b"".join(coalescer.feed(wire))) == [Frame(DATA, 0, 1, b"".join(payloads))]


@given(st.lists(frames, min_size=1, max_size=5), st.integers(1, 8))
def test_an_incomplete_frame_is_passed_on(sent: list[Frame], missing: int) -> None:
    coalescer = DataCoalescer(preface_bytes=0, max_frame_bytes=MAX_BYTES)
    *whole, last = sent
    cut = last.written()[:-missing]
    seen = b"".join(coalescer.feed(b"".join(frame.written() for frame in whole) + cut))
    held = len(cut) if len(cut) < HEAD.size else 0
    expected = b"".join(frame.written() for frame in joined_freely(whole))
    assert len(seen) + held >= len(expected) + len(cut)
    assert seen.endswith(cut[: len(cut) - held])


def test_a_frame_that_is_too_large_is_refused_at_its_header() -> None:
    coalescer = DataCoalescer(preface_bytes=0, max_frame_bytes=MAX_BYTES)
    head = Frame(DATA, 0, 1, bytes(MAX_BYTES + 1)).written()[: HEAD.size]
    with pytest.raises(FrameTooLargeError, match="a frame of 301 bytes; at most 300 are taken"):
        coalescer.feed(head)
