"""The open alarms and the last cleared ones: their transitions are logged, recorded and announced.

What is to be raised is decided in `grouping`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import structlog

from trioder.domain.alarms import Alarm, AlarmFilter, AlarmKind, AlarmSource, AlarmTransition, EventRecord
from trioder.domain.fleet import Fleet
from trioder.events.bus import EventBus
from trioder.events.counters import Counters
from trioder.events.facts import AlarmChanged
from trioder.gateway.log_limit import LogLimit
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store

log = structlog.stdlib.get_logger(__name__)

# Without a database, these are all that there is; with one, they may not be written yet.
MAX_CLEARED, MAX_CLEARED_BESIDE_DATABASE = 10_000, 1_000
_MAX_REASON_LENGTH = 500


class AlarmRegister:
    """All open alarms, and the newest cleared ones: 10,000 without a database, 1,000 with one.

    Attributes:
        version: changes with every change of an open alarm.
    """

    def __init__(
        self, *, fleet: Fleet, store: Store, counters: Counters, events: EventBus, wall: WallClock
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._counters = counters
        self._events = events
        self._wall = wall
        self.version = 0
        self._open: dict[tuple[AlarmKind, AlarmSource], Alarm] = {}
        self._by_id: dict[str, Alarm] = {}
        self._cleared: OrderedDict[str, Alarm] = OrderedDict()
        self._log_limit = LogLimit()

    def __len__(self) -> int:
        """How many alarms are open."""
        return len(self._open)

    def open_alarms(self) -> Sequence[Alarm]:
        """All open alarms, oldest first."""
        return tuple(self._open.values())

    def get_open(self, kind: AlarmKind, source: AlarmSource) -> Alarm | None:
        """Return the open alarm of a kind and source."""
        return self._open.get((kind, source))

    def find(self, alarm_id: str) -> Alarm | None:
        """Return the alarm with this id, if it is in memory."""
        return self._by_id.get(alarm_id) or self._cleared.get(alarm_id)

    def newest(self, which: AlarmFilter, *, limit: int) -> list[Alarm]:
        """Return the newest alarms in memory that match, newest first."""
        alarms = list(self._by_id.values())
        if which.state != "open":
            alarms += self._cleared.values()
        found = filter(which.matches, alarms)
        return sorted(found, key=lambda alarm: alarm.order, reverse=True)[:limit]

    def adopt(self, alarm: Alarm) -> None:
        """Add an alarm that is open since before the start."""
        self.version += 1
        self._open[alarm.kind, alarm.source] = self._by_id[alarm.alarm_id] = alarm

    def raise_alarm(self, alarm: Alarm) -> None:
        """Add an alarm; there is no open one of its kind and source."""
        self.adopt(alarm)
        self._counters.alarms_raised += 1
        self._log_transition(alarm, "raised")
        self._announce(alarm, "raised", event_type="ALARM_RAISED", at_ms=alarm.raised_ms)

    def update(self, alarm: Alarm, newer: Alarm) -> None:
        """Replace what an open alarm shows; recorded when its count or severity has changed."""
        self.adopt(newer)
        if (alarm.count, alarm.severity, alarm.asset_ids) != (newer.count, newer.severity, newer.asset_ids):
            self._store.record_alarm(newer)
            self._events.publish(AlarmChanged(newer, "updated"))

    def clear(self, alarm: Alarm, *, reason: str = "") -> None:
        """Clear an open alarm; `reason` where its condition has not just ended."""
        now_ms = self._wall.now_ms()
        text = f"{alarm.reason}; cleared: {reason}"[:_MAX_REASON_LENGTH] if reason else alarm.reason
        cleared = replace(alarm, cleared_ms=max(now_ms, alarm.raised_ms), reason=text)
        self.version += 1
        del self._open[alarm.kind, alarm.source]
        del self._by_id[alarm.alarm_id]
        self._keep_cleared(cleared)
        self._counters.alarms_cleared += 1
        self._log_transition(cleared, "cleared")
        self._announce(cleared, "cleared", event_type="ALARM_CLEARED", at_ms=now_ms)

    def acknowledge(self, alarm: Alarm, *, by: str, comment: str | None) -> Alarm:
        """Acknowledge an alarm; the first time and name count, a newer comment replaces the older one.

        Args:
            alarm: open or cleared, in memory or not.
            by: the principal's name.
            comment: None to keep the comment.
        """
        now_ms = self._wall.now_ms()
        acknowledged = replace(alarm, comment=alarm.comment if comment is None else comment)
        if alarm.acknowledged_ms is None:
            acknowledged = replace(acknowledged, acknowledged_ms=now_ms, acknowledged_by=by)
        if acknowledged == alarm:
            return alarm
        if alarm.alarm_id in self._by_id:
            self.adopt(acknowledged)
        elif alarm.alarm_id in self._cleared:
            self._cleared[alarm.alarm_id] = acknowledged
        self._counters.alarms_acknowledged += 1
        self._announce(acknowledged, "acknowledged", event_type="ALARM_ACKNOWLEDGED", at_ms=now_ms)
        return acknowledged

    def _keep_cleared(self, alarm: Alarm) -> None:
        self._cleared[alarm.alarm_id] = alarm
        has_database = self._store.health != "disabled"
        while len(self._cleared) > (MAX_CLEARED_BESIDE_DATABASE if has_database else MAX_CLEARED):
            self._cleared.popitem(last=False)

    def _announce(self, alarm: Alarm, transition: AlarmTransition, *, event_type: str, at_ms: int) -> None:
        self._store.record_alarm(alarm)
        by = f" by {alarm.acknowledged_by}" if transition == "acknowledged" else ""
        self._store.record_event(
            EventRecord(
                at_ms=at_ms,
                origin="headend",
                agent_id=alarm.agent_id,
                asset_id=alarm.source.id if alarm.source.kind == "asset" else "",
                tenant=alarm.tenant,
                site_ids=alarm.site_ids,
                event_type=event_type,
                severity=alarm.severity,
                message=f"{alarm.kind}{by}: {alarm.reason}",
                alarm_id=alarm.alarm_id,
            )
        )
        self._events.publish(AlarmChanged(alarm, transition))

    def _log_transition(self, alarm: Alarm, transition: AlarmTransition) -> None:
        suppressed = self._log_limit.suppressed_before("alarm", self._wall.now_ms())
        if suppressed is None:
            self._counters.log_lines_suppressed += 1
            return
        fields: dict[str, object] = {
            "alarm_id": alarm.alarm_id,
            "kind": alarm.kind,
            "severity": alarm.severity,
            "source": alarm.source.kind,
        }
        key = self._fleet.index_by_id.get(alarm.source.id) if alarm.source.kind == "asset" else None
        if key is not None:
            asset = self._fleet.assets[key]
            fields |= {"asset_id": asset.id, "asset": asset.name, "site": asset.site_name}
        elif alarm.source.kind in {"asset", "site"}:
            fields["source_id"] = alarm.source.id
        if alarm.agent_id:
            fields["agent_id"] = alarm.agent_id
        if alarm.source.detail:
            fields["detail"] = alarm.source.detail
        if alarm.count > 1:
            fields["assets"] = alarm.count
        fields["reason"] = alarm.reason
        if suppressed:
            fields["suppressed_before"] = suppressed
        if transition == "raised":
            log.warning("alarm raised", **fields)
        else:
            after_s = ((alarm.cleared_ms or alarm.raised_ms) - alarm.raised_ms) / 1000
            log.info("alarm cleared", **fields, after_s=after_s)
