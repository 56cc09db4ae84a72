"""Opens a store over a PostgreSQL server that somebody runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from trioder.domain.fleet import Fleet
from trioder.process.wall_time import WallClock
from trioder.store.postgres.pg_connection import checked_conninfo
from trioder.store.postgres.psycopg_database import PsycopgDatabase
from trioder.store.postgres.store import MAX_MARKS, PostgresStore

# What waits when the headend stops is written for at most so long; agents still have what is not.
_FLUSH_S = 3.0


@asynccontextmanager
async def open_postgres_store(
    url: str,
    *,
    fleet: Fleet,
    wall: WallClock,
    retention_days: int = 0,
    records_retention_days: int = 0,
) -> AsyncIterator[PostgresStore]:
    """Open a store over the server that `url` names, and yield it once that was reached or found away.

    *Resource handling*: runs inside of `trio_asyncio.open_loop()`. On leaving, what waits is written, for
    a few seconds; then the connections are closed.

    Raises:
        StoreConfigurationError: the URL is none. A server that does not answer is no error: it may come.
    """
    database = PsycopgDatabase(
        checked_conninfo(url),
        fleet=fleet,
        wall=wall,
        retention_days=retention_days,
        records_retention_days=records_retention_days,
        max_marks=MAX_MARKS,
    )
    async with open_store_over(PostgresStore(database, wall=wall)) as store:
        yield store


@asynccontextmanager
async def open_store_over(store: PostgresStore) -> AsyncIterator[PostgresStore]:
    """Keep a store going for as long as the block runs; its `Database` may be any."""
    error: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        await store.wait_attempted()
        try:
            yield store
        except Exception as caught:  # noqa: BLE001  # raised below, outside of the nursery that would wrap it
            error = caught
        with trio.move_on_after(_FLUSH_S):
            await store.wait_idle()
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error
