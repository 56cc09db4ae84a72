"""Opens the store that `DATABASE_URL` names: `embedded`, `none`, or a PostgreSQL server's URL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

from trioder.domain.fleet import Fleet
from trioder.process.wall_time import WallClock
from trioder.store.embedded.server import open_embedded_server
from trioder.store.interface import Store
from trioder.store.none import NoneStore
from trioder.store.postgres import open_postgres_store
from trioder.store.postgres.pg_connection import checked_conninfo


def check_database_url(database_url: str) -> None:
    """Check a URL before anything is opened.

    Raises:
        StoreConfigurationError: it is neither a known keyword nor a well-formed URL.
    """
    if database_url not in {"embedded", "none"}:
        checked_conninfo(database_url)


@asynccontextmanager
async def open_store(
    database_url: str,
    *,
    state_dir: Path,
    fleet: Fleet,
    wall: WallClock,
    retention_days: int = 0,
    records_retention_days: int = 0,
) -> AsyncIterator[Store]:
    """Open the store, and close it on exit.

    Args:
        database_url: `embedded`, `none`, or a URL.
        state_dir: the folder for the embedded server's data.
        fleet: mirrored to the database; asset keys are positions in it.
        wall: the wall time.
        retention_days: older telemetry is dropped, in whole days; 0 keeps all.
        records_retention_days: older sessions and ended dispatches are deleted; 0 keeps all.

    *Resource handling*: needs `trio_asyncio.open_loop()`, unless the store is `none`.

    Raises:
        StoreConfigurationError: it cannot be opened. An unavailable server is no error: it is retried.
    """
    open_on = partial(
        open_postgres_store,
        fleet=fleet,
        wall=wall,
        retention_days=retention_days,
        records_retention_days=records_retention_days,
    )
    if database_url == "none":
        yield NoneStore()
    elif database_url == "embedded":
        async with (
            open_embedded_server(state_dir) as url,
            open_on(_without_password_file(url, state_dir)) as store,
        ):
            yield store
    else:
        async with open_on(database_url) as store:
            yield store


def _without_password_file(url: str, state_dir: Path) -> str:
    """Return the URL with a password file that does not exist, so that libpq does not read ~/.pgpass."""
    missing = quote(str(state_dir.resolve() / "postgres" / "no-pgpass"), errors="replace")
    return f"{url}&passfile={missing}"
