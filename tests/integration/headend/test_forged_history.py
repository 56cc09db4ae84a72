"""A client that is not ours (grpcio) writes history for an asset that another agent drives."""

import threading
from collections.abc import Iterator

import grpc
import trio

from tests.certificates import HOST, Certified, TestAuthority
from tests.integration.headend.identities_rig import (
    ATTACKER,
    VICTIM,
    VICTIM_ASSET,
    IdentitiesRig,
    open_identities_rig,
    register,
    uri,
)
from tests.unit.headend.driver import pulse
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.service import AGENT_LINK_STREAM

FORGED = "forged"


def forge(port: int, authority: TestAuthority, certified: Certified | None, *, agent: str) -> str:
    """Deliver a backlog of the victim's asset; return the call's status, or OK once it is acknowledged."""
    chain, _, key = (certified.pem if certified else b"").partition(b"-----BEGIN PRIVATE KEY")
    credentials = grpc.ssl_channel_credentials(
        authority.pem.encode(),
        b"-----BEGIN PRIVATE KEY" + key if certified else None,
        chain if certified else None,
    )
    done = threading.Event()

    def requests() -> Iterator[pb.AgentToHeadend]:
        yield register(VICTIM_ASSET, agent=agent, outbox=FORGED, backlog=True)
        yield pulse(1, 0, soc=-777.0)
        done.wait(10)

    with grpc.secure_channel(f"{HOST}:{port}", credentials) as channel:
        stream = channel.stream_stream(
            AGENT_LINK_STREAM.path,
            request_serializer=pb.AgentToHeadend.SerializeToString,
            response_deserializer=pb.HeadendToAgent.FromString,
        )
        call = stream(requests(), timeout=10)
        try:
            for message in call:
                if message.HasField("telemetry_ack"):
                    call.cancel()
                    return "OK"
        except grpc.RpcError as error:
            return str(error.code().name)
        finally:
            done.set()
    return "the call ended well"


async def forged(rig: IdentitiesRig, certified: Certified | None, *, agent: str) -> str:
    return await trio.to_thread.run_sync(
        lambda: forge(rig.port, rig.authority, certified, agent=agent), abandon_on_cancel=True
    )


async def test_history_is_forged_by_nobody(authority: TestAuthority) -> None:
    async with open_identities_rig(authority) as rig:
        victim = await rig.victim()
        # The TLS handshake fails.
        assert await forged(rig, None, agent=VICTIM) == "UNAVAILABLE"
        certified = authority.issue_agent(uri(ATTACKER))
        assert await forged(rig, certified, agent=ATTACKER) == "PERMISSION_DENIED"
        assert await forged(rig, certified, agent=VICTIM) == "PERMISSION_DENIED"
        assert rig.store.rows[FORGED] == []
        await victim.is_served()


async def test_a_backlog_is_delivered_by_its_own_agent(authority: TestAuthority) -> None:
    async with open_identities_rig(authority) as rig:
        assert await forged(rig, authority.issue_agent(uri(VICTIM)), agent=VICTIM) == "OK"
        assert rig.store.rows[FORGED] == [1]
