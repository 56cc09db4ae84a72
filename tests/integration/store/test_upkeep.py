"""Partitions and retention on a real server: under readers that hold locks, and under wrong clocks."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import trio
import trio_asyncio

from tests.integration.store.senders import Sender, keep, samples, until_health
from tests.integration.store.servers import FLEET, open_store_on, run_sql
from trioder.domain.fleet import Fleet
from trioder.process.wall_time import WallClock
from trioder.store.postgres import partitions as partitions_module
from trioder.store.postgres import store as store_module
from trioder.store.postgres.partitions import Partitions
from trioder.store.postgres.pg_connection import (
    Connection,
    PgConnection,
    checked_conninfo,
    open_pg_connection,
)
from trioder.store.postgres.retention_runs import Retention
from trioder.store.postgres.schema import apply_schema, mirror_fleet

ROOT = Path(__file__).parents[3]
NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000
TODAY = date(2027, 1, 15)  # NOW_MS
DAY = timedelta(days=1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upkeep often enough for a test."""
    monkeypatch.setattr(store_module, "MAINTAIN_EVERY_S", 0.05)
    monkeypatch.setattr(partitions_module, "_SHORTEST_PAUSE_S", 0.1)
    monkeypatch.setattr(partitions_module, "_LONGEST_PAUSE_S", 0.2)


def wall(ms: int = NOW_MS) -> WallClock:
    return WallClock(ms / 1000, trio.current_time())


def rows_by_partition(url: str) -> dict[str, int]:
    return dict(run_sql(url, "SELECT tableoid::regclass::text, count(*) FROM samples GROUP BY 1"))


def add_samples(url: str, *days: date, number: int = 1, table: str = "samples", rows: int = 1) -> None:
    for day in days:
        run_sql(
            url,
            f"INSERT INTO {table} (ts, soc_mwhr, current_mw, setpoint_mw, available_discharge_mw, "
            "available_charge_mw, asset_key, source) "
            f"SELECT '{day} 12:00+00', 1, 1, 1, 1, 1, asset_key, 0 FROM asset_versions, "
            f"generate_series(1, {rows}) WHERE asset_id = '{FLEET.assets[number - 1].id}'",
        )


@contextmanager
def reader_of(url: str, table: str = "samples") -> Iterator[psycopg.Connection]:
    """A report that somebody reads for hours: it holds a lock on every partition."""
    with psycopg.connect(url) as connection:
        connection.execute(f"SELECT count(*) FROM {table}")
        yield connection
        connection.rollback()


class Upkeep:
    """The upkeep alone, one run at a time."""

    def __init__(self, pg_connection: PgConnection, retention_days: int) -> None:
        self._connection = pg_connection
        self.partitions = Partitions()
        self.retention_days = retention_days
        self.retention = Retention(retention_days=retention_days)

    async def do(self, job: Callable[[Connection], Awaitable[None]]) -> None:
        await self._connection.run(job, within_s=30)

    async def run(self, today: date, *, restarted: bool = True) -> None:
        if restarted:
            self.retention = Retention(retention_days=self.retention_days)

        async def upkeep(connection: Connection) -> None:
            await self.partitions.make_ahead(connection, today)
            await self.retention.run(connection, self.partitions, today)

        await self.do(upkeep)

    async def make(self, *days: date, today: date = TODAY) -> None:
        async def make(connection: Connection) -> None:
            await self.partitions.read(connection)
            await self.partitions.make(connection, days, today)

        await self.do(make)


@asynccontextmanager
async def open_upkeep(url: str, *, retention_days: int = 0, fleet: Fleet = FLEET) -> AsyncIterator[Upkeep]:
    async with trio_asyncio.open_loop():
        pg_connection = await open_pg_connection(checked_conninfo(url), statement_timeout_s=30)

        async def prepare(connection: Connection) -> None:
            await apply_schema(connection)
            await mirror_fleet(connection, fleet)

        upkeep = Upkeep(pg_connection, retention_days)
        await upkeep.do(prepare)
        try:
            yield upkeep
        finally:
            await pg_connection.aclose()


# Locks.


async def test_writes_go_on_while_a_reader_keeps_the_day_from_its_partition(
    database_url: str, quick: None
) -> None:
    async with open_store_on(database_url, wall=wall()) as store:
        await keep(store, samples(NOW_MS))
        sender = Sender(store)
        sender.next["box-0"] = 2
        yesterday = NOW_MS - DAY_MS
        with reader_of(database_url):
            for seq in range(2, 12):
                assert store.submit("box-0", seq, samples(yesterday + seq))
                await sender.until_all_committed(seq)
            with trio.fail_after(20):
                while store.stats.partition_failures < 3:
                    await trio.sleep(0.01)
            assert store.health == "ok"
            assert rows_by_partition(database_url) == {"samples_20270115": 1, "samples_default": 10}
        seq = 12
        with trio.fail_after(20):
            while rows_by_partition(database_url).get("samples_20270114", 0) < 10:
                assert store.submit("box-0", seq, samples(yesterday + seq))
                await sender.until_all_committed(seq)
                seq += 1
                await trio.sleep(0.02)
        assert store.stats.database_failures == 0
    assert "samples_default" not in rows_by_partition(database_url)
    assert run_sql(database_url, "SELECT count(*), count(DISTINCT ts) FROM samples") == [(seq - 1, seq - 1)]


async def test_not_every_write_waits_for_the_lock(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions_module, "_SHORTEST_PAUSE_S", 3_600.0)
    monkeypatch.setattr(partitions_module, "_LONGEST_PAUSE_S", 3_600.0)
    async with open_upkeep(database_url) as upkeep:
        await upkeep.make(TODAY)
        with reader_of(database_url):
            for _ in range(10):
                await upkeep.make(TODAY - DAY)
            assert upkeep.partitions.failures == 1


async def test_a_cancelled_statement_is_no_end_of_the_database(
    database_url: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store_on(database_url, wall=wall()) as store:
        # Longer than a statement may run, so that it is the statement that is cancelled.
        monkeypatch.setattr(partitions_module, "_LOCK_WITHIN_MS", 60_000)
        monkeypatch.setattr(partitions_module, "_STATEMENT_WITHIN_S", 0.2)
        with reader_of(database_url):
            await keep(store, samples(NOW_MS - DAY_MS))
            assert store.stats.database_failures == 0
    assert rows_by_partition(database_url) == {"samples_default": 1}


async def test_a_day_with_many_rows_in_the_default_partition_stays_there(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions_module, "_MAX_MOVED_ROWS", 10)
    async with open_upkeep(database_url) as upkeep:
        add_samples(database_url, TODAY - DAY, rows=11, table="samples_default")
        add_samples(database_url, TODAY - 2 * DAY, rows=10, table="samples_default")
        await upkeep.make(TODAY - 2 * DAY, TODAY - DAY)
        assert rows_by_partition(database_url) == {"samples_20270113": 10, "samples_default": 11}
        assert upkeep.partitions.failures == 0


async def test_a_table_of_the_partitions_name_is_left_alone(database_url: str) -> None:
    async with open_upkeep(database_url) as upkeep:
        await upkeep.make(TODAY)
        run_sql(database_url, "ALTER TABLE samples DETACH PARTITION samples_20270115")
        run_sql(
            database_url,
            "CREATE TABLE samples_99999999 PARTITION OF samples "
            "FOR VALUES FROM ('1999-01-01') TO ('1999-01-02')",
        )
        await upkeep.run(TODAY)
        assert upkeep.partitions.failures == 1
        assert TODAY not in upkeep.partitions.days
        assert TODAY + DAY in upkeep.partitions.days


async def test_one_that_another_headend_has_made_is_no_failure(database_url: str) -> None:
    async with open_upkeep(database_url) as upkeep, open_upkeep(database_url) as other:
        await upkeep.do(upkeep.partitions.read)
        await other.make(TODAY)

        async def make(connection: Connection) -> None:
            await upkeep.partitions.make(connection, [TODAY], TODAY)

        await upkeep.do(make)
        assert TODAY in upkeep.partitions.days
        assert upkeep.partitions.failures == 0


# Retention.


async def test_a_clock_that_is_wrong_for_a_boot_drops_nothing(database_url: str, quick: None) -> None:
    async with open_store_on(database_url, wall=wall(), retention_days=2) as store:
        await keep(store, samples(NOW_MS))
    for wrong in (400 * DAY_MS, -400 * DAY_MS):
        async with open_store_on(database_url, wall=wall(NOW_MS + wrong), retention_days=2) as store:
            store.store_unsequenced(samples(NOW_MS + wrong, source="synthesized"))
            await store.wait_idle()
            # It runs when the day changes, at a start, and after hours: here is one after hours.
        async with open_store_on(database_url, wall=wall(NOW_MS + wrong + DAY_MS), retention_days=2) as store:
            with trio.fail_after(10):
                while wrong > 0 and not store.stats.retention_days_held:
                    await trio.sleep(0.01)
            assert store.stats.retention_days_dropped == 0
    async with open_store_on(database_url, wall=wall(), retention_days=2) as store:
        past = await store.history(FLEET.assets[0], limit=10)
        # What was dated 400 days ago, and nothing else, is as old as its date.
        assert [each.telemetry.ts_unix_ms for each in past] == [NOW_MS + 400 * DAY_MS, NOW_MS]
        await until_health(store, "ok")
        assert store.stats.retention_days_held == 0


async def test_a_confirmation_drops_what_was_held(database_url: str, quick: None) -> None:
    command = [sys.executable, "-m", "trioder.store", "confirm-retention", "--database-url", database_url]

    async def confirm(*options: str, stdin: bytes = b"") -> tuple[int, str]:
        done = await trio.run_process(
            [*command, *options], cwd=ROOT, capture_stdout=True, capture_stderr=True, check=False, stdin=stdin
        )
        return done.returncode, (done.stdout + done.stderr).decode()

    now = datetime.now(UTC)
    today = now.date()
    clock = wall(round(now.timestamp() * 1000))
    async with open_upkeep(database_url) as upkeep:
        await upkeep.make(*(today - number * DAY for number in range(12)), today=today)
        add_samples(database_url, *(today - number * DAY for number in range(12)))
        add_samples(database_url, today - 400 * DAY, number=2)
    async with open_store_on(database_url, wall=clock, retention_days=3) as store:
        with trio.fail_after(10):
            while store.stats.retention_days_held != 6:
                await trio.sleep(0.01)
        code, said = await confirm(stdin=b"n\n")
        assert code == 1
        assert f"6 days of telemetry, from {today - 9 * DAY} on" in said
        assert f"all telemetry dated before {today - 3 * DAY} is dropped" in said
        assert run_sql(database_url, "SELECT count(*) FROM samples") == [(11,)]
        code, said = await confirm("--yes")
        assert code == 0, said
        with trio.fail_after(10):
            while store.stats.retention_days_held or store.stats.retention_days_dropped < 8:
                await trio.sleep(0.01)
        assert run_sql(database_url, "SELECT count(*), min(ts)::date FROM samples") == [(4, today - 3 * DAY)]
        assert await confirm() == (0, "No telemetry waits for a confirmation.\n")


async def test_a_confirmation_that_depends_on_a_future_day_is_refused(database_url: str) -> None:
    today = datetime.now(UTC).date()
    async with open_upkeep(database_url, retention_days=1) as upkeep:
        await upkeep.make(today, today - DAY, today=today)
        add_samples(database_url, today, today - DAY)
        await upkeep.run(today)
        await upkeep.run(today + 400 * DAY)
        add_samples(database_url, today + 400 * DAY)
        await upkeep.run(today + 400 * DAY)
        assert upkeep.retention.days_held == 2
    done = await trio.run_process(
        [sys.executable, "-m", "trioder.store", "confirm-retention", "--yes", "--database-url", database_url],
        cwd=ROOT,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert done.returncode == 1
    assert "by this machine's clock that day has not come" in done.stderr.decode()
    assert run_sql(database_url, "SELECT count(*) FROM samples") == [(3,)]


async def test_the_newest_24_h_of_an_asset_of_the_fleet_stay_and_a_retired_one_holds_nothing_up(
    database_url: str,
) -> None:
    silent_since = TODAY - 5 * DAY
    async with open_upkeep(database_url, retention_days=6) as upkeep:
        for number in range(30):
            today = silent_since + number * DAY
            await upkeep.make(today, today=today)
            add_samples(database_url, today)
            if number == 0:
                add_samples(database_url, today, number=2)
            await upkeep.run(today)
        kept = {f"samples_{today - number * DAY:%Y%m%d}" for number in range(7)}
        assert set(rows_by_partition(database_url)) == kept | {f"samples_{silent_since:%Y%m%d}"}
    retired = Fleet(sites=FLEET.sites, assets=(FLEET.assets[0], *FLEET.assets[2:]))
    async with open_upkeep(database_url, retention_days=6, fleet=retired) as upkeep:
        await upkeep.run(today)
        assert set(rows_by_partition(database_url)) == kept


async def test_wild_samples_go_with_the_others_and_those_of_the_future_stay(database_url: str) -> None:
    async with open_upkeep(database_url, retention_days=6) as upkeep:
        await upkeep.make(TODAY)
        add_samples(database_url, TODAY)
        wild = [date(1970, 1, 1), date(2000, 1, 1), date(2001, 5, 5), TODAY + 4_000 * DAY, date(9999, 12, 31)]
        add_samples(database_url, *wild)
        # Samples dated by a clock that was never set stay until an asset of the fleet has better ones.
        add_samples(database_url, date(2000, 1, 1), date(1999, 12, 31), number=2)
        await upkeep.run(TODAY)
        found = run_sql(database_url, "SELECT ts::date FROM samples_default ORDER BY ts")
        assert [day for (day,) in found] == [
            date(1999, 12, 31),
            *([date(2000, 1, 1)] * 2),
            *wild[3:],
        ]
        add_samples(database_url, TODAY, number=2)
        await upkeep.run(TODAY + DAY)
        found = run_sql(database_url, "SELECT ts::date FROM samples_default ORDER BY ts")
        assert [day for (day,) in found] == wild[3:]


async def test_a_reader_delays_retention_and_nothing_else(
    database_url: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_upkeep(database_url, retention_days=6) as upkeep:
        await upkeep.make(TODAY - 8 * DAY, *(TODAY + number * DAY for number in range(3)))
        add_samples(database_url, TODAY - 8 * DAY, TODAY)
        with reader_of(database_url):
            await upkeep.run(TODAY)
            assert len(rows_by_partition(database_url)) == 2
            assert upkeep.partitions.failures == 1
        await upkeep.run(TODAY, restarted=False)
        assert len(rows_by_partition(database_url)) == 2, "it was tried again at once"
        await upkeep.run(TODAY)
        assert list(rows_by_partition(database_url)) == ["samples_20270115"]
