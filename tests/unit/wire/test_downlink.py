"""The headend's messages are decoded as they were encoded."""

from dataclasses import replace

import pytest

from trioder.domain.dispatch import Setpoint
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.downlink import (
    read_downlink,
    write_batch_ack,
    write_grant,
    write_replay,
    write_setpoint,
    write_setpoints,
)
from trioder.wire.records import BatchAck, Downlink, ReplayRequest, SessionGrant, Setpoints

HOLD = Setpoint(dispatch_id="d-1", asset_id="7b1f0d6e-8a55-5c3a-9a0f-0d3f7f1f2a10", mw=-3.5)
TIMED = Setpoint(dispatch_id="d-2", asset_id="7b1f0d6e-8a55-5c3a-9a0f-0d3f7f1f2a11", mw=0.0, duration_s=0)
LEASED = Setpoint(
    dispatch_id="d-3",
    asset_id="7b1f0d6e-8a55-5c3a-9a0f-0d3f7f1f2a12",
    mw=2.0,
    valid_until_ms=1_800_000_000_000,
    reversion_mw=-1.5,
    group_id="g-1",
)
GRANT = SessionGrant(session_id="s-1", committed_batch_seq=41, protocol=1)
TIMED_GRANT = replace(GRANT, clock_unix_ms=1_800_000_000_123)


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        (write_grant(GRANT), GRANT),
        (write_grant(TIMED_GRANT), TIMED_GRANT),
        (write_batch_ack(42), BatchAck(batch_seq=42)),
        (write_replay(43), ReplayRequest(from_batch_seq=43)),
        (write_setpoint(HOLD), Setpoints(setpoints=(HOLD,))),
        (write_setpoints([HOLD, TIMED]), Setpoints(setpoints=(HOLD, TIMED))),
        (write_setpoint(LEASED), Setpoints(setpoints=(LEASED,))),
        (pb.HeadendToAgent(), None),
    ],
)
def test_a_message_arrives_as_written(message: pb.HeadendToAgent, meaning: Downlink | None) -> None:
    assert read_downlink(pb.HeadendToAgent.FromString(message.SerializeToString())) == meaning
