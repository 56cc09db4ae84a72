"""Measures the skew of the agents' clocks in each session, and raises an alarm for a large one.

The estimation from readings is in `trioder.domain.clock_skew`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import structlog
import trio

from trioder.domain.clock_skew import SkewFilter
from trioder.events.bus import EventBus
from trioder.events.counters import Counters
from trioder.events.facts import ConditionCleared, ConditionRaised
from trioder.gateway.sessions import Session
from trioder.process.clock_discipline import ClockStep
from trioder.process.wall_time import WallClock
from trioder.wire.records import Batch, Heartbeat, Registration

log = structlog.stdlib.get_logger(__name__)

# The clock of an agent that does not report it is read from one sample a second.
_SAMPLE_EVERY_S = 1.0

RAISE_BEYOND_S = 2.0
CLEAR_BELOW_S = 1.0


class SkewSummary(NamedTuple):
    """The skews of many agents; seconds, + is ahead of the headend. None without a known one."""

    least_s: float | None
    most_s: float | None
    alarmed: int
    unknown: int


@dataclass(slots=True)
class _AgentClock:
    """The readings of one agent's clock in its session.

    Attributes:
        reported: the agent reports its clock, in Register or heartbeats; samples, which may be old, are then
            not compared.
        granted_s: when Registered was sent, on Trio's clock; None before, and once its round trip is known.
        next_s: when to compare a sample again, on Trio's clock.
        newest_seq: the newest batch compared.
        newest_ms: the time of the newest single sample compared.
    """

    readings: SkewFilter = field(default_factory=partial(SkewFilter, of_samples=True))
    reported: bool = False
    granted_s: float | None = None
    alarmed: bool = False
    next_s: float = 0.0
    newest_seq: int = 0
    newest_ms: int | None = None


class AgentClocks:
    """Keeps `clock_skew_s` and `clock_error_s` of the sessions that drive assets.

    Attributes:
        version: changes with every change of one of them.
    """

    def __init__(self, *, counters: Counters, events: EventBus, wall: WallClock) -> None:
        self._counters = counters
        self._events = events
        self._wall = wall
        self._clocks: dict[str, _AgentClock] = {}
        self.version = 0

    def session_opened(self, session: Session, registration: Registration) -> None:
        """An agent has registered."""
        if session.backlog_only:
            return
        clock = self._clocks[session.session_id] = _AgentClock()
        if registration.clock_unix_ms is not None:
            clock.reported, clock.readings = True, SkewFilter()
            self._compare(session, clock, registration.clock_unix_ms)

    def session_closed(self, session: Session) -> None:
        """The session has ended."""
        clock = self._clocks.pop(session.session_id, None)
        if clock is not None and clock.alarmed:
            self._publish_cleared(session)

    def granted(self, session: Session) -> None:
        """Registered is about to be sent; the agent's first heartbeat is the response."""
        clock = self._clocks.get(session.session_id)
        if clock is not None and clock.reported:
            clock.granted_s = trio.current_time()

    def heartbeat(self, session: Session, heartbeat: Heartbeat) -> None:
        """A heartbeat was received."""
        clock = self._clocks.get(session.session_id)
        if clock is None or heartbeat.clock_unix_ms is None:
            return
        if not clock.reported:
            clock.reported, clock.readings = True, SkewFilter()
        if clock.granted_s is not None:
            clock.readings.round_trip(trio.current_time() - clock.granted_s)
            clock.granted_s = None
        self._compare(session, clock, heartbeat.clock_unix_ms)

    def batch(self, session: Session, batch: Batch) -> None:
        """A batch was received: its time is a reading, if the agent does not report its clock."""
        clock = self._clocks.get(session.session_id)
        if clock is None or clock.reported or batch.batch_seq <= clock.newest_seq:
            return
        clock.newest_seq = batch.batch_seq
        self._compare_sample(session, clock, batch.ts_unix_ms)

    def sample(self, session: Session, ts_unix_ms: int) -> None:
        """A single sample was received: likewise, unless it repeats the last one."""
        clock = self._clocks.get(session.session_id)
        if clock is None or clock.reported or ts_unix_ms == clock.newest_ms:
            return
        clock.newest_ms = ts_unix_ms
        self._compare_sample(session, clock, ts_unix_ms)

    def agent_stepped(self, session: Session) -> None:
        """The agent reports a clock step; the heartbeat before that report has the new time already."""
        self._counters.agent_clock_steps += 1
        clock = self._clocks.get(session.session_id)
        if clock is not None:
            clock.readings.keep_newest()
            self._update(session, clock)

    def own_clock_stepped(self, step: ClockStep, sessions: Iterable[Session]) -> None:
        """The headend's clock was stepped, or its machine was suspended."""
        for session in sessions:
            clock = self._clocks.get(session.session_id)
            if clock is None:
                continue
            if step.suspended_s:
                # Readings since the resumption were compared with a clock that lagged by it.
                clock.readings.forget()
                clock.granted_s = None
            else:
                clock.readings.our_clock_stepped(step.by_s)
                self._update(session, clock)

    def summary(self, sessions: Iterable[Session]) -> SkewSummary:
        """Summarize the clocks of these sessions."""
        clocks = [
            (session.clock_skew_s, clock.alarmed)
            for session in sessions
            if (clock := self._clocks.get(session.session_id)) is not None
        ]
        skews_s = [skew_s for skew_s, _ in clocks if skew_s is not None]
        return SkewSummary(
            least_s=min(skews_s, default=None),
            most_s=max(skews_s, default=None),
            alarmed=sum(alarmed for _, alarmed in clocks),
            unknown=len(clocks) - len(skews_s),
        )

    def _compare_sample(self, session: Session, clock: _AgentClock, ts_unix_ms: int) -> None:
        now_s = trio.current_time()
        if now_s >= clock.next_s:
            clock.next_s = now_s + _SAMPLE_EVERY_S
            self._compare(session, clock, ts_unix_ms)

    def _compare(self, session: Session, clock: _AgentClock, clock_unix_ms: int) -> None:
        ahead_s = (clock_unix_ms - self._wall.now_ms()) / 1000
        clock.readings.observe(ahead_s, trio.current_time())
        self._update(session, clock)

    def _update(self, session: Session, clock: _AgentClock) -> None:
        estimate = clock.readings.estimate
        settled = clock.readings.settled(trio.current_time())
        if estimate is None or not (settled or clock.reported):
            # Samples of a backlog may be the first: they are no evidence of a skew.
            return
        session.clock_skew_s, session.clock_error_s = estimate
        self.version += 1
        if not settled:
            return
        skew_s, error_s = abs(estimate.skew_s), estimate.error_s or 0.0
        if not clock.alarmed and skew_s - error_s > RAISE_BEYOND_S:
            clock.alarmed = True
            self._counters.clock_skew_alarms += 1
            log.warning("clock skew", **_log_fields(session))
            reason = f"the agent's clock differs from the headend's by {estimate.skew_s:+.3f} s"
            self._events.publish(ConditionRaised("clock_skew", *session.subject, reason, self._wall.now_ms()))
        elif clock.alarmed and skew_s < CLEAR_BELOW_S:
            clock.alarmed = False
            log.info("clock skew cleared", **_log_fields(session))
            self._publish_cleared(session)

    def _publish_cleared(self, session: Session) -> None:
        self._events.publish(ConditionCleared("clock_skew", *session.subject, self._wall.now_ms()))


def _log_fields(session: Session) -> dict[str, object]:
    error_s = session.clock_error_s
    return {
        "agent_id": session.agent_id,
        "session_id": session.session_id,
        "assets": len(session.asset_keys),
        "clock_skew_s": round(session.clock_skew_s or 0.0, 3),
        "clock_error_s": None if error_s is None else round(error_s, 3),
    }
