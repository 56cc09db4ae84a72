"""The alarm engine: once a second, polls are made and conditions become alarms. Delays run on Trio's clock.

Conditions begin and end in `fact_handlers` and `polls`.
"""

import random
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

import structlog
import trio

from trioder.control.alarms.agent_events import AgentEventRecorder
from trioder.control.alarms.agents import KnownAgents
from trioder.control.alarms.conditions import Conditions
from trioder.control.alarms.describe import describe_steps
from trioder.control.alarms.fact_handlers import AWAY, FactHandlers
from trioder.control.alarms.grouping import Change, Grouping
from trioder.control.alarms.polls import Polls
from trioder.control.alarms.probes import HostPaths
from trioder.control.alarms.recovery import AlarmRecovery
from trioder.control.alarms.register import AlarmRegister
from trioder.control.alarms.site_excess import SiteExcess
from trioder.control.dispatcher import Dispatcher
from trioder.domain.access import ALL_TENANTS, Scope
from trioder.domain.alarms import (
    Alarm,
    AlarmFilter,
    AlarmKind,
    AlarmSource,
    Severity,
)
from trioder.domain.fleet import Fleet
from trioder.events.bus import EventBus
from trioder.events.counters import Counters
from trioder.gateway.sessions import SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.ingest.service import Ingest
from trioder.process.slices import Steps, parts_of, run_in_slices
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store, StoreUnavailableError

log = structlog.stdlib.get_logger(__name__)

# Until agents have had the time to connect, nothing is away, and what was open stays open.
START_GRACE_S = 60.0
_TICK_S = 1.0
# A fleet has far fewer open alarms: they are grouped.
_MAX_RESTORED = 10_000
# Beyond it the alarms from before the start are read later.
_READ_WITHIN_S = 5.0
# The cost of beginning or ending one condition, and of one alarm.
_CONDITION_US = 4.0
_ALARM_US = 40.0


class AlarmEngine:
    """Raises, groups and clears all alarms.

    Attributes:
        register: the open alarms, and the last cleared ones.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        sessions: SessionRegistry,
        latest: LatestState,
        ingest: Ingest,
        dispatcher: Dispatcher,
        store: Store,
        counters: Counters,
        events: EventBus,
        wall: WallClock,
        rng: random.Random,
        host: HostPaths | None = None,
    ) -> None:
        self.register = AlarmRegister(fleet=fleet, store=store, counters=counters, events=events, wall=wall)
        self._fleet = fleet
        self._sessions = sessions
        self._latest = latest
        self._dispatcher = dispatcher
        self._store = store
        self._counters = counters
        self._wall = wall
        self._rng = rng
        self._agents = KnownAgents(fleet)
        self._conditions = Conditions()
        self._grouping = Grouping(
            group_of=self._group_of, tenant_of=self._tenant_of, is_whole=self._is_one_alarm
        )
        self._recovery = AlarmRecovery(
            fleet=fleet,
            sessions=sessions,
            agents=self._agents,
            register=self.register,
            conditions=self._conditions,
            grouping=self._grouping,
            group_of=self._group_of,
        )
        self._agent_events = AgentEventRecorder(
            fleet=fleet, agents=self._agents, record=store.record_event, counters=counters, wall=wall
        )
        self._polls = Polls(
            fleet=fleet,
            sessions=sessions,
            latest=latest,
            ingest=ingest,
            store=store,
            wall=wall,
            host=host or HostPaths(),
            begin=self.begin,
            end=self.end,
        )
        self._site_excess = SiteExcess(
            limits=dispatcher.site_limits,
            site_power=dispatcher.site_power,
            latest=latest,
            wall=wall,
            begin=self.begin,
            end=self.end,
        )
        self._grace_ends_s: float | None = trio.current_time() + START_GRACE_S
        self._restored = False
        self._facts = FactHandlers(
            fleet=fleet,
            sessions=sessions,
            latest=latest,
            wall=wall,
            agents=self._agents,
            conditions=self._conditions,
            grouping=self._grouping,
            agent_events=self._agent_events,
            polls=self._polls,
            begin=self.begin,
            end=self.end,
        )
        self._facts.handle(events)

    def begin(
        self,
        kind: AlarmKind,
        source: AlarmSource,
        reason: str,
        *,
        value: float | None = None,
        severity: Severity | None = None,
    ) -> None:
        """A condition is seen; `severity` where it is not that of the rule."""
        changed = self._conditions.begin(
            kind,
            source,
            now_s=trio.current_time(),
            reason=reason,
            value=value,
            severity=severity,
        )
        if changed and (condition := self._conditions.get(kind, source)) is not None:
            self._grouping.update(condition)

    def end(self, kind: AlarmKind, source: AlarmSource) -> None:
        """A condition is absent."""
        # Of each change of a setpoint: there is hardly ever one.
        if self._conditions.get(kind, source) is not None:
            self._conditions.end(kind, source, now_s=trio.current_time())

    async def run(self) -> None:
        """Poll, and raise and clear alarms, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._polls.run_host)
            while True:
                started_s = trio.current_time()
                if not self._restored:
                    await self.restore()
                await run_in_slices(self._polls.steps())
                await run_in_slices(self._site_excess.steps())
                await run_in_slices(self._tick_steps())
                await trio.sleep_until(started_s + _TICK_S)

    async def restore(self) -> None:
        """Read the alarms that were open when the headend before this one stopped, if it is possible."""
        found: Sequence[Alarm] | None = None
        with trio.move_on_after(_READ_WITHIN_S), suppress(StoreUnavailableError):
            found = await self._store.open_alarms(limit=_MAX_RESTORED)
        if found is None:
            return
        self._restored = True
        # Those of this headend are in memory.
        alarms = [alarm for alarm in found if self.register.find(alarm.alarm_id) is None]
        if not alarms:
            return
        now_s = trio.current_time()
        self._grace_ends_s = max(self._grace_ends_s or 0.0, now_s + START_GRACE_S)
        self._facts.is_in_grace = True
        for alarm in alarms:
            cleared = self._recovery.recover(
                alarm, now_s=now_s, now_ms=self._wall.now_ms(), grace_ends_s=self._grace_ends_s
            )
            if cleared is not None:
                self._store.record_alarm(cleared)
        log.info("open alarms restored", alarms=len(self.register))

    def find(self, alarm_id: str) -> Alarm | None:
        """Return an alarm that is in memory."""
        return self.register.find(alarm_id)

    async def newest(self, which: AlarmFilter, *, limit: int) -> Sequence[Alarm]:
        """Return the newest alarms that match, newest first; open ones also while the database is away.

        Raises:
            StoreUnavailableError: cleared alarms are asked for, and the database does not answer.
        """
        in_memory = self.register.newest(which, limit=limit)
        if which.state == "open" or self._store.health == "disabled":
            await trio.lowlevel.checkpoint()
            return in_memory
        recorded = await self._store.alarms(which, limit=limit)
        # What is in memory may be newer than what is written; or no longer match.
        by_id = {alarm.alarm_id: alarm for alarm in recorded if self.register.find(alarm.alarm_id) is None}
        by_id |= {alarm.alarm_id: alarm for alarm in in_memory}
        return sorted(by_id.values(), key=lambda alarm: alarm.order, reverse=True)[:limit]

    async def read(self, alarm_id: str, *, scope: Scope) -> Alarm | None:
        """Return the alarm with this id, from memory or the database; None if there is none in the scope.

        Raises:
            StoreUnavailableError: it is not in memory, and the database does not answer.
        """
        found = self.register.find(alarm_id)
        if found is None:
            return await self._store.find_alarm(alarm_id, scope=scope)
        await trio.lowlevel.checkpoint()
        return found if AlarmFilter(scope=scope).matches(found) else None

    # Conditions become alarms.

    def _tick_steps(self) -> Steps[None]:
        now_s = trio.current_time()
        yield from self._facts.value_steps()
        grace_ended = self._grace_ends_s is not None and now_s >= self._grace_ends_s
        if grace_ended:
            self._grace_ends_s = None
            self._facts.is_in_grace = False
            yield from self._away_steps()
        for condition in self._conditions.pop_due(now_s):
            self._grouping.update(condition)
            yield _CONDITION_US
        if grace_ended:
            self._grouping.release_adopted()
        for change in self._grouping.changes():
            yield from self._apply_steps(change)
            yield _ALARM_US * (len(change.wanted) + len(change.shown))
        self._agent_events.report_dropped()
        self._counters.alarm_conditions_dropped = self._conditions.dropped

    def _away_steps(self) -> Steps[None]:
        """The assets that no agent drives when the grace has ended, and setpoints that deviate."""
        for part in parts_of(self._fleet.keys):
            for key in part:
                if self._sessions.session_of(key) is None:
                    self.begin("away", self._asset(key), AWAY)
                setpoint = self._dispatcher.in_force(key)
                if setpoint is not None and setpoint.state == "deviating":
                    self.begin("deviating", self._asset(key), setpoint.reason or setpoint.state)
            yield _CONDITION_US * len(part)

    def _apply_steps(self, change: Change) -> Steps[None]:
        for source, wanted in change.wanted.items():
            described = yield from describe_steps(change.kind, wanted, fleet=self._fleet, agents=self._agents)
            shown = self.register.get_open(change.kind, source)
            if shown is None:
                self.register.raise_alarm(
                    described.alarm(self._new_id(), change.kind, source, self._wall.now_ms())
                )
            else:
                self.register.update(shown, described.update(shown))
        for source in change.shown - change.wanted.keys():
            shown = self.register.get_open(change.kind, source)
            if shown is not None:
                condition = self._conditions.get(change.kind, source)
                is_regrouped = change.lasts and (condition is None or condition.is_active)
                self.register.clear(shown, reason="it is grouped anew, and lasts" if is_regrouped else "")

    def _new_id(self) -> str:
        return str(UUID(int=self._rng.getrandbits(128), version=4))

    # Where conditions belong.

    def _asset(self, key: int) -> AlarmSource:
        return AlarmSource("asset", self._fleet.asset_ids[key])

    def _group_of(self, source: AlarmSource) -> AlarmSource:
        if source.kind == "agent":
            return AlarmSource("agent", source.id)
        key = self._fleet.index_by_id.get(source.id) if source.kind == "asset" else None
        if key is None:
            return source
        agent_id = self._agents.agent_of(key)
        return (
            AlarmSource("site", self._fleet.assets[key].site_id)
            if agent_id is None
            else AlarmSource("agent", agent_id)
        )

    def _tenant_of(self, group: AlarmSource) -> str:
        match group.kind:
            case "agent":
                return self._agents.scope_of(self._agents.keys_of(group.id))[0]
            case "site":
                site = self._fleet.sites_by_id.get(group.id) or self._fleet.former_sites.get(group.id)
                return ALL_TENANTS if site is None else site.tenant
            case _:
                return ALL_TENANTS

    def _is_one_alarm(self, kind: AlarmKind, group: AlarmSource) -> bool:
        return kind == "away" and group.kind == "agent" and not self._agents.is_connected(group.id)
