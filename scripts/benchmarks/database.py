"""What the database itself can do: new databases, binary COPY of packed bytes into one, and row counts.

All of it is synchronous, and called by `in_thread`.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import trio
from psycopg import sql
from psycopg.conninfo import make_conninfo

from scripts.benchmarks.benchmark import ROWS_DOUBLED, ROWS_LOST
from trioder.store.embedded.layout import DATABASE
from trioder.store.postgres.partitions import name_of, start_of
from trioder.store.postgres.schema import schema_text
from trioder.store.postgres.store import GROUP_ROWS

_SCRATCH = "bench_copy"
# Millions of rows are compared in memory and by one process: with the defaults this takes minutes.
_OPTIONS = "-c statement_timeout=120s -c TimeZone=UTC -c work_mem=256MB -c max_parallel_workers_per_gather=0"
COPY_SAMPLES = """
    COPY samples (ts, soc_mwhr, current_mw, setpoint_mw, available_discharge_mw, available_charge_mw,
        asset_key, source) FROM STDIN (FORMAT BINARY)
"""
# Made and packed by the server: numbers that use all of their eight bytes, as those of a battery do. Every
# asset has a row per pulse; pulses are so close together that all are in one day.
_PACKED = """
    COPY (
        SELECT {start} + n / {assets} * interval '1 ms', n / 7::float8, n / 11::float8, n / 13::float8,
            n / 17::float8, n / 19::float8, n % {assets} + 1, 0::int2
        FROM generate_series({first}, {last}) AS n
    ) TO STDOUT (FORMAT BINARY)
"""


async def in_thread(job: Callable[..., Any], *arguments: Any) -> Any:
    """Run one of the functions below in a thread, which is abandoned on a signal: it ends with the server."""
    return await trio.to_thread.run_sync(job, *arguments, abandon_on_cancel=True)


def committed_rows(url: str) -> int:
    """Return how many rows of samples are committed."""
    with _connect(url) as connection:
        return int(_value(connection, "SELECT count(*) FROM samples"))


def count_rows(url: str, samples: int) -> dict[str, int]:
    """Count `samples`, and how many of those sent are missing or there more than once."""
    with _connect(url) as connection:
        connection.execute("ANALYZE samples")
        rows = _value(connection, "SELECT count(*) FROM samples")
        distinct = _value(connection, "SELECT count(*) FROM (SELECT DISTINCT asset_key, ts FROM samples) _")
    return {"rows": rows, ROWS_LOST: samples - distinct, ROWS_DOUBLED: rows - distinct}


def make_database(url: str, name: str) -> str:
    """Create an empty database on the embedded server that `url` names, and return its URL."""
    with _connect(url) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        # Earlier writes must not reach the disk while this one is measured.
        connection.execute("CHECKPOINT")
    return url.replace(f"/{DATABASE}?", f"/{name}?")


def copy_rows(url: str, rows: int, assets: int) -> float:
    """COPY rows, `assets` per instant, into a scratch database on the same server; return the seconds.

    Those of the COPY statements with their commits, in transactions as large as the headend's. From then on
    the server treats all writers alike: the files of the write-ahead log exist, which the first one has
    created; nothing remains to be written; and no autovacuum of what one has written disturbs another.
    """
    took_s = 0.0
    today = datetime.now(UTC).date()
    start, end = sql.Literal(start_of(today)), sql.Literal(start_of(today + timedelta(days=1)))
    partition = sql.SQL("CREATE TABLE {} PARTITION OF samples FOR VALUES FROM ({}) TO ({})")
    with _connect(make_database(url, _SCRATCH)) as connection:
        connection.execute(schema_text().encode())
        connection.execute(partition.format(name_of(today), start, end))
        for first in range(0, rows, GROUP_ROWS):
            trio.from_thread.check_cancelled()
            last = min(first + GROUP_ROWS, rows) - 1
            packing = sql.SQL(_PACKED).format(start=start, assets=assets, first=first, last=last)
            with connection.cursor().copy(packing) as packed:
                chunk = b"".join(packed)
            started_s = time.perf_counter()
            with connection.cursor().copy(COPY_SAMPLES) as copy:
                copy.write(chunk)
            took_s += time.perf_counter() - started_s
        found = _value(connection, "SELECT count(*) FROM samples")
        if found != rows:
            raise RuntimeError(f"{rows} rows were copied, and {found} are there")
        connection.execute("ALTER SYSTEM SET autovacuum = off")
        connection.execute("SELECT pg_reload_conf()")
    make_database(url, _SCRATCH)
    return took_s


def _connect(url: str) -> psycopg.Connection:
    return psycopg.connect(make_conninfo(url, connect_timeout=10, options=_OPTIONS), autocommit=True)


def _value(connection: psycopg.Connection, query: str) -> Any:
    found = connection.execute(query.encode()).fetchone()
    if found is None:
        raise RuntimeError(f"{query} returned nothing")
    return found[0]
