"""The messages of an agent that the headend refuses, and those that it decodes as they were encoded."""

import math
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trioder
from trioder.domain.assets import Asset
from trioder.domain.quality import Quality
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.checks import WireError
from trioder.wire.records import (
    Acknowledgement,
    AgentEvent,
    Batch,
    Heartbeat,
    Nameplate,
    Registration,
    SingleSample,
)
from trioder.wire.uplink import (
    read_uplink,
    write_acknowledgement,
    write_batch,
    write_event,
    write_heartbeat,
    write_registration,
)

ASSETS = [
    Asset(
        id=f"7b1f0d6e-8a55-5c3a-9a0f-0d3f7f1f2a{number:02x}",
        name=f"Unit {number}",
        site_id="c0ffee00-0000-5000-8000-000000000001",
        capacity_mwhr=100.0,
        max_mw=25.0,
        min_mw=-25.0,
        charge_efficiency=0.95,
        discharge_efficiency=0.95,
        ramp_rate_mw_per_min=50.0,
    )
    for number in range(3)
]
BATCH = Batch(
    batch_seq=7,
    ts_unix_ms=1767323045678,
    asset_index=[0, 2],
    soc_mwhr=[50.0, 51.0],
    current_mw=[1.0, -2.0],
    setpoint_mw=[1.0, -2.5],
    available_discharge_mw=[25.0, 24.0],
    available_charge_mw=[23.0, 22.0],
)
COLUMNS = ("soc_mwhr", "current_mw", "setpoint_mw", "available_discharge_mw", "available_charge_mw")
finite = st.floats(allow_nan=False, allow_infinity=False)


def read(message: pb.AgentToHeadend, *, asset_count: int = 3) -> object:
    return read_uplink(pb.AgentToHeadend.FromString(message.SerializeToString()), asset_count=asset_count)


def test_a_registration_arrives_as_written() -> None:
    message = write_registration(agent_id="shard-1", epoch=9, protocol=1, outbox_id="o-1", assets=ASSETS)
    assert read(message) == Registration(
        agent_id="shard-1",
        epoch=9,
        protocol=1,
        outbox_id="o-1",
        asset_ids=tuple(asset.id for asset in ASSETS),
        nameplates={asset.id: Nameplate(asset.capacity_mwhr, asset.max_mw, asset.min_mw) for asset in ASSETS},
        version=trioder.__version__,
    )


def test_a_version_is_cut_and_refuses_no_agent() -> None:
    message = write_registration(agent_id="shard-1", epoch=9, protocol=1, outbox_id="o-1", assets=ASSETS)
    message.register.version = "\n" * 1000
    registration = read(message)
    assert isinstance(registration, Registration)
    assert registration.version == "\\n" * 18 + "\\..."


@pytest.mark.parametrize("clock_unix_ms", [0, 1_800_000_000_123, -(2**63), 2**63 - 1])
def test_a_registration_carries_the_agents_clock_however_wrong(clock_unix_ms: int) -> None:
    register = pb.Register(asset_id=ASSETS[0].id, clock_unix_ms=clock_unix_ms)
    registration = read(pb.AgentToHeadend(register=register))
    assert isinstance(registration, Registration)
    assert registration.clock_unix_ms == clock_unix_ms


def test_a_heartbeat_is_of_no_asset_and_carries_the_agents_clock() -> None:
    message = write_heartbeat(1_800_000_000_123)
    assert read(message) == Heartbeat(asset_id="", clock_unix_ms=1_800_000_000_123)
    # As headends of the protocol have always read it.
    assert message.heartbeat.timestamp == "2027-01-15T08:00:00.123Z"


def test_an_id_in_capitals_is_the_same_asset() -> None:
    message = pb.AgentToHeadend(register=pb.Register(asset_id=ASSETS[0].id.upper()))
    registration = read(message)
    assert isinstance(registration, Registration)
    assert registration.asset_ids == (ASSETS[0].id,)


@pytest.mark.parametrize(
    ("register", "rule"),
    [
        (pb.Register(), "names no asset"),
        (pb.Register(asset_id="nope"), "Register.asset_id is 'nope'; it must be a UUID"),
        (pb.Register(assets=[pb.AssetDescriptor()]), r"assets\[0\].asset_id is ''; it must be a UUID"),
        (pb.Register(assets=[pb.AssetDescriptor(asset_id=ASSETS[0].id)] * 2), "2 times"),
        (pb.Register(asset_id=ASSETS[0].id, agent_id="a" * 257), "at most 256 printable"),
        (pb.Register(asset_id=ASSETS[0].id, agent_id="a\nforged log line"), "printable"),
        (pb.Register(asset_id=ASSETS[0].id, outbox_id="\0"), "printable"),
    ],
)
def test_a_malformed_registration_is_refused(register: pb.Register, rule: str) -> None:
    with pytest.raises(WireError, match=rule):
        read(pb.AgentToHeadend(register=register))


@given(
    rows=st.lists(st.tuples(finite, finite, finite, finite, finite), max_size=20),
    batch_seq=st.integers(2, 2**64 - 1),
    with_gap=st.booleans(),
    live_only=st.booleans(),
)
def test_a_batch_arrives_as_written(
    rows: list[tuple[float, ...]], batch_seq: int, with_gap: bool, live_only: bool
) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], [], []]
    batch = Batch(
        batch_seq=batch_seq,
        ts_unix_ms=1,
        gap_from_seq=batch_seq - 1 if with_gap else None,
        live_only=live_only,
        asset_index=list(reversed(range(len(rows)))),
        soc_mwhr=columns[0],
        current_mw=columns[1],
        setpoint_mw=columns[2],
        available_discharge_mw=columns[3],
        available_charge_mw=columns[4],
    )
    assert read(write_batch(batch), asset_count=len(rows)) == batch


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"batch_seq": 0}, "batch_seq is 0; it counts from 1"),
        ({"gap_from_seq": 7}, "gap_from_seq is 7; it must be in 1..6"),
        ({"gap_from_seq": 0}, "gap_from_seq is 0"),
        ({"lost_batches": 1}, "lost_batches is 1; the gap before it has 0 batches"),
        ({"gap_from_seq": 4, "lost_batches": 2**64 - 1}, "the gap before it has 3 batches"),
        ({"asset_index": [0, 3]}, "asset_index has 3; the session registered 3 assets"),
        ({"asset_index": [1, 1]}, "names an asset twice"),
        ({"soc_mwhr": [1.0]}, "soc_mwhr has 1 rows; the batch's asset_index has 2"),
        ({"setpoint_mw": [1.0, 2.0, 3.0]}, "setpoint_mw has 3 rows"),
        ({"available_discharge_mw": []}, "available_discharge_mw has 0 rows"),
        ({"quality": b"\2"}, "quality has 1 rows; the batch's asset_index has 2"),
        ({"quality": bytes(3)}, "quality has 3 rows"),
    ],
)
def test_a_malformed_batch_is_refused(change: dict[str, object], rule: str) -> None:
    with pytest.raises(WireError, match=rule):
        read(write_batch(replace(BATCH, **change)))  # type: ignore[arg-type]  # the changes are named above


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1.7e308, 5e-324, -0.0])
@pytest.mark.parametrize("column", COLUMNS)
def test_a_batch_is_accepted_whatever_its_numbers_are(column: str, value: float) -> None:
    batch = replace(BATCH, **{column: [value, value]})  # type: ignore[arg-type]  # a column
    assert read(write_batch(batch)) == batch


def test_a_batch_with_what_is_no_number_is_accepted() -> None:
    batch = read(write_batch(replace(BATCH, current_mw=[math.nan, 1.0])))
    assert isinstance(batch, Batch)
    assert [math.isnan(mw) for mw in batch.current_mw] == [True, False]


@pytest.mark.parametrize(
    ("sent_ms", "read_ms"),
    [(0, 0), (-1, 0), (-(2**63), 0), (1, 1), (2**62, 253_402_300_799_999), (2**63 - 1, 253_402_300_799_999)],
)
def test_a_batch_of_any_time_is_accepted_within_the_years_that_can_be_written(
    sent_ms: int, read_ms: int
) -> None:
    batch = read(write_batch(replace(BATCH, ts_unix_ms=sent_ms)))
    assert isinstance(batch, Batch)
    assert batch.ts_unix_ms == read_ms


def test_the_quality_that_a_device_reports_arrives() -> None:
    batch = replace(BATCH, quality=bytes([Quality.GOOD, Quality.BAD]))
    assert read(write_batch(batch)) == batch


@pytest.mark.parametrize("code", [1, 3, 4, 255, 256, 2**32 - 1])
def test_an_unknown_quality_is_suspect(code: int) -> None:
    message = write_batch(BATCH)
    message.telemetry_batch.quality.extend([0, code])
    batch = read(message)
    assert isinstance(batch, Batch)
    assert batch.quality == bytes([Quality.GOOD, Quality.SUSPECT])
    single = read(
        pb.AgentToHeadend(
            telemetry=pb.Telemetry(asset_id=ASSETS[0].id, timestamp="2026-01-02T03:04:05Z", quality=code)
        )
    )
    assert isinstance(single, SingleSample)
    assert single.quality == Quality.SUSPECT


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("asset_id", "nope", "Telemetry.asset_id is 'nope'"),
        ("timestamp", "yesterday", "Telemetry.timestamp is 'yesterday'; it must be an RFC 3339 time"),
        ("timestamp", "", "Telemetry.timestamp is ''"),
    ],
)
def test_a_malformed_sample_is_refused(field: str, value: str | float, rule: str) -> None:
    telemetry = pb.Telemetry(asset_id=ASSETS[0].id, timestamp="2026-01-02T03:04:05Z")
    setattr(telemetry, field, value)
    with pytest.raises(WireError, match=rule):
        read(pb.AgentToHeadend(telemetry=telemetry))


def test_the_available_power_that_a_sample_reports_arrives() -> None:
    sample = read(
        pb.AgentToHeadend(
            telemetry=pb.Telemetry(
                asset_id=ASSETS[0].id,
                timestamp="2026-01-02T03:04:05.678901234+00:00",
                max_mw=25.0,
                min_mw=-25.0,
                available_discharge_mw=3.0,
                available_charge_mw=0.0,
            )
        )
    )
    assert isinstance(sample, SingleSample)
    assert (sample.available_discharge_mw, sample.available_charge_mw) == (3.0, 0.0)


def test_an_event_arrives_as_written() -> None:
    event = AgentEvent(
        event_id="e",
        asset_id=ASSETS[0].id,
        site_id="s",
        ts_unix_ms=1767323045678,
        event_type="outbox_gap",
        severity="warning",
        message="12 batches were dropped",
    )
    assert read(write_event(event)) == event


def test_an_unknown_kind_of_message_is_ignored() -> None:
    from_a_newer_agent = bytes([0xFA, 0x07, 0x00])  # field 127, length 0
    assert read_uplink(pb.AgentToHeadend.FromString(from_a_newer_agent), asset_count=0) is None


@given(st.binary(max_size=200))
def test_whatever_the_bytes_only_a_wire_error_is_raised(data: bytes) -> None:
    try:
        message = pb.AgentToHeadend.FromString(data)
    except Exception:  # noqa: BLE001  # protobuf's own error; the transport answers that one
        return
    with suppress(WireError):
        read_uplink(message, asset_count=3)


def test_an_acknowledgement_with_the_setpoint_in_force_arrives_as_written() -> None:
    acknowledgement = Acknowledgement(
        dispatch_id="d-1",
        asset_id=ASSETS[0].id,
        status="active",
        ts_unix_ms=1767323045678,
        setpoint_mw=3.0,
        remaining_s=12.5,
        reversion_mw=-1.0,
    )
    assert read(write_acknowledgement(acknowledgement)) == acknowledgement


def test_an_acknowledgement_with_nan_is_refused() -> None:
    acknowledgement = Acknowledgement(
        dispatch_id="d-1", asset_id=ASSETS[0].id, status="active", ts_unix_ms=1, setpoint_mw=math.nan
    )
    with pytest.raises(WireError, match=r"DispatchAck.setpoint_mw is nan; it must be a finite number"):
        read(write_acknowledgement(acknowledgement))


@pytest.mark.parametrize("name", ["setpoint_mw", "remaining_s", "reversion_mw"])
def test_an_acknowledgement_with_an_absurd_number_is_refused(name: str) -> None:
    acknowledgement = Acknowledgement(dispatch_id="d", asset_id=ASSETS[0].id, status="active", ts_unix_ms=1)
    with pytest.raises(WireError, match=rf"DispatchAck.{name} is -1e\+300; it must be at most 1e\+09"):
        read(write_acknowledgement(replace(acknowledgement, **{name: -1e300})))


def test_a_long_reason_is_truncated() -> None:
    acknowledgement = Acknowledgement(
        dispatch_id="d", asset_id=ASSETS[0].id, status="rejected", ts_unix_ms=1, reason="no " * 1_000_000
    )
    received = read(write_acknowledgement(acknowledgement))
    assert isinstance(received, Acknowledgement)
    assert len(received.reason or "") == 500


def test_a_setpoint_without_an_id_may_be_acknowledged_without_one() -> None:
    acknowledgement = Acknowledgement(dispatch_id="", asset_id=ASSETS[0].id, status="applied", ts_unix_ms=1)
    assert read_uplink(write_acknowledgement(acknowledgement), asset_count=1) == acknowledgement
