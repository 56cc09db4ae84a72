"""Headend to agent: each message, written by the headend and read, checked, by the agent."""

from collections.abc import Iterable

from trioder.domain.dispatch import Setpoint
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.records import BatchesKept, Downlink, ReplayRequest, SessionGrant, Setpoints


def write_grant(grant: SessionGrant) -> pb.HeadendToAgent:
    """Return the message that answers a registration."""
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


def write_kept(batch_seq: int) -> pb.HeadendToAgent:
    """Return the message that acknowledges every batch up to `batch_seq`."""
    return pb.HeadendToAgent(telemetry_ack=pb.TelemetryAck(batch_seq=batch_seq))


def write_replay(from_batch_seq: int) -> pb.HeadendToAgent:
    """Return the message that asks for the batches from `from_batch_seq` on."""
    return pb.HeadendToAgent(replay=pb.Replay(from_batch_seq=from_batch_seq))


def write_setpoint(dispatch: Setpoint) -> pb.HeadendToAgent:
    """Return one dispatch as a message of its own, as every agent of the protocol understands."""
    return pb.HeadendToAgent(setpoint=_setpoint(dispatch))


def write_setpoints(dispatches: Iterable[Setpoint]) -> pb.HeadendToAgent:
    """Return many dispatches as one message, for agents of protocol 1 and later."""
    return pb.HeadendToAgent(
        setpoint_batch=pb.SetpointBatch(setpoints=[_setpoint(dispatch) for dispatch in dispatches])
    )


def read_downlink(message: pb.HeadendToAgent) -> Downlink | None:
    """Decode one message from the headend.

    Returns:
        None for a kind of message that is not known here (from a newer headend).
    """
    match message.WhichOneof("msg"):
        case "setpoint":
            return Setpoints(dispatches=(_dispatch(message.setpoint),))
        case "setpoint_batch":
            return Setpoints(dispatches=tuple(map(_dispatch, message.setpoint_batch.setpoints)))
        case "telemetry_ack":
            return BatchesKept(batch_seq=message.telemetry_ack.batch_seq)
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


def _setpoint(dispatch: Setpoint) -> pb.Setpoint:
    return pb.Setpoint(
        asset_id=dispatch.asset_id,
        mw=dispatch.mw,
        duration_s=dispatch.duration_s,
        dispatch_id=dispatch.dispatch_id,
        group_id=dispatch.group_id,
        # As absent as in other headends of the protocol, unless there is something to say.
        reversion_mw=dispatch.reversion_mw or None,
        valid_until_unix_ms=dispatch.valid_until_ms,
    )


def _dispatch(setpoint: pb.Setpoint) -> Setpoint:
    return Setpoint(
        dispatch_id=setpoint.dispatch_id,
        asset_id=setpoint.asset_id.lower(),
        mw=setpoint.mw,
        duration_s=setpoint.duration_s if setpoint.HasField("duration_s") else None,
        valid_until_ms=setpoint.valid_until_unix_ms if setpoint.HasField("valid_until_unix_ms") else None,
        reversion_mw=setpoint.reversion_mw,
        group_id=setpoint.group_id,
    )
