"""Continues the alarms that were open when the headend before this one stopped.

Each becomes the conditions that it stood for, which end with the start's grace unless they are seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from trioder.control.alarms.agents import KnownAgents
from trioder.control.alarms.conditions import Condition, Conditions
from trioder.control.alarms.describe import restored_reason
from trioder.control.alarms.grouping import Grouping
from trioder.control.alarms.register import AlarmRegister
from trioder.domain.alarms import RULES, Alarm, AlarmKind, AlarmSource
from trioder.domain.fleet import Fleet
from trioder.gateway.sessions import SessionRegistry

# Of assets, whatever an alarm of them is the alarm of. A `device_fault` may be an agent's own.
_OF_ASSETS: frozenset[AlarmKind] = frozenset(
    {
        "away",
        "stale",
        "value_suspect",
        "value_bad",
        "deviating",
        "dispatch_rejected",
        "dispatch_not_tracked",
        "soc_limit",
    }
)


class AlarmRecovery:
    """Adds alarms from before the start to the register, and their conditions to the others."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        sessions: SessionRegistry,
        agents: KnownAgents,
        register: AlarmRegister,
        conditions: Conditions,
        grouping: Grouping,
        group_of: Callable[[AlarmSource], AlarmSource],
    ) -> None:
        self._fleet = fleet
        self._sessions = sessions
        self._agents = agents
        self._register = register
        self._conditions = conditions
        self._grouping = grouping
        self._group_of = group_of

    def recover(self, alarm: Alarm, *, now_s: float, now_ms: int, grace_ends_s: float) -> Alarm | None:
        """Continue one open alarm; return it cleared if it was raised again already, to be recorded."""
        open_now = self._register.get_open(alarm.kind, alarm.source)
        if open_now is not None:
            return replace(alarm, cleared_ms=max(open_now.raised_ms, alarm.raised_ms))
        self._register.adopt(alarm)
        sources = self._sources(alarm)
        self._recover_agent(alarm, sources)
        hold_s = RULES[alarm.kind].hold_s
        # A condition that ends by itself needs not be seen again.
        ends_s = None if hold_s is None else now_s + hold_s - max(0, now_ms - alarm.raised_ms) / 1000
        restored = [
            condition
            for source in sources
            if (condition := self._condition(alarm, source, grace_ends_s, ends_s)) is not None
        ]
        for condition in restored:
            self._grouping.update(condition)
        source = alarm.source
        groups = {self._group_of(condition.source) for condition in restored} or {
            self._group_of(source) if source.kind == "asset" else source
        }
        for group in groups:
            self._grouping.adopt(alarm.kind, group, source)
        return None

    def _sources(self, alarm: Alarm) -> Sequence[AlarmSource]:
        """The sources of the conditions of an alarm, as far as they are known and in the fleet."""
        source, in_fleet = alarm.source, self._fleet.index_by_id
        if source.kind == "asset":
            return [source] if source.id in in_fleet else []
        is_group = alarm.kind in _OF_ASSETS or (alarm.kind == "device_fault" and not source.detail)
        if source.kind in {"agent", "site"} and is_group:
            return [
                AlarmSource("asset", asset_id) for asset_id in alarm.asset_ids or () if asset_id in in_fleet
            ]
        if source.kind == "site":
            is_own = alarm.kind == "site_limit_exceeded" and source.id in self._fleet.sites_by_id
            return [source] if is_own else []
        is_summary = source.kind == "headend" and source.id
        return [] if is_summary else [source]

    def _recover_agent(self, alarm: Alarm, sources: Sequence[AlarmSource]) -> None:
        """Who drove the assets last, which the alarm is grouped by."""
        if alarm.agent_id:
            keys = [self._fleet.index_by_id[source.id] for source in sources if source.kind == "asset"]
            self._agents.drove(
                alarm.agent_id, [key for key in keys if self._sessions.session_of(key) is None]
            )

    def _condition(
        self, alarm: Alarm, source: AlarmSource, clears_s: float, ends_s: float | None
    ) -> Condition | None:
        return self._conditions.restore(
            alarm.kind,
            source,
            reason=restored_reason(alarm),
            severity=alarm.severity,
            clears_s=clears_s,
            ends_s=ends_s,
        )
