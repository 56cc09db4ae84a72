"""The facts that the headend's parts publish: what has happened, in the terms of the domain. Immutable.

Times are Unix ms by the headend's clock, unless stated otherwise; asset keys are positions in `Fleet.assets`.
A newer fact of the same `key` replaces an older one where a subscription keeps only the latest of each key.
"""

from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple, Protocol

from trioder.domain.alarms import Alarm, AlarmTransition
from trioder.domain.fleet import FleetChange
from trioder.domain.schedules import Occurrence, Schedule, ScheduleTransition
from trioder.domain.telemetry import Samples

ConditionKind = Literal["values", "sample_time", "clock_skew"]


class Fact(Protocol):
    """What can be published: any of the classes below."""

    @property
    def key(self) -> Hashable:
        """What the fact is about; facts of different types may share it, as an alarm's two do."""


# Tuples, for one of these is made for every message of an agent: a frozen dataclass takes twice the time.
class TelemetryAccepted(NamedTuple):
    """An agent's samples, with their quality, have entered the latest state where nothing newer was known.

    Samples of an impossible time, repeats of single samples and an outbox's backlog that another agent
    delivers are not announced. The database may not have the samples yet: see `TelemetryCommitted`.

    Attributes:
        samples: not to be modified.
        agent_id: of the agent that sent them.
        received_ms: when they were received.
        made_ms: when they were made, corrected for the skew of the agent's clock; <= received_ms.
    """

    samples: Samples
    agent_id: str
    received_ms: int
    made_ms: int

    @property
    def key(self) -> Hashable:
        """The agent and the assets."""
        return "telemetry", self.agent_id, tuple(self.samples.asset_keys)


class TelemetryCommitted(NamedTuple):
    """The store has committed every batch of an outbox up to this one.

    Attributes:
        outbox_id: of the agent's outbox.
        batch_seq: the last committed batch.
        ts_unix_ms: the time of that batch by the agent's clock; None when that is not known.
    """

    outbox_id: str
    batch_seq: int
    ts_unix_ms: int | None

    @property
    def key(self) -> Hashable:
        """The outbox."""
        return "outbox", self.outbox_id


class SessionOpened(NamedTuple):
    """An agent has registered, and its claims are granted.

    Attributes:
        agent_id: as the agent names itself.
        session_id: a UUID.
        asset_keys: the assets that it drives; none for a session that only delivers a backlog.
        epoch: the agent's boot; 0 when it reports none.
        peer: its address, host:port.
        opened_ms: when.
    """

    agent_id: str
    session_id: str
    asset_keys: Sequence[int]
    epoch: int
    peer: str
    opened_ms: int

    @property
    def key(self) -> Hashable:
        """The session."""
        return "session", self.session_id


class SessionClosed(NamedTuple):
    """A session has ended. One that superseded it may have been opened before.

    Attributes:
        agent_id: as in `SessionOpened`.
        session_id: as in `SessionOpened`.
        asset_keys: the assets that it drove last.
        reason: in words.
        closed_ms: when.
    """

    agent_id: str
    session_id: str
    asset_keys: Sequence[int]
    reason: str
    closed_ms: int

    @property
    def key(self) -> Hashable:
        """The session."""
        return "session", self.session_id


class DispatchChanged(NamedTuple):
    """A dispatch, or the setpoints of some of its assets, have changed.

    Attributes:
        dispatch_id: a UUID; the dispatcher has the whole record.
        asset_keys: the assets whose setpoints have changed; empty when only the dispatch itself has.
        state: the state that the one asset's setpoint has entered; None for any other change.
        reason: why, in words; None when there is nothing to say.
        changed_ms: when.
    """

    dispatch_id: str
    asset_keys: Sequence[int]
    state: str | None
    reason: str | None
    changed_ms: int

    @property
    def key(self) -> Hashable:
        """The dispatch and the assets."""
        return "dispatch", self.dispatch_id, tuple(self.asset_keys)


class ConditionRaised(NamedTuple):
    """A condition has begun; `control.alarms` makes an alarm of it: see `AlarmChanged`.

    Attributes:
        kind: `values` that an asset cannot have, or that its device flags; a `sample_time` that cannot be;
            a `clock_skew` of more than 2 s. The first is of one asset, the others are of a session.
        agent_id: of the agent that the condition was seen at.
        session_id: of its session.
        asset_keys: the assets concerned.
        reason: in words.
        raised_ms: when.
    """

    kind: ConditionKind
    agent_id: str
    session_id: str
    asset_keys: Sequence[int]
    reason: str
    raised_ms: int

    @property
    def key(self) -> Hashable:
        """The condition."""
        return _condition_key(self)


class ConditionCleared(NamedTuple):
    """A condition is over, or can no longer be observed because its session has ended.

    One of an asset that leaves the fleet is not cleared: `FleetChanged` ends it.

    Attributes:
        kind: as in `ConditionRaised`.
        agent_id: as in `ConditionRaised`.
        session_id: as in `ConditionRaised`; for `values` it may be a later session.
        asset_keys: the assets concerned.
        cleared_ms: when.
    """

    kind: ConditionKind
    agent_id: str
    session_id: str
    asset_keys: Sequence[int]
    cleared_ms: int

    @property
    def key(self) -> Hashable:
        """The condition."""
        return _condition_key(self)


class AlarmChanged(NamedTuple):
    """An alarm was raised, updated (its count or severity), acknowledged or cleared.

    Attributes:
        alarm: as it is now.
        transition: what has changed.
    """

    alarm: Alarm
    transition: AlarmTransition

    @property
    def key(self) -> Hashable:
        """The alarm."""
        return "alarm", self.alarm.alarm_id


class ScheduleChanged(NamedTuple):
    """A schedule was created or cancelled, or an occurrence of it is to be skipped.

    Attributes:
        schedule: as it is now.
        transition: what has changed.
        changed_ms: when.
    """

    schedule: Schedule
    transition: ScheduleTransition
    changed_ms: int

    @property
    def key(self) -> Hashable:
        """The schedule."""
        return "schedule", self.schedule.schedule_id


class OccurrenceChanged(NamedTuple):
    """An occurrence of a schedule has entered another state, or one of its steps was begun or refused.

    Attributes:
        occurrence: as it is now; its steps name their dispatches.
        changed_ms: when.
    """

    occurrence: Occurrence
    changed_ms: int

    @property
    def key(self) -> Hashable:
        """The occurrence."""
        return "occurrence", self.occurrence.schedule_id, self.occurrence.start_ms


class BatchesLost(NamedTuple):
    """An agent has dropped telemetry batches before they were acknowledged.

    Attributes:
        agent_id: of the agent.
        batches: how many.
        lost_ms: when that was found.
    """

    agent_id: str
    batches: int
    lost_ms: int

    @property
    def key(self) -> Hashable:
        """The agent."""
        return "lost", self.agent_id


class RegistrationChecked(NamedTuple):
    """What a registration differs in from the fleet file; before its session is opened, or refused.

    Attributes:
        agent_id: as the agent names itself.
        differing_keys: the assets whose nameplates differ.
        unknown_ids: the registered assets that are not in the fleet, at most 10 of them.
        unknown_count: how many are not.
        certificate_expires_s: until when its certificate is valid, Unix time; None without one.
    """

    agent_id: str
    differing_keys: Sequence[int]
    unknown_ids: Sequence[str]
    unknown_count: int
    certificate_expires_s: float | None

    @property
    def key(self) -> Hashable:
        """The agent."""
        return "registration", self.agent_id


class AgentEvent(NamedTuple):
    """An agent has reported an event of its own.

    Attributes:
        agent_id: of the agent.
        session_id: of its session.
        asset_id: as the agent names the asset; empty when it is about none. Not checked.
        event_type: one of the agent's own types.
        severity: as the agent rates it.
        message: in words.
        ts_unix_ms: when it happened, by the agent's clock.
    """

    agent_id: str
    session_id: str
    asset_id: str
    event_type: str
    severity: str
    message: str
    ts_unix_ms: int

    @property
    def key(self) -> Hashable:
        """The agent, the asset and the type."""
        return "event", self.agent_id, self.asset_id, self.event_type


class FleetChanged(NamedTuple):
    """The fleet file was reloaded; the fleet is the new one already.

    Attributes:
        change: the assets added, changed and retired, by key.
    """

    change: FleetChange

    @property
    def key(self) -> Hashable:
        """There is one fleet."""
        return "fleet"


def _condition_key(fact: ConditionRaised | ConditionCleared) -> Hashable:
    subject = fact.asset_keys[0] if fact.kind == "values" else fact.session_id
    return "condition", fact.kind, subject
