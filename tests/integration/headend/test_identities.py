"""What an agent's certificate lets it register and report, over real TLS."""

import random
from functools import partial

import trio
import trio.testing

from tests.certificates import HOST, TestAuthority
from tests.integration.headend.identities_rig import (
    ALPHA_SITE,
    ATTACKER,
    ATTACKER_ASSET,
    BOX,
    RIVAL,
    RIVAL_ASSET,
    SPARE_ASSET,
    VICTIM,
    VICTIM_ASSET,
    agent_entry,
    document,
    open_identities_rig,
    opened,
    refused,
    register,
    uri,
)
from tests.unit.headend.driver import ScriptedAgent, pulse
from tests.unit.headend.parts import asset_id
from trioder.agent.config import MIN_TICK_S, AgentConfig
from trioder.agent.service import run_agent
from trioder.process.addresses import Endpoint
from trioder.process.wall_time import WallClock
from trioder.rpc import StatusCode, connect, open_channel, serve_connection
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.records import BatchAck
from trioder.wire.service import AGENT_LINK_STREAM

UNKNOWN = "11111111-1111-4111-8111-111111111111"


async def test_an_asset_that_the_fleet_does_not_have_does_not_refuse_its_neighbours(
    authority: TestAuthority,
) -> None:
    async with open_identities_rig(authority) as rig:
        message = register(VICTIM_ASSET, agent=VICTIM, outbox=BOX)
        message.register.assets.add(asset_id=UNKNOWN)
        grant = await opened(await rig.certified_agent(VICTIM), message)
        assert list(grant.unknown_asset_ids) == [UNKNOWN]


async def test_a_grant_by_site_covers_its_assets_within_the_tenant_alone(authority: TestAuthority) -> None:
    agents = [agent_entry(VICTIM, site_ids=[ALPHA_SITE]), agent_entry(RIVAL, RIVAL_ASSET, tenant="beta")]
    async with open_identities_rig(authority, access=document(agents)) as rig:
        everything = register(VICTIM_ASSET, ATTACKER_ASSET, SPARE_ASSET, agent=VICTIM, outbox=BOX)
        await opened(await rig.certified_agent(VICTIM), everything)
        status, reason = await refused(
            await rig.certified_agent(VICTIM), register(VICTIM_ASSET, RIVAL_ASSET, agent=VICTIM, epoch=2)
        )
        assert status is StatusCode.PERMISSION_DENIED
        assert reason.endswith(f"are not granted to {uri(VICTIM)}: {asset_id(RIVAL_ASSET)}")
        rivals = await rig.certified_agent(RIVAL, tenant="beta")
        await opened(rivals, register(RIVAL_ASSET, agent=RIVAL))
        assert rig.session(RIVAL_ASSET).tenant == "beta"


async def test_an_own_backlog_is_taken(authority: TestAuthority) -> None:
    async with open_identities_rig(authority) as rig:
        agent = await rig.certified_agent(VICTIM)
        await opened(agent, register(VICTIM_ASSET, agent=VICTIM, outbox=BOX, newest=1, backlog=True))
        await agent.send(pulse(1, 0))
        assert await agent.receive() == BatchAck(batch_seq=1)


async def test_real_agents_at_the_shortest_pulse_are_served(authority: TestAuthority) -> None:
    async with open_identities_rig(authority) as rig:
        context = authority.client_context(authority.issue_agent(uri(VICTIM)))
        config = AgentConfig(
            agent_id=VICTIM,
            headend=Endpoint(HOST, rig.port, tls=True),
            tick_s=MIN_TICK_S,
            phase=0.0,
            assets=(rig.headend.fleet.assets[VICTIM_ASSET],),
        )
        agent = partial(
            run_agent,
            config,
            dial=partial(connect, HOST, rig.port, ssl_context=context),
            wall=WallClock.starting_now(),
            rng=random.Random(5),
            report=lambda _: None,
        )
        await rig.nursery.start(agent)
        while not any(len(rows) >= 40 for rows in rig.store.rows.values()):
            await trio.sleep(0.01)
        session = rig.session(VICTIM_ASSET)
        assert session.identity == uri(VICTIM)
        assert rig.store.rows[session.outbox_id][:40] == list(range(1, 41))
        assert rig.headend.counters.sessions_opened == 1


async def test_without_tls_every_agent_is_refused(authority: TestAuthority) -> None:
    async with open_identities_rig(authority) as rig:
        near, far = trio.testing.memory_stream_pair()
        rig.nursery.start_soon(partial(serve_connection, far, rig.headend.services))
        async with (
            open_channel(near, authority="headend") as channel,
            channel.open_call(AGENT_LINK_STREAM) as call,
        ):
            # Before it registers.
            refusal = await ScriptedAgent(call).refusal()
        assert refusal.status is StatusCode.UNAUTHENTICATED
        assert refusal.message == "the agent presented no certificate"


async def test_an_event_about_another_agents_asset_ends_the_session(authority: TestAuthority) -> None:
    async with open_identities_rig(authority) as rig:
        victim = await rig.victim()
        agent = await rig.certified_agent(ATTACKER)
        await opened(agent, register(ATTACKER_ASSET, agent=ATTACKER, outbox=BOX))
        for about in ("", "any text", asset_id(ATTACKER_ASSET).upper(), asset_id(VICTIM_ASSET).upper()):
            await agent.send(event(about))
        refusal = await agent.refusal()
        assert refusal.status is StatusCode.INVALID_ARGUMENT
        assert "Event.asset_id is" in refusal.message
        assert rig.headend.counters.events_received == 3
        await victim.is_served()


def event(about: str) -> pb.AgentToHeadend:
    return pb.AgentToHeadend(
        event=pb.Event(
            id="1", asset_id=about, timestamp="2027-01-15T08:00:01Z", event_type="FIRE", severity="critical"
        )
    )
