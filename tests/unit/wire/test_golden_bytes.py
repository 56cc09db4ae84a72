"""The bytes that other agents of the protocol already exchange, written out by hand.

Each vector is tag, length, value as the protobuf encoding defines them, so that a renumbered or
retyped field fails here even where both of our ends agree with each other.
"""

from struct import pack

from trioder.domain.dispatch import Setpoint
from trioder.domain.quality import Quality
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.downlink import write_setpoint
from trioder.wire.records import Acknowledgement, AgentEvent, Heartbeat, Registration, SingleSample
from trioder.wire.uplink import read_uplink, write_acknowledgement

ASSET = "7b1f0d6e-8a55-5c3a-9a0f-0d3f7f1f2a10"
SITE = "c0ffee00-0000-5000-8000-000000000001"
DISPATCH = "d15bac00-0000-4000-8000-000000000002"
TIME = "2026-01-02T03:04:05.678Z"
TIME_MS = 1767323045678


def text(tag: int, value: str) -> bytes:
    return bytes([tag, len(value)]) + value.encode()


def double(tag: int, value: float) -> bytes:
    return bytes([tag]) + pack("<d", value)


def message(tag: int, body: bytes) -> bytes:
    assert len(body) < 128 * 128
    length = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 0x7F | 0x80, len(body) >> 7])
    return bytes([tag]) + length + body


def read(data: bytes) -> object:
    return read_uplink(pb.AgentToHeadend.FromString(data), asset_count=1)


def test_a_register_of_one_asset() -> None:
    body = (
        text(0x0A, ASSET)
        + text(0x12, SITE)
        + text(0x1A, "Unit 1")
        + text(0x22, "Agua Fria")
        + text(0x2A, "gw-7")
    )
    assert read(message(0x0A, body)) == Registration(
        agent_id="gw-7", epoch=0, protocol=0, outbox_id="", asset_ids=(ASSET,), names_agent=False
    )


def test_a_register_of_many_assets() -> None:
    other = "7b1f0d6e-8a55-5c3a-9a0f-0d3f7f1f2a11"
    descriptors = b"".join(
        message(
            0x32,
            text(0x0A, asset_id)
            + text(0x12, SITE)
            + text(0x1A, "Unit")
            + text(0x22, "Agua Fria")
            + text(0x2A, "Maricopa, AZ"),
        )
        for asset_id in (ASSET, other)
    )
    assert read(message(0x0A, descriptors)) == Registration(
        agent_id=ASSET, epoch=0, protocol=0, outbox_id="", asset_ids=(ASSET, other), names_agent=False
    )


def test_a_sample() -> None:
    body = (
        text(0x0A, ASSET)
        + text(0x12, SITE)
        + text(0x1A, "Agua Fria")
        + text(0x22, TIME)
        + double(0x29, 50.5)
        + double(0x31, 50.5)
        + double(0x39, 100.0)
        + double(0x41, -12.25)
        + double(0x49, -12.5)
        + double(0x51, 25.0)
        + double(0x59, -25.0)
        + text(0x62, "charging")
    )
    sample = read(message(0x12, body))
    assert isinstance(sample, SingleSample)
    assert sample == SingleSample(
        asset_id=ASSET,
        ts_unix_ms=TIME_MS,
        soc_mwhr=50.5,
        current_mw=-12.25,
        setpoint_mw=-12.5,
        available_discharge_mw=25.0,
        available_charge_mw=25.0,
        soc_pct=50.5,
        capacity_mwhr=100.0,
        max_mw=25.0,
        min_mw=-25.0,
        quality=Quality.GOOD,
    )


def test_a_heartbeat() -> None:
    heartbeat = Heartbeat(asset_id=ASSET, clock_unix_ms=TIME_MS)
    assert read(message(0x1A, text(0x0A, ASSET) + text(0x12, TIME))) == heartbeat


def test_an_acknowledgement_of_a_dispatch() -> None:
    data = message(
        0x22,
        text(0x0A, DISPATCH)
        + text(0x12, ASSET)
        + text(0x1A, "applied")
        + text(0x22, TIME)
        + text(0x2A, "as asked"),
    )
    acknowledgement = Acknowledgement(
        dispatch_id=DISPATCH, asset_id=ASSET, status="applied", ts_unix_ms=TIME_MS, reason="as asked"
    )
    assert read(data) == acknowledgement
    assert write_acknowledgement(acknowledgement).SerializeToString(deterministic=True) == data


def test_an_event() -> None:
    body = (
        text(0x0A, "e-1")
        + text(0x12, ASSET)
        + text(0x1A, SITE)
        + text(0x22, TIME)
        + text(0x2A, "overtemperature")
        + text(0x32, "warning")
        + text(0x3A, "cell 4 at 51 C")
    )
    assert read(message(0x2A, body)) == AgentEvent(
        event_id="e-1",
        asset_id=ASSET,
        site_id=SITE,
        ts_unix_ms=TIME_MS,
        event_type="overtemperature",
        severity="warning",
        message="cell 4 at 51 C",
    )


def test_a_setpoint_with_a_duration() -> None:
    dispatch = Setpoint(dispatch_id=DISPATCH, asset_id=ASSET, mw=-10.0, duration_s=300)
    body = text(0x0A, ASSET) + double(0x11, -10.0) + b"\x18\xac\x02" + text(0x32, DISPATCH)
    assert write_setpoint(dispatch).SerializeToString(deterministic=True) == message(0x0A, body)


def test_a_setpoint_that_holds() -> None:
    dispatch = Setpoint(dispatch_id=DISPATCH, asset_id=ASSET, mw=10.0)
    body = text(0x0A, ASSET) + double(0x11, 10.0) + text(0x32, DISPATCH)
    assert write_setpoint(dispatch).SerializeToString(deterministic=True) == message(0x0A, body)
