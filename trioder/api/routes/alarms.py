"""`/alarms` and `/events`: what needs an operator's attention, and what has happened."""

from dataclasses import replace
from typing import cast

import msgspec
from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse

from trioder.api.access import AccessControl, principal
from trioder.api.alarm_rows import alarm_response, alarm_row
from trioder.api.asset_query import FleetIndex, FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.openapi import documented
from trioder.api.parsing import (
    Query,
    checked_id,
    checked_query,
    query_choice,
    query_id,
    query_limit,
    query_name,
    query_number,
    read_json_body,
)
from trioder.api.responses import json_response, list_response
from trioder.domain.access import Scope
from trioder.domain.alarms import (
    KINDS,
    SEVERITIES,
    Alarm,
    AlarmFilter,
    AlarmKind,
    AlarmState,
    EventFilter,
    EventOrigin,
    PastEvent,
    Severity,
)
from trioder.domain.text import preview
from trioder.process.rfc3339 import format_ms
from trioder.schemas.alarms import (
    AcknowledgeBody,
    AlarmResponse,
    AlarmRow,
    AlarmsQuery,
    EventRow,
    EventsQuery,
)
from trioder.schemas.resources import DEFAULT_HISTORY_ROWS, MAX_HISTORY_ROWS, NoQuery
from trioder.store.interface import StoreUnavailableError

_MAX_NUMBER = 10**18 - 1
_body_decoder = msgspec.json.Decoder(AcknowledgeBody)


def alarms_blueprint(headend: Headend, indexes: FleetIndexes, access: AccessControl) -> Blueprint:
    """Return the routes of alarms."""
    blueprint = Blueprint("alarms", __name__)

    @blueprint.get("/alarms")
    @documented(list[AlarmRow], role="viewer", query=AlarmsQuery, errors=(404, 503))
    async def list_alarms() -> TrioResponse:
        """List alarms, newest first: by default the open ones, also while the database is away."""
        query = checked_query(AlarmsQuery)
        limit = query_limit(query, highest=MAX_HISTORY_ROWS, default=DEFAULT_HISTORY_ROWS)
        index = indexes.of_request()
        which = _alarm_filter(query, index)
        before = query_id(query, "before")
        if before is not None:
            which = replace(which, before=(await _read(headend, before, index.scope)).order)
        try:
            alarms = await headend.alarms.newest(which, limit=limit)
        except StoreUnavailableError as error:
            raise ApiError(503, f"cleared alarms cannot be read now: {error}") from None
        return list_response(alarms, alarm_row)

    @blueprint.get("/alarms/<alarm_id>")
    @documented(AlarmResponse, role="viewer", errors=(404, 503))
    async def show_alarm(alarm_id: str) -> TrioResponse:
        """Show one alarm, with its assets and sites."""
        checked_query(NoQuery)
        return json_response(alarm_response(await _read(headend, alarm_id, indexes.of_request().scope)))

    @blueprint.post("/alarms/<alarm_id>/acknowledge")
    @documented(AlarmResponse, role="operator", body=AcknowledgeBody, errors=(404, 413, 415, 503))
    async def acknowledge(alarm_id: str) -> TrioResponse:
        """Acknowledge an alarm, open or cleared; repeatable: the first time and name stay."""
        checked_query(NoQuery)
        comment = await _comment()
        alarm = await _read(headend, alarm_id, indexes.of_request().scope)
        alarm = headend.alarms.register.acknowledge(alarm, by=principal().name, comment=comment)
        access.record("alarm.acknowledge", target=alarm.alarm_id, tenant=alarm.tenant)
        return json_response(alarm_response(alarm))

    return blueprint


def events_blueprint(headend: Headend, indexes: FleetIndexes) -> Blueprint:
    """Return the route of events."""
    blueprint = Blueprint("events", __name__)

    @blueprint.get("/events")
    @documented(list[EventRow], role="viewer", query=EventsQuery, errors=(404, 503))
    async def list_events() -> TrioResponse:
        """List what agents reported, and the transitions of alarms, newest first."""
        query = checked_query(EventsQuery)
        limit = query_limit(query, highest=MAX_HISTORY_ROWS, default=DEFAULT_HISTORY_ROWS)
        which = _event_filter(query, indexes.of_request())
        try:
            past = await headend.store.events(which, limit=limit)
        except StoreUnavailableError as error:
            raise ApiError(503, f"the events cannot be read now: {error}") from None
        return list_response(past, _event_row)

    return blueprint


async def _read(headend: Headend, alarm_id: str, scope: Scope) -> Alarm:
    try:
        found = await headend.alarms.read(checked_id("alarm_id", alarm_id), scope=scope)
    except StoreUnavailableError as error:
        raise ApiError(503, f"the alarm cannot be read now: {error}") from None
    if found is None:
        raise ApiError(404, f"there is no alarm {preview(alarm_id)}")
    return found


def _alarm_filter(query: Query, index: FleetIndex) -> AlarmFilter:
    state = query_choice(query, "state", ("open", "cleared", "all")) or "open"
    site_id, asset_id = query_id(query, "site_id"), query_id(query, "asset_id")
    if site_id is not None:
        index.keys_of_site(site_id)
    if asset_id is not None:
        index.key_of(asset_id)
    return AlarmFilter(
        state=None if state == "all" else cast("AlarmState", state),
        kind=cast("AlarmKind | None", query_choice(query, "kind", KINDS)),
        severity=cast("Severity | None", query_choice(query, "severity", SEVERITIES)),
        site_id=site_id,
        asset_id=asset_id,
        agent_id=query_name(query, "agent_id"),
        scope=index.scope,
    )


def _event_filter(query: Query, index: FleetIndex) -> EventFilter:
    site_id, asset_id = query_id(query, "site_id"), query_id(query, "asset_id")
    if site_id is not None:
        index.keys_of_site(site_id)
    if asset_id is not None:
        index.key_of(asset_id)
    before = query_number(query, "before", lowest=1, highest=_MAX_NUMBER, default=_MAX_NUMBER)
    return EventFilter(
        site_id=site_id,
        asset_id=asset_id,
        agent_id=query_name(query, "agent_id"),
        event_type=query_name(query, "event_type"),
        origin=cast("EventOrigin | None", query_choice(query, "origin", ("agent", "headend"))),
        before=before if "before" in query else None,
        scope=index.scope,
    )


async def _comment() -> str | None:
    has_body = request.content_length or "Transfer-Encoding" in request.headers or request.mimetype
    if not has_body:
        return None
    comment = (await read_json_body(_body_decoder)).comment
    if comment is not None and not comment.isprintable():
        raise ApiError(400, f"comment is {preview(comment)}; it must be printable, on one line")
    return comment


def _event_row(past: PastEvent) -> EventRow:
    event = past.event
    return EventRow(
        number=past.number,
        time=format_ms(event.at_ms),
        origin=event.origin,
        agent_id=event.agent_id or None,
        asset_id=event.asset_id or None,
        event_type=event.event_type,
        severity=event.severity,
        message=event.message,
        tenant=event.tenant,
        alarm_id=event.alarm_id or None,
    )
