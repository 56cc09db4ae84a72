"""Field 20 of Register: a session for a backlog alone."""

import pytest

from trioder.wire import agent_link_pb2 as pb
from trioder.wire.checks import WireError
from trioder.wire.records import Registration
from trioder.wire.uplink import read_uplink, write_backlog_registration

ASSET = "7b1f0d6e-8a55-5c3a-9a0f-0d3f7f1f2a10"


def test_what_is_written_is_read() -> None:
    message = write_backlog_registration(
        agent_id="former", epoch=3, protocol=1, outbox_id="box", asset_ids=[ASSET]
    )
    assert read_uplink(message, asset_count=0) == Registration(
        agent_id="former", epoch=3, protocol=1, outbox_id="box", asset_ids=(ASSET,), backlog_only=True
    )


def test_its_bytes() -> None:
    # Tag 20, varint: 20 << 3 = 160 = 0xa0 0x01.
    assert pb.Register.FromString(b"\xa0\x01\x01").backlog_only


def test_a_registration_without_the_field_is_none() -> None:
    message = pb.AgentToHeadend(register=pb.Register(asset_id=ASSET))
    registration = read_uplink(message, asset_count=0)
    assert isinstance(registration, Registration)
    assert not registration.backlog_only


def test_a_backlog_needs_an_outbox() -> None:
    message = pb.AgentToHeadend(register=pb.Register(asset_id=ASSET, backlog_only=True))
    with pytest.raises(WireError, match="outbox_id is empty"):
        read_uplink(message, asset_count=0)
