"""What an agent's certificate binds, over real TLS: bindings, grants that change, records of refusals."""

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from tests.certificates import HOST, TestAuthority
from tests.integration.headend.identities_rig import (
    AGENTS,
    ALPHA_SITE,
    ATTACKER,
    ATTACKER_ASSET,
    RIVAL,
    RIVAL_ASSET,
    SPARE_ASSET,
    VICTIM,
    VICTIM_ASSET,
    VICTIM_BOX,
    RecordingStore,
    agent_entry,
    document,
    open_identities_rig,
    register,
    revoked,
    two_tenants,
    uri,
)
from tests.unit.headend.driver import ScriptedAgent, pulse
from tests.unit.headend.parts import asset_id
from trioder.access.audit import MAX_RECORDS_A_CALLER
from trioder.access.document import ACCESS_FILE, write_document
from trioder.access.watch import AccessWatch
from trioder.agent.config import MIN_TICK_S, AgentConfig
from trioder.agent.service import run_agent
from trioder.domain.access import IdentityBinding, IdentityClaim
from trioder.domain.fleet import Fleet, Site
from trioder.events.facts import FleetChanged
from trioder.process.addresses import Endpoint
from trioder.process.wall_time import WallClock
from trioder.rpc import StatusCode, connect, open_channel, serve_connection
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.records import BatchAck, ReplayRequest, SessionGrant
from trioder.wire.service import AGENT_LINK_STREAM

BOX = "box"
UNKNOWN = "11111111-1111-4111-8111-111111111111"


@pytest.fixture(scope="module")
def authority() -> TestAuthority:
    return TestAuthority()


async def opened(agent: ScriptedAgent, message: pb.AgentToHeadend) -> SessionGrant:
    await agent.send(message)
    grant = await agent.receive()
    assert isinstance(grant, SessionGrant)
    return grant


async def refused(agent: ScriptedAgent, message: pb.AgentToHeadend) -> tuple[StatusCode, str]:
    await agent.send(message)
    refusal = await agent.refusal()
    return refusal.status, refusal.message


def bound(claim: IdentityClaim, value: str, agent: str, *, tenant: str = "alpha") -> IdentityBinding:
    return IdentityBinding(claim=claim, value=value, identity=uri(agent, tenant=tenant))


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


@pytest.mark.parametrize("change", ["revoked", "no grant", "another asset", "another tenant's"])
async def test_a_change_of_access_ends_the_sessions_that_it_concerns(
    authority: TestAuthority, change: str
) -> None:
    async with open_identities_rig(authority) as rig:
        victim = await rig.victim()
        certified = authority.issue_agent(uri(ATTACKER))
        agent = await rig.agent(certified)
        await opened(agent, register(ATTACKER_ASSET, agent=ATTACKER, outbox=BOX))
        others = [entry for entry in AGENTS if entry.agent != ATTACKER]
        changed, status, reason = {
            "revoked": (
                document(AGENTS, [revoked(certified.serial, ATTACKER)]),
                StatusCode.UNAUTHENTICATED,
                "is revoked",
            ),
            "no grant": (document(others), StatusCode.PERMISSION_DENIED, "is granted no assets"),
            "another asset": (
                document([*others, agent_entry(ATTACKER, SPARE_ASSET)]),
                StatusCode.PERMISSION_DENIED,
                "1 of 1 registered assets are not granted",
            ),
            "another tenant's": (
                document([*others, agent_entry(ATTACKER, ATTACKER_ASSET, tenant="beta")]),
                StatusCode.PERMISSION_DENIED,
                "is granted no assets",
            ),
        }[change]
        rig.change(changed)
        refusal = await agent.refusal()
        assert refusal.status is status
        assert reason in refusal.message
        assert rig.headend.sessions.session_of(ATTACKER_ASSET) is None
        assert rig.headend.counters.sessions_revoked == 1
        [audit] = rig.store.audits
        assert (audit.action, audit.outcome, audit.kind) == ("agent.disconnect", "refused", "agent")
        assert (audit.principal, audit.tenant, audit.target) == (uri(ATTACKER), "alpha", ATTACKER)
        assert audit.reason == refusal.message
        await victim.is_served()


async def test_nobody_notices_a_change_that_grants_more(authority: TestAuthority) -> None:
    async with open_identities_rig(authority) as rig:
        victim = await rig.victim()
        others = [entry for entry in AGENTS if entry.agent != VICTIM]
        rig.change(document([*others, agent_entry(VICTIM, VICTIM_ASSET, SPARE_ASSET)]))
        await victim.is_served()
        rig.change(document([*others, agent_entry(VICTIM, site_ids=[ALPHA_SITE])]))
        await victim.is_served()


async def test_a_grant_that_returns_to_less_is_compared_with_the_one_in_force(
    authority: TestAuthority,
) -> None:
    narrow = [agent_entry(VICTIM, VICTIM_ASSET)]
    async with open_identities_rig(authority, access=document(narrow)) as rig:
        agent = await rig.certified_agent(VICTIM)
        await opened(agent, register(VICTIM_ASSET, agent=VICTIM, outbox=BOX))
        rig.change(document([agent_entry(VICTIM, site_ids=[ALPHA_SITE])]))
        everything = register(VICTIM_ASSET, SPARE_ASSET, agent=VICTIM, outbox=BOX, epoch=2)
        newer = await rig.certified_agent(VICTIM)
        await opened(newer, everything)
        rig.change(document(narrow))
        refusal = await newer.refusal()
        assert refusal.status is StatusCode.PERMISSION_DENIED
        assert asset_id(SPARE_ASSET) in refusal.message


async def test_a_backlog_ends_when_its_asset_becomes_another_tenants(authority: TestAuthority) -> None:
    fleet = two_tenants()
    async with open_identities_rig(authority, fleet=fleet) as rig:
        agent = await rig.certified_agent(VICTIM)
        await opened(agent, register(VICTIM_ASSET, agent=VICTIM, outbox=BOX, backlog=True))
        moved = [
            Site(id=site.id, name=site.name, location=site.location, tenant="beta")
            for site in two_tenants().sites
        ]
        change = fleet.reload(Fleet(sites=moved, assets=two_tenants().assets))
        rig.headend.events.publish(FleetChanged(change))
        refusal = await agent.refusal()
        assert refusal.status is StatusCode.PERMISSION_DENIED
        assert "not granted" in refusal.message


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


async def test_refusals_are_counted_logged_and_recorded(authority: TestAuthority) -> None:
    store = RecordingStore([bound("outbox", VICTIM_BOX, VICTIM)])
    with capture_logs() as logs:
        async with open_identities_rig(authority, store=store) as rig:
            await (await rig.agent(authority.issue_server())).refusal()
            for message in (
                register(ATTACKER_ASSET, agent=VICTIM),
                register(VICTIM_ASSET, agent=ATTACKER),
                register(ATTACKER_ASSET, agent=ATTACKER, outbox=VICTIM_BOX),
            ):
                await refused(await rig.certified_agent(ATTACKER), message)
            counters = rig.headend.counters
            assert counters.agents_refused_certificate == 1
            assert counters.agents_refused_identity == 1
            assert counters.agents_refused_assets == 1
            assert counters.agents_refused_binding == 1
            assert counters.sessions_refused == 4
            assert counters.sessions_opened == 0
    assert [audit.principal for audit in store.audits] == ["", *[uri(ATTACKER)] * 3]
    assert [audit.target for audit in store.audits] == ["", VICTIM, ATTACKER, ATTACKER]
    assert {(audit.action, audit.outcome) for audit in store.audits} == {("agent.register", "refused")}
    assert all(audit.peer.startswith("127.0.0.1:") for audit in store.audits)
    lines = [entry for entry in logs if entry["event"] == "access refused"]
    assert [line["principal"] for line in lines] == ["", *[uri(ATTACKER)] * 3]


async def test_of_a_flood_of_refusals_a_few_are_recorded_and_the_others_are_counted(
    authority: TestAuthority,
) -> None:
    store = RecordingStore()
    async with open_identities_rig(authority, store=store) as rig:
        certified = authority.issue_agent(uri(ATTACKER))
        for _ in range(20):
            await refused(await rig.agent(certified), register(VICTIM_ASSET, agent=ATTACKER))
        assert rig.headend.counters.agents_refused_assets == 20
        assert len(store.audits) == MAX_RECORDS_A_CALLER
    assert store.audits[-1].reason.startswith("10 more refusals")


async def test_a_connection_that_is_refused_at_the_handshake_is_recorded(authority: TestAuthority) -> None:
    with capture_logs() as logs:
        async with open_identities_rig(authority) as rig:
            stranger = await rig.agent(None)
            await stranger.refusal()
            while not rig.store.audits:
                await trio.sleep(0.01)
            [audit] = rig.store.audits
            assert rig.headend.peers.refusals.counts["tls"] == 1
    assert (audit.action, audit.outcome, audit.principal) == ("agent.connect", "refused", "")
    assert audit.peer.startswith("127.0.0.1:")
    assert "certificate" in audit.reason
    [line] = [entry for entry in logs if entry["event"] in {"access refused", "peer refused"}]
    assert line["reason"] == audit.reason


async def test_a_call_with_a_revoked_certificate_is_recorded_with_its_identity(
    authority: TestAuthority,
) -> None:
    async with open_identities_rig(authority) as rig:
        certified = authority.issue_agent(uri(ATTACKER))
        rig.change(document(certificates=[revoked(certified.serial, ATTACKER)]))
        await (await rig.agent(certified)).refusal()
        [audit] = rig.store.audits
    assert (audit.action, audit.principal, audit.tenant) == ("agent.connect", uri(ATTACKER), "alpha")
    assert "is revoked" in audit.reason


async def test_a_session_that_is_ended_is_recorded_once(authority: TestAuthority) -> None:
    async with open_identities_rig(authority) as rig:
        certified = authority.issue_agent(uri(ATTACKER))
        agent = await rig.agent(certified)
        await opened(agent, register(ATTACKER_ASSET, agent=ATTACKER))
        rig.change(document(certificates=[revoked(certified.serial, ATTACKER)]))
        await agent.refusal()
        assert [audit.action for audit in rig.store.audits] == ["agent.disconnect"]


async def test_a_session_ends_when_its_certificate_is_revoked_in_the_file(
    authority: TestAuthority, tmp_path: Path
) -> None:
    path = tmp_path / ACCESS_FILE
    write_document(path, document())
    async with open_identities_rig(authority) as rig:
        watch = AccessWatch(rig.access, path, lambda _: rig.headend.access_changed())
        rig.nursery.start_soon(watch.run)
        victim = await rig.victim()
        certified = authority.issue_agent(uri(ATTACKER))
        agent = await rig.agent(certified)
        await opened(agent, register(ATTACKER_ASSET, agent=ATTACKER, outbox=BOX))
        write_document(path, document(certificates=[revoked(certified.serial, ATTACKER)]))
        with trio.fail_after(10):
            refusal = await agent.refusal()
        assert refusal.status is StatusCode.UNAUTHENTICATED
        await victim.is_served()
        # Nor may it register again.
        status, _ = await refused(
            await rig.agent(certified), register(ATTACKER_ASSET, agent=ATTACKER, outbox=BOX, epoch=2)
        )
        assert status is StatusCode.UNAUTHENTICATED
