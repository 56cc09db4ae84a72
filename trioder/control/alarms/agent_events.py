"""Records the events that agents report, as many as each may send, and says which of them are faults."""

from collections import Counter, OrderedDict
from collections.abc import Callable

import trio

from trioder.access.limits import Rate, RateLimit
from trioder.control.alarms.agents import KnownAgents
from trioder.domain.alarms import EventRecord
from trioder.domain.fleet import Fleet
from trioder.events.counters import Counters
from trioder.events.facts import AgentEvent
from trioder.process.wall_time import WallClock

# Of one agent: a shard of 100 batteries may report something of each at once.
EVENTS_OF_AN_AGENT = Rate(per_s=2.0, burst=200)
# How often it is recorded that events were dropped.
REPORT_DROPPED_EVERY_S = 10.0
_MAX_TYPE_LENGTH = 256


class AgentEventRecorder:
    """Records events of agents."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        agents: KnownAgents,
        record: Callable[[EventRecord], None],
        counters: Counters,
        wall: WallClock,
        rate: Rate = EVENTS_OF_AN_AGENT,
    ) -> None:
        self._fleet = fleet
        self._agents = agents
        self._record = record
        self._counters = counters
        self._wall = wall
        self._limit = RateLimit(rate)
        self._dropped: Counter[str] = Counter()
        self._reported_s: OrderedDict[str, float] = OrderedDict()

    def own_asset(self, event: AgentEvent) -> int | None:
        """The asset that an event is about, if its agent drives it; agents may name any."""
        key = self._fleet.index_by_id.get(event.asset_id.lower()) if event.asset_id else None
        return key if key is not None and self._agents.agent_of(key) == event.agent_id else None

    def record(self, event: AgentEvent) -> None:
        """Record an event, unless its agent has sent too many."""
        if self._limit.take(event.agent_id, trio.current_time()):
            self._counters.agent_events_dropped += 1
            self._dropped[event.agent_id] += 1
            return
        key = self.own_asset(event)
        keys = self._agents.keys_of(event.agent_id) if key is None else (key,)
        tenant, site_ids = self._agents.scope_of(keys)
        self._record(
            EventRecord(
                at_ms=event.ts_unix_ms,
                origin="agent",
                agent_id=event.agent_id,
                asset_id="" if key is None else self._fleet.asset_ids[key],
                tenant=tenant,
                site_ids=site_ids,
                event_type=event.event_type[:_MAX_TYPE_LENGTH],
                severity=event.severity,
                message=event.message,
            )
        )

    def report_dropped(self) -> None:
        """Record how many events were dropped; to be called about once a second."""
        now_s = trio.current_time()
        for agent_id in tuple(self._dropped):
            if now_s - self._reported_s.get(agent_id, -REPORT_DROPPED_EVERY_S) < REPORT_DROPPED_EVERY_S:
                continue
            tenant, site_ids = self._agents.scope_of(self._agents.keys_of(agent_id))
            self._record(
                EventRecord(
                    at_ms=self._wall.now_ms(),
                    origin="headend",
                    agent_id=agent_id,
                    asset_id="",
                    tenant=tenant,
                    site_ids=site_ids,
                    event_type="EVENTS_DROPPED",
                    severity="warning",
                    message=f"{self._dropped.pop(agent_id)} events of the agent were not recorded: too many",
                )
            )
            self._reported_s[agent_id] = now_s
            self._reported_s.move_to_end(agent_id)
        while self._reported_s and now_s - next(iter(self._reported_s.values())) >= REPORT_DROPPED_EVERY_S:
            self._reported_s.popitem(last=False)
