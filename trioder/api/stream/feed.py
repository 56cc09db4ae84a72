"""The live feed: collects what has changed, ten times a second, and makes of it what each group is sent.

Publishers of facts never wait for it, and it runs only while somebody follows. A client's side is `client`.
"""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import structlog
import trio

from trioder.api.asset_query import FleetIndexes
from trioder.api.stream.changes import Change, ChangeForgottenError, ChangeRing, event_steps
from trioder.api.stream.group import HEARTBEAT_S, Group, Reader
from trioder.api.stream.rows import LiveRows, telemetry_events
from trioder.api.stream.site_rows import SiteRows, site_events
from trioder.api.stream.sse import Event
from trioder.api.stream.sums import SiteSums
from trioder.api.stream.topics import SITES, topics_of
from trioder.api.stream.view import StreamFilter, View
from trioder.api.sums import sum_columns
from trioder.control.alarms.register import AlarmRegister
from trioder.control.dispatcher import Dispatcher
from trioder.control.schedules.service import Schedules
from trioder.domain.fleet import Fleet
from trioder.events.bus import EventBus, Subscription
from trioder.events.counters import Counters
from trioder.events.facts import DispatchChanged, Fact, FleetChanged, SessionClosed, SessionOpened
from trioder.gateway.sessions import SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.process.rfc3339 import format_ms
from trioder.process.slices import run_in_slices
from trioder.process.wall_time import WallClock
from trioder.schemas.stream import FleetEvent, MomentEvent

log = structlog.stdlib.get_logger(__name__)

TICK_S = 0.1
# A client is written to at most so often. More often costs more than it shows.
WRITE_EVERY_S = 0.2
# The changes are kept for clients that reconnect.
LINGER_S = 60.0
# What is due once a second: of ticks that may be early or late by one. Sums rather with other events.
_SECOND_S = 1.0 - TICK_S / 2
_SITES_EVERY_S = 2.0 - TICK_S / 2
_SUMS_EARLY_S = 0.15
# A client that takes nothing for so long is dropped.
SEND_TIMEOUT_S = 30.0
# About 200 bytes each.
_MAX_FACTS = 50_000
_GROUPS_A_SLICE = 50
_MAX_IDLE_GROUPS = 64
# After an exception.
_FAILED_S = 1.0
_TOO_MUCH = "too much has changed at once"
_MARKING = (SessionOpened, SessionClosed, DispatchChanged)
_encode = msgspec.json.Encoder().encode


class LiveFeed:
    """What all streams share. `run` is to be run while there may be clients.

    Attributes:
        fleet: the assets.
        latest: their latest samples.
        sessions: which of them are connected.
        dispatcher: what they are under.
        wall: the wall time.
        counters: of streams.
        closing: set when the headend stops: all streams end.
        rows: the encoded values.
        site_rows: the encoded sums of sites.
        ring: the last changes of the other topics.
        topics: the other topics.
        epoch: of the ids of events.
        tick: the last tick that is complete.
        clients: those that are being written to.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        latest: LatestState,
        sessions: SessionRegistry,
        dispatcher: Dispatcher,
        schedules: Schedules,
        alarms: AlarmRegister,
        events: EventBus,
        counters: Counters,
        wall: WallClock,
        rng: random.Random,
        closing: trio.Event,
    ) -> None:
        self.fleet = fleet
        self.latest = latest
        self.sessions = sessions
        self.dispatcher = dispatcher
        self.wall = wall
        self.counters = counters
        self.closing = closing
        self.rows = LiveRows(fleet=fleet, latest=latest, sessions=sessions, dispatcher=dispatcher)
        self.ring = ChangeRing()
        self.topics = topics_of(
            fleet=fleet, dispatcher=dispatcher, schedules=schedules, alarms=alarms, sessions=sessions
        )
        self.epoch = ""
        self.tick = 0
        self.clients: set[Reader] = set()
        self._sums = SiteSums(self)
        self.site_rows = SiteRows(self._sums)
        self._indexes = FleetIndexes(fleet)
        self._events = events
        self._rng = rng
        self._groups: dict[StreamFilter, Group] = {}
        self._users = 0
        self._last_used_s = 0.0
        self._second_s = 0.0
        self._dropped = 0
        self._wanted = trio.Event()
        self._running = trio.Event()

    def __len__(self) -> int:
        """How many streams are open."""
        return self._users

    @asynccontextmanager
    async def open_group(self, which: StreamFilter) -> AsyncIterator[Group]:
        """Take part in the group of a filter; all rows of its assets are there.

        *Resource handling*: the group is removed some time after its last client has left, so that one that
        reconnects is sent no more than what has changed.
        """
        self.counters.streams_opened += 1
        self._users += 1
        self._wanted.set()
        group: Group | None = None
        try:
            await self._running.wait()
            group = self._groups.get(which)
            if group is None:
                group = self._groups[which] = Group(which, self._view(which), tick=self.tick)
                self.rows.watch(group.row_keys)
            group.users += 1
            await self._fill(group)
            yield group
        finally:
            self._users -= 1
            self._last_used_s = trio.current_time()
            if group is not None:
                self._leave(group)

    def at(self) -> str:
        """Return the present time, as in events."""
        return format_ms(self.wall.now_ms())

    async def sums(self, group: Group) -> Event:
        """Return the sums over what a group shows, at most a second old."""
        if group.sums is not None and trio.current_time() - group.sums_s < _SECOND_S:
            return group.sums
        return await self._new_sums(group)

    async def run(self) -> None:
        """Run the feed until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_clients)
            while True:
                await self._wanted.wait()
                facts = {fact for topic in self.topics.values() for fact in topic.facts}
                with self._events.subscribe(
                    *facts, FleetChanged, name="live feed", bound=_MAX_FACTS
                ) as subscription:
                    await self._follow(subscription)

    async def _follow(self, subscription: Subscription[Any]) -> None:
        """Tick while there are clients, and for a minute after that."""
        self.latest.written = set()
        self.epoch = f"{self._rng.getrandbits(32):08x}"
        self.ring.clear(self.tick)
        self._dropped = 0
        self._running.set()
        try:
            while self._users or trio.current_time() - self._last_used_s < LINGER_S:
                started_s = trio.current_time()
                try:
                    await self._run_tick(subscription)
                except Exception:
                    # The headend goes on; the clients begin anew.
                    log.exception("live feed failed")
                    self.tick += 1
                    self.latest.written = set(self.fleet.keys)
                    self._reset("the feed has failed")
                    await trio.sleep(_FAILED_S)
                await trio.sleep_until(max(started_s + TICK_S, trio.current_time()))
        finally:
            self._running = trio.Event()
            self._wanted = trio.Event()
            for group in tuple(self._groups.values()):
                self._remove(group)
            self.latest.written = None
            self.ring.clear(self.tick)
            self._sums.clear()
            self.site_rows.clear()

    async def _run_tick(self, subscription: Subscription[Any]) -> None:
        tick, now_ms, at = self.tick + 1, self.wall.now_ms(), self.at()
        facts, written = subscription.take_all(), self.latest.written or set()
        self.latest.written = set()
        fleet_changed = any(isinstance(fact, FleetChanged) for fact in facts)
        if fleet_changed:
            self._resolve()
            # Also those whose nameplate has changed.
            written.update(self.fleet.keys)
        changes = await self._changes(facts, at)
        for fact in facts:
            if isinstance(fact, _MARKING):
                written.update(fact.asset_keys)
        if self._is_second():
            written.update(await run_in_slices(self.rows.stale_steps(now_ms)))
        self._sums.touch(written)
        changed = self.rows.watched(written)
        await run_in_slices(self.rows.refresh(changed, tick=tick, now_ms=now_ms))
        # Up to the list of groups without a pause: a client that comes later has all of this tick.
        self.tick = tick
        for change in changes:
            self.ring.append(tick, change)
        if fleet_changed:
            self._reset("the fleet file was reloaded")
        elif subscription.dropped > self._dropped:
            self._dropped = subscription.dropped
            self._reset(_TOO_MUCH)
        for number, group in enumerate(tuple(self._groups.values()), 1):
            await self._advance(group, changed, changes, at)
            if number % _GROUPS_A_SLICE == 0:
                await trio.lowlevel.checkpoint()

    async def _new_sums(self, group: Group) -> Event:
        group.sums_s = trio.current_time()
        sums = await run_in_slices(self._sums.steps(group.view))
        group.sums = Event(b"fleet", _encode(FleetEvent(at=self.at(), **sum_columns(sums))))
        return group.sums

    async def _site_events(self, group: Group, at: str) -> list[Event]:
        group.sites_s = trio.current_time()
        sites = group.view.sites or {}
        await run_in_slices(self.site_rows.refresh(sites))
        rows = self.site_rows.changed_since(sites, group.sites_version(self.tick))
        group.site_turns.append((self.tick, self.site_rows.version))
        return [Event(SITES.encode(), data) for data in site_events(rows, b'"%b"' % at.encode())]

    async def _changes(self, facts: Sequence[Fact], at: str) -> list[Change]:
        changes: list[Change] = []
        for topic in self.topics.values() if facts else ():
            own = [fact for fact in facts if isinstance(fact, topic.facts)]
            if own:
                changes += await run_in_slices(topic.changes(own, at))
        return changes

    async def _advance(self, group: Group, changed: set[int], changes: list[Change], at: str) -> None:
        if group.reset_tick == self.tick:
            # Its clients are sent a snapshot.
            return
        if not group.users:
            group.release()
            return
        group.hold(changed, changes)
        quiet_s = trio.current_time() - group.written_s
        if quiet_s < WRITE_EVERY_S - TICK_S / 2:
            return
        try:
            events = await run_in_slices(event_steps(group.view, tuple(group.held_changes)))
        except ChangeForgottenError:
            group.reset(self.tick, _TOO_MUCH)
            return
        if group.held_keys:
            rows, at_json = self.rows.of(group.held_keys), b'"%b"' % at.encode()
            events += [Event(b"telemetry", data) for data in telemetry_events(rows, at_json)]
        due_s = group.sums_s + _SECOND_S - (_SUMS_EARLY_S if events else 0.0)
        if trio.current_time() >= due_s and "fleet" in group.which.topics:
            events.append(await self._new_sums(group))
        if SITES in group.which.topics and trio.current_time() >= group.sites_s + _SITES_EVERY_S:
            events += await self._site_events(group, at)
        if not events and quiet_s >= HEARTBEAT_S - WRITE_EVERY_S:
            events.append(Event(b"heartbeat", _encode(MomentEvent(at=at))))
        if events:
            group.publish(events, epoch=self.epoch, tick=self.tick)
        else:
            group.release()

    def _is_second(self) -> bool:
        """Whether it is time for what is done once a second; drops the clients that do not read then."""
        now_s = trio.current_time()
        if now_s - self._second_s < _SECOND_S:
            return False
        self._second_s = now_s
        for group in tuple(self._groups.values()):
            if not group.users and now_s - group.left_s >= LINGER_S:
                self._remove(group)
        for client in tuple(self.clients):
            if now_s - client.sending_s >= SEND_TIMEOUT_S:
                client.drop()
        return True

    def _resolve(self) -> None:
        """The fleet has changed: resolve all filters anew."""
        self._sums.clear()
        self.site_rows.clear()
        for group in self._groups.values():
            former_keys, group.view = group.row_keys, self._view(group.which)
            self.rows.watch(group.row_keys)
            self.rows.unwatch(former_keys)
            group.sums = None

    def _reset(self, reason: str) -> None:
        self.ring.clear(self.tick)
        for group in self._groups.values():
            group.reset(self.tick, reason)

    def _view(self, which: StreamFilter) -> View:
        return View(which, self._indexes.of(which.scope))

    async def _fill(self, group: Group) -> None:
        missing = self.rows.unknown(group.row_keys)
        await run_in_slices(self.rows.refresh(missing, tick=self.tick, now_ms=self.wall.now_ms()))

    def _leave(self, group: Group) -> None:
        group.users -= 1
        group.left_s = trio.current_time()
        idle = [each for each in self._groups.values() if not each.users]
        if len(idle) > _MAX_IDLE_GROUPS:
            self._remove(min(idle, key=lambda each: each.left_s))

    def _remove(self, group: Group) -> None:
        del self._groups[group.which]
        self.rows.unwatch(group.row_keys)
        self._sums.forget(group.view)

    async def _end_clients(self) -> None:
        await self.closing.wait()
        for group in self._groups.values():
            group.changed.unpark_all()
