"""The alarms of a headend as a test compares them: what, of what, and from when to when."""

from collections.abc import Sequence
from typing import NamedTuple

from trioder.api.context import Headend
from trioder.domain.alarms import Alarm, AlarmFilter, AlarmKind, Severity


class Listed(NamedTuple):
    """One alarm.

    Attributes:
        source: "asset <name>", "agent <id>", "site <name>" or "headend", and the source's detail, if any.
        raised_s: seconds since the headend started.
        cleared_s: likewise; None while it is open.
    """

    kind: AlarmKind
    severity: Severity
    source: str
    assets: int
    raised_s: float
    cleared_s: float | None


def list_alarms(headend: Headend, *, limit: int = 10_000) -> Sequence[Listed]:
    """All alarms in memory, open and cleared, by when they were raised, kind and source."""
    alarms = headend.alarms.register.newest(AlarmFilter(), limit=limit)
    listed = [_listed(headend, alarm) for alarm in alarms]
    return sorted(listed, key=lambda alarm: (alarm.raised_s, alarm.kind, alarm.source))


def kinds_and_sources(headend: Headend, *, only_open: bool = False) -> list[tuple[AlarmKind, str]]:
    """The kind and source of each alarm, sorted."""
    return sorted(
        (alarm.kind, alarm.source)
        for alarm in list_alarms(headend)
        if not only_open or alarm.cleared_s is None
    )


def _listed(headend: Headend, alarm: Alarm) -> Listed:
    started_ms = headend.started_ms
    return Listed(
        alarm.kind,
        alarm.severity,
        _name(headend, alarm),
        alarm.count,
        (alarm.raised_ms - started_ms) / 1000,
        None if alarm.cleared_ms is None else (alarm.cleared_ms - started_ms) / 1000,
    )


def _name(headend: Headend, alarm: Alarm) -> str:
    source, fleet = alarm.source, headend.fleet
    name = source.id
    if source.kind == "asset":
        name = fleet.assets[fleet.asset_ids.index(source.id)].name
    elif source.kind == "site":
        name = fleet.sites_by_id[source.id].name
    return " ".join(part for part in (source.kind, name, source.detail) if part)
