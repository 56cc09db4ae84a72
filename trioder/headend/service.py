"""Assembles the headend: its parts as one record, and the tasks that run them.

Sockets, signals and the environment are handled in `__main__`; everything here runs in virtual time as well.
"""

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import structlog
import trio

from trioder.access.audit import AuditTrail
from trioder.access.table import AccessChange, AccessTable
from trioder.access.watch import AccessWatch
from trioder.api.context import Headend
from trioder.control.alarms.engine import AlarmEngine
from trioder.control.alarms.probes import HostPaths
from trioder.control.dispatcher import Dispatcher
from trioder.control.schedules.service import Schedules
from trioder.domain.dispatch import StepTerms
from trioder.domain.fleet import Fleet
from trioder.events.bus import EventBus
from trioder.events.counters import Counters
from trioder.events.facts import AgentEvent, FleetChanged, SessionClosed, TelemetryAccepted
from trioder.fleet.reload import FleetReloader
from trioder.gateway.agent_clocks import AgentClocks
from trioder.gateway.identities import AgentIdentities, revoked_reason
from trioder.gateway.log_limit import AgentEventLog
from trioder.gateway.refusals import RefusalRecorder
from trioder.gateway.sessions import SessionRegistry
from trioder.headend.agent_access import AgentAccess
from trioder.headend.agent_link import SHUTTING_DOWN, AgentLinkService
from trioder.headend.registration import first_message_bytes
from trioder.headend.ticker import Ticker
from trioder.ingest.latest import LatestState
from trioder.ingest.service import Ingest
from trioder.process.clock_discipline import ClockStep, discipline_clock
from trioder.process.nurseries import open_background_nursery
from trioder.process.wall_time import WallClock
from trioder.rpc import Peer, PeerAccess, PeerLimits, Services, StatusCode
from trioder.rpc.health import HealthStatus, health_services
from trioder.store.interface import Store, StoreUnavailableError
from trioder.wire.service import AGENT_LINK_STREAM

log = structlog.stdlib.get_logger(__name__)

_MAINTAIN_EVERY_S = 0.5
_LOAD_BINDINGS_EVERY_S = 2.0


@asynccontextmanager
async def open_headend(
    *,
    fleet: Fleet,
    store: Store,
    wall: WallClock,
    rng: random.Random,
    tick_s: float = 4.0,
    stale_after_s: float = 12.0,
    read_fleet: Callable[[], Fleet] | None = None,
    peers: PeerLimits | None = None,
    access: AccessTable | None = None,
    access_path: Path | None = None,
    require_identities: bool = False,
    host: HostPaths | None = None,
) -> AsyncIterator[Headend]:
    """Open a headend over `store` and run it; serving `services` is left to the caller.

    Args:
        fleet: the assets that agents may register.
        store: opened and closed by the caller.
        wall: the wall time; disciplined to the system's clock here.
        rng: for the ids of sessions and dispatches.
        tick_s: how often assets without an agent are synthesized; 0 for never.
        stale_after_s: the age from which on an agent's sample is `stale`.
        read_fleet: reads the fleet file for a reload; without it a reload changes nothing.
        peers: the limits of the gRPC port; None for the defaults.
        access: the access file as it was read; None without access control.
        access_path: the access file, which is read again when it changes.
        require_identities: agents need a certificate and a grant of `access`; without it every peer may be
            any agent.
        host: the disks and certificates of this machine that alarms are raised for.

    *Resource handling*: on leaving, `closing` is set and the open sessions are ended.
    """
    counters = Counters()
    events = EventBus(counters)
    closing = trio.Event()
    latest = LatestState(fleet, stale_after_s=stale_after_s)
    sessions = SessionRegistry()
    dispatcher = Dispatcher(
        fleet=fleet,
        sessions=sessions,
        latest=latest,
        store=store,
        counters=counters,
        events=events,
        wall=wall,
        rng=rng,
    )
    schedules = Schedules(fleet=fleet, dispatcher=dispatcher, store=store, events=events, wall=wall, rng=rng)
    ingest = Ingest(fleet=fleet, latest=latest, store=store, counters=counters, events=events, wall=wall)
    store.listen(ingest)
    audit = AuditTrail(store.record_audit, wall=wall)
    agent_access = AgentAccess(
        fleet=fleet,
        sessions=sessions,
        ingest=ingest,
        identities=AgentIdentities(
            fleet=fleet, access=access or AccessTable(), required=require_identities, store=store
        ),
        refusals=RefusalRecorder(counters=counters, audit=audit, wall=wall),
    )
    peers = peers or PeerLimits()
    peers.refusals.report = agent_access.refusals.connection_refused
    clocks = AgentClocks(counters=counters, events=events, wall=wall)
    link_service = AgentLinkService(
        fleet=fleet,
        sessions=sessions,
        ingest=ingest,
        dispatcher=dispatcher,
        store=store,
        counters=counters,
        events=events,
        wall=wall,
        clocks=clocks,
        access=agent_access,
        rng=rng,
        closing=closing,
    )

    def clock_stepped(step: ClockStep) -> None:
        counters.clock_steps += 1
        clocks.own_clock_stepped(step, sessions)
        by_ms = round(step.corrected_s * 1000)
        if by_ms:
            for part in (latest, ingest, link_service, dispatcher, schedules.runner):
                part.clock_stepped(by_ms)

    peer_access = PeerAccess(partial(_refusal_of_revoked, access))

    def access_changed() -> None:
        # The sessions first, whose agents are sent the reason.
        agent_access.access_changed()
        peer_access.check_open()

    access_watch = _access_watch(access, access_path, audit, access_changed)
    _handle_facts(
        events,
        AgentEventLog(counters=counters, wall=wall),
        latest=latest,
        dispatcher=dispatcher,
        link_service=link_service,
        ingest=ingest,
        store=store,
    )
    alarms = AlarmEngine(
        fleet=fleet,
        sessions=sessions,
        latest=latest,
        ingest=ingest,
        dispatcher=dispatcher,
        store=store,
        counters=counters,
        events=events,
        wall=wall,
        rng=rng,
        host=host,
    )
    health = _serving()
    await _recover(dispatcher, schedules, alarms, store)

    async def stop() -> None:
        closing.set()
        dispatcher.flush()

    async with open_background_nursery(before_cancel=stop) as nursery:
        nursery.start_soon(audit.run)
        if access_watch is not None:
            nursery.start_soon(access_watch.run)
        nursery.start_soon(_end_sessions, closing, sessions, health)
        nursery.start_soon(_maintain_dispatches, dispatcher)
        if not await agent_access.identities.load():
            nursery.start_soon(_load_bindings, agent_access)
        nursery.start_soon(alarms.run)
        nursery.start_soon(schedules.runner.run)
        nursery.start_soon(partial(discipline_clock, wall, stepped=clock_stepped))
        ticker = Ticker(
            fleet=fleet,
            latest=latest,
            sessions=sessions,
            dispatcher=dispatcher,
            store=store,
            counters=counters,
            wall=wall,
        )
        nursery.start_soon(_tick, ticker, tick_s)
        headend = Headend(
            fleet=fleet,
            latest=latest,
            sessions=sessions,
            dispatcher=dispatcher,
            schedules=schedules,
            alarms=alarms,
            ingest=ingest,
            store=store,
            counters=counters,
            events=events,
            wall=wall,
            clocks=clocks,
            started_s=trio.current_time(),
            services=Services(
                {AGENT_LINK_STREAM: link_service.serve, **health_services(health)},
                first_message_bytes={AGENT_LINK_STREAM: partial(first_message_bytes, fleet)},
            ),
            peers=peers,
            closing=closing,
            reloader=FleetReloader(
                fleet=fleet, read=read_fleet or fleet.copy, events=events, counters=counters
            ),
            audit=audit,
            peer_access=peer_access,
            access=access,
            access_watch=access_watch,
            access_changed=access_changed,
        )
        yield headend


def _serving() -> HealthStatus:
    health = HealthStatus()
    health.set_serving(AGENT_LINK_STREAM.service, True)
    return health


def _access_watch(
    access: AccessTable | None, path: Path | None, audit: AuditTrail, access_changed: Callable[[], None]
) -> AccessWatch | None:
    if access is None or path is None:
        return None

    def changed(changes: Sequence[AccessChange]) -> None:
        audit.access_changed(changes)
        access_changed()

    return AccessWatch(access, path, changed)


def _refusal_of_revoked(access: AccessTable | None, peer: Peer) -> str | None:
    serial = peer.certificate_serial
    if access is not None and serial and access.is_revoked(serial):
        return revoked_reason(serial)
    return None


def _handle_facts(
    events: EventBus,
    event_log: AgentEventLog,
    *,
    latest: LatestState,
    dispatcher: Dispatcher,
    link_service: AgentLinkService,
    ingest: Ingest,
    store: Store,
) -> None:
    events.handle(AgentEvent, event_log.write)
    events.handle(SessionClosed, event_log.session_closed)
    # Each sample is compared with the setpoint in force; from a queue, samples would be dropped.
    events.handle(TelemetryAccepted, lambda fact: dispatcher.measured(fact.samples))
    events.handle(FleetChanged, lambda fact: latest.fleet_changed(fact.change))
    # Before the sessions: reversions of retired assets are sent through their sessions.
    events.handle(FleetChanged, lambda fact: dispatcher.fleet_changed(fact.change))
    events.handle(FleetChanged, lambda fact: link_service.fleet_changed(fact.change))
    events.handle(FleetChanged, lambda _: ingest.nameplates_changed())
    events.handle(FleetChanged, lambda _: store.fleet_changed())


async def _end_sessions(closing: trio.Event, sessions: SessionRegistry, health: HealthStatus) -> None:
    await closing.wait()
    health.set_serving(AGENT_LINK_STREAM.service, False)
    for session in sessions:
        session.end_with(StatusCode.UNAVAILABLE, SHUTTING_DOWN)


async def _maintain_dispatches(dispatcher: Dispatcher) -> None:
    while True:
        await trio.sleep(_MAINTAIN_EVERY_S)
        dispatcher.maintain()
        await dispatcher.flush_large()


async def _load_bindings(access: AgentAccess) -> None:
    while not await access.identities.load():  # noqa: ASYNC110  # the database has no event
        await trio.sleep(_LOAD_BINDINGS_EVERY_S)
    access.bindings_loaded()


async def _tick(ticker: Ticker, tick_s: float) -> None:
    if tick_s > 0:
        await ticker.run(tick_s)


async def _recover(dispatcher: Dispatcher, schedules: Schedules, alarms: AlarmEngine, store: Store) -> None:
    steps: Mapping[str, StepTerms] = {}
    try:
        steps = await schedules.runner.load()
    except StoreUnavailableError as error:
        log.warning("schedules from before the start cannot be read: none begins before", reason=str(error))
    try:
        dispatcher.site_limits.recover(await store.site_limits())
    except StoreUnavailableError as error:
        log.warning("limits of sites from before the start cannot be read", reason=str(error))
    try:
        dispatcher.recover(await store.open_dispatches(), steps=steps)
    except StoreUnavailableError as error:
        # Agents report the setpoints in force; those that were still queued are lost.
        log.warning("dispatches from before the start cannot be read", reason=str(error))
    if schedules.runner.is_loaded:
        # Before agents report what they have of the steps that apply now.
        await schedules.runner.run_due()
    await alarms.restore()
