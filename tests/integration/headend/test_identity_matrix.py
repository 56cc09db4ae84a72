"""Every certificate with every attack, over real TLS: only the right pass, the victim never notices."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import trio

from tests.certificates import Certified, TestAuthority
from tests.integration.headend.identities_rig import (
    AGENTS,
    ATTACKER,
    ATTACKER_ASSET,
    RIVAL,
    VICTIM,
    VICTIM_ASSET,
    VICTIM_BOX,
    IdentitiesRig,
    document,
    open_identities_rig,
    register,
    revoked,
    uri,
)
from tests.unit.headend.driver import pulse
from trioder.rpc import RpcError, StatusCode
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.records import SessionGrant

BOX = "attacker's outbox"
JUMP = 2**40

DENIED, UNAUTHENTICATED, INVALID = (
    StatusCode.PERMISSION_DENIED,
    StatusCode.UNAUTHENTICATED,
    StatusCode.INVALID_ARGUMENT,
)
# The handshake fails.
NO_TLS = StatusCode.UNAUTHENTICATED


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What a peer sends after it has connected; `agent` is the agent of its certificate.

    Attributes:
        outcome: with the right certificate; None if it is no attack then.
        reason: of that refusal.
    """

    messages: Callable[[str], list[pb.AgentToHeadend]]
    outcome: StatusCode | None
    reason: str = ""


def jump() -> pb.AgentToHeadend:
    message = pulse(JUMP, 0, soc=1.0)
    message.telemetry_batch.gap_from_seq = 1
    return message


ATTACKS = {
    "own asset": Attack(
        messages=lambda agent: [register(ATTACKER_ASSET, agent=agent, outbox=BOX), pulse(1, 0, soc=1.0)],
        outcome=None,
    ),
    "another's asset": Attack(
        messages=lambda agent: [
            register(ATTACKER_ASSET, VICTIM_ASSET, agent=agent, outbox=BOX),
            pulse(1, 1, soc=1.0),
        ],
        outcome=DENIED,
        reason="1 of 2 registered assets are not granted",
    ),
    "another's agent_id": Attack(
        messages=lambda _: [
            register(ATTACKER_ASSET, agent=VICTIM, outbox=BOX, epoch=2**64 - 1),
            pulse(1, 0, soc=1.0),
        ],
        outcome=DENIED,
        reason="agent_id is victim; the certificate is that of agent attacker",
    ),
    "another's outbox": Attack(
        messages=lambda agent: [
            register(ATTACKER_ASSET, agent=agent, outbox=VICTIM_BOX, newest=10**9),
            jump(),
        ],
        outcome=DENIED,
        reason="belongs to another identity",
    ),
    "backlog_only": Attack(
        messages=lambda agent: [
            register(VICTIM_ASSET, agent=agent, outbox=BOX, backlog=True),
            pulse(1, 0, soc=1.0),
        ],
        outcome=DENIED,
        reason="1 of 1 registered assets are not granted",
    ),
    "a sequence jump": Attack(
        messages=lambda agent: [register(ATTACKER_ASSET, agent=agent, outbox=BOX), jump()],
        outcome=INVALID,
        reason=f"batch_seq is {JUMP}",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Who attacks; its outcome is that of every attack, or the attack's own if None."""

    certified: Certified | None
    agent: str
    outcome: StatusCode | None
    reason: str = ""


def peers(authority: TestAuthority) -> dict[str, Peer]:
    def of_attacker(certified: Certified, outcome: StatusCode | None, reason: str = "") -> Peer:
        return Peer(certified=certified, agent=ATTACKER, outcome=outcome, reason=reason)

    issue = authority.issue_agent
    return {
        "no certificate": Peer(certified=None, agent=ATTACKER, outcome=NO_TLS),
        "other CA": of_attacker(TestAuthority("other CA").issue_agent(uri(ATTACKER)), NO_TLS),
        "expired": of_attacker(issue(uri(ATTACKER), expired=True), NO_TLS),
        "revoked": of_attacker(issue(uri(ATTACKER)), UNAUTHENTICATED, "is revoked"),
        "other tenant": Peer(
            certified=issue(uri(RIVAL, tenant="beta")), agent=RIVAL, outcome=DENIED, reason=""
        ),
        "other trust domain": of_attacker(
            issue(uri(ATTACKER, trust_domain="example.com")), DENIED, "is of trust domain example.com"
        ),
        "no grant": Peer(
            certified=issue(uri("nobody")), agent="nobody", outcome=DENIED, reason="is granted no assets"
        ),
        "of a server": of_attacker(authority.issue_server(), UNAUTHENTICATED, "has no URI"),
        "right": of_attacker(issue(uri(ATTACKER)), None),
    }


PEERS = tuple(peers(TestAuthority()))


@pytest.mark.parametrize("attack_name", ATTACKS)
@pytest.mark.parametrize("peer_name", PEERS)
async def test_only_the_right_ones_pass_and_the_victim_never_notices(
    authority: TestAuthority, peer_name: str, attack_name: str
) -> None:
    peer, attack = peers(authority)[peer_name], ATTACKS[attack_name]
    revocations = (
        [revoked(peer.certified.serial, ATTACKER)] if peer_name == "revoked" and peer.certified else []
    )
    async with open_identities_rig(authority, access=document(AGENTS, revocations)) as rig:
        victim = await rig.victim()
        await victim.is_served()
        before = without_victim(rig)
        outcome = await attempt(rig, peer, attack)
        await victim.is_served()
        if peer.outcome is None and attack.outcome is None:
            assert outcome is None
            assert rig.session(ATTACKER_ASSET).identity == uri(ATTACKER)
            assert rig.store.sessions_opened[-1].identity == uri(ATTACKER)
            assert rig.store.sessions_opened[-1].tenant == "alpha"
            assert rig.store.rows[BOX] == [1]
            return
        assert outcome is not None
        status, reason = (
            (attack.outcome, attack.reason) if peer.outcome is None else (peer.outcome, peer.reason)
        )
        assert outcome.status is status
        assert reason in outcome.message
        rows, bindings, sessions = without_victim(rig)
        assert rows == before[0]
        if attack_name != "a sequence jump" or peer_name != "right":
            # The session with the jump was the attacker's own, until then.
            assert (bindings, sessions) == before[1:]
        assert rig.headend.latest.state(ATTACKER_ASSET) is None


def without_victim(rig: IdentitiesRig) -> tuple[object, ...]:
    """What the store holds of all but the victim's samples."""
    rows = {outbox_id: tuple(rows) for outbox_id, rows in rig.store.rows.items() if rows}
    # The victim's own samples are in sequence.
    victims = rows.pop(VICTIM_BOX)
    assert victims == tuple(range(1, len(victims) + 1))
    return rows, tuple(rig.store.bindings), tuple(rig.store.sessions_opened)


async def attempt(rig: IdentitiesRig, peer: Peer, attack: Attack) -> RpcError | None:
    """Connect, register and send; return how it was refused, or None once a batch is acknowledged."""
    try:
        agent = await rig.agent(peer.certified)
        for message in attack.messages(peer.agent):
            await agent.send(message)
        with trio.fail_after(5):
            while isinstance(await agent.receive(), SessionGrant):
                pass
    except RpcError as error:
        return error
    return None
