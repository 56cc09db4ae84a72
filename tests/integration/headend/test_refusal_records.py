"""Refused agents are counted, logged and recorded, over real TLS."""

import trio
import trio.testing
from structlog.testing import capture_logs

from tests.certificates import TestAuthority
from tests.integration.headend.identities_rig import (
    ATTACKER,
    ATTACKER_ASSET,
    VICTIM,
    VICTIM_ASSET,
    VICTIM_BOX,
    RecordingStore,
    bound,
    document,
    open_identities_rig,
    opened,
    refused,
    register,
    revoked,
    uri,
)
from trioder.access.audit import MAX_RECORDS_A_CALLER


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
