"""Agent to headend: each message, as the agent encodes it and the headend decodes and validates it."""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Literal

import trioder
from trioder.domain.assets import Asset
from trioder.domain.text import escape
from trioder.process.rfc3339 import format_ms, parse_ms
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.checks import (
    WireError,
    checked_column,
    checked_finite,
    checked_id,
    checked_name,
    checked_qualities,
    checked_timestamp_ms,
    device_quality,
)
from trioder.wire.records import (
    MAX_BATCH_SEQ,
    Acknowledgement,
    AgentEvent,
    Batch,
    Heartbeat,
    Nameplate,
    Registration,
    SingleSample,
    Uplink,
)

# The last instant that RFC 3339 can write: the end of the year 9999.
_MAX_TS_UNIX_MS = 253_402_300_799_999
# Far above any plant's power and any lease's seconds; sums and times of smaller values do not overflow.
_MAX_REPORTED = 1e9
_MAX_REASON_LENGTH = 500
_MAX_TIMESTAMP_LENGTH = 64
_MAX_VERSION_LENGTH = 40


def write_registration(
    *, agent_id: str, epoch: int, protocol: int, outbox_id: str, assets: Iterable[Asset]
) -> pb.AgentToHeadend:
    """Encode the message that opens a session for `assets`, in their batch order."""
    descriptors = [
        pb.AssetDescriptor(
            asset_id=asset.id,
            site_id=asset.site_id,
            asset_name=asset.name,
            site_name=asset.site_name,
            location=asset.location,
            capacity_mwhr=asset.capacity_mwhr,
            max_mw=asset.max_mw,
            min_mw=asset.min_mw,
        )
        for asset in assets
    ]
    register = pb.Register(
        assets=descriptors,
        agent_id=agent_id,
        epoch=epoch,
        protocol=protocol,
        outbox_id=outbox_id,
        version=trioder.__version__,
    )
    return pb.AgentToHeadend(register=register)


def write_backlog_registration(
    *, agent_id: str, epoch: int, protocol: int, outbox_id: str, asset_ids: Iterable[str]
) -> pb.AgentToHeadend:
    """Encode the message that opens a session only to deliver what is left in an outbox."""
    register = pb.Register(
        assets=[pb.AssetDescriptor(asset_id=asset_id) for asset_id in asset_ids],
        agent_id=agent_id,
        epoch=epoch,
        protocol=protocol,
        outbox_id=outbox_id,
        backlog_only=True,
    )
    return pb.AgentToHeadend(register=register)


def write_heartbeat(clock_unix_ms: int) -> pb.AgentToHeadend:
    """Encode a reading of the agent's clock, for all its assets."""
    return pb.AgentToHeadend(
        heartbeat=pb.Heartbeat(timestamp=format_ms(clock_unix_ms), clock_unix_ms=clock_unix_ms)
    )


def write_batch(batch: Batch) -> pb.AgentToHeadend:
    """Encode one pulse."""
    return pb.AgentToHeadend(
        telemetry_batch=pb.TelemetryBatch(
            batch_seq=batch.batch_seq,
            ts_unix_ms=batch.ts_unix_ms,
            gap_from_seq=batch.gap_from_seq,
            lost_batches=batch.lost_batches,
            live_only=batch.live_only,
            asset_index=batch.asset_index,
            soc_mwhr=batch.soc_mwhr,
            current_mw=batch.current_mw,
            setpoint_mw=batch.setpoint_mw,
            available_discharge_mw=batch.available_discharge_mw,
            available_charge_mw=batch.available_charge_mw,
            quality=batch.quality,
        )
    )


def batch_ts_unix_ms(payload: bytes) -> int | None:
    """Return the time of a batch that `write_batch` encoded; None for another message."""
    message = pb.AgentToHeadend.FromString(payload)
    return message.telemetry_batch.ts_unix_ms if message.HasField("telemetry_batch") else None


def write_acknowledgement(acknowledgement: Acknowledgement) -> pb.AgentToHeadend:
    """Encode the acknowledgement of a setpoint."""
    return pb.AgentToHeadend(
        dispatch_ack=pb.DispatchAck(
            dispatch_id=acknowledgement.dispatch_id,
            asset_id=acknowledgement.asset_id,
            status=acknowledgement.status,
            timestamp=format_ms(acknowledgement.ts_unix_ms),
            reason=acknowledgement.reason,
            setpoint_mw=acknowledgement.setpoint_mw,
            remaining_s=acknowledgement.remaining_s,
            reversion_mw=acknowledgement.reversion_mw,
        )
    )


def write_event(event: AgentEvent) -> pb.AgentToHeadend:
    """Encode an event."""
    return pb.AgentToHeadend(
        event=pb.Event(
            id=event.event_id,
            asset_id=event.asset_id,
            site_id=event.site_id,
            timestamp=format_ms(event.ts_unix_ms),
            event_type=event.event_type,
            severity=event.severity,
            message=event.message,
        )
    )


def read_uplink(message: pb.AgentToHeadend, *, asset_count: int) -> Uplink | None:
    """Decode and validate one message from an agent.

    Args:
        message: as received.
        asset_count: how many assets the session has registered; 0 before it has.

    Returns:
        None for an unknown kind of message (from a newer agent).

    Raises:
        WireError: the message breaks the contract.
    """
    match message.WhichOneof("msg"):
        case "telemetry_batch":
            return _read_batch(message.telemetry_batch, asset_count)
        case "telemetry":
            return _read_telemetry(message.telemetry)
        case "dispatch_ack":
            return _read_acknowledgement(message.dispatch_ack)
        case "heartbeat":
            return _read_heartbeat(message.heartbeat)
        case "event":
            return _read_event(message.event)
        case "register":
            return _read_registration(message.register)
        case _:
            return None


def _read_registration(register: pb.Register) -> Registration:
    if register.assets:
        asset_ids = tuple(
            checked_id(f"Register.assets[{position}].asset_id", descriptor.asset_id)
            for position, descriptor in enumerate(register.assets)
        )
    elif register.asset_id:
        asset_ids = (checked_id("Register.asset_id", register.asset_id),)
    else:
        raise WireError("Register names no asset: neither assets nor asset_id is set")
    if len(set(asset_ids)) != len(asset_ids):
        [(asset_id, times)] = Counter(asset_ids).most_common(1)
        raise WireError(f"Register names asset {asset_id} {times} times")
    if register.backlog_only and not register.outbox_id:
        raise WireError("Register.backlog_only is set, but outbox_id is empty")
    return Registration(
        agent_id=checked_name("Register.agent_id", register.agent_id or register.gateway_id or asset_ids[0]),
        epoch=register.epoch,
        protocol=register.protocol,
        outbox_id=checked_name("Register.outbox_id", register.outbox_id) if register.outbox_id else "",
        asset_ids=asset_ids,
        nameplates={
            asset_id: Nameplate(descriptor.capacity_mwhr, descriptor.max_mw, descriptor.min_mw)
            for asset_id, descriptor in zip(asset_ids, register.assets, strict=False)
            if descriptor.HasField("capacity_mwhr")
            and descriptor.HasField("max_mw")
            and descriptor.HasField("min_mw")
        },
        backlog_only=register.backlog_only,
        replaces_outbox_id=checked_name("Register.replaces_outbox_id", register.replaces_outbox_id)
        if register.replaces_outbox_id
        else "",
        # Any number is accepted: an agent is not refused for a wrong clock.
        clock_unix_ms=register.clock_unix_ms if register.HasField("clock_unix_ms") else None,
        names_agent=bool(register.agent_id),
        newest_batch_seq=_newest_batch_seq(register),
        # An agent is not refused for it.
        version=escape(register.version, length=_MAX_VERSION_LENGTH),
    )


def _newest_batch_seq(register: pb.Register) -> int | None:
    if not register.HasField("newest_batch_seq"):
        return None
    if register.newest_batch_seq > MAX_BATCH_SEQ:
        raise WireError(
            f"Register.newest_batch_seq is {register.newest_batch_seq}; it must be at most {MAX_BATCH_SEQ}"
        )
    return register.newest_batch_seq


def _read_heartbeat(heartbeat: pb.Heartbeat) -> Heartbeat:
    clock_unix_ms: int | None = None
    if heartbeat.HasField("clock_unix_ms"):
        clock_unix_ms = heartbeat.clock_unix_ms
    elif len(heartbeat.timestamp) <= _MAX_TIMESTAMP_LENGTH:
        # An older agent's timestamp was never required to be a time.
        with suppress(ValueError):
            clock_unix_ms = parse_ms(heartbeat.timestamp)
    return Heartbeat(asset_id=heartbeat.asset_id, clock_unix_ms=clock_unix_ms)


def _read_batch(batch: pb.TelemetryBatch, asset_count: int) -> Batch:
    if batch.batch_seq < 1:
        raise WireError("TelemetryBatch.batch_seq is 0; it counts from 1")
    gap_from_seq = batch.gap_from_seq if batch.HasField("gap_from_seq") else None
    if gap_from_seq is not None and not 0 < gap_from_seq < batch.batch_seq:
        raise WireError(
            f"TelemetryBatch.gap_from_seq is {gap_from_seq}; it must be in 1..{batch.batch_seq - 1}"
        )
    asset_index = batch.asset_index[:]  # a list, faster than list()
    rows = len(asset_index)
    if rows and max(asset_index) >= asset_count:
        raise WireError(
            f"TelemetryBatch.asset_index has {max(asset_index)}; the session registered {asset_count} assets"
        )
    if len(set(asset_index)) != rows:
        raise WireError("TelemetryBatch.asset_index names an asset twice")
    return Batch(
        batch_seq=batch.batch_seq,
        # An unset clock must not block the outbox; the receiver stores both limits as wrong times.
        ts_unix_ms=min(max(batch.ts_unix_ms, 0), _MAX_TS_UNIX_MS),
        gap_from_seq=gap_from_seq,
        lost_batches=_lost_batches(batch, gap_from_seq),
        live_only=batch.live_only,
        asset_index=asset_index,
        soc_mwhr=checked_column("TelemetryBatch.soc_mwhr", batch.soc_mwhr, rows=rows),
        current_mw=checked_column("TelemetryBatch.current_mw", batch.current_mw, rows=rows),
        setpoint_mw=checked_column("TelemetryBatch.setpoint_mw", batch.setpoint_mw, rows=rows),
        available_discharge_mw=checked_column(
            "TelemetryBatch.available_discharge_mw", batch.available_discharge_mw, rows=rows
        ),
        available_charge_mw=checked_column(
            "TelemetryBatch.available_charge_mw", batch.available_charge_mw, rows=rows
        ),
        quality=checked_qualities("TelemetryBatch.quality", batch.quality, rows=rows),
    )


def _lost_batches(batch: pb.TelemetryBatch, gap_from_seq: int | None) -> int | None:
    if not batch.HasField("lost_batches"):
        return None
    gap = 0 if gap_from_seq is None else batch.batch_seq - gap_from_seq
    if batch.lost_batches > gap:
        raise WireError(
            f"TelemetryBatch.lost_batches is {batch.lost_batches}; the gap before it has {gap} batches"
        )
    return batch.lost_batches


def _read_telemetry(telemetry: pb.Telemetry) -> SingleSample:
    max_mw, min_mw = telemetry.max_mw, telemetry.min_mw
    # An agent that does not report its available power is assumed to have all of its limits.
    discharge = telemetry.available_discharge_mw if telemetry.HasField("available_discharge_mw") else max_mw
    charge = telemetry.available_charge_mw if telemetry.HasField("available_charge_mw") else -min_mw
    return SingleSample(
        checked_id("Telemetry.asset_id", telemetry.asset_id),
        checked_timestamp_ms("Telemetry.timestamp", telemetry.timestamp),
        telemetry.soc_mwhr,
        telemetry.current_mw,
        telemetry.setpoint_mw,
        discharge,
        charge,
        telemetry.soc_pct,
        telemetry.capacity_mwhr,
        max_mw,
        min_mw,
        device_quality(telemetry.quality),
    )


def _read_acknowledgement(acknowledgement: pb.DispatchAck) -> Acknowledgement:
    return Acknowledgement(
        # A setpoint without an id, such as one that releases an asset, may be acknowledged without one.
        dispatch_id=checked_name("DispatchAck.dispatch_id", acknowledgement.dispatch_id)
        if acknowledgement.dispatch_id
        else "",
        asset_id=checked_id("DispatchAck.asset_id", acknowledgement.asset_id),
        status=checked_name("DispatchAck.status", acknowledgement.status),
        ts_unix_ms=checked_timestamp_ms("DispatchAck.timestamp", acknowledgement.timestamp),
        reason=acknowledgement.reason[:_MAX_REASON_LENGTH] if acknowledgement.HasField("reason") else None,
        setpoint_mw=_optional("setpoint_mw", acknowledgement),
        remaining_s=_optional("remaining_s", acknowledgement),
        reversion_mw=_optional("reversion_mw", acknowledgement),
    )


def _optional(
    name: Literal["setpoint_mw", "remaining_s", "reversion_mw"], acknowledgement: pb.DispatchAck
) -> float | None:
    if not acknowledgement.HasField(name):
        return None
    value = checked_finite(f"DispatchAck.{name}", getattr(acknowledgement, name))
    if abs(value) > _MAX_REPORTED:
        raise WireError(f"DispatchAck.{name} is {value}; it must be at most {_MAX_REPORTED:g} in size")
    return value


def _read_event(event: pb.Event) -> AgentEvent:
    return AgentEvent(
        event_id=event.id,
        asset_id=event.asset_id,
        site_id=event.site_id,
        ts_unix_ms=checked_timestamp_ms("Event.timestamp", event.timestamp),
        event_type=checked_name("Event.event_type", event.event_type),
        severity=event.severity,
        message=event.message,
    )
