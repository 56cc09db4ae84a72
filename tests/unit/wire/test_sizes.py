"""Messages whose fields are counted before they are decoded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioder.wire import agent_link_pb2 as pb
from trioder.wire.checks import WireError
from trioder.wire.sizes import check_message_bytes, check_register_bytes, most_descriptors


def length(count: int) -> bytes:
    digits = b""
    while count > 0x7F:
        digits += bytes([count & 0x7F | 0x80])
        count >>= 7
    return digits + bytes([count])


def register(fields: bytes) -> bytes:
    return b"\x0a" + length(len(fields)) + fields


@given(
    st.lists(
        st.builds(
            pb.AssetDescriptor,
            asset_id=st.text(max_size=300),
            site_name=st.text(max_size=20),
            location=st.text(max_size=5),
        ),
        max_size=80,
    ),
    st.text(max_size=20_000),
    st.integers(0, 2**64 - 1),
)
def test_a_well_formed_registration_passes(
    assets: list[pb.AssetDescriptor], agent_id: str, epoch: int
) -> None:
    message = pb.AgentToHeadend(
        register=pb.Register(assets=assets, agent_id=agent_id, epoch=epoch, protocol=1)
    )
    check_register_bytes(message.SerializeToString(), most=80)


@pytest.mark.parametrize(
    "fields",
    [
        b"\x32\x00" * 10_000,  # empty descriptors
        b"\x3a\x00" * 10_000,  # unknown fields
        b"\x38\x01" * 10_000,
        b"\xb8\x3e\x01" * 10_000,  # with a number of two bytes
        (b"\x32\x03\x0a\x01x") * 10_000,
    ],
)
def test_a_register_of_too_many_fields_is_refused(fields: bytes) -> None:
    with pytest.raises(WireError, match="Register has more than 164 fields"):
        check_register_bytes(register(fields), most=100)


@pytest.mark.parametrize("check", [lambda data: check_register_bytes(data, most=10**9), check_message_bytes])
@pytest.mark.parametrize(
    "message",
    [
        b"\x0a\x00" * 10_000,  # Register, again and again
        b"\x12\x00\x0a\x00" * 10_000,  # Telemetry and Register in turn: an object each time
        b"\x82\x01\x00" * 10_000,
    ],
)
def test_a_message_of_too_many_parts_is_refused(check, message: bytes) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(WireError, match="AgentToHeadend has more than 64 fields"):
        check(message)


def test_a_first_message_that_is_no_register_is_refused_by_its_size() -> None:
    batch = pb.AgentToHeadend(telemetry_batch=pb.TelemetryBatch(asset_index=[1] * 10_000))
    with pytest.raises(WireError, match="is not Register"):
        check_register_bytes(batch.SerializeToString(), most=100)


@pytest.mark.parametrize("cut", [1, 2, 100])
def test_a_message_that_is_cut_is_refused(cut: int) -> None:
    whole = register(b"\x32\x64" + bytes(100)) * 60
    with pytest.raises(WireError, match="ends inside a field"):
        check_message_bytes(whole[:-cut])


def test_a_group_is_refused() -> None:
    with pytest.raises(WireError, match="wire type 3"):
        check_message_bytes(b"\x0b" * 5000)


@given(st.binary(max_size=60))
def test_any_bytes_are_checked_or_refused(piece: bytes) -> None:
    data = (piece or b"?") * 5000
    for check in (check_message_bytes, lambda data: check_register_bytes(data, most=100)):
        try:
            check(data)
        except WireError:
            continue


def test_a_fleet_twice_as_large_and_some_more_can_be_named() -> None:
    assert most_descriptors(0) == 1000
    assert most_descriptors(100_000) == 201_000
