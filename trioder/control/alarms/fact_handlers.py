"""Conditions that begin and end with facts: sessions, qualities, dispatches, agents' events, reloads.

The handlers cost what has changed, not what was received.
"""

from trioder.control.alarms.agent_events import AgentEventRecorder
from trioder.control.alarms.agents import KnownAgents
from trioder.control.alarms.conditions import Condition, Conditions
from trioder.control.alarms.grouping import Grouping
from trioder.control.alarms.polls import Begin, End, Polls
from trioder.domain.alarms import AlarmSource, cleared_type, severity_of_event
from trioder.domain.fleet import Fleet
from trioder.domain.lifecycle import STATES
from trioder.events import facts
from trioder.events.bus import EventBus
from trioder.gateway.sessions import SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.process.slices import Steps, parts_of
from trioder.process.wall_time import WallClock

AWAY = "no agent drives it"
# The cost of beginning or ending one condition.
_CONDITION_US = 4.0
# What ends a setpoint that deviates, or replaces it.
_NOT_DEVIATING = frozenset(STATES) - {"accepted", "clamped", "deviating"}
_ACCEPTED = frozenset({"accepted", "clamped", "tracking"})


class FactHandlers:
    """Handles facts; `begin` and `end` get what follows from them.

    Attributes:
        is_in_grace: whether agents may not have had the time to connect.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        sessions: SessionRegistry,
        latest: LatestState,
        wall: WallClock,
        agents: KnownAgents,
        conditions: Conditions,
        grouping: Grouping,
        agent_events: AgentEventRecorder,
        polls: Polls,
        begin: Begin,
        end: End,
    ) -> None:
        self.is_in_grace = True
        self._fleet = fleet
        self._sessions = sessions
        self._latest = latest
        self._wall = wall
        self._agents = agents
        self._conditions = conditions
        self._grouping = grouping
        self._agent_events = agent_events
        self._polls = polls
        self._begin = begin
        self._end = end
        # Assets with suspect or bad values, by key: which of the two may change.
        self._value_reasons: dict[int, str] = {}

    def handle(self, events: EventBus) -> None:
        """Receive facts from now on."""
        events.handle(facts.SessionOpened, self._session_opened)
        events.handle(facts.SessionClosed, self._session_closed)
        events.handle(facts.RegistrationChecked, self._registration_checked)
        events.handle(facts.ConditionRaised, self._condition_raised)
        events.handle(facts.ConditionCleared, self._condition_cleared)
        events.handle(facts.DispatchChanged, self._dispatch_changed)
        events.handle(facts.BatchesLost, self._batches_lost)
        events.handle(facts.AgentEvent, self._agent_event)
        events.handle(facts.FleetChanged, self._fleet_changed)

    def value_steps(self) -> Steps[None]:
        """Check whether values are suspect or bad, of assets with either; in steps."""
        for part in parts_of(tuple(self._value_reasons)):
            for key in part:
                if key in self._value_reasons:
                    self._check_values(key)
            yield _CONDITION_US * len(part)

    def _session_opened(self, fact: facts.SessionOpened) -> None:
        if not fact.asset_keys:
            return
        moved = self._agents.opened(fact.agent_id, fact.session_id, fact.asset_keys)
        for key in fact.asset_keys:
            self._end("away", self._asset(key))
        for key in moved:
            for condition in self._conditions.of_source(self._asset(key)):
                self._grouping.regroup(condition.kind, condition.source)
        self._grouping.touch("away", AlarmSource("agent", fact.agent_id))

    def _session_closed(self, fact: facts.SessionClosed) -> None:
        if not self._agents.closed(fact.agent_id, fact.session_id):
            return
        for key in fact.asset_keys:
            if self._sessions.session_of(key) is None:
                self._begin("away", self._asset(key), AWAY)
                self._end("stale", self._asset(key))
        self._polls.session_closed(fact.agent_id)
        self._grouping.touch("away", AlarmSource("agent", fact.agent_id))

    def _registration_checked(self, fact: facts.RegistrationChecked) -> None:
        agent = AlarmSource("agent", fact.agent_id)
        if fact.differing_keys:
            first = self._fleet.assets[fact.differing_keys[0]]
            count = len(fact.differing_keys)
            self._begin(
                "nameplate_differs",
                agent,
                f"{count} nameplates differ from the fleet file, the first of {first.name}",
                value=float(count),
            )
        else:
            self._end("nameplate_differs", agent)
        if fact.unknown_count:
            listed = ", ".join(fact.unknown_ids[:3])
            self._begin(
                "unknown_asset",
                agent,
                f"{fact.unknown_count} registered assets are not in the fleet: {listed}",
                value=float(fact.unknown_count),
            )
        else:
            self._end("unknown_asset", agent)
        self._polls.certificate(agent, "the agent's certificate", fact.certificate_expires_s)

    def _condition_raised(self, fact: facts.ConditionRaised) -> None:
        match fact.kind:
            case "values":
                for key in fact.asset_keys:
                    self._value_reasons[key] = fact.reason
                    self._check_values(key)
            case "sample_time" | "clock_skew":
                self._begin(fact.kind, AlarmSource("agent", fact.agent_id), fact.reason)

    def _condition_cleared(self, fact: facts.ConditionCleared) -> None:
        match fact.kind:
            case "values":
                for key in fact.asset_keys:
                    self._value_reasons.pop(key, None)
                    self._end("value_suspect", self._asset(key))
                    self._end("value_bad", self._asset(key))
            case "sample_time" | "clock_skew":
                self._end(fact.kind, AlarmSource("agent", fact.agent_id))

    def _check_values(self, key: int) -> None:
        quality = self._latest.quality(key, self._wall.now_ms())
        if quality in {"suspect", "bad"}:
            is_bad, source = quality == "bad", self._asset(key)
            self._begin("value_bad" if is_bad else "value_suspect", source, self._value_reasons[key])
            self._end("value_suspect" if is_bad else "value_bad", source)

    def _dispatch_changed(self, fact: facts.DispatchChanged) -> None:
        state = fact.state
        if state is None:
            return
        for key in fact.asset_keys:
            source, reason = self._asset(key), fact.reason or state
            if state == "deviating":
                self._begin("deviating", source, reason)
            elif state in _NOT_DEVIATING:
                self._end("deviating", source)
            if state == "rejected":
                self._begin("dispatch_rejected", source, f"the agent rejected {fact.dispatch_id}: {reason}")
            elif state == "not_tracked":
                self._begin("dispatch_not_tracked", source, f"{fact.dispatch_id}: {reason}")
            if state in _ACCEPTED:
                self._end("dispatch_rejected", source)
            if state == "tracking":
                self._end("dispatch_not_tracked", source)

    def _batches_lost(self, fact: facts.BatchesLost) -> None:
        self._begin(
            "gap",
            AlarmSource("agent", fact.agent_id),
            f"{fact.batches} telemetry batches were dropped before they were stored",
            value=float(fact.batches),
        )

    def _agent_event(self, event: facts.AgentEvent) -> None:
        self._agent_events.record(event)
        severity, clears = severity_of_event(event.severity), cleared_type(event.event_type)
        if severity is None and clears is None:
            return
        key = self._agent_events.own_asset(event)
        source = AlarmSource("agent", event.agent_id) if key is None else self._asset(key)
        if clears is not None:
            self._end("device_fault", source._replace(detail=clears))
            # One from before the start, of which the type is not known.
            self._end("device_fault", source)
        elif severity is not None:
            reason = f"{event.event_type}: {event.message}" if event.message else event.event_type
            self._begin("device_fault", source._replace(detail=event.event_type), reason, severity=severity)

    def _fleet_changed(self, fact: facts.FleetChanged) -> None:
        change = fact.change
        for key in change.retired:
            self._value_reasons.pop(key, None)
            for condition in self._conditions.of_source(self._asset(key)):
                self._forget(condition)
        self._agents.retire(change.retired)
        self._polls.retired(change.retired)
        if not self.is_in_grace:
            for key in change.added:
                if self._sessions.session_of(key) is None:
                    self._begin("away", self._asset(key), AWAY)

    def _forget(self, condition: Condition) -> None:
        was_active = self._conditions.forget(condition.kind, condition.source)
        if was_active is not None:
            self._grouping.update(was_active)

    def _asset(self, key: int) -> AlarmSource:
        return AlarmSource("asset", self._fleet.asset_ids[key])
