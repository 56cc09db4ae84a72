"""Agent ids and outboxes belong to the identity that used them first, over real TLS."""

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from tests.certificates import TestAuthority
from tests.integration.headend.identities_rig import (
    AGENTS,
    ATTACKER,
    ATTACKER_ASSET,
    BOX,
    RIVAL,
    VICTIM,
    VICTIM_ASSET,
    VICTIM_BOX,
    RecordingStore,
    agent_entry,
    bound,
    document,
    open_identities_rig,
    opened,
    refused,
    register,
)
from tests.unit.headend.driver import pulse
from tests.unit.headend.parts import asset_id
from trioder.domain.access import IdentityBinding
from trioder.rpc import StatusCode
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.records import BatchAck, ReplayRequest


async def test_an_agent_of_the_first_version_has_the_agent_id_of_its_certificate(
    authority: TestAuthority,
) -> None:
    async with open_identities_rig(authority) as rig:
        agent = await rig.certified_agent(VICTIM)
        await agent.send(
            pb.AgentToHeadend(register=pb.Register(asset_id=asset_id(VICTIM_ASSET), gateway_id="gw-7"))
        )
        await agent.send(
            pb.AgentToHeadend(
                telemetry=pb.Telemetry(
                    asset_id=asset_id(VICTIM_ASSET), timestamp="2027-01-15T08:00:01Z", soc_mwhr=12.0
                )
            )
        )
        while not rig.store.unsequenced:
            await trio.sleep(0.01)
        assert rig.session(VICTIM_ASSET).agent_id == VICTIM
        assert rig.store.bindings == [bound("agent_id", VICTIM, VICTIM)]


async def test_a_session_binds_its_agent_id_and_its_outbox_once(authority: TestAuthority) -> None:
    async with open_identities_rig(authority) as rig:
        for epoch in (1, 2):
            agent = await rig.certified_agent(VICTIM)
            await opened(agent, register(VICTIM_ASSET, agent=VICTIM, outbox=BOX, epoch=epoch))
        assert rig.store.bindings == [bound("agent_id", VICTIM, VICTIM), bound("outbox", BOX, VICTIM)]


async def test_a_refused_claim_binds_nothing(authority: TestAuthority) -> None:
    agents = (*AGENTS, agent_entry("second", VICTIM_ASSET))
    async with open_identities_rig(authority, access=document(agents)) as rig:
        victim = await rig.victim()
        before = list(rig.store.bindings)
        # Both may drive the asset; one does.
        status, _ = await refused(
            await rig.certified_agent("second"), register(VICTIM_ASSET, agent="second", outbox=BOX)
        )
        assert status is StatusCode.ALREADY_EXISTS
        assert rig.store.bindings == before
        await victim.is_served()


@pytest.mark.parametrize("backlog", [False, True], ids=["session", "backlog"])
async def test_an_outbox_belongs_to_the_identity_that_used_it_before_the_start(
    authority: TestAuthority, backlog: bool
) -> None:
    store = RecordingStore([bound("outbox", VICTIM_BOX, VICTIM)])
    async with open_identities_rig(authority, store=store) as rig:
        message = register(ATTACKER_ASSET, agent=ATTACKER, outbox=VICTIM_BOX, backlog=backlog)
        assert await refused(await rig.certified_agent(ATTACKER), message) == (
            StatusCode.PERMISSION_DENIED,
            "outbox victim's outbox belongs to another identity",
        )
        message = register(VICTIM_ASSET, agent=VICTIM, outbox=VICTIM_BOX, backlog=backlog)
        await opened(await rig.certified_agent(VICTIM), message)


async def test_an_agent_id_belongs_to_the_identity_that_used_it_before_the_start(
    authority: TestAuthority,
) -> None:
    store = RecordingStore([bound("agent_id", VICTIM, VICTIM, tenant="beta")])
    async with open_identities_rig(authority, store=store) as rig:
        message = register(VICTIM_ASSET, agent=VICTIM, outbox=BOX)
        assert await refused(await rig.certified_agent(VICTIM), message) == (
            StatusCode.PERMISSION_DENIED,
            "agent_id victim belongs to another identity",
        )


async def test_only_an_own_outbox_is_replaced(authority: TestAuthority) -> None:
    store = RecordingStore([bound("outbox", "own", ATTACKER), bound("outbox", VICTIM_BOX, VICTIM)])
    async with open_identities_rig(authority, store=store) as rig:
        message = register(ATTACKER_ASSET, agent=ATTACKER, outbox=BOX)
        message.register.replaces_outbox_id = VICTIM_BOX
        status, reason = await refused(await rig.certified_agent(ATTACKER), message)
        assert (status, rig.headend.counters.outboxes_replaced) == (StatusCode.PERMISSION_DENIED, 0)
        assert "victim's outbox belongs to another identity" in reason
        message.register.replaces_outbox_id = "own"
        await opened(await rig.certified_agent(ATTACKER), message)
        assert rig.headend.counters.outboxes_replaced == 1


@pytest.mark.parametrize(
    ("holder", "stored"),
    [((), True), ([bound("outbox", BOX, VICTIM)], True), ([bound("outbox", BOX, RIVAL)], False)],
)
async def test_nothing_is_stored_while_bindings_are_unknown(
    authority: TestAuthority, holder: Sequence[IdentityBinding], stored: bool
) -> None:
    store = RecordingStore(holder)
    store.is_away = True
    async with open_identities_rig(authority, store=store) as rig:
        agent = await rig.certified_agent(VICTIM)
        await opened(agent, register(VICTIM_ASSET, agent=VICTIM, outbox=BOX))
        await agent.send(pulse(1, 0, soc=33.0, ts_ms=rig.headend.wall.now_ms()))
        while rig.headend.latest.state(VICTIM_ASSET) is None:
            await trio.sleep(0.01)
        assert (store.rows[BOX], rig.headend.counters.batches_refused) == ([], 1)
        assert store.bindings == list(holder)
        store.is_away = False
        if not stored:
            refusal = await agent.refusal()
            assert refusal.status is StatusCode.PERMISSION_DENIED
            assert "outbox box belongs to another identity" in refusal.message
            assert store.rows[BOX] == []
            return
        assert await agent.receive() == ReplayRequest(from_batch_seq=1)
        await agent.send(pulse(1, 0, soc=33.0))
        assert await agent.receive() == BatchAck(batch_seq=1)
        assert set(store.bindings) == {bound("agent_id", VICTIM, VICTIM), bound("outbox", BOX, VICTIM)}
