"""Schedules and their occurrences in a real database: as last recorded, before their dispatches, by scope."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

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
from tests.integration.store.test_migrations import make_database_of
from tests.integration.store.test_record_retention import NOW, retention_on
from tests.integration.store.test_row_security import reader_sees
from tests.unit.store.model_database import dispatch_record
from tests.unit.store.model_dispatches import hand_over
from trioder.domain.access import EVERYTHING, Scope
from trioder.domain.dispatch import DispatchTarget
from trioder.domain.schedules import Occurrence, OccurrenceStep, Schedule, ScheduleStep, step_dispatch_id

CREATED_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


def schedule_id(number: int) -> str:
    return str(UUID(int=2**71 + number))


def schedule_of(number: int = 0, **fields: object) -> Schedule:
    values = {
        "schedule_id": schedule_id(number),
        "target": DispatchTarget(kind="assets"),
        "asset_ids": (ASSETS[0].id, ASSETS[1].id),
        "site_ids": tuple(sorted((SITES["a"].id, SITES["b"].id))),
        "tenant": "north",
        "start": datetime(2027, 3, 28, 2, 30),  # noqa: DTZ001  # wall time
        "timezone": "Europe/Berlin",
        "steps": (ScheduleStep(duration_s=900, mw=1.0 / 3.0), ScheduleStep(duration_s=60, mw=-2.0)),
        "recurrence": "FREQ=DAILY",
        "misfire_s": 30,
        "strategy": "capacity",
        "requested_by": "anna",
        "created_ms": CREATED_MS + number,
        "skipped": (CREATED_MS + HOUR_MS,),
    }
    return Schedule(**values | fields)


def occurrence_of(number: int = 0, *, hour: int = 0, **fields: object) -> Occurrence:
    start_ms = CREATED_MS + hour * HOUR_MS
    values = {
        "schedule_id": schedule_id(number),
        "start_ms": start_ms,
        "end_ms": start_ms + 960_000,
        "state": "completed",
        "steps": (
            OccurrenceStep(number=0, dispatch_id=step_dispatch_id(schedule_id(number), start_ms, 0)),
            OccurrenceStep(number=1, dispatch_id="", refusal="too much"),
        ),
        "begun_ms": start_ms + 1,
        "changed_ms": start_ms + 2,
        "tenant": "north",
        "site_ids": (SITES["a"].id,),
    }
    return Occurrence(**values | fields)


async def test_schedules_are_read_as_they_were_last_recorded(database_url: str) -> None:
    many = schedule_of()
    fleet = schedule_of(1, target=DispatchTarget(kind="fleet"), asset_ids=(), site_ids=None, tenant="*")
    one = schedule_of(
        2,
        target=DispatchTarget(kind="asset", id=ASSETS[0].id),
        asset_ids=(),
        recurrence=None,
        strategy=None,
        skipped=(),
    )
    cancelled = replace(one, cancelled_ms=CREATED_MS + 9, cancelled_by="ben")
    async with open_store_on(database_url, fleet=FLEET) as store:
        for each in (many, fleet, one, cancelled):
            store.record_schedule(each)
        await store.wait_idle()
        found = await store.schedules()
    assert list(found) == [many, fleet, cancelled]


async def test_occurrences_are_read_as_they_were_last_recorded(database_url: str) -> None:
    running = occurrence_of(hour=2, state="running", steps=(), begun_ms=None, reason="")
    ended = replace(running, state="completed", steps=occurrence_of(hour=2).steps, begun_ms=CREATED_MS)
    first, other = occurrence_of(hour=1), occurrence_of(1, hour=2)
    async with open_store_on(database_url, fleet=FLEET) as store:
        for each in (running, first, ended, other):
            store.record_occurrence(each)
        await store.wait_idle()
        query = {"after_ms": first.start_ms, "before_ms": ended.start_ms + 1}
        found = await store.occurrences(schedule_id(0), limit=10, **query)
        assert list(await store.occurrences(schedule_id(0), limit=1, **query)) == [first]
        excluded = {"after_ms": first.start_ms + 1, "before_ms": ended.start_ms}
        assert list(await store.occurrences(schedule_id(0), limit=10, **excluded)) == []
    assert list(found) == [first, ended]


async def test_a_start_reads_what_runs_and_the_newest_of_each_schedule(database_url: str) -> None:
    older, running = occurrence_of(hour=0), occurrence_of(hour=1, state="running")
    newest, early = occurrence_of(hour=2), occurrence_of(hour=9, state="missed")
    begun_early = occurrence_of(1, hour=9)
    async with open_store_on(database_url, fleet=FLEET) as store:
        for number in range(3):
            store.record_schedule(schedule_of(number))
        for each in (older, running, newest, early, begun_early):
            store.record_occurrence(each)
        await store.wait_idle()
        found = await store.last_occurrences(now_ms=CREATED_MS + 5 * HOUR_MS)
        later = await store.last_occurrences(now_ms=CREATED_MS + 9 * HOUR_MS)
    # What a wrong clock has missed is still to come; what it has begun is not begun again.
    assert sorted(found, key=lambda one: one.start_ms) == [running, newest, begun_early]
    assert early in later


async def test_waiting_ends_when_it_is_written(database_url: str) -> None:
    async with open_store_on(database_url, fleet=FLEET) as store:
        await store.wait_idle()
        store.record_occurrence(occurrence_of())
        assert await store.wait_recorded(occurrence_of())
        assert run_sql(database_url, "SELECT count(*) FROM schedule_occurrences") == [(1,)]


async def test_no_dispatch_is_written_before_an_occurrence_that_was_recorded_before_it(
    database_url: str,
) -> None:
    occurrence = occurrence_of(state="running")
    [dispatch_id] = occurrence.dispatch_ids
    async with open_store_on(database_url, fleet=FLEET) as store:
        store.record_occurrence(replace(occurrence, steps=()))
        store.record_dispatch(
            dispatch_record("3f1d2c4b-0000-4000-8000-0000000000aa"), changed=(), share_of=lambda _: None
        )
        store.record_occurrence(occurrence)
        hand_over(store.record_dispatch, dispatch_record(dispatch_id))
        queue = store._record_writer.queue
        order = [record.key for record in queue.first(10)]
        assert order.index(f"occurrence {occurrence.schedule_id} {occurrence.start_ms}") < order.index(
            dispatch_id
        )


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        (EVERYTHING, {"a", "ab", "c", "ac"}),
        (NORTH, {"a", "ab"}),
        (SOUTH, {"c"}),
        (EAST, set()),
        (NORTH_AT_A, {"a"}),
        (NORTH_NOWHERE, set()),
        (ALL_AT_A_AND_C, {"a", "c", "ac"}),
    ],
    ids=["everything", "north", "south", "east", "north_at_a", "north_nowhere", "all_at_a_and_c"],
)
async def test_callers_see_what_lies_within_their_scope(
    scope: Scope, names: set[str], database_url: str
) -> None:
    async with open_store_on(database_url, fleet=FLEET) as store:
        for number, (tenant, keys) in enumerate(RECORDS.values()):
            site_ids = tuple(sorted({ASSETS[key].site_id for key in keys}))
            store.record_schedule(schedule_of(number, tenant=tenant, site_ids=site_ids))
            store.record_occurrence(occurrence_of(number, tenant=tenant, site_ids=site_ids))
        await store.wait_idle()
        seen = set()
        for number, name in enumerate(RECORDS):
            query = {"after_ms": 0, "before_ms": CREATED_MS + HOUR_MS, "limit": 5}
            if await store.occurrences(schedule_id(number), scope=scope, **query):
                seen.add(name)
    assert seen == names
    if scope != EVERYTHING:
        # Even without a filter in the query.
        for table in ("schedules", "schedule_occurrences"):
            rows = reader_sees(database_url, f"SELECT schedule_id::text FROM {table}", scope)
            found = {row[0] for row in rows}
            assert found == {schedule_id(number) for number, name in enumerate(RECORDS) if name in names}


def occurrence_row(url: str, number: int, age_days: float, state: str = "completed") -> None:
    start = NOW - timedelta(days=age_days)
    run_sql(
        url,
        "INSERT INTO schedule_occurrences VALUES "
        "(%s, %s::timestamptz, %s::timestamptz, %s, '', '[]', NULL, NULL, 'north', NULL)",
        schedule_id(number),
        start,
        start + timedelta(minutes=1),
        state,
    )


async def test_old_occurrences_are_deleted_but_the_newest_of_each_schedule(database_url: str) -> None:
    async with retention_on(database_url, days=30) as drop:
        for age_days in (100, 90, 80):
            occurrence_row(database_url, 0, age_days)
        occurrence_row(database_url, 1, 100)
        occurrence_row(database_url, 1, 1)
        occurrence_row(database_url, 2, 100, "running")
        occurrence_row(database_url, 2, 90)
        await drop()
    left = run_sql(database_url, "SELECT schedule_id::text, start_at FROM schedule_occurrences ORDER BY 1, 2")
    ages = [(name, round((NOW - start).total_seconds() / 86_400)) for name, start in left]
    assert ages == [
        (schedule_id(0), 80),
        (schedule_id(1), 1),
        (schedule_id(2), 100),
        (schedule_id(2), 90),
    ]


async def test_schedules_that_are_over_are_deleted(database_url: str) -> None:
    old = NOW - timedelta(days=100)
    old_ms = round(old.timestamp() * 1000)
    cases = {
        "cancelled long ago": schedule_of(0, cancelled_ms=old_ms),
        "over long ago": schedule_of(1, recurrence=None),
        "cancelled of late": schedule_of(2, cancelled_ms=round(datetime.now(UTC).timestamp() * 1000)),
        "recurs": schedule_of(3),
        "to come": schedule_of(4, recurrence=None),
        "runs": schedule_of(5, recurrence=None),
    }
    async with open_store_on(database_url, fleet=FLEET) as store:
        for schedule in cases.values():
            store.record_schedule(replace(schedule, created_ms=old_ms))
        await store.wait_idle()
    async with retention_on(database_url, days=30) as drop:
        for number in (0, 1, 3):
            occurrence_row(database_url, number, 100)
        occurrence_row(database_url, 5, 100, "running")
        await drop()
    left = {row[0] for row in run_sql(database_url, "SELECT schedule_id::text FROM schedules")}
    assert left == {schedule_id(number) for number in (2, 3, 4, 5)}
    [(occurrences,)] = run_sql(database_url, "SELECT count(*) FROM schedule_occurrences")
    assert occurrences == 2


async def test_a_database_of_version_6_has_no_schedules_and_takes_some(database_url: str) -> None:
    make_database_of(6, database_url)
    async with open_store_on(database_url, fleet=FLEET) as store:
        await store.wait_attempted()
        assert list(await store.schedules()) == []
        store.record_schedule(schedule_of())
        await store.wait_idle()
        assert list(await store.schedules()) == [schedule_of()]
