"""What an alarm shows: its assets, sites and tenant, their number, and the reason in words."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from trioder.control.alarms.agents import KnownAgents
from trioder.control.alarms.grouping import WantedAlarm
from trioder.domain.access import ALL_TENANTS
from trioder.domain.alarms import (
    MAX_ASSET_IDS,
    MAX_SITE_IDS,
    SEVERITIES,
    Alarm,
    AlarmKind,
    AlarmSource,
    Severity,
)
from trioder.domain.fleet import Fleet
from trioder.domain.text import shorten
from trioder.process.slices import Steps, parts_of

_MAX_REASON_LENGTH = 400
_CONDITION_US = 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """The fields of an alarm that follow from its conditions; see `Alarm`."""

    severity: Severity
    tenant: str
    agent_id: str
    asset_ids: tuple[str, ...] | None
    site_ids: tuple[str, ...] | None
    count: int
    reason: str
    value: float | None

    def alarm(self, alarm_id: str, kind: AlarmKind, source: AlarmSource, raised_ms: int) -> Alarm:
        """Return a new alarm."""
        return Alarm(
            alarm_id=alarm_id,
            kind=kind,
            source=source,
            raised_ms=raised_ms,
            severity=self.severity,
            tenant=self.tenant,
            agent_id=self.agent_id,
            asset_ids=self.asset_ids,
            site_ids=self.site_ids,
            count=self.count,
            reason=self.reason,
            value=self.value,
        )

    def update(self, alarm: Alarm) -> Alarm:
        """Return an open alarm with what it shows now; it stays whose it is."""
        return replace(
            alarm,
            severity=self.severity,
            asset_ids=self.asset_ids,
            site_ids=self.site_ids,
            count=self.count,
            reason=self.reason,
            value=self.value,
        )


def describe_steps(
    kind: AlarmKind, wanted: WantedAlarm, *, fleet: Fleet, agents: KnownAgents
) -> Steps[Description]:
    """Describe an alarm of some conditions, at least one; in steps, as it may be those of the whole fleet."""
    conditions = wanted.conditions
    keys: set[int] = set()
    severities: set[Severity] = set()
    for part in parts_of(conditions):
        for condition in part:
            severities.add(condition.severity)
            if condition.source.kind == "asset":
                key = fleet.index_by_id.get(condition.source.id)
                if key is not None:
                    keys.add(key)
        yield _CONDITION_US * len(part)
    own_sites = {condition.source.id for condition in conditions if condition.source.kind == "site"}
    agent_id = _agent_of(wanted.source, keys, agents)
    concerned: Collection[int] = keys or (agents.keys_of(agent_id) if agent_id else ())
    tenant, site_ids = wanted.tenant, None
    if concerned and len(concerned) <= MAX_ASSET_IDS:
        of_assets, site_ids = agents.scope_of(concerned)
        tenant = tenant or of_assets
    elif not concerned:
        site_ids = tuple(sorted(own_sites)) if len(own_sites) <= MAX_SITE_IDS else None
    if own_sites and tenant is None:
        tenant = _tenant_of_site(wanted.source.id, fleet)
    if tenant is None:
        tenant = agents.scope_of(concerned)[0]
    listed = len(concerned) <= MAX_ASSET_IDS
    return Description(
        severity=next(severity for severity in SEVERITIES if severity in severities),
        tenant=tenant,
        agent_id=agent_id,
        asset_ids=tuple(sorted(fleet.asset_ids[key] for key in concerned)) if listed else None,
        site_ids=site_ids,
        count=len(concerned),
        reason=shorten(_reason(kind, wanted, assets=len(keys), agent_id=agent_id), _MAX_REASON_LENGTH),
        value=conditions[0].value if len(conditions) == 1 else None,
    )


def restored_reason(alarm: Alarm) -> str:
    """Return the reason of the conditions that an alarm from before the start stands for."""
    is_group = alarm.count > 1 and alarm.kind != "away"
    return alarm.reason.partition(": ")[2] or alarm.reason if is_group else alarm.reason


def _tenant_of_site(site_id: str, fleet: Fleet) -> str:
    site = fleet.sites_by_id.get(site_id) or fleet.former_sites.get(site_id)
    return ALL_TENANTS if site is None else site.tenant


def _agent_of(source: AlarmSource, keys: Collection[int], agents: KnownAgents) -> str:
    if source.kind == "agent":
        return source.id
    if source.kind == "asset" and keys:
        return agents.agent_of(next(iter(keys))) or ""
    return ""


def _reason(kind: AlarmKind, wanted: WantedAlarm, *, assets: int, agent_id: str) -> str:
    first = wanted.conditions[0].reason
    if wanted.groups:
        agents = len({group.id for group in wanted.groups if group.kind == "agent"})
        sites = len(wanted.groups) - agents
        where = [f"{agents} agents"] if agents else []
        where += [f"{sites} sites"] if sites else []
        what = f"{assets} assets of {' and '.join(where)}" if assets else " and ".join(where)
        return f"{what}: {first}"
    if kind == "away" and wanted.source.kind == "agent":
        return f"agent {agent_id} is away, {assets} {'asset' if assets == 1 else 'assets'}"
    if len(wanted.conditions) == 1:
        return first
    if len(wanted.conditions) > assets:
        return f"{len(wanted.conditions)} conditions: {first}"
    return f"{assets} assets: {first}"
