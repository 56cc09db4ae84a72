"""The headend as the routes see it."""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from trioder.access.audit import AuditTrail
from trioder.access.table import AccessTable
from trioder.access.watch import AccessWatch
from trioder.api.stream.feed import LiveFeed
from trioder.control.alarms.engine import AlarmEngine
from trioder.control.dispatcher import Dispatcher
from trioder.control.recent_power import RecentPower
from trioder.control.schedules.service import Schedules
from trioder.domain.fleet import Fleet
from trioder.events.bus import EventBus
from trioder.events.counters import Counters
from trioder.fleet.reload import FleetReloader
from trioder.gateway.agent_clocks import AgentClocks
from trioder.gateway.sessions import SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.ingest.service import Ingest
from trioder.process.wall_time import WallClock
from trioder.rpc import PeerAccess, PeerLimits, Services
from trioder.store.interface import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Headend:
    """The parts of an open headend.

    Attributes:
        schedules: begins dispatches by the clock.
        alarms: raises and clears all alarms.
        clocks: the agents' clocks, as far as they are known.
        started_s: when the headend started, on Trio's clock.
        services: what the gRPC port serves.
        peers: the limits of the gRPC port's connections.
        closing: set at shutdown; sessions end and new ones are refused.
        feed: what streams of changes show.
        recent_power: the power of sites over the last minutes.
        audit: records commands, changes of access and refusals.
        peer_access: which peers the gRPC port serves.
        access: the access file in memory; empty without one.
        access_watch: keeps `access` current; None where no file is read.
        access_changed: ends the sessions that `access` no longer permits; called after each change of it.
    """

    fleet: Fleet
    latest: LatestState
    sessions: SessionRegistry
    dispatcher: Dispatcher
    schedules: Schedules
    alarms: AlarmEngine
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
    audit: AuditTrail
    peer_access: PeerAccess
    access_changed: Callable[[], None]
    feed: LiveFeed
    recent_power: RecentPower
    access: AccessTable
    access_watch: AccessWatch | None = None

    @property
    def started_ms(self) -> int:
        """When the headend started, in Unix time."""
        return self.wall.unix_ms(self.started_s)
