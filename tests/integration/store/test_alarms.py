"""Alarms and events in a real database: the newest state of each alarm, all events, and who sees them."""

from dataclasses import replace
from uuid import UUID

import psycopg
import pytest

from tests.integration.store import tenants
from tests.integration.store.servers import open_store_on, run_sql
from tests.integration.store.tenants import (
    ALL_AT_A_AND_C,
    ASSETS,
    EAST,
    FLEET,
    NORTH,
    NORTH_AT_A,
    NORTH_NOWHERE,
    RECORDS,
    SITES,
    SOUTH,
)
from trioder.domain.access import EVERYTHING, Scope
from trioder.domain.alarms import Alarm, AlarmFilter, AlarmSource, EventFilter, EventRecord
from trioder.store.postgres.schema import SCHEMA_VERSION

RAISED_MS = 1_800_000_000_000


def alarm_id(number: int) -> str:
    return str(UUID(int=2**70 + number))


def alarm_of(number: int = 0, **fields: object) -> Alarm:
    values = {
        "alarm_id": alarm_id(number),
        "kind": "device_fault",
        "severity": "major",
        "source": AlarmSource("asset", ASSETS[0].id, "INVERTER_FAULT"),
        "tenant": "north",
        "agent_id": "agent",
        "asset_ids": (ASSETS[0].id,),
        "site_ids": (SITES["a"].id,),
        "count": 1,
        "reason": "INVERTER_FAULT: of the device",
        "value": 1.5,
        "raised_ms": RAISED_MS + number,
    }
    return Alarm(**values | fields)


def event_of(number: int = 0, **fields: object) -> EventRecord:
    values = {
        "at_ms": RAISED_MS + number,
        "origin": "agent",
        "agent_id": "agent",
        "asset_id": ASSETS[0].id,
        "tenant": "north",
        "site_ids": (SITES["a"].id,),
        "event_type": "DOOR",
        "severity": "info",
        "message": f"event {number}",
    }
    return EventRecord(**values | fields)


def named(name: str) -> tuple[str, tuple[str, ...]]:
    """The tenant and the sites of a record of `tenants`."""
    tenant, keys = RECORDS[name]
    return tenant, tuple(sorted({ASSETS[key].site_id for key in keys}))


async def test_an_alarm_is_read_as_it_was_last_recorded(database_url: str) -> None:
    alarm = alarm_of()
    whole = alarm_of(1, asset_ids=None, site_ids=None, agent_id="", source=AlarmSource("headend", "north"))
    own = alarm_of(2, asset_ids=(), site_ids=(), agent_id="", value=None, source=AlarmSource("headend"))
    async with open_store_on(database_url, fleet=FLEET) as store:
        for each in (alarm, whole, own):
            store.record_alarm(each)
        await store.wait_idle()
        assert await store.alarms(AlarmFilter(), limit=10) == [own, whole, alarm]
        changed = replace(
            alarm,
            cleared_ms=RAISED_MS + 5_000,
            acknowledged_ms=RAISED_MS + 100,
            acknowledged_by="ann",
            comment="seen, \0 and «noted»",
            count=3,
            reason="others",
            severity="critical",
        )
        store.record_alarm(changed)
        await store.wait_idle()
        assert await store.find_alarm(alarm.alarm_id) == replace(changed, comment="seen, � and «noted»")
        assert await store.open_alarms(limit=10) == [whole, own]
        assert await store.find_alarm(alarm_id(9)) is None
        assert store.stats.records_dropped == 0


async def test_alarms_are_filtered_and_paged(database_url: str) -> None:
    alarms = [
        alarm_of(
            number,
            # Several are raised in the same millisecond.
            raised_ms=RAISED_MS + number // 3,
            kind="stale" if number % 2 else "away",
            severity="minor" if number % 2 else "major",
            agent_id=f"agent {number % 4}",
            cleared_ms=RAISED_MS + 10_000 if number % 5 == 0 else None,
            asset_ids=(ASSETS[number % 3].id,),
            site_ids=(ASSETS[number % 3].site_id,),
        )
        for number in range(40)
    ]
    filters = [
        AlarmFilter(),
        AlarmFilter(state="open"),
        AlarmFilter(state="cleared", kind="stale"),
        AlarmFilter(severity="major", agent_id="agent 2"),
        AlarmFilter(asset_id=ASSETS[1].id),
        AlarmFilter(site_id=SITES["c"].id, state="open"),
        AlarmFilter(before=(RAISED_MS + 7, alarm_id(22))),
        AlarmFilter(scope=SOUTH),
        AlarmFilter(scope=NORTH_AT_A),
    ]
    async with open_store_on(database_url, fleet=FLEET) as store:
        for alarm in alarms:
            store.record_alarm(alarm)
        await store.wait_idle()
        for which in filters:
            expected = sorted(filter(which.matches, alarms), key=lambda alarm: alarm.order)[::-1]
            assert await store.alarms(which, limit=100) == expected, which
        pages, before = [], None
        while page := await store.alarms(AlarmFilter(before=before), limit=7):
            pages += page
            before = page[-1].order
        assert [alarm.alarm_id for alarm in pages] == [alarm.alarm_id for alarm in alarms[::-1]]


async def test_events_are_recorded_once_in_order_and_found(database_url: str) -> None:
    events = [
        event_of(
            number,
            agent_id=f"agent {number % 2}",
            event_type=f"TYPE_{number % 3}",
            origin="headend" if number % 4 == 0 else "agent",
            asset_id="" if number % 5 == 0 else ASSETS[number % 3].id,
            alarm_id=alarm_id(number) if number % 4 == 0 else "",
            site_ids=None if number % 7 == 0 else (SITES["a"].id,),
        )
        for number in range(1_100)
    ]
    async with open_store_on(database_url, fleet=FLEET) as store:
        for event in events:
            store.record_event(event)
        await store.wait_idle()
        past = await store.events(EventFilter(), limit=2_000)
        assert [one.event for one in past] == events[::-1]
        for which in (
            EventFilter(agent_id="agent 1", event_type="TYPE_2"),
            EventFilter(asset_id=ASSETS[1].id, origin="agent"),
            EventFilter(before=past[50].number, scope=NORTH),
            EventFilter(scope=NORTH_AT_A),
            EventFilter(scope=SOUTH),
        ):
            expected = [one for one in past if which.matches(one)]
            assert await store.events(which, limit=2_000) == expected


async def test_what_agents_can_send_is_stored_or_dropped_without_harm(database_url: str) -> None:
    async with open_store_on(database_url, fleet=FLEET) as store:
        store.record_event(event_of(0, message="NUL \0, quote ' and \" and \\", at_ms=-62_135_596_800_000))
        store.record_event(event_of(1, at_ms=253_402_300_799_999, event_type="x" * 256))
        store.record_event(event_of(2))
        await store.wait_idle()
        past = await store.events(EventFilter(), limit=10)
        assert len(past) == 3
        assert store.stats.event_records_dropped == 0


_SEEN = {
    "north": (NORTH, {"a", "ab"}),
    "south": (SOUTH, {"c"}),
    "nobody": (EAST, set()),
    "north at a": (NORTH_AT_A, {"a"}),
    "north nowhere": (NORTH_NOWHERE, set()),
    "all at a and c": (ALL_AT_A_AND_C, {"a", "c", "ac"}),
    "all": (EVERYTHING, {*RECORDS, "own"}),
    "not set": (None, set()),
}


@pytest.mark.parametrize("name", _SEEN)
async def test_alarms_and_events_are_seen_within_their_scope_by_query_and_by_row_security(
    database_url: str, name: str
) -> None:
    scope, expected = _SEEN[name]
    async with open_store_on(database_url, fleet=FLEET) as store:
        for number, record in enumerate(RECORDS):
            tenant, site_ids = named(record)
            store.record_alarm(alarm_of(number, tenant=tenant, site_ids=site_ids, reason=record))
            store.record_event(event_of(number, tenant=tenant, site_ids=site_ids, message=record))
        store.record_alarm(alarm_of(9, tenant="*", site_ids=(), asset_ids=(), reason="own"))
        store.record_event(event_of(9, tenant="*", site_ids=(), asset_id="", message="own"))
        await store.wait_idle()
        if scope is not None:
            alarms = await store.alarms(AlarmFilter(scope=scope), limit=10)
            assert {alarm.reason for alarm in alarms} == expected
            past = await store.events(EventFilter(scope=scope), limit=10)
            assert {one.event.message for one in past} == expected
            seen = [await store.find_alarm(alarm_id(number), scope=scope) for number in (*range(4), 9)]
            assert {alarm.reason for alarm in seen if alarm is not None} == expected
    with psycopg.connect(database_url, autocommit=True) as connection:
        for query in ("SELECT reason FROM alarms", "SELECT message FROM events"):
            assert {text for (text,) in _as_reader(connection, query, scope)} == expected


def _as_reader(connection: psycopg.Connection, query: str, scope: Scope | None) -> list[tuple]:
    with connection.transaction():
        connection.execute("SET LOCAL ROLE trioder_reader")
        if scope is not None:
            connection.execute("SELECT set_config('trioder.tenant', %s, true)", [scope.tenant])
            if scope.site_ids is not None:
                sites = "{" + ",".join(scope.site_ids) + "}"
                connection.execute("SELECT set_config('trioder.sites', %s, true)", [sites])
        return connection.execute(query.encode()).fetchall()


@pytest.mark.parametrize("table", ["alarms", "events"])
async def test_the_reader_cannot_change_them(database_url: str, table: str) -> None:
    await tenants.fill(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET ROLE trioder_reader")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"DELETE FROM {table}".encode())


async def test_a_migrated_database_keeps_its_records_and_takes_alarms(database_url: str) -> None:
    await tenants.fill(database_url)
    for statement in (
        "DROP TABLE schedule_occurrences, schedules, telemetry_5m, telemetry_hours",
        "DROP TABLE alarms",
        "DROP TABLE events",
        "DELETE FROM schema_version WHERE version > 5",
        "INSERT INTO schema_version (version) VALUES (5) ON CONFLICT DO NOTHING",
    ):
        run_sql(database_url, statement)
    async with open_store_on(database_url, fleet=FLEET) as store:
        store.record_alarm(alarm_of())
        await store.wait_idle()
        assert await store.open_alarms(limit=10) == [alarm_of()]
    assert run_sql(database_url, "SELECT count(*) FROM sessions") == [(4,)]
    assert run_sql(database_url, "SELECT max(version) FROM schema_version") == [(SCHEMA_VERSION,)]
