"""A headend that requires certificates, on a real socket with real TLS; a victim, and whoever attacks it."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

import trio

from tests.certificates import HOST, Certified, TestAuthority
from tests.unit.headend.driver import ScriptedAgent, pulse, registration
from tests.unit.headend.parts import asset_id, make_fleet
from tests.unit.headend.stores import SlowStore
from trioder.access.document import AccessDocument, AgentEntry, CertificateEntry
from trioder.access.table import AccessTable
from trioder.api.context import Headend
from trioder.domain.access import AuditRecord, IdentityBinding, IdentityClaim
from trioder.domain.dispatch import DispatchRequest
from trioder.domain.fleet import Fleet, Site
from trioder.domain.telemetry import Samples
from trioder.gateway.sessions import Session
from trioder.headend.service import open_headend
from trioder.process.wall_time import WallClock
from trioder.rpc import StatusCode, connect, open_channel, serve_rpc
from trioder.store.interface import StoreUnavailableError
from trioder.store.records import SessionRecord
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.records import BatchAck, SessionGrant, Setpoints
from trioder.wire.service import AGENT_LINK_STREAM

TRUST_DOMAIN = "example.org"
VICTIM, ATTACKER, RIVAL = "victim", "attacker", "rival"
VICTIM_ASSET, ATTACKER_ASSET, RIVAL_ASSET, SPARE_ASSET = range(4)
VICTIM_BOX = "victim's outbox"
BOX = "box"
ALPHA_SITE, BETA_SITE = (str(UUID(int=number, version=4)) for number in (0xA, 0xB))


def uri(agent: str, *, tenant: str = "alpha", trust_domain: str = TRUST_DOMAIN) -> str:
    return f"spiffe://{trust_domain}/tenant/{tenant}/agent/{agent}"


def agent_entry(agent: str, *keys: int, tenant: str = "alpha", site_ids: Sequence[str] = ()) -> AgentEntry:
    return AgentEntry(
        tenant=tenant, agent=agent, site_ids=tuple(site_ids), asset_ids=tuple(map(asset_id, keys))
    )


# The rival's grant names assets of another tenant: the fleet decides whose they are.
AGENTS = (
    agent_entry(VICTIM, VICTIM_ASSET),
    agent_entry(ATTACKER, ATTACKER_ASSET),
    agent_entry(RIVAL, VICTIM_ASSET, ATTACKER_ASSET, tenant="beta", site_ids=(ALPHA_SITE, BETA_SITE)),
)


def revoked(serial: str, agent: str) -> CertificateEntry:
    return CertificateEntry(
        serial=serial,
        kind="agent",
        name=agent,
        tenant="alpha",
        issued_at="2026-01-01T00:00:00.000Z",
        expires_at="2036-01-01T00:00:00.000Z",
        revoked_at="2026-01-02T00:00:00.000Z",
    )


def document(
    agents: Sequence[AgentEntry] = AGENTS, certificates: Sequence[CertificateEntry] = ()
) -> AccessDocument:
    return AccessDocument(trust_domain=TRUST_DOMAIN, agents=tuple(agents), certificates=tuple(certificates))


def two_tenants() -> Fleet:
    """Three assets of alpha and one of beta."""
    sites = [
        Site(id=site_id, name=tenant, location="Reno, NV", tenant=tenant)
        for site_id, tenant in ((ALPHA_SITE, "alpha"), (BETA_SITE, "beta"))
    ]
    return Fleet(
        sites=sites,
        assets=[
            replace(asset, site_id=BETA_SITE if key == RIVAL_ASSET else ALPHA_SITE)
            for key, asset in enumerate(make_fleet(4).assets)
        ],
    )


class RecordingStore(SlowStore):
    """Commits each batch at once, and keeps all records; its bindings are read on request."""

    def __init__(self, bindings: Sequence[IdentityBinding] = ()) -> None:
        super().__init__()
        self.bindings = list(bindings)
        self.sessions_opened: list[SessionRecord] = []
        self.audits: list[AuditRecord] = []
        self.is_away = False

    def contents(self) -> tuple[object, ...]:
        rows = {outbox_id: tuple(rows) for outbox_id, rows in self.rows.items() if rows}
        return rows, tuple(self.bindings), tuple(self.sessions_opened), len(self.unsequenced)

    def submit(self, outbox_id: str, batch_seq: int, samples: Samples) -> bool:
        taken = super().submit(outbox_id, batch_seq, samples)
        self.commit()
        return taken

    def open_session(self, session: SessionRecord) -> None:
        self.sessions_opened.append(session)

    def record_audit(self, record: AuditRecord) -> None:
        self.audits.append(record)

    def record_binding(self, binding: IdentityBinding) -> None:
        self.bindings.append(binding)

    async def identity_bindings(self) -> Sequence[IdentityBinding]:
        await trio.lowlevel.checkpoint()
        if self.is_away:
            raise StoreUnavailableError("the database is away")
        return tuple(self.bindings)


def register(
    *keys: int,
    agent: str = "",
    outbox: str = "",
    epoch: int = 1,
    newest: int | None = 0,
    backlog: bool = False,
) -> pb.AgentToHeadend:
    message = registration(*keys, agent_id=agent, outbox_id=outbox, epoch=epoch)
    message.register.backlog_only = backlog
    if newest is not None:
        message.register.newest_batch_seq = newest
    return message


class Victim:
    """An agent with the right certificate, which sends a batch each 20 ms and notices everything."""

    def __init__(self, agent: ScriptedAgent, headend: Headend) -> None:
        self.acknowledged_seq = 0
        self.setpoints: list[str] = []
        self.session = headend.sessions.session_of(VICTIM_ASSET)
        self._agent = agent
        self._headend = headend
        self._changed = trio.Condition()

    async def send(self) -> None:
        seq = 0
        while True:
            seq += 1
            await self._agent.send(pulse(seq, 0, ts_ms=self._headend.wall.now_ms(), soc=20.0))
            await trio.sleep(0.02)

    async def receive(self) -> None:
        while True:
            match await self._agent.receive():
                case BatchAck(batch_seq=batch_seq):
                    self.acknowledged_seq = batch_seq
                case Setpoints(setpoints=setpoints):
                    self.setpoints.extend(one.dispatch_id or "" for one in setpoints)
            async with self._changed:
                self._changed.notify_all()

    async def is_served(self) -> None:
        """Fail unless it has the session of the start, gets a new setpoint, and an acknowledgement."""
        assert self.session is not None
        assert self._headend.sessions.session_of(VICTIM_ASSET) is self.session
        assert self.session.end is None
        made = self._headend.dispatcher.dispatch(
            DispatchRequest(asset_id=asset_id(VICTIM_ASSET), mw=1.0, duration_s=60, tenant="alpha")
        )
        before_seq = self.acknowledged_seq
        with trio.fail_after(5):
            async with self._changed:
                while made.dispatch_id not in self.setpoints or self.acknowledged_seq <= before_seq:
                    await self._changed.wait()
        state = self._headend.latest.state(VICTIM_ASSET)
        assert state is not None
        assert state.soc_mwhr == 20.0


@dataclass(frozen=True, kw_only=True)
class IdentitiesRig:
    """A headend with TLS; `access.replace` and `headend.access_changed` change who may do what."""

    headend: Headend
    access: AccessTable
    store: RecordingStore
    authority: TestAuthority
    port: int
    nursery: trio.Nursery

    def session(self, key: int) -> Session:
        session = self.headend.sessions.session_of(key)
        assert session is not None
        return session

    def change(self, changed: AccessDocument) -> None:
        self.access.replace(changed)
        self.headend.access_changed()

    async def agent(self, certified: Certified | None) -> ScriptedAgent:
        """Connect; the connection ends with the test."""
        agent: ScriptedAgent = await self.nursery.start(self._connect, certified)
        return agent

    async def certified_agent(self, name: str, *, tenant: str = "alpha") -> ScriptedAgent:
        return await self.agent(self.authority.issue_agent(uri(name, tenant=tenant)))

    async def victim(self) -> Victim:
        agent = await self.certified_agent(VICTIM)
        await agent.send(register(VICTIM_ASSET, agent=VICTIM, outbox=VICTIM_BOX))
        assert isinstance(await agent.receive(), SessionGrant)
        victim = Victim(agent, self.headend)
        self.nursery.start_soon(victim.send)
        self.nursery.start_soon(victim.receive)
        return victim

    async def _connect(
        self,
        certified: Certified | None,
        *,
        task_status: trio.TaskStatus[ScriptedAgent] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        context = self.authority.client_context(certified)
        stream = await connect(HOST, self.port, ssl_context=context)
        async with (
            open_channel(stream, authority=HOST) as channel,
            channel.open_call(AGENT_LINK_STREAM) as call,
        ):
            agent = ScriptedAgent(call)
            task_status.started(agent)
            await agent.leaving.wait()
        agent.left.set()


@asynccontextmanager
async def open_identities_rig(
    authority: TestAuthority,
    *,
    access: AccessDocument | None = None,
    store: RecordingStore | None = None,
    fleet: Fleet | None = None,
) -> AsyncIterator[IdentitiesRig]:
    """Yield a headend that requires identities; a test that hangs fails after 30 s."""
    table = AccessTable(document() if access is None else access)
    store = store or RecordingStore()
    with trio.fail_after(30):
        async with (
            open_headend(
                fleet=fleet or two_tenants(),
                store=store,
                wall=WallClock.starting_now(),
                rng=random.Random(11),
                tick_s=0,
                access=table,
                require_identities=True,
            ) as headend,
            trio.open_nursery() as nursery,
        ):
            [listener] = await trio.open_tcp_listeners(0, host=HOST)
            port = listener.socket.getsockname()[1]
            await nursery.start(
                partial(
                    serve_rpc,
                    [listener],
                    headend.services,
                    limits=headend.peers,
                    drain=headend.closing,
                    tls=authority.server_tls(),
                    access=headend.peer_access,
                )
            )
            yield IdentitiesRig(
                headend=headend, access=table, store=store, authority=authority, port=port, nursery=nursery
            )
            nursery.cancel_scope.cancel()


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
