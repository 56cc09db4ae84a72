"""Alarms for telemetry of bad quality: one per asset for its values, one per session for its times.

An alarm is raised with the first such sample and cleared after several good ones, so that an intermittent
fault is one alarm. Bounded by the fleet and the sessions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from trioder.domain.fleet import Fleet
from trioder.domain.quality import QUALITY_NAMES, Quality
from trioder.domain.telemetry import Samples
from trioder.events.bus import EventBus
from trioder.events.facts import ConditionCleared, ConditionRaised
from trioder.gateway.sessions import Session
from trioder.process.rfc3339 import format_ms

log = structlog.stdlib.get_logger(__name__)

GOOD_SAMPLES = 3
GOOD_FOR_MS = 10_000
_MAX_IDS_LOGGED = 10
_WRONG_TIME = "it is more than 60 s in the future, or before the year 2000"


@dataclass(slots=True)
class _Alarm:
    """An open alarm; its times are by the headend's clock."""

    since_ms: int
    last_ms: int
    samples: int = 1
    good: int = 0

    def repeat(self, now_ms: int) -> None:
        self.last_ms, self.good = now_ms, 0
        self.samples += 1

    def clock_stepped(self, by_ms: int) -> None:
        self.since_ms += by_ms
        self.last_ms += by_ms

    def is_cleared_by_good(self, now_ms: int) -> bool:
        """Count a good sample; whether it clears the alarm."""
        self.good += 1
        return self.good >= GOOD_SAMPLES and now_ms - self.last_ms >= GOOD_FOR_MS


class ValueAlarms:
    """The alarms of assets whose newest samples are suspect or bad.

    Attributes:
        open: the open alarms, by asset key.
    """

    def __init__(self, fleet: Fleet, events: EventBus) -> None:
        self._fleet = fleet
        self._events = events
        self.open: dict[int, _Alarm] = {}

    def observe(
        self, samples: Samples, session: Session, *, now_ms: int, reason_of: Callable[[int], str] | None
    ) -> None:
        """Raise and clear alarms by samples that are the newest of their assets.

        Args:
            samples: of an agent.
            session: of that agent.
            now_ms: by the headend's clock.
            reason_of: why a row is suspect or bad.
        """
        if samples.quality and reason_of is not None:
            self._raise(samples, session, now_ms, reason_of)
        if self.open and not self.open.keys().isdisjoint(samples.asset_keys):
            self._clear(samples, session, now_ms)

    def clock_stepped(self, by_ms: int) -> None:
        """The headend's clock was stepped by this."""
        for alarm in self.open.values():
            alarm.clock_stepped(by_ms)

    def _raise(
        self, samples: Samples, session: Session, now_ms: int, reason_of: Callable[[int], str]
    ) -> None:
        raised = []
        for row, code in enumerate(samples.quality):
            if not code:
                continue
            key = samples.asset_keys[row]
            alarm = self.open.get(key)
            if alarm is None:
                self.open[key] = _Alarm(now_ms, now_ms)
                raised.append(row)
            else:
                alarm.repeat(now_ms)
        if raised:
            first = raised[0]
            log.warning(
                "values cannot be trusted, left out of sums and splits",
                agent_id=session.agent_id,
                **self._asset_fields([samples.asset_keys[row] for row in raised]),
                quality=QUALITY_NAMES[Quality(samples.quality[first])],
                reason=reason_of(first),
            )
            agent_id, session_id, _ = session.subject
            for row in raised if self._events.wants(ConditionRaised) else ():
                keys = (samples.asset_keys[row],)
                self._events.publish(
                    ConditionRaised("values", agent_id, session_id, keys, reason_of(row), now_ms)
                )

    def _clear(self, samples: Samples, session: Session, now_ms: int) -> None:
        cleared = []
        for row, key in enumerate(samples.asset_keys):
            alarm = self.open.get(key)
            if alarm is None or (samples.quality and samples.quality[row]):
                continue
            if alarm.is_cleared_by_good(now_ms):
                cleared.append((key, self.open.pop(key)))
        if cleared:
            log.info(
                "values can be trusted again",
                agent_id=session.agent_id,
                **self._asset_fields([key for key, _ in cleared]),
                samples=sum(alarm.samples for _, alarm in cleared),
                after_s=(now_ms - min(alarm.since_ms for _, alarm in cleared)) / 1000,
            )
            agent_id, session_id, _ = session.subject
            for key, _ in cleared:
                self._events.publish(ConditionCleared("values", agent_id, session_id, (key,), now_ms))

    def _asset_fields(self, keys: list[int]) -> dict[str, object]:
        assets = [self._fleet.assets[key] for key in keys[:_MAX_IDS_LOGGED]]
        if len(keys) == 1:
            return {"asset_id": assets[0].id, "asset": assets[0].name, "site": assets[0].site_name}
        return {"assets": len(keys), "asset_ids": [asset.id for asset in assets]}


class TimeAlarm:
    """The alarm of one session for sample times that cannot be right.

    Attributes:
        open: the open alarm; None when there is none.
    """

    def __init__(self, session: Session, events: EventBus) -> None:
        self._session = session
        self._events = events
        self.open: _Alarm | None = None

    def observe(self, ts_unix_ms: int, *, wrong: bool, now_ms: int) -> None:
        """Raise or clear the alarm by one message."""
        alarm = self.open
        if wrong and alarm is not None:
            alarm.repeat(now_ms)
        elif wrong:
            self.open = _Alarm(now_ms, now_ms)
            log.warning(
                "telemetry time cannot be right, latest state not updated: the agent's clock is wrong",
                agent_id=self._session.agent_id,
                session_id=self._session.session_id,
                agent_time=format_ms(ts_unix_ms),
                reason=_WRONG_TIME,
                clock_skew_s=self._session.clock_skew_s,
            )
            self._events.publish(ConditionRaised("sample_time", *self._session.subject, _WRONG_TIME, now_ms))
        elif alarm is not None and alarm.is_cleared_by_good(now_ms):
            self.close(now_ms)
            log.info(
                "telemetry has possible times again",
                agent_id=self._session.agent_id,
                session_id=self._session.session_id,
                messages=alarm.samples,
                after_s=(now_ms - alarm.since_ms) / 1000,
            )

    def close(self, now_ms: int) -> None:
        """Clear the alarm, if it is open: its condition or its session has ended."""
        if self.open is not None:
            self.open = None
            self._events.publish(ConditionCleared("sample_time", *self._session.subject, now_ms))

    def clock_stepped(self, by_ms: int) -> None:
        """The headend's clock was stepped by this."""
        if self.open is not None:
            self.open.clock_stepped(by_ms)
