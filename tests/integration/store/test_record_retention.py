"""Old records are deleted, never by a wrong clock, never what is open, and never all in one go."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg
import pytest
import trio
import trio_asyncio

from tests.integration.store.servers import open_store_on, run_sql
from trioder.store.postgres import record_retention, record_writer
from trioder.store.postgres.pg_connection import open_pg_connection
from trioder.store.postgres.record_retention import RecordRetention

NOW = datetime.now(UTC)
DAYS = timedelta(days=1)

Drop = Callable[..., Awaitable[bool]]


@asynccontextmanager
async def retention_on(url: str, *, days: int, now: datetime = NOW) -> AsyncIterator[Drop]:
    async with open_store_on(url):
        pass
    retention = RecordRetention(retention_days=days)
    async with trio_asyncio.open_loop():
        pg_connection = await open_pg_connection(url, statement_timeout_s=10)
        await pg_connection.run(partial(retention.learn, now=now), within_s=10)

        async def drop(*, now: datetime = NOW, run_s: float = 0.0) -> bool:
            return await pg_connection.run(partial(retention.drop_old, now=now, run_s=run_s), within_s=10)

        yield drop
        await pg_connection.aclose()


def dispatch(
    url: str,
    name: str,
    age: timedelta,
    *,
    open_one: bool = False,
    members: int = 1,
    ended: timedelta | None = None,
) -> None:
    """A dispatch as it is recorded; its key names it."""
    run_sql(
        url,
        """
        WITH given AS (
            INSERT INTO dispatches SELECT gen_random_uuid(), 'fleet', NULL, 1, 1, 0, NULL, 0, NULL,
                %s::timestamptz, NULL, 'completed', %s, %s, NULL, 60, false, NULL, '{}', 0
            RETURNING dispatch_id, dispatched_at
        )
        INSERT INTO dispatch_shares
            (dispatch_id, asset_id, dispatched_at, mw, reversion_mw, ended_at, position, left_out, code,
            allocation)
        SELECT dispatch_id, gen_random_uuid(), dispatched_at, 1, 0, %s::timestamptz, 0, false, '', ''
        FROM given, generate_series(1, %s)
        """,
        NOW - age,
        open_one,
        name,
        None if ended is None else NOW - ended,
        members,
    )


def session(
    url: str, agent_id: str, age: timedelta, *, lasted: timedelta | None = timedelta(minutes=1)
) -> None:
    run_sql(
        url,
        """
        WITH list AS (
            INSERT INTO asset_lists (digest, asset_keys) VALUES (sha256(%s::text::bytea), ARRAY[1])
            ON CONFLICT (digest) DO UPDATE SET asset_keys = excluded.asset_keys RETURNING list_id
        )
        INSERT INTO sessions SELECT gen_random_uuid(), %s, 1, 'x', list_id, %s::timestamptz, %s::timestamptz
        FROM list
        """,
        agent_id,
        agent_id,
        NOW - age,
        None if lasted is None else NOW - age + lasted,
    )


def watermark(url: str, outbox_id: str, age: timedelta, *, batch_seq: int = 1_000) -> None:
    run_sql(url, "INSERT INTO ingest_watermarks VALUES (%s, %s, %s)", outbox_id, batch_seq, NOW - age)


def names(url: str, column: str, table: str) -> list[str]:
    return [name for (name,) in run_sql(url, f"SELECT {column} FROM {table} ORDER BY 1")]


@pytest.fixture
async def database_url(database_url: str) -> str:
    """A database with a store's tables."""
    async with open_store_on(database_url):
        pass
    return database_url


async def test_old_ended_records_are_deleted_with_their_rows_elsewhere(database_url: str) -> None:
    dispatch(database_url, "old", 11 * DAYS)
    dispatch(database_url, "open", 11 * DAYS, open_one=True)
    dispatch(database_url, "ended lately", 11 * DAYS, ended=1 * DAYS)
    dispatch(database_url, "young", 9 * DAYS)
    session(database_url, "old", 11 * DAYS)
    session(database_url, "open", 11 * DAYS, lasted=None)
    session(database_url, "ended lately", 11 * DAYS, lasted=5 * DAYS)
    session(database_url, "young", timedelta(0))
    watermark(database_url, "old", 11 * DAYS)
    watermark(database_url, "young", 9 * DAYS)
    async with retention_on(database_url, days=10) as drop:
        assert not await drop()
    assert names(database_url, "idempotency_key", "dispatches") == ["ended lately", "open", "young"]
    assert run_sql(database_url, "SELECT count(*) FROM dispatch_shares") == [(3,)]
    assert names(database_url, "agent_id", "sessions") == ["ended lately", "open", "young"]
    assert run_sql(database_url, "SELECT count(*) FROM asset_lists") == [(3,)]
    assert names(database_url, "outbox_id", "ingest_watermarks") == ["young"]


def alarm(url: str, reason: str, raised: timedelta, cleared: timedelta | None) -> None:
    run_sql(
        url,
        "INSERT INTO alarms SELECT gen_random_uuid(), 'stale', 'minor', 'asset', '', '', 'x', NULL, NULL, "
        "'', %s::timestamptz, %s::timestamptz, NULL, '', '', 1, %s, NULL",
        NOW - raised,
        None if cleared is None else NOW - cleared,
        reason,
    )


def event(url: str, message: str, recorded: timedelta) -> None:
    run_sql(
        url,
        "INSERT INTO events (id, at, recorded_at, origin, agent_id, tenant, event_type, severity, message) "
        "VALUES (gen_random_uuid(), 'epoch', %s, 'agent', '', 'x', 'X', '', %s)",
        NOW - recorded,
        message,
    )


async def test_old_cleared_alarms_and_events_are_deleted_and_open_alarms_are_not(database_url: str) -> None:
    alarm(database_url, "old", 20 * DAYS, 11 * DAYS)
    alarm(database_url, "open", 20 * DAYS, None)
    alarm(database_url, "cleared lately", 20 * DAYS, 9 * DAYS)
    event(database_url, "old", 11 * DAYS)
    # Its agent's clock was wrong.
    event(database_url, "young", 9 * DAYS)
    session(database_url, "young", timedelta(0))
    async with retention_on(database_url, days=10) as drop:
        assert not await drop()
    assert names(database_url, "reason", "alarms") == ["cleared lately", "open"]
    assert names(database_url, "message", "events") == ["young"]


async def test_of_too_many_events_the_oldest_are_deleted(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_retention, "MAX_EVENTS", 3)
    for number in range(5):
        event(database_url, f"{number}", timedelta(0))
    session(database_url, "young", timedelta(0))
    async with retention_on(database_url, days=10) as drop:
        assert not await drop()
    assert names(database_url, "message", "events") == ["2", "3", "4"]


async def test_zero_keeps_all(database_url: str) -> None:
    dispatch(database_url, "old", 5_000 * DAYS)
    session(database_url, "old", 5_000 * DAYS)
    watermark(database_url, "old", 5_000 * DAYS)
    async with retention_on(database_url, days=0) as drop:
        assert not await drop()
    assert run_sql(
        database_url,
        "SELECT (SELECT count(*) FROM dispatches), (SELECT count(*) FROM sessions), "
        "(SELECT count(*) FROM ingest_watermarks)",
    ) == [(1, 1, 1)]


@pytest.mark.parametrize("error", [timedelta(hours=1), 20 * DAYS, 365 * DAYS, 36_500 * DAYS])
async def test_a_clock_that_is_ahead_deletes_nothing_more(error: timedelta, database_url: str) -> None:
    dispatch(database_url, "newest", 0 * DAYS)
    dispatch(database_url, "nearly old", 8 * DAYS)
    dispatch(database_url, "old", 12 * DAYS)
    async with retention_on(database_url, days=10, now=NOW + error) as drop:
        await drop(now=NOW + error)
    assert names(database_url, "idempotency_key", "dispatches") == ["nearly old", "newest"]


async def test_both_clocks_ahead_delete_nothing_more_than_the_run_is_long(database_url: str) -> None:
    """The server's clock is the test's own: instead, all records are a year older than they seem."""
    year = 365 * DAYS
    dispatch(database_url, "newest", year)
    dispatch(database_url, "nearly old", year + 8 * DAYS)
    async with retention_on(database_url, days=10) as drop:
        await drop()
        assert len(names(database_url, "idempotency_key", "dispatches")) == 2
        # What this run adds does not make the old ones older.
        dispatch(database_url, "now", 0 * DAYS)
        await drop()
        assert len(names(database_url, "idempotency_key", "dispatches")) == 3
        await drop(run_s=2 * 86_400)
    assert names(database_url, "idempotency_key", "dispatches") == ["newest", "now"]


async def test_a_clock_that_is_behind_deletes_nothing(database_url: str) -> None:
    dispatch(database_url, "old", 12 * DAYS)
    session(database_url, "young", timedelta(0))
    async with retention_on(database_url, days=10, now=NOW - 5 * DAYS) as drop:
        await drop(now=NOW - 5 * DAYS)
    assert names(database_url, "idempotency_key", "dispatches") == ["old"]


async def test_a_large_dispatch_is_deleted_in_steps(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_retention, "_ROWS_PER_STEP", 100)
    dispatch(database_url, "large", 12 * DAYS, members=250)
    session(database_url, "young", timedelta(0))
    left = []
    async with retention_on(database_url, days=10) as drop:
        more = True
        while more:
            more = await drop()
            left.append(run_sql(database_url, "SELECT count(*) FROM dispatch_shares")[0][0])
    assert left == [150, 50, 0]
    assert names(database_url, "idempotency_key", "dispatches") == []


async def test_of_too_many_sessions_the_short_ones_go_first(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_retention, "MAX_SESSIONS", 4)
    session(database_url, "regular 1", 9 * DAYS)
    session(database_url, "regular 2", 8 * DAYS)
    session(database_url, "regular 3", 1 * DAYS, lasted=None)
    for number in range(9):
        session(database_url, f"storm {number}", timedelta(minutes=9 - number), lasted=timedelta(seconds=1))
    async with retention_on(database_url, days=10) as drop:
        await drop()
    assert names(database_url, "agent_id", "sessions") == ["regular 1", "regular 2", "regular 3", "storm 8"]


async def test_surplus_watermarks_are_deleted_from_hardly_used_outboxes_first_and_never_recent_ones(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_retention, "MAX_WATERMARKS", 4)
    watermark(database_url, "away for a week", 7 * DAYS)
    watermark(database_url, "away for long", 40 * DAYS)
    watermark(database_url, "recent", timedelta(hours=1), batch_seq=1)
    for number in range(5):
        watermark(database_url, f"flood {number}", (20 - number) * DAYS, batch_seq=1)
    async with retention_on(database_url, days=0) as drop:
        await drop()
        assert names(database_url, "outbox_id", "ingest_watermarks") == [
            "away for a week",
            "away for long",
            "flood 4",
            "recent",
        ]
        for number in range(5, 9):
            watermark(database_url, f"flood {number}", timedelta(hours=2), batch_seq=1)
        await drop()
    # Recent ones stay, however many.
    assert names(database_url, "outbox_id", "ingest_watermarks") == [
        "away for a week",
        *(f"flood {number}" for number in range(5, 9)),
        "recent",
    ]


async def test_a_list_of_assets_that_is_about_to_be_used_is_left_alone(database_url: str) -> None:
    run_sql(database_url, "INSERT INTO asset_lists (digest, asset_keys) VALUES ('x', ARRAY[1])")
    async with retention_on(database_url, days=10) as drop:
        with psycopg.connect(database_url) as other:
            other.execute("SELECT pg_advisory_xact_lock_shared(%s)", [record_retention.RECORDS_LOCK])
            await drop()
            assert run_sql(database_url, "SELECT count(*) FROM asset_lists") == [(1,)]
        await drop()
    assert run_sql(database_url, "SELECT count(*) FROM asset_lists") == [(0,)]


async def test_an_open_store_deletes_old_records_by_itself(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_writer, "_DROP_FIRST_AFTER_S", 0.0)
    dispatch(database_url, "old", 12 * DAYS)
    session(database_url, "young", timedelta(0))
    async with open_store_on(database_url, records_retention_days=10):
        await until_gone(database_url)


async def until_gone(url: str) -> None:
    with trio.fail_after(10):
        while names(url, "idempotency_key", "dispatches"):
            await trio.sleep(0.02)
