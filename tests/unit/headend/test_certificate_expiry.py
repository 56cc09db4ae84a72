"""A session ends when its certificate has expired, as nothing else would end it."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.certificates import TestAuthority
from tests.unit.headend.parts import START_UNIX_S, asset_id, make_fleet, make_session
from tests.unit.headend.stores import SlowStore
from trioder.access.document import AccessDocument, AgentEntry
from trioder.access.identity import AgentIdentity, CertifiedAgent, certified_agent
from trioder.access.table import AccessTable, AgentGrant
from trioder.api.context import Headend
from trioder.domain.access import AuditRecord
from trioder.gateway.identities import Admission
from trioder.gateway.sessions import Session
from trioder.headend.agent_access import MAX_EXPIRED
from trioder.headend.service import open_headend
from trioder.process.wall_time import WallClock
from trioder.rpc import Peer, StatusCode

TENANT = "default"


class AuditedStore(SlowStore):
    def __init__(self) -> None:
        super().__init__()
        self.audits: list[AuditRecord] = []

    def record_audit(self, record: AuditRecord) -> None:
        self.audits.append(record)


@asynccontextmanager
async def open_secured(count: int, store: AuditedStore) -> AsyncIterator[Headend]:
    agents = tuple(
        AgentEntry(tenant=TENANT, agent=f"a{key}", asset_ids=(asset_id(key),)) for key in range(count)
    )
    async with open_headend(
        fleet=make_fleet(count),
        store=store,
        wall=WallClock(START_UNIX_S, trio.current_time()),
        rng=random.Random(1),
        tick_s=0,
        access=AccessTable(AccessDocument(agents=agents)),
        require_identities=True,
    ) as headend:
        yield headend


def connect(headend: Headend, key: int, *, lasts_s: float) -> Session:
    """A session of a certificate that expires so many seconds from now."""
    identity = AgentIdentity(trust_domain="trioder.internal", tenant=TENANT, agent=f"a{key}")
    agent = CertifiedAgent(
        identity=identity, serial=f"{key + 1:x}", expires_ms=headend.wall.now_ms() + round(lasts_s * 1000)
    )
    grant = AgentGrant(tenant=TENANT, site_ids=frozenset(), asset_ids=frozenset({asset_id(key)}))
    session = make_session(f"a{key}", key, session_id=f"s{key}")
    session.admission = Admission(agent=agent, grant=grant)
    headend.sessions.claim(session, asset_ids=[asset_id(key)])
    return session


async def test_a_session_ends_with_its_certificate_and_others_go_on(autojump_clock: object) -> None:
    store = AuditedStore()
    async with open_secured(2, store) as headend:
        ending, lasting = connect(headend, 0, lasts_s=3600.0), connect(headend, 1, lasts_s=7200.0)
        await trio.sleep(3599.0)
        assert ending.end is None
        await trio.sleep(2.5)
        assert ending.end is not None
        assert ending.end.status is StatusCode.UNAUTHENTICATED
        assert "the certificate 1 expired at " in ending.end.reason
        assert "issue a new one, which the agent reads before it connects again" in ending.end.reason
        assert lasting.end is None
        [audit] = store.audits
        assert (audit.action, audit.target, audit.reason) == ("agent.disconnect", "a0", ending.end.reason)
        assert headend.counters.sessions_revoked == 1


async def test_certificates_that_expire_together_do_not_end_all_sessions_at_once(
    autojump_clock: object,
) -> None:
    count = 2 * MAX_EXPIRED + 1
    async with open_secured(count, AuditedStore()) as headend:
        sessions = [connect(headend, key, lasts_s=60.0) for key in range(count)]
        ended = []
        await trio.sleep(60.5)
        for _ in range(4):
            ended.append(sum(session.end is not None for session in sessions))
            await trio.sleep(1.0)
        assert ended[-1] == count
        steps = [after - before for before, after in zip([0, *ended], ended, strict=False)]
        assert max(steps) == MAX_EXPIRED


async def test_a_connection_from_before_opens_no_further_session(autojump_clock: object) -> None:
    certified = TestAuthority().issue_agent("spiffe://trioder.internal/tenant/default/agent/a0")
    expires_ms = certified_agent(certified.der).expires_ms
    async with open_secured(1, AuditedStore()) as headend:
        peer = Peer(address="10.0.0.1:1", certificate=certified.der)
        headend.wall.adjust(expires_ms / 1000 - 1 - headend.wall.now_s())
        assert headend.peer_access.refusal(peer) is None
        headend.wall.adjust(2)
        reason = headend.peer_access.refusal(peer)
        assert reason is not None
        assert f"the certificate {certified.serial} expired at" in reason
