"""The registration of an agent: how it is received, and what it has in common with the fleet."""

from collections.abc import Sequence
from functools import partial

import structlog
import trio

from trioder.control.allocator import NameplateLimits
from trioder.domain.access import ALL_TENANTS, DEFAULT_TENANT
from trioder.domain.fleet import Fleet
from trioder.events.counters import Counters
from trioder.gateway.sessions import Session
from trioder.rpc import RpcError, ServerCall, StatusCode
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.checks import WireError
from trioder.wire.records import Registration
from trioder.wire.sizes import DESCRIPTOR_BYTES, check_register_bytes, most_descriptors
from trioder.wire.uplink import read_uplink

log = structlog.stdlib.get_logger(__name__)

AgentCall = ServerCall[pb.AgentToHeadend, pb.HeadendToAgent]

REGISTER_WITHIN_S = 10.0
MAX_IDS_LISTED = 10


def first_message_bytes(fleet: Fleet) -> int:
    """Return the size limit of a Register."""
    return most_descriptors(len(fleet.assets)) * DESCRIPTOR_BYTES


async def receive_registration(call: AgentCall, fleet: Fleet) -> Registration:
    """Return the first message of a call.

    Raises:
        WireError: it is no Register, or breaks the contract.
        RpcError: DEADLINE_EXCEEDED after 10 s, or the call has ended.
    """
    call.check_bytes = partial(check_register_bytes, most=most_descriptors(len(fleet.assets)))
    with trio.move_on_after(REGISTER_WITHIN_S):
        try:
            message = await call.receive()
        except trio.EndOfChannel:
            raise WireError("the stream ended before its first message, which must be Register") from None
        registration = read_uplink(message, asset_count=0)
        if not isinstance(registration, Registration):
            raise WireError(f"the first message is {message.WhichOneof('msg')}; it must be Register")
        return registration
    raise RpcError(StatusCode.DEADLINE_EXCEEDED, f"no Register was received within {REGISTER_WITHIN_S:g} s")


def check_known(registration: Registration, fleet: Fleet, counters: Counters) -> frozenset[str]:
    """Return the registered assets that are not in the fleet; the session is for the others.

    Raises:
        RpcError: no asset is in the fleet.
    """
    asset_ids, index_by_id = registration.asset_ids, fleet.index_by_id
    unknown = [asset_id for asset_id in asset_ids if asset_id not in index_by_id]
    if not unknown:
        return frozenset()
    listed = ", ".join(unknown[:MAX_IDS_LISTED]) + (", ..." if len(unknown) > MAX_IDS_LISTED else "")
    reason = f"{len(unknown)} of {len(asset_ids)} registered assets are not in the fleet: {listed}"
    if len(unknown) == len(asset_ids) and not registration.backlog_only:
        raise RpcError(StatusCode.NOT_FOUND, reason)
    counters.assets_unknown += len(unknown)
    log.warning(
        "an agent registered assets that are not in the fleet; their samples are dropped",
        agent_id=registration.agent_id,
        reason=reason,
    )
    return frozenset(unknown)


def tenant_of(keys: Sequence[int | None], fleet: Fleet) -> str:
    """Return the tenant of these assets; `ALL_TENANTS` when they are of several."""
    by_site = {fleet.assets[key].site_id: key for key in keys if key is not None}
    tenants = {fleet.tenant_of(key) for key in by_site.values()} or {DEFAULT_TENANT}
    return tenants.pop() if len(tenants) == 1 else ALL_TENANTS


def compare_nameplates(
    session: Session, registration: Registration, fleet: Fleet, limits: NameplateLimits
) -> Sequence[int]:
    """Apply the smaller of the fleet's and the agent's limits; log and return the assets that differ."""
    differences, differing_keys = [], []
    for key in session.asset_keys:
        asset = fleet.assets[key]
        reported = registration.nameplates.get(asset.id)
        if reported is None:
            limits.reset(key)
        elif limits.report(key, **reported._asdict()):
            differences.append((asset, reported))
            differing_keys.append(key)
    if differences:
        asset, reported = differences[0]
        log.warning(
            "an agent's nameplates differ from the fleet file's; the smaller limits rule",
            agent_id=session.agent_id,
            assets=len(differences),
            first=asset.id,
            reported=reported._asdict(),
            fleet={name: getattr(asset, name) for name in reported._fields},
        )
    return differing_keys
