"""The headend as the routes see it."""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from trioder.access.table import AccessTable
from trioder.control.dispatcher import Dispatcher
from trioder.domain.fleet import Fleet
from trioder.events.bus import EventBus
from trioder.events.counters import Counters
from trioder.fleet.reload import FleetReloader
from trioder.gateway.agent_clocks import AgentClocks
from trioder.gateway.sessions import SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.ingest.service import Ingest
from trioder.process.wall_time import WallClock
from trioder.rpc import PeerLimits, Services
from trioder.store.interface import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Headend:
    """The parts of an open headend.

    Attributes:
        clocks: the agents' clocks, as far as they are known.
        started_s: when the headend started, on Trio's clock.
        services: what the gRPC port serves.
        peers: the limits of the gRPC port's connections.
        closing: set at shutdown; sessions end and new ones are refused.
        access: the access file; None: open.
        access_changed: ends the sessions that `access` no longer permits; called after each change of it.
    """

    fleet: Fleet
    latest: LatestState
    sessions: SessionRegistry
    dispatcher: Dispatcher
    ingest: Ingest
    store: Store
    counters: Counters
    events: EventBus
    wall: WallClock
    clocks: AgentClocks
    started_s: float
    services: Services
    peers: PeerLimits
    closing: trio.Event
    reloader: FleetReloader
    access: AccessTable | None
    access_changed: Callable[[], None]

    @property
    def started_ms(self) -> int:
        """When the headend started, in Unix time."""
        return self.wall.unix_ms(self.started_s)
