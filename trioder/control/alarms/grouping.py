"""Which alarms the active conditions make: one each, one for an agent or site, or one for all of a tenant's.

The number of alarms is bounded, however many conditions there are. Both steps have hysteresis. Work is done
for groups that have changed only.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from trioder.control.alarms.conditions import Condition
from trioder.domain.alarms import AlarmKind, AlarmSource

# More conditions of a kind than this at one agent, or site, are one alarm, until there are so few again.
GROUP_ABOVE, UNGROUP_AT = 5, 2
# More alarms of a kind and tenant than this are one alarm, until there are so few again.
SUMMARIZE_ABOVE, SEPARATE_AT = 50, 25


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedAlarm:
    """An alarm that there is to be.

    Attributes:
        source: of the alarm.
        tenant: of a summary; None for that of the assets.
        conditions: which it stands for.
        groups: the agents or sites of a summary; else empty.
    """

    source: AlarmSource
    tenant: str | None
    conditions: Sequence[Condition]
    groups: Sequence[AlarmSource] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The alarms of one group, or the summary of a tenant, as they are to be; those not wanted are cleared.

    Attributes:
        shown: the sources of the alarms as they were before.
        wanted: those that are to be.
        lasts: whether the group still has conditions.
    """

    kind: AlarmKind
    shown: frozenset[AlarmSource]
    wanted: Mapping[AlarmSource, WantedAlarm]
    lasts: bool


@dataclass(slots=True)
class _OfKind:
    """The active conditions of one kind, by group."""

    members: dict[AlarmSource, dict[AlarmSource, Condition]] = field(default_factory=dict)
    group_of: dict[AlarmSource, AlarmSource] = field(default_factory=dict)
    tenants: dict[AlarmSource, str] = field(default_factory=dict)
    groups_by_tenant: defaultdict[str, set[AlarmSource]] = field(default_factory=lambda: defaultdict(set))
    # Each group, or summary, and the sources of its alarms.
    shown: dict[AlarmSource, frozenset[AlarmSource]] = field(default_factory=dict)
    grouped: set[AlarmSource] = field(default_factory=set)
    summarized: set[str] = field(default_factory=set)
    # Tenants with a summary from before the start, which stays until it is known what lasts.
    held: set[str] = field(default_factory=set)
    dirty: dict[AlarmSource, None] = field(default_factory=dict)


class Grouping:
    """Groups active conditions.

    Args:
        group_of: the agent, or else site, of a source; the source itself where it has none.
        tenant_of: whose a group is.
        is_whole: whether a group has one alarm however few conditions there are.
    """

    def __init__(
        self,
        *,
        group_of: Callable[[AlarmSource], AlarmSource],
        tenant_of: Callable[[AlarmSource], str],
        is_whole: Callable[[AlarmKind, AlarmSource], bool],
    ) -> None:
        self._group_of = group_of
        self._tenant_of = tenant_of
        self._is_whole = is_whole
        self._kinds: defaultdict[AlarmKind, _OfKind] = defaultdict(_OfKind)

    def update(self, condition: Condition) -> None:
        """The condition has become active, is no longer, or shows something else."""
        if condition.is_active:
            self._add(condition)
        else:
            self._remove(condition)

    def regroup(self, kind: AlarmKind, source: AlarmSource) -> None:
        """The group of a source may have changed."""
        of_kind = self._kinds[kind]
        group = of_kind.group_of.get(source)
        if group is not None and self._group_of(source) != group:
            condition = of_kind.members[group][source]
            self._remove(condition)
            self._add(condition)

    def touch(self, kind: AlarmKind, group: AlarmSource) -> None:
        """Whether a group is whole may have changed."""
        if group in self._kinds[kind].members:
            self._kinds[kind].dirty[group] = None

    def adopt(self, kind: AlarmKind, group: AlarmSource, source: AlarmSource) -> None:
        """The alarm of a source is open since before the start; it is of this group or summary."""
        of_kind = self._kinds[kind]
        of_kind.shown[group] = of_kind.shown.get(group, frozenset()) | {source}
        if _is_summary(group):
            of_kind.summarized.add(group.id)
            of_kind.held.add(group.id)
        elif group == source:
            of_kind.grouped.add(group)

    def changes(self) -> Iterator[Change]:
        """What has changed since the last time."""
        for kind, of_kind in self._kinds.items():
            if of_kind.dirty:
                yield from self._changes_of(kind, of_kind)

    def release_adopted(self) -> None:
        """Compare all alarms with the conditions: those adopted that are no longer true are not wanted."""
        for of_kind in self._kinds.values():
            of_kind.held.clear()
            of_kind.dirty.update(dict.fromkeys(of_kind.shown))

    def _add(self, condition: Condition) -> None:
        of_kind = self._kinds[condition.kind]
        group = of_kind.group_of.get(condition.source)
        if group is None:
            group = of_kind.group_of[condition.source] = self._group_of(condition.source)
        if group not in of_kind.members:
            tenant = of_kind.tenants[group] = self._tenant_of(group)
            of_kind.members[group] = {}
            of_kind.groups_by_tenant[tenant].add(group)
        of_kind.members[group][condition.source] = condition
        of_kind.dirty[group] = None

    def _remove(self, condition: Condition) -> None:
        of_kind = self._kinds[condition.kind]
        group = of_kind.group_of.pop(condition.source, None)
        if group is None:
            return
        of_kind.dirty[group] = None
        members = of_kind.members[group]
        del members[condition.source]
        if not members:
            del of_kind.members[group]

    def _changes_of(self, kind: AlarmKind, of_kind: _OfKind) -> Iterator[Change]:
        dirty, of_kind.dirty = of_kind.dirty, {}
        tenants = dict.fromkeys(
            group.id if _is_summary(group) else of_kind.tenants[group]
            for group in dirty
            if _is_summary(group) or group in of_kind.tenants
        )
        for group in dirty:
            self._decide_grouped(kind, of_kind, group)
        for tenant in tenants:
            if self._decide_summarized(of_kind, tenant):
                dirty.update(dict.fromkeys(of_kind.groups_by_tenant.get(tenant, ())))
            summary = AlarmSource("headend", tenant)
            if tenant in of_kind.held:
                dirty.pop(summary, None)
            elif tenant in of_kind.summarized or summary in of_kind.shown:
                dirty[summary] = None
        # Summaries first: what is now part of one is cleared after it was raised.
        for group in sorted(dirty, key=lambda group: group.kind != "headend"):
            yield self._change(kind, of_kind, group)
        for group in dirty:
            if group not in of_kind.members and group in of_kind.tenants:
                of_kind.grouped.discard(group)
                tenant = of_kind.tenants.pop(group)
                of_kind.groups_by_tenant[tenant].discard(group)
                if not of_kind.groups_by_tenant[tenant]:
                    del of_kind.groups_by_tenant[tenant]

    def _decide_grouped(self, kind: AlarmKind, of_kind: _OfKind, group: AlarmSource) -> None:
        members = of_kind.members.get(group, {})
        count = len(members)
        if count > GROUP_ABOVE or (count and self._is_whole(kind, group)):
            of_kind.grouped.add(group)
        elif not count or (count <= UNGROUP_AT and any(one.is_on for one in members.values())):
            # Those that are about to be cleared are not shown singly before.
            of_kind.grouped.discard(group)

    def _decide_summarized(self, of_kind: _OfKind, tenant: str) -> bool:
        """Decide whether a tenant's alarms are one; return whether that has changed."""
        alarms = sum(
            1 if group in of_kind.grouped else len(of_kind.members.get(group, ()))
            for group in of_kind.groups_by_tenant.get(tenant, ())
        )
        was_summarized = tenant in of_kind.summarized
        if tenant in of_kind.held:
            return False
        if alarms > SUMMARIZE_ABOVE:
            of_kind.summarized.add(tenant)
        elif alarms <= SEPARATE_AT:
            of_kind.summarized.discard(tenant)
        return was_summarized != (tenant in of_kind.summarized)

    def _change(self, kind: AlarmKind, of_kind: _OfKind, group: AlarmSource) -> Change:
        wanted = {alarm.source: alarm for alarm in self._wanted(of_kind, group)}
        shown = of_kind.shown.pop(group, frozenset())
        if wanted:
            of_kind.shown[group] = frozenset(wanted)
        lasts = group in of_kind.members or (_is_summary(group) and group.id in of_kind.groups_by_tenant)
        return Change(kind=kind, shown=shown, wanted=wanted, lasts=lasts)

    def _wanted(self, of_kind: _OfKind, group: AlarmSource) -> Iterator[WantedAlarm]:
        if _is_summary(group):
            groups = sorted(of_kind.groups_by_tenant.get(group.id, ()))
            if group.id in of_kind.summarized and groups:
                members = chain.from_iterable(of_kind.members.get(each, {}).values() for each in groups)
                yield WantedAlarm(source=group, tenant=group.id, conditions=list(members), groups=groups)
            return
        members_of_group = of_kind.members.get(group, {})
        if not members_of_group or of_kind.tenants[group] in of_kind.summarized:
            return
        if group in of_kind.grouped:
            yield WantedAlarm(source=group, tenant=None, conditions=list(members_of_group.values()))
            return
        for source, condition in members_of_group.items():
            yield WantedAlarm(source=source, tenant=None, conditions=[condition])


def _is_summary(group: AlarmSource) -> bool:
    return group.kind == "headend" and bool(group.id)
