import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioder.rpc import RpcError, StatusCode
from trioder.rpc.framing import MessageDecoder, framed


@given(messages=st.lists(st.binary(max_size=50)), cuts=st.lists(st.integers(0, 300)))
def test_messages_are_decoded_whole_however_the_bytes_are_split(
    messages: list[bytes], cuts: list[int]
) -> None:
    wire = b"".join(map(framed, messages))
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    decoder = MessageDecoder(max_message_bytes=50)

    decoded = [found for start, end in itertools.pairwise(edges) for found in decoder.feed(wire[start:end])]

    assert decoded == messages
    assert decoder.unfinished_bytes == 0


def test_a_message_over_the_limit_is_refused_before_it_arrives() -> None:
    with pytest.raises(RpcError) as caught:
        MessageDecoder(max_message_bytes=50).feed(framed(bytes(51))[:5])

    assert caught.value.status is StatusCode.RESOURCE_EXHAUSTED


def test_a_compressed_message_is_refused() -> None:
    with pytest.raises(RpcError) as caught:
        MessageDecoder(max_message_bytes=50).feed(b"\1\0\0\0\0")

    assert caught.value.status is StatusCode.UNIMPLEMENTED
