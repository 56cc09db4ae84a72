"""Writes and reads alarms, of which the newest state counts, and events, which are only added."""

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from trioder.domain.access import ALL_TENANTS, Scope
from trioder.domain.alarms import Alarm, AlarmFilter, AlarmSource, EventFilter, EventRecord, PastEvent
from trioder.store.postgres.audit_records import storable
from trioder.store.postgres.pending_records import PendingAlarm, PendingEvent
from trioder.store.postgres.pg_connection import Connection, timestamp

_WRITE_ALARMS: LiteralString = """
    INSERT INTO alarms AS old (
        alarm_id, kind, severity, source_kind, source_id, detail, tenant, site_ids, asset_ids, agent_id,
        raised_at, cleared_at, acknowledged_at, acknowledged_by, comment, assets, reason, value
    )
    SELECT
        alarm_id, kind, severity, source_kind, source_id, detail, tenant, site_ids::uuid[],
        asset_ids::uuid[], agent_id, raised_at, cleared_at, acknowledged_at, acknowledged_by, comment,
        assets, reason, value
    FROM unnest(
        %s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
        %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[], %s::text[],
        %s::text[], %s::integer[], %s::text[], %s::float8[]
    ) AS pending (
        alarm_id, kind, severity, source_kind, source_id, detail, tenant, site_ids, asset_ids, agent_id,
        raised_at, cleared_at, acknowledged_at, acknowledged_by, comment, assets, reason, value
    )
    ON CONFLICT (alarm_id) DO UPDATE SET (
        severity, site_ids, asset_ids, cleared_at, acknowledged_at, acknowledged_by, comment, assets, reason,
        value
    ) = (
        excluded.severity, excluded.site_ids, excluded.asset_ids, excluded.cleared_at,
        excluded.acknowledged_at, excluded.acknowledged_by, excluded.comment, excluded.assets,
        excluded.reason, excluded.value
    )
"""
_WRITE_EVENTS: LiteralString = """
    INSERT INTO events (
        id, at, origin, agent_id, asset_id, tenant, site_ids, event_type, severity, message, alarm_id
    )
    SELECT id, at, origin, agent_id, asset_id, tenant, site_ids::uuid[], event_type, severity, message,
        alarm_id
    FROM unnest(
        %s::uuid[], %s::timestamptz[], %s::text[], %s::text[], %s::uuid[], %s::text[], %s::text[],
        %s::text[], %s::text[], %s::text[], %s::uuid[]
    ) AS pending (
        id, at, origin, agent_id, asset_id, tenant, site_ids, event_type, severity, message, alarm_id
    )
    ON CONFLICT (id) DO NOTHING
"""
_IN_SCOPE: LiteralString = """
    (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
    AND (
        %(sites)s::uuid[] IS NULL OR cardinality(site_ids) > 0 AND site_ids <@ %(sites)s::uuid[]
    )
"""
_ALARM_COLUMNS: LiteralString = """
    alarm_id::text, kind, severity, source_kind, source_id, detail, tenant, site_ids::text[],
    asset_ids::text[], agent_id, (extract(epoch FROM raised_at) * 1000)::bigint,
    (extract(epoch FROM cleared_at) * 1000)::bigint, (extract(epoch FROM acknowledged_at) * 1000)::bigint,
    acknowledged_by, comment, assets, reason, value
"""
_ALARMS: LiteralString = f"""
    SELECT {_ALARM_COLUMNS} FROM alarms
    WHERE {_IN_SCOPE}
        AND (%(is_open)s::boolean IS NULL OR (cleared_at IS NULL) = %(is_open)s)
        AND (%(kind)s::text IS NULL OR kind = %(kind)s)
        AND (%(severity)s::text IS NULL OR severity = %(severity)s)
        AND (%(site)s::uuid[] IS NULL OR site_ids @> %(site)s)
        AND (%(asset)s::uuid[] IS NULL OR asset_ids @> %(asset)s)
        AND (%(agent_id)s::text IS NULL OR agent_id = %(agent_id)s)
        AND (
            %(before_at)s::timestamptz IS NULL
            OR (raised_at, alarm_id) < (%(before_at)s, %(before_id)s::uuid)
        )
    ORDER BY raised_at DESC, alarm_id DESC LIMIT %(limit)s
"""  # noqa: S608  # constants only
_ALARM: LiteralString = (
    f"SELECT {_ALARM_COLUMNS} FROM alarms WHERE alarm_id = %(alarm_id)s::uuid AND {_IN_SCOPE}"  # noqa: S608
)
_OPEN_ALARMS: LiteralString = (
    f"SELECT {_ALARM_COLUMNS} FROM alarms WHERE cleared_at IS NULL ORDER BY raised_at DESC LIMIT %s"  # noqa: S608
)
_EVENTS: LiteralString = f"""
    SELECT
        number, (extract(epoch FROM at) * 1000)::bigint, origin, agent_id, asset_id::text, tenant,
        site_ids::text[], event_type, severity, message, alarm_id::text
    FROM events
    WHERE {_IN_SCOPE}
        AND (%(site)s::uuid[] IS NULL OR site_ids @> %(site)s)
        AND (%(asset_id)s::uuid IS NULL OR asset_id = %(asset_id)s)
        AND (%(agent_id)s::text IS NULL OR agent_id = %(agent_id)s)
        AND (%(event_type)s::text IS NULL OR event_type = %(event_type)s)
        AND (%(origin)s::text IS NULL OR origin = %(origin)s)
        AND (%(before)s::bigint IS NULL OR number < %(before)s)
    ORDER BY number DESC LIMIT %(limit)s
"""  # noqa: S608  # constants only


async def write_alarms(connection: Connection, pending: Sequence[PendingAlarm]) -> None:
    """Write the newest state of each alarm."""
    if not pending:
        return
    # In order: otherwise two headends' transactions could deadlock. Each once: the last counts.
    by_id = {each.alarm.alarm_id: each.alarm for each in pending}
    alarms = [by_id[alarm_id] for alarm_id in sorted(by_id)]
    await connection.execute(
        _WRITE_ALARMS,
        [
            [alarm.alarm_id for alarm in alarms],
            [alarm.kind for alarm in alarms],
            [alarm.severity for alarm in alarms],
            [alarm.source.kind for alarm in alarms],
            [storable(alarm.source.id) for alarm in alarms],
            [storable(alarm.source.detail) for alarm in alarms],
            [alarm.tenant for alarm in alarms],
            [_array(alarm.site_ids) for alarm in alarms],
            [_array(alarm.asset_ids) for alarm in alarms],
            [storable(alarm.agent_id) for alarm in alarms],
            [timestamp(alarm.raised_ms) for alarm in alarms],
            [timestamp(alarm.cleared_ms) for alarm in alarms],
            [timestamp(alarm.acknowledged_ms) for alarm in alarms],
            [storable(alarm.acknowledged_by) for alarm in alarms],
            [storable(alarm.comment) for alarm in alarms],
            [alarm.count for alarm in alarms],
            [storable(alarm.reason) for alarm in alarms],
            [alarm.value for alarm in alarms],
        ],
    )


async def write_events(connection: Connection, pending: Sequence[PendingEvent]) -> None:
    """Add the events, in order; those written before are skipped."""
    if not pending:
        return
    events = [each.event for each in pending]
    await connection.execute(
        _WRITE_EVENTS,
        [
            [each.key for each in pending],
            [timestamp(event.at_ms) for event in events],
            [event.origin for event in events],
            [storable(event.agent_id) for event in events],
            [event.asset_id or None for event in events],
            [event.tenant for event in events],
            [_array(event.site_ids) for event in events],
            [storable(event.event_type) for event in events],
            [storable(event.severity) for event in events],
            [storable(event.message) for event in events],
            [event.alarm_id or None for event in events],
        ],
    )


async def read_alarms(
    connection: Connection, scope: Scope, which: AlarmFilter, *, limit: int
) -> Sequence[Alarm]:
    """See `Queries.alarms`."""
    before_ms, before_id = which.before or (None, None)
    found = await connection.execute(
        _ALARMS,
        {
            **_scope_values(scope),
            "is_open": None if which.state is None else which.state == "open",
            "kind": which.kind,
            "severity": which.severity,
            "site": None if which.site_id is None else [which.site_id],
            "asset": None if which.asset_id is None else [which.asset_id],
            "agent_id": which.agent_id,
            "before_at": timestamp(before_ms),
            "before_id": before_id,
            "limit": limit,
        },
    )
    return [_alarm(row) for row in await found.fetchall()]


async def read_alarm(connection: Connection, scope: Scope, alarm_id: str) -> Alarm | None:
    """See `Queries.find_alarm`."""
    found = await connection.execute(_ALARM, {**_scope_values(scope), "alarm_id": alarm_id})
    row = await found.fetchone()
    return None if row is None else _alarm(row)


async def read_open_alarms(connection: Connection, *, limit: int) -> Sequence[Alarm]:
    """See `Queries.open_alarms`."""
    found = await connection.execute(_OPEN_ALARMS, [limit])
    return [_alarm(row) for row in await found.fetchall()][::-1]


async def read_events(
    connection: Connection, scope: Scope, which: EventFilter, *, limit: int
) -> Sequence[PastEvent]:
    """See `Queries.events`."""
    found = await connection.execute(
        _EVENTS,
        {
            **_scope_values(scope),
            "site": None if which.site_id is None else [which.site_id],
            "asset_id": which.asset_id,
            "agent_id": which.agent_id,
            "event_type": which.event_type,
            "origin": which.origin,
            "before": which.before,
            "limit": limit,
        },
    )
    return [_event(row) for row in await found.fetchall()]


def _scope_values(scope: Scope) -> Mapping[str, object]:
    return {
        "tenant": None if scope.tenant == ALL_TENANTS else scope.tenant,
        "sites": None if scope.site_ids is None else sorted(scope.site_ids),
    }


def _array(ids: Sequence[str] | None) -> str | None:
    # As text: an SQL array cannot hold arrays of different lengths.
    return None if ids is None else "{" + ",".join(ids) + "}"


def _alarm(row: Sequence[Any]) -> Alarm:
    alarm_id, kind, severity, source_kind, source_id, detail, tenant, site_ids, asset_ids, agent_id = row[:10]
    raised_ms, cleared_ms, acknowledged_ms, acknowledged_by, comment, count, reason, value = row[10:]
    return Alarm(
        alarm_id=alarm_id,
        kind=kind,
        severity=severity,
        source=AlarmSource(source_kind, source_id, detail),
        tenant=tenant,
        site_ids=None if site_ids is None else tuple(site_ids),
        asset_ids=None if asset_ids is None else tuple(asset_ids),
        agent_id=agent_id,
        raised_ms=raised_ms,
        cleared_ms=cleared_ms,
        acknowledged_ms=acknowledged_ms,
        acknowledged_by=acknowledged_by,
        comment=comment,
        count=count,
        reason=reason,
        value=value,
    )


def _event(row: Sequence[Any]) -> PastEvent:
    number, at_ms, origin, agent_id, asset_id, tenant, site_ids, event_type, severity, message, alarm_id = row
    return PastEvent(
        number=number,
        event=EventRecord(
            at_ms=at_ms,
            origin=origin,
            agent_id=agent_id,
            asset_id=asset_id or "",
            tenant=tenant,
            site_ids=None if site_ids is None else tuple(site_ids),
            event_type=event_type,
            severity=severity,
            message=message,
            alarm_id=alarm_id or "",
        ),
    )
