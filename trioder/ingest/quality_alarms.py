"""One alarm an asset for values that cannot be trusted, and one a session for times: two log lines each.

An alarm begins with the first such sample. It ends after some good ones, so that a value which comes and goes
is one alarm and not many. Bounded by the fleet and the sessions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from trioder.domain.fleet import Fleet
from trioder.domain.quality import QUALITY_NAMES, Quality
from trioder.domain.telemetry import Samples
from trioder.gateway.sessions import Session
from trioder.process.rfc3339 import format_ms

log = structlog.stdlib.get_logger(__name__)

GOOD_SAMPLES = 3
GOOD_FOR_MS = 10_000
_MAX_IDS_LOGGED = 10


@dataclass(slots=True)
class _Alarm:
    """One condition that holds; its times are the headend's."""

    since_ms: int
    last_ms: int
    samples: int = 1
    good: int = 0

    def again(self, now_ms: int) -> None:
        self.last_ms, self.good = now_ms, 0
        self.samples += 1

    def clock_stepped(self, by_ms: int) -> None:
        self.since_ms += by_ms
        self.last_ms += by_ms

    def is_over(self, now_ms: int) -> bool:
        """Count a good sample; whether it was the one that ends the alarm."""
        self.good += 1
        return self.good >= GOOD_SAMPLES and now_ms - self.last_ms >= GOOD_FOR_MS


class ValueAlarms:
    """Follows the assets whose newest samples are suspect or bad."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._open: dict[int, _Alarm] = {}

    def __len__(self) -> int:
        """How many assets have one."""
        return len(self._open)

    def follow(
        self, samples: Samples, *, agent_id: str, now_ms: int, reason_of: Callable[[int], str] | None
    ) -> None:
        """Begin and end alarms by samples that are the newest of their assets.

        Args:
            samples: of an agent.
            agent_id: of that agent.
            now_ms: by the headend's clock.
            reason_of: why a row is suspect or bad.
        """
        if samples.quality and reason_of is not None:
            self._begin(samples, agent_id, now_ms, reason_of)
        if self._open and not self._open.keys().isdisjoint(samples.asset_keys):
            self._end(samples, agent_id, now_ms)

    def clock_stepped(self, by_ms: int) -> None:
        """The headend's own clock was set ahead by this."""
        for alarm in self._open.values():
            alarm.clock_stepped(by_ms)

    def _begin(self, samples: Samples, agent_id: str, now_ms: int, reason_of: Callable[[int], str]) -> None:
        begun = []
        for row, code in enumerate(samples.quality):
            if not code:
                continue
            key = samples.asset_keys[row]
            alarm = self._open.get(key)
            if alarm is None:
                self._open[key] = _Alarm(now_ms, now_ms)
                begun.append(row)
            else:
                alarm.again(now_ms)
        if begun:
            first = begun[0]
            log.warning(
                "values cannot be trusted, left out of sums and splits",
                agent_id=agent_id,
                **self._named([samples.asset_keys[row] for row in begun]),
                quality=QUALITY_NAMES[Quality(samples.quality[first])],
                reason=reason_of(first),
            )

    def _end(self, samples: Samples, agent_id: str, now_ms: int) -> None:
        ended = []
        for row, key in enumerate(samples.asset_keys):
            alarm = self._open.get(key)
            if alarm is None or (samples.quality and samples.quality[row]):
                continue
            if alarm.is_over(now_ms):
                ended.append((key, self._open.pop(key)))
        if ended:
            log.info(
                "values can be trusted again",
                agent_id=agent_id,
                **self._named([key for key, _ in ended]),
                samples=sum(alarm.samples for _, alarm in ended),
                after_s=(now_ms - min(alarm.since_ms for _, alarm in ended)) / 1000,
            )

    def _named(self, keys: list[int]) -> dict[str, object]:
        assets = [self._fleet.assets[key] for key in keys[:_MAX_IDS_LOGGED]]
        if len(keys) == 1:
            return {"asset_id": assets[0].id, "asset": assets[0].name, "site": assets[0].site_name}
        return {"assets": len(keys), "asset_ids": [asset.id for asset in assets]}


class TimeAlarm:
    """Follows one session's times; `wrong` ones are not shown as the latest."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._open: _Alarm | None = None

    @property
    def is_open(self) -> bool:
        """Whether a message of a possible time may end it."""
        return self._open is not None

    def follow(self, ts_unix_ms: int, *, wrong: bool, now_ms: int) -> None:
        """Begin or end the alarm by one message."""
        alarm = self._open
        if wrong and alarm is not None:
            alarm.again(now_ms)
        elif wrong:
            self._open = _Alarm(now_ms, now_ms)
            log.warning(
                "telemetry has a time that cannot be, not shown as the latest: the agent's clock is wrong",
                agent_id=self._session.agent_id,
                session_id=self._session.session_id,
                agent_time=format_ms(ts_unix_ms),
                reason="it is more than 60 s in the future, or before the year 2000",
                clock_skew_s=self._session.clock_skew_s,
            )
        elif alarm is not None and alarm.is_over(now_ms):
            self._open = None
            log.info(
                "telemetry has possible times again",
                agent_id=self._session.agent_id,
                session_id=self._session.session_id,
                messages=alarm.samples,
                after_s=(now_ms - alarm.since_ms) / 1000,
            )

    def clock_stepped(self, by_ms: int) -> None:
        """The headend's own clock was set ahead by this."""
        if self._open is not None:
            self._open.clock_stepped(by_ms)
