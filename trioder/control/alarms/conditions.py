"""The conditions of all sources with their delays: when one becomes active, and when it ends. Synchronous.

A condition is active once it has lasted for its rule's delay, and until it has been absent for another one.
What causes conditions is in `engine`, what becomes of active ones in `grouping`.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count

from trioder.domain.alarms import RULES, AlarmKind, AlarmRule, AlarmSource, Severity

# Of a kind whose sources or details peers name. What is the fleet's is bounded by the fleet.
MAX_NAMED_BY_PEERS = 10_000
_NAMED_BY_PEERS: frozenset[AlarmKind] = frozenset(
    {
        "device_fault",
        "sample_time",
        "clock_skew",
        "backlog",
        "gap",
        "nameplate_differs",
        "unknown_asset",
        "certificate_expiring",
    }
)
_MIN_SCHEDULED = 1_000


@dataclass(slots=True, eq=False, kw_only=True)
class Condition:
    """One source's condition of a kind.

    Attributes:
        severity: of its alarm.
        is_on: it was seen, and has not ended since.
        is_active: with its delays applied.
        ends_s: when it ends by itself; None for never.
        due_s: when `is_active` or `is_on` is to be changed; None for never.
        scheduled_s: when it is checked; at `due_s` or before.
    """

    kind: AlarmKind
    source: AlarmSource
    reason: str
    value: float | None
    severity: Severity
    is_on: bool = True
    is_active: bool = False
    ends_s: float | None = None
    due_s: float | None = None
    scheduled_s: float | None = None


class Conditions:
    """All conditions that are on, active or delayed; times are of Trio's clock, in seconds.

    Attributes:
        dropped: conditions that were refused because there were too many of their kind.
    """

    def __init__(self, rules: Mapping[AlarmKind, AlarmRule] = RULES) -> None:
        self.dropped = 0
        self._rules = rules
        # About 300 bytes a condition: of a large fleet there may be as many as assets.
        self._by_kind: dict[AlarmKind, dict[AlarmSource, Condition]] = {kind: {} for kind in rules}
        # Those of a source with a detail, which alone may be several of a kind.
        self._detailed: defaultdict[str, dict[Condition, None]] = defaultdict(dict)
        self._due: list[tuple[float, int, Condition]] = []
        self._numbers = count()

    def __len__(self) -> int:
        """How many there are, whether active or not."""
        return sum(map(len, self._by_kind.values()))

    def get(self, kind: AlarmKind, source: AlarmSource) -> Condition | None:
        """The condition of a source."""
        return self._by_kind[kind].get(source)

    def of_source(self, source: AlarmSource) -> Sequence[Condition]:
        """The conditions of a source without a detail, and of it with any."""
        plain = [one for of_kind in self._by_kind.values() if (one := of_kind.get(source)) is not None]
        return [*plain, *(one for one in self._detailed.get(source.id, ()) if one.source.kind == source.kind)]

    def begin(
        self,
        kind: AlarmKind,
        source: AlarmSource,
        *,
        now_s: float,
        reason: str,
        value: float | None = None,
        severity: Severity | None = None,
    ) -> bool:
        """The condition is seen; return whether an active one has changed in what it shows."""
        rule = self._rules[kind]
        severity = severity or rule.severity
        condition = self._by_kind[kind].get(source)
        if condition is None:
            condition = self._add(kind, source, reason, value, severity)
            if condition is None:
                return False
        changed = (condition.reason, condition.severity) != (reason, severity)
        condition.reason, condition.value, condition.severity = reason, value, severity
        if not condition.is_on or condition.due_s is None or condition.is_active:
            condition.is_on = True
            condition.due_s = None if condition.is_active else now_s + rule.raise_after_s
        if rule.hold_s is not None:
            condition.ends_s = now_s + rule.hold_s
            if condition.is_active:
                condition.due_s = condition.ends_s
        self._schedule(condition)
        return changed and condition.is_active

    def end(self, kind: AlarmKind, source: AlarmSource, *, now_s: float) -> None:
        """The condition is absent."""
        condition = self._by_kind[kind].get(source)
        if condition is None:
            return
        if not condition.is_active:
            self._remove(condition)
            return
        clears_s = now_s + self._rules[kind].clear_after_s
        if condition.is_on or condition.due_s is None or clears_s < condition.due_s:
            condition.is_on = False
            condition.due_s = clears_s
            self._schedule(condition)

    def restore(
        self,
        kind: AlarmKind,
        source: AlarmSource,
        *,
        reason: str,
        severity: Severity,
        clears_s: float,
        ends_s: float | None,
    ) -> Condition | None:
        """Add a condition that was active before the start, unless there is one.

        Args:
            kind: its kind.
            source: its source.
            reason: in words.
            severity: of its alarm.
            clears_s: when it is no longer active, unless it is seen before.
            ends_s: for one that ends by itself, when; such a one is still on.
        """
        if source in self._by_kind[kind]:
            return None
        condition = self._add(kind, source, reason, None, severity)
        if condition is None:
            return None
        condition.is_active = True
        condition.is_on = ends_s is not None
        condition.ends_s = ends_s
        condition.due_s = clears_s if ends_s is None else ends_s
        self._schedule(condition)
        return condition

    def forget(self, kind: AlarmKind, source: AlarmSource) -> Condition | None:
        """Remove a condition without a delay; return it if it was active."""
        condition = self._by_kind[kind].get(source)
        if condition is None:
            return None
        self._remove(condition)
        was_active, condition.is_active = condition.is_active, False
        return condition if was_active else None

    def pop_due(self, now_s: float) -> Iterator[Condition]:
        """Apply the delays; each condition that became active, or is no longer."""
        while self._due and self._due[0][0] <= now_s:
            _, _, condition = heapq.heappop(self._due)
            condition.scheduled_s = None
            due_s = condition.due_s
            if due_s is None or self._by_kind[condition.kind].get(condition.source) is not condition:
                continue
            if due_s > now_s:
                self._schedule(condition)
            elif condition.is_on and not condition.is_active:
                condition.is_active = True
                condition.due_s = condition.ends_s
                self._schedule(condition)
                yield condition
            elif condition.is_on:
                # It has lasted as long as it may without being seen.
                self.end(condition.kind, condition.source, now_s=now_s)
            else:
                self._remove(condition)
                condition.is_active = False
                yield condition

    def _add(
        self, kind: AlarmKind, source: AlarmSource, reason: str, value: float | None, severity: Severity
    ) -> Condition | None:
        if kind in _NAMED_BY_PEERS and len(self._by_kind[kind]) >= MAX_NAMED_BY_PEERS:
            self.dropped += 1
            return None
        condition = Condition(kind=kind, source=source, reason=reason, value=value, severity=severity)
        self._by_kind[kind][source] = condition
        if source.detail:
            self._detailed[source.id][condition] = None
        return condition

    def _remove(self, condition: Condition) -> None:
        source = condition.source
        del self._by_kind[condition.kind][source]
        if source.detail:
            del self._detailed[source.id][condition]
            if not self._detailed[source.id]:
                del self._detailed[source.id]
        condition.due_s = None

    def _schedule(self, condition: Condition) -> None:
        due_s = condition.due_s
        if due_s is None or (condition.scheduled_s is not None and condition.scheduled_s <= due_s):
            return
        condition.scheduled_s = due_s
        heapq.heappush(self._due, (due_s, next(self._numbers), condition))
        if len(self._due) > 4 * len(self) + _MIN_SCHEDULED:
            # Those of removed conditions would stay until they are due, which may be in a day.
            self._due = [
                (due_s, next(self._numbers), each)
                for each in chain.from_iterable(of_kind.values() for of_kind in self._by_kind.values())
                if (due_s := each.due_s) is not None
            ]
            for due_s, _, each in self._due:
                each.scheduled_s = due_s
            heapq.heapify(self._due)
