"""The bodies of `/alarms`, made from an alarm."""

from typing import Any

from trioder.domain.alarms import Alarm
from trioder.process.rfc3339 import format_ms
from trioder.schemas.alarms import AlarmResponse, AlarmRow


def alarm_row(alarm: Alarm) -> AlarmRow:
    """Return an alarm."""
    return AlarmRow(**_columns(alarm))


def alarm_response(alarm: Alarm) -> AlarmResponse:
    """Return an alarm with its assets and sites."""
    return AlarmResponse(
        **_columns(alarm),
        asset_ids=None if alarm.asset_ids is None else list(alarm.asset_ids),
        site_ids=None if alarm.site_ids is None else list(alarm.site_ids),
    )


def _columns(alarm: Alarm) -> dict[str, Any]:
    return {
        "alarm_id": alarm.alarm_id,
        "kind": alarm.kind,
        "severity": alarm.severity,
        "state": "open" if alarm.is_open else "cleared",
        "source_kind": alarm.source.kind,
        "source_id": alarm.source.id,
        "detail": alarm.source.detail,
        "tenant": alarm.tenant,
        "agent_id": alarm.agent_id or None,
        "site_id": _only(alarm.site_ids),
        "asset_id": _only(alarm.asset_ids),
        "assets": alarm.count,
        "reason": alarm.reason,
        "value": alarm.value,
        "raised_at": format_ms(alarm.raised_ms),
        "cleared_at": _time(alarm.cleared_ms),
        "acknowledged_at": _time(alarm.acknowledged_ms),
        "acknowledged_by": alarm.acknowledged_by or None,
        "comment": alarm.comment,
    }


def _only(ids: tuple[str, ...] | None) -> str | None:
    return ids[0] if ids is not None and len(ids) == 1 else None


def _time(ms: int | None) -> str | None:
    return None if ms is None else format_ms(ms)
