"""Assembles the headend: its parts as one record, and the tasks that run them.

From top to bottom: the parts, each given those that it calls; the facts that they handle; what was before the
start; the tasks. A further part is one constructor, and its `run` in the list of tasks.
Sockets, signals and the environment are handled in `__main__`; everything here runs in virtual time as well.
"""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import structlog
import trio

from trioder.access.table import AccessTable
from trioder.api.context import Headend
from trioder.api.stream.feed import LiveFeed
from trioder.control.alarms.engine import AlarmEngine
from trioder.control.alarms.probes import HostPaths
from trioder.control.dispatcher import Dispatcher
from trioder.control.recent_power import RecentPower
from trioder.control.schedules.service import Schedules
from trioder.domain.dispatch import StepTerms
from trioder.domain.fleet import Fleet
from trioder.events.bus import EventBus
from trioder.events.counters import Counters
from trioder.events.facts import AgentEvent, FleetChanged, SessionClosed, TelemetryAccepted
from trioder.fleet.reload import FleetReloader
from trioder.gateway.agent_clocks import AgentClocks
from trioder.gateway.log_limit import AgentEventLog
from trioder.gateway.sessions import SessionRegistry
from trioder.headend.access import Access
from trioder.headend.agent_link import SHUTTING_DOWN, AgentLinkService
from trioder.headend.own_clock import OwnClock
from trioder.headend.registration import first_message_bytes
from trioder.headend.ticker import Ticker
from trioder.ingest.latest import LatestState
from trioder.ingest.service import Ingest
from trioder.process.nurseries import open_background_nursery
from trioder.process.wall_time import WallClock
from trioder.rpc import PeerLimits, Services, StatusCode
from trioder.rpc.health import HealthStatus, health_services
from trioder.store.interface import Store, StoreUnavailableError
from trioder.wire.service import AGENT_LINK_STREAM

log = structlog.stdlib.get_logger(__name__)


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
        access: the access file as it was read; without one it is empty.
        access_path: the access file, which is read again when it changes.
        require_identities: agents need a certificate and a grant of `access`; without it every peer may be
            any agent.
        host: the disks and certificates of this machine that alarms are raised for.

    *Resource handling*: on leaving, `closing` is set and the open sessions are ended.
    """
    counters = Counters()
    events = EventBus(counters)
    closing = trio.Event()
    peers = peers or PeerLimits()
    latest = LatestState(fleet, stale_after_s=stale_after_s)
    sessions = SessionRegistry()
    clocks = AgentClocks(counters=counters, events=events, wall=wall)
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
    access_control = Access(
        table=access or AccessTable(),
        path=access_path,
        required=require_identities,
        fleet=fleet,
        sessions=sessions,
        ingest=ingest,
        store=store,
        counters=counters,
        wall=wall,
        peers=peers,
    )
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
        access=access_control.agents,
        rng=rng,
        closing=closing,
    )
    _handle_facts(
        events,
        AgentEventLog(counters=counters, wall=wall),
        latest=latest,
        dispatcher=dispatcher,
        link_service=link_service,
        ingest=ingest,
        store=store,
    )
    # Its handlers are the last: they see what the others have made of a fact.
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
    ticker = Ticker(
        fleet=fleet,
        latest=latest,
        sessions=sessions,
        dispatcher=dispatcher,
        store=store,
        counters=counters,
        wall=wall,
    )
    feed = LiveFeed(
        fleet=fleet,
        latest=latest,
        sessions=sessions,
        dispatcher=dispatcher,
        schedules=schedules,
        alarms=alarms.register,
        events=events,
        counters=counters,
        wall=wall,
        rng=rng,
        closing=closing,
    )
    recent_power = RecentPower(fleet=fleet, latest=latest, dispatcher=dispatcher, store=store, wall=wall)
    clock = OwnClock(
        wall=wall,
        counters=counters,
        agents=clocks,
        sessions=sessions,
        users=[latest, ingest, link_service, dispatcher, schedules.runner, recent_power],
    )
    health = HealthStatus()
    health.set_serving(AGENT_LINK_STREAM.service, True)
    store.listen(ingest)
    await _recover(dispatcher, schedules, alarms, access_control, store)

    async def stop() -> None:
        closing.set()
        dispatcher.flush()

    async with open_background_nursery(before_cancel=stop) as nursery:
        for run in (
            access_control.run,
            dispatcher.run,
            alarms.run,
            schedules.runner.run,
            clock.run,
            feed.run,
            recent_power.run,
            partial(ticker.run, tick_s),
            partial(_end_sessions, closing, sessions, health),
        ):
            nursery.start_soon(run)
        yield Headend(
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
            access=access_control.table,
            access_watch=access_control.watch,
            access_changed=access_control.changed,
            peer_access=access_control.peers,
            audit=access_control.audit,
            feed=feed,
            recent_power=recent_power,
        )


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


async def _recover(
    dispatcher: Dispatcher, schedules: Schedules, alarms: AlarmEngine, access_control: Access, store: Store
) -> None:
    """Read what was before the start, before anybody is served."""
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
    await access_control.agents.identities.load()
