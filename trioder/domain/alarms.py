"""Alarms and events: their kinds, severities, conditions and delays as a table, and their records.

Terms are those of ISA-18.2 and X.733. How alarms are raised, grouped and cleared is in `control.alarms`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

from trioder.domain.access import ALL_TENANTS, EVERYTHING, Scope

Severity = Literal["critical", "major", "minor", "warning"]
# Most severe first.
SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)

AlarmKind = Literal[
    "away",
    "stale",
    "value_suspect",
    "value_bad",
    "deviating",
    "dispatch_rejected",
    "dispatch_not_tracked",
    "soc_limit",
    "site_limit_exceeded",
    "device_fault",
    "sample_time",
    "clock_skew",
    "backlog",
    "gap",
    "nameplate_differs",
    "unknown_asset",
    "certificate_expiring",
    "database_away",
    "disk_nearly_full",
]
KINDS: Final[tuple[AlarmKind, ...]] = get_args(AlarmKind)
SourceKind = Literal["asset", "agent", "site", "headend"]
AlarmState = Literal["open", "cleared"]
AlarmTransition = Literal["raised", "updated", "acknowledged", "cleared"]
EventOrigin = Literal["agent", "headend"]

# Alarms at more assets or sites list none of them.
MAX_ASSET_IDS = 1_000
MAX_SITE_IDS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRule:
    """When a condition becomes an alarm, and when it ends.

    Attributes:
        severity: of the alarm; a `device_fault` has its device's.
        raise_after_s: how long the condition has to last.
        clear_after_s: how long it has to be absent.
        hold_s: the condition ends by itself this long after it was last seen; None for one that does not.
    """

    severity: Severity
    raise_after_s: float = 0.0
    clear_after_s: float = 0.0
    hold_s: float | None = None


_HOUR_S = 3600.0
# Documented in docs/alarms.md; a test compares the two.
RULES: Final[Mapping[AlarmKind, AlarmRule]] = {
    "away": AlarmRule(severity="major", raise_after_s=10, clear_after_s=5),
    "stale": AlarmRule(severity="minor", raise_after_s=5, clear_after_s=10),
    "value_suspect": AlarmRule(severity="minor", clear_after_s=20),
    "value_bad": AlarmRule(severity="major", clear_after_s=20),
    "deviating": AlarmRule(severity="minor", raise_after_s=20, clear_after_s=10),
    "dispatch_rejected": AlarmRule(severity="major", hold_s=_HOUR_S),
    "dispatch_not_tracked": AlarmRule(severity="minor", hold_s=_HOUR_S),
    "soc_limit": AlarmRule(severity="warning", raise_after_s=30, clear_after_s=30),
    "site_limit_exceeded": AlarmRule(severity="major", raise_after_s=30, clear_after_s=30),
    "device_fault": AlarmRule(severity="major", clear_after_s=5, hold_s=24 * _HOUR_S),
    "sample_time": AlarmRule(severity="major", clear_after_s=20),
    "clock_skew": AlarmRule(severity="minor", raise_after_s=5, clear_after_s=20),
    "backlog": AlarmRule(severity="minor", raise_after_s=30, clear_after_s=30),
    "gap": AlarmRule(severity="major", hold_s=_HOUR_S),
    "nameplate_differs": AlarmRule(severity="warning", hold_s=24 * _HOUR_S),
    "unknown_asset": AlarmRule(severity="warning", hold_s=24 * _HOUR_S),
    "certificate_expiring": AlarmRule(severity="minor"),
    "database_away": AlarmRule(severity="critical", raise_after_s=5, clear_after_s=5),
    "disk_nearly_full": AlarmRule(severity="critical", clear_after_s=60),
}

# Percentage points of the state of charge from a limit of the nameplate.
SOC_RAISE_WITHIN_PCT, SOC_CLEAR_BEYOND_PCT = 0.5, 2.0
# Of a site's limit, and at least in MW: beyond it by more is an excess, within half of it none any more.
SITE_EXCESS_SHARE, SITE_EXCESS_MW = 0.01, 0.1
# The age of the newest committed batch.
BACKLOG_RAISE_S, BACKLOG_CLEAR_S = 60.0, 30.0
DISK_RAISE_USED_PCT, DISK_CLEAR_USED_PCT = 90.0, 85.0
CERTIFICATE_EXPIRES_WITHIN_DAYS = 14

# As agents rate their events; others, such as warning and info, raise no alarm.
_SEVERITY_OF_EVENT: Final[Mapping[str, Severity]] = {
    **dict.fromkeys(("critical", "fatal", "emergency", "alert"), "critical"),
    **dict.fromkeys(("major", "error", "fault", "alarm"), "major"),
    "minor": "minor",
}
_CLEARED_SUFFIX = "_CLEARED"


class AlarmSource(NamedTuple):
    """What has an alarm; of each kind of alarm it has at most one open.

    Attributes:
        kind: of the source.
        id: of the asset or site, or the agent's name. For the headend: the tenant whose assets are summarized
            in one alarm, or empty for the headend itself.
        detail: where one source may have several alarms of a kind: the event type of a `device_fault`; a
            file.
    """

    kind: SourceKind
    id: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm, from when it is raised; a change is a new value with the same id.

    Attributes:
        alarm_id: a UUID.
        tenant: whose assets; `ALL_TENANTS` for several tenants', and for the headend itself.
        agent_id: empty for none, or several.
        asset_ids: the assets concerned; None for more than 1,000.
        site_ids: their sites; None for more than 256, or where the assets are not listed.
        count: how many assets are concerned; 0 where none are.
        reason: in words.
        value: the newest value, in the unit that the reason names; None where there is none.
        acknowledged_by: the principal's name; empty while nobody has.
        comment: of who acknowledged it.
    """

    alarm_id: str
    kind: AlarmKind
    severity: Severity
    source: AlarmSource
    tenant: str
    agent_id: str = ""
    asset_ids: tuple[str, ...] | None = ()
    site_ids: tuple[str, ...] | None = ()
    count: int = 0
    reason: str
    value: float | None = None
    raised_ms: int
    cleared_ms: int | None = None
    acknowledged_ms: int | None = None
    acknowledged_by: str = ""
    comment: str = ""

    @property
    def is_open(self) -> bool:
        """Whether its condition lasts."""
        return self.cleared_ms is None

    @property
    def order(self) -> tuple[int, str]:
        """By when it was raised."""
        return self.raised_ms, self.alarm_id


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmFilter:
    """Which alarms; each field that is not None restricts them.

    Attributes:
        asset_id: those that list this asset.
        site_id: those that list this site.
        before: those that come after this one in a list, newest first: (raised_ms, alarm_id).
        scope: only what lies within it.
    """

    state: AlarmState | None = None
    kind: AlarmKind | None = None
    severity: Severity | None = None
    site_id: str | None = None
    asset_id: str | None = None
    agent_id: str | None = None
    before: tuple[int, str] | None = None
    scope: Scope = EVERYTHING

    def matches(self, alarm: Alarm) -> bool:
        """Whether the alarm is one of these."""
        return (
            (self.state is None or alarm.is_open == (self.state == "open"))
            and self.kind in {None, alarm.kind}
            and self.severity in {None, alarm.severity}
            and (self.site_id is None or self.site_id in (alarm.site_ids or ()))
            and (self.asset_id is None or self.asset_id in (alarm.asset_ids or ()))
            and self.agent_id in {None, alarm.agent_id}
            and (self.before is None or alarm.order < self.before)
            and lies_within(self.scope, tenant=alarm.tenant, site_ids=alarm.site_ids)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """What an agent reported, or a transition of an alarm. Never changed once recorded.

    Attributes:
        at_ms: when, by the clock of its origin; Unix time.
        origin: who reports it.
        agent_id: empty for none.
        asset_id: empty for none.
        tenant: as in `Alarm`.
        site_ids: as in `Alarm`.
        event_type: the agent's own type, or ALARM_RAISED, ALARM_CLEARED, ALARM_ACKNOWLEDGED, EVENTS_DROPPED.
        severity: as the agent rates it, or the alarm's.
        message: in words.
        alarm_id: of the transition's alarm; empty for none.
    """

    at_ms: int
    origin: EventOrigin
    agent_id: str
    asset_id: str
    tenant: str
    site_ids: tuple[str, ...] | None
    event_type: str
    severity: str
    message: str
    alarm_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastEvent:
    """An event read back; `number` grows with the time of recording and is never used twice."""

    number: int
    event: EventRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events; each field that is not None restricts them.

    Attributes:
        site_id: those that list this site.
        before: only those with a smaller number.
        scope: only what lies within it.
    """

    site_id: str | None = None
    asset_id: str | None = None
    agent_id: str | None = None
    event_type: str | None = None
    origin: EventOrigin | None = None
    before: int | None = None
    scope: Scope = EVERYTHING

    def matches(self, past: PastEvent) -> bool:
        """Whether the event is one of these."""
        event = past.event
        return (
            (self.site_id is None or self.site_id in (event.site_ids or ()))
            and self.asset_id in {None, event.asset_id}
            and self.agent_id in {None, event.agent_id}
            and self.event_type in {None, event.event_type}
            and self.origin in {None, event.origin}
            and (self.before is None or past.number < self.before)
            and lies_within(self.scope, tenant=event.tenant, site_ids=event.site_ids)
        )


def lies_within(scope: Scope, *, tenant: str, site_ids: tuple[str, ...] | None) -> bool:
    """Whether what is a tenant's, and concerns these sites, lies within a scope: all of its sites must."""
    if scope.tenant not in {ALL_TENANTS, tenant}:
        return False
    return scope.site_ids is None or (bool(site_ids) and scope.site_ids.issuperset(site_ids or ()))


def severity_of_event(severity: str) -> Severity | None:
    """Return the severity of the alarm that an agent's event raises; None if it raises none."""
    return _SEVERITY_OF_EVENT.get(severity.strip().lower())


def cleared_type(event_type: str) -> str | None:
    """Return the event type whose alarm an event of this type clears; None if it clears none.

    INVERTER_FAULT_CLEARED clears INVERTER_FAULT.
    """
    base = event_type[: -len(_CLEARED_SUFFIX)]
    return base if base and event_type.upper().endswith(_CLEARED_SUFFIX) else None
