"""Opens a store on a PostgreSQL server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from trioder.domain.fleet import Fleet
from trioder.process.nurseries import open_background_nursery
from trioder.process.wall_time import WallClock
from trioder.store.postgres.pg_connection import checked_conninfo
from trioder.store.postgres.psycopg_database import PsycopgDatabase
from trioder.store.postgres.store import PostgresStore

# At shutdown pending writes get this long; agents still have what is not committed.
_FLUSH_WITHIN_S = 3.0


@asynccontextmanager
async def open_postgres_store(
    url: str,
    *,
    fleet: Fleet,
    wall: WallClock,
    retention_days: int = 0,
    records_retention_days: int = 0,
) -> AsyncIterator[PostgresStore]:
    """Open a store on the server at `url`, and yield it after the first attempt to connect.

    *Resource handling*: needs `trio_asyncio.open_loop()`. On exit pending writes get a few seconds; then the
    connections are closed.

    Raises:
        StoreConfigurationError: the URL is malformed. An unavailable server is no error: it is retried.
    """
    database = PsycopgDatabase(
        checked_conninfo(url),
        fleet=fleet,
        wall=wall,
        retention_days=retention_days,
        records_retention_days=records_retention_days,
    )
    async with open_store_over(PostgresStore(database, wall=wall, fleet=fleet)) as store:
        yield store


@asynccontextmanager
async def open_store_over(store: PostgresStore) -> AsyncIterator[PostgresStore]:
    """Run a store, with any `Database`, while the block runs."""

    async def flush() -> None:
        with trio.move_on_after(_FLUSH_WITHIN_S):
            await store.wait_idle()

    async with open_background_nursery(before_cancel=flush) as nursery:
        nursery.start_soon(store.run)
        await store.wait_attempted()
        yield store
