"""Headend to agent: each message, as the headend encodes it and the agent decodes it."""

from collections.abc import Iterable

from trioder.domain.dispatch import Setpoint
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.records import BatchAck, Downlink, ReplayRequest, SessionGrant, Setpoints


def write_grant(grant: SessionGrant) -> pb.HeadendToAgent:
    """Encode the response to a registration."""
    return pb.HeadendToAgent(
        registered=pb.Registered(
            session_id=grant.session_id,
            committed_batch_seq=grant.committed_batch_seq,
            protocol=grant.protocol,
            committed_ts_unix_ms=grant.committed_ts_unix_ms,
            unknown_asset_ids=grant.unknown_asset_ids,
            clock_unix_ms=grant.clock_unix_ms,
        )
    )


def write_batch_ack(batch_seq: int) -> pb.HeadendToAgent:
    """Encode the acknowledgement of every batch up to `batch_seq`."""
    return pb.HeadendToAgent(telemetry_ack=pb.TelemetryAck(batch_seq=batch_seq))


def write_replay(from_batch_seq: int) -> pb.HeadendToAgent:
    """Encode the request to send the batches from `from_batch_seq` on again."""
    return pb.HeadendToAgent(replay=pb.Replay(from_batch_seq=from_batch_seq))


def write_setpoint(setpoint: Setpoint) -> pb.HeadendToAgent:
    """Encode one setpoint as a message of its own, for agents of every protocol version."""
    return pb.HeadendToAgent(setpoint=_write(setpoint))


def write_setpoints(setpoints: Iterable[Setpoint]) -> pb.HeadendToAgent:
    """Encode many setpoints as one message, for agents of protocol 1 and later."""
    return pb.HeadendToAgent(setpoint_batch=pb.SetpointBatch(setpoints=map(_write, setpoints)))


def read_downlink(message: pb.HeadendToAgent) -> Downlink | None:
    """Decode one message from the headend.

    Returns:
        None for an unknown kind of message (from a newer headend).
    """
    match message.WhichOneof("msg"):
        case "setpoint":
            return Setpoints(setpoints=(_read(message.setpoint),))
        case "setpoint_batch":
            return Setpoints(setpoints=tuple(map(_read, message.setpoint_batch.setpoints)))
        case "telemetry_ack":
            return BatchAck(batch_seq=message.telemetry_ack.batch_seq)
        case "replay":
            return ReplayRequest(from_batch_seq=message.replay.from_batch_seq)
        case "registered":
            registered = message.registered
            return SessionGrant(
                session_id=registered.session_id,
                committed_batch_seq=registered.committed_batch_seq,
                protocol=registered.protocol,
                committed_ts_unix_ms=registered.committed_ts_unix_ms
                if registered.HasField("committed_ts_unix_ms")
                else None,
                unknown_asset_ids=tuple(registered.unknown_asset_ids),
                clock_unix_ms=registered.clock_unix_ms if registered.HasField("clock_unix_ms") else None,
            )
        case _:
            return None


def _write(setpoint: Setpoint) -> pb.Setpoint:
    return pb.Setpoint(
        asset_id=setpoint.asset_id,
        mw=setpoint.mw,
        duration_s=setpoint.duration_s,
        dispatch_id=setpoint.dispatch_id,
        group_id=setpoint.group_id,
        # Left out when it is 0, as other headends of the protocol do.
        reversion_mw=setpoint.reversion_mw or None,
        valid_until_unix_ms=setpoint.valid_until_ms,
    )


def _read(setpoint: pb.Setpoint) -> Setpoint:
    return Setpoint(
        dispatch_id=setpoint.dispatch_id,
        asset_id=setpoint.asset_id.lower(),
        mw=setpoint.mw,
        duration_s=setpoint.duration_s if setpoint.HasField("duration_s") else None,
        valid_until_ms=setpoint.valid_until_unix_ms if setpoint.HasField("valid_until_unix_ms") else None,
        reversion_mw=setpoint.reversion_mw,
        group_id=setpoint.group_id,
    )
