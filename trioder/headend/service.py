"""The headend put together: its parts as one plain record, and the tasks that keep them going.

Sockets, signals and the environment are `__main__`'s; everything here runs in virtual time as well.
"""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import structlog
import trio

from trioder.api.context import Headend
from trioder.control.dispatcher import Dispatcher
from trioder.control.fleet_reload import FleetReloader
from trioder.domain.fleet import Fleet
from trioder.events.counters import Counters
from trioder.gateway.agent_clocks import AgentClocks
from trioder.gateway.sessions import SessionRegistry
from trioder.headend.agent_link import SHUTTING_DOWN, AgentLinkService, first_message_bytes
from trioder.headend.ticker import Ticker
from trioder.ingest.latest import LatestState
from trioder.ingest.service import Ingest
from trioder.process.clock_discipline import ClockStep, discipline_clock
from trioder.process.nurseries import open_background_nursery
from trioder.process.wall_time import WallClock
from trioder.rpc import PeerLimits, Services, StatusCode
from trioder.rpc.health import HealthBoard, health_services
from trioder.store.interface import Store, StoreUnavailableError
from trioder.wire.service import AGENT_LINK_STREAM

log = structlog.stdlib.get_logger(__name__)

_TEND_EVERY_S = 0.5


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
) -> AsyncIterator[Headend]:
    """Open a headend over `store` and keep it going; who serves `services` serves its agents.

    Args:
        fleet: the assets that agents may register.
        store: told of everything; opened and closed by the caller.
        wall: the wall time; kept at its system's clock here.
        rng: makes the ids of sessions and dispatches.
        tick_s: how often assets without an agent are synthesized; 0 for never.
        stale_after_s: from which age on an agent's sample is `stale`.
        read_fleet: reads the fleet file again, for a reload; without it a reload changes nothing.
        peers: the limits of the gRPC port; the default ones when it is None.

    *Resource handling*: on leaving, `closing` is set and the sessions that are still there are ended.
    """
    counters = Counters()
    closing = trio.Event()
    latest = LatestState(fleet, stale_after_s=stale_after_s)
    sessions = SessionRegistry()
    dispatcher = Dispatcher(
        fleet=fleet, sessions=sessions, latest=latest, store=store, counters=counters, wall=wall, rng=rng
    )
    ingest = Ingest(
        fleet=fleet, latest=latest, store=store, counters=counters, wall=wall, measured=dispatcher.measured
    )
    store.listen(ingest)
    clocks = AgentClocks(counters=counters, wall=wall)
    desk = AgentLinkService(
        fleet=fleet,
        sessions=sessions,
        ingest=ingest,
        dispatcher=dispatcher,
        store=store,
        counters=counters,
        wall=wall,
        clocks=clocks,
        rng=rng,
        closing=closing,
    )

    def stepped(step: ClockStep) -> None:
        counters.clock_steps += 1
        clocks.own_clock_stepped(step, sessions)
        by_ms = round(step.corrected_s * 1000)
        if by_ms:
            latest.clock_stepped(by_ms)
            ingest.clock_stepped(by_ms)
            desk.clock_stepped(by_ms)
            dispatcher.clock_stepped(by_ms)

    ticker = Ticker(
        fleet=fleet,
        latest=latest,
        sessions=sessions,
        dispatcher=dispatcher,
        store=store,
        counters=counters,
        wall=wall,
    )
    reloader = FleetReloader(
        fleet=fleet,
        read=read_fleet or fleet.copy,
        followers=(
            latest.fleet_changed,
            # Before the sessions: what is to be ended at a retired asset goes through its session.
            dispatcher.fleet_changed,
            desk.fleet_changed,
            lambda _: ingest.nameplates_changed(),
            lambda _: store.fleet_changed(),
        ),
        counters=counters,
    )
    health = HealthBoard()
    health.set_serving(AGENT_LINK_STREAM.service, True)
    await _restore_dispatches(dispatcher, store)

    async def stop() -> None:
        closing.set()
        dispatcher.flush()

    async with open_background_nursery(before_cancel=stop) as nursery:
        nursery.start_soon(_end_sessions, closing, sessions, health)
        nursery.start_soon(_tend_dispatches, dispatcher)
        nursery.start_soon(partial(discipline_clock, wall, stepped=stepped))
        if tick_s > 0:
            nursery.start_soon(ticker.run, tick_s)
        headend = Headend(
            fleet=fleet,
            latest=latest,
            sessions=sessions,
            dispatcher=dispatcher,
            ingest=ingest,
            store=store,
            counters=counters,
            wall=wall,
            clocks=clocks,
            started_s=trio.current_time(),
            services=Services(
                {AGENT_LINK_STREAM: desk.serve, **health_services(health)},
                first_message_bytes={AGENT_LINK_STREAM: partial(first_message_bytes, fleet)},
            ),
            peers=peers or PeerLimits(),
            closing=closing,
            reloader=reloader,
        )
        yield headend


async def _end_sessions(closing: trio.Event, sessions: SessionRegistry, health: HealthBoard) -> None:
    await closing.wait()
    health.set_serving(AGENT_LINK_STREAM.service, False)
    for session in sessions:
        session.end_with(StatusCode.UNAVAILABLE, SHUTTING_DOWN)


async def _tend_dispatches(dispatcher: Dispatcher) -> None:
    while True:
        await trio.sleep(_TEND_EVERY_S)
        dispatcher.tend()
        await dispatcher.flush_large()


async def _restore_dispatches(dispatcher: Dispatcher, store: Store) -> None:
    try:
        dispatcher.restore(await store.open_dispatches())
    except StoreUnavailableError as error:
        # Agents tell what they have in force; what was still queued is not sent.
        log.warning("dispatches from before the start cannot be read", reason=str(error))
