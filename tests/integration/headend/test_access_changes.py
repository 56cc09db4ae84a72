"""A change of grants or revocations ends the sessions that it concerns, over real TLS."""

from pathlib import Path

import pytest
import trio
import trio.testing

from tests.certificates import TestAuthority
from tests.integration.headend.identities_rig import (
    AGENTS,
    ALPHA_SITE,
    ATTACKER,
    ATTACKER_ASSET,
    BOX,
    SPARE_ASSET,
    VICTIM,
    VICTIM_ASSET,
    agent_entry,
    document,
    open_identities_rig,
    opened,
    refused,
    register,
    revoked,
    two_tenants,
    uri,
)
from tests.unit.headend.parts import asset_id
from trioder.access.document import ACCESS_FILE, write_document
from trioder.access.watch import AccessWatch
from trioder.domain.fleet import Fleet, Site
from trioder.events.facts import FleetChanged
from trioder.rpc import StatusCode


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


async def test_a_session_ends_when_its_certificate_expires_and_a_new_one_is_admitted(
    authority: TestAuthority,
) -> None:
    async with open_identities_rig(authority) as rig:
        victim = await rig.victim()
        agent = await rig.agent(authority.issue_agent(uri(ATTACKER), lasts_s=2.0))
        await opened(agent, register(ATTACKER_ASSET, agent=ATTACKER, outbox=BOX))
        refusal = await agent.refusal()
        assert refusal.status is StatusCode.UNAUTHENTICATED
        assert "expired at" in refusal.message
        renewed = await rig.certified_agent(ATTACKER)
        await opened(renewed, register(ATTACKER_ASSET, agent=ATTACKER, outbox=BOX, epoch=2))
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
