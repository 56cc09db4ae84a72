"""What the database itself can do: new databases, binary COPY of packed bytes into one, and row counts.

All of it is synchronous, and is called in a thread.
"""

import struct
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from trioder.store.postgres.schema import schema_text
from trioder.store.postgres.store import GROUP_ROWS

_SCRATCH = "bench_copy"
_STATEMENT_TIMEOUT_S = 120
# Millions of rows are compared in memory and by one process: with the defaults this takes minutes.
_COUNTING = "-c work_mem=256MB -c max_parallel_workers_per_gather=0"
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_ROW = struct.Struct("!h iq id id id id id ii ih")
_COPY = (
    "COPY samples (ts, soc_mwhr, current_mw, setpoint_mw, available_discharge_mw, available_charge_mw, "
    "asset_key, source) FROM STDIN (FORMAT BINARY)"
)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
# Each asset has a row per pulse; pulses are so close together that all are in one day.
_PULSE_US = 1_000


def server_version(url: str) -> str:
    """Return the server's version, such as 18.1."""
    with _connect(url) as connection:
        # 180001 is 18.1.
        major, minor = divmod(connection.info.server_version, 10_000)
        return f"{major}.{minor}"


def count_rows(url: str, samples: int) -> dict[str, int]:
    """Count `samples`, and how many of those sent are missing or there more than once."""
    with _connect(url) as connection:
        connection.execute("ANALYZE samples")
        rows = _one_int(connection, "SELECT count(*) FROM samples")
        pairs = "SELECT count(*) FROM (SELECT DISTINCT asset_key, ts FROM samples) AS pairs"
        distinct = _one_int(connection, pairs)
    return {"rows": rows, "rows_lost": samples - distinct, "rows_doubled": rows - distinct}


def make_database(url: str, name: str) -> str:
    """Create an empty database on the server that `url` names, and return its URL."""
    with _connect(url) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        # Earlier writes must not reach the disk while this one is measured.
        connection.execute("CHECKPOINT")
    return make_conninfo(url, dbname=name)


def warm_up(url: str, rows: int, assets: int, check: Callable[[], None]) -> float:
    """Make the server treat all later writers alike; return the seconds as `copy_rows` does.

    The first writer has the files of the write-ahead log created, and autovacuum of what one has written
    would run while another is measured.
    """
    with _connect(url) as connection:
        connection.execute("ALTER SYSTEM SET autovacuum = off")
        connection.execute("SELECT pg_reload_conf()")
    took_s = copy_rows(url, rows, assets, check)
    # Drops the rows, with a checkpoint before anything is measured.
    make_database(url, _SCRATCH)
    return took_s


def copy_rows(url: str, rows: int, assets: int, check: Callable[[], None]) -> float:
    """COPY rows into a scratch database on the same server, in transactions of the headend's size.

    There are `assets` rows per instant. `check` is called between chunks; an exception from it ends this.

    Returns:
        The seconds that the COPY statements took, with their commits; packing the bytes is not included.
    """
    took_s = 0.0
    with _connect(make_database(url, _SCRATCH)) as connection:
        connection.execute(schema_text().encode())
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        _make_partition(connection, midnight)
        for chunk in _chunks(rows=rows, assets=assets, start=midnight):
            check()
            started_s = time.perf_counter()
            with connection.cursor().copy(_COPY) as copy:
                copy.write(chunk)
            took_s += time.perf_counter() - started_s
        found = _one_int(connection, "SELECT count(*) FROM samples")
        if found != rows:
            raise RuntimeError(f"{rows} rows were copied, and {found} are there")
    return took_s


def _chunks(*, rows: int, assets: int, start: datetime) -> Iterator[bytes]:
    start_us = (start - _EPOCH) // timedelta(microseconds=1)
    pack = _ROW.pack
    for first in range(0, rows, GROUP_ROWS):
        packed = [
            # Numbers that use all of their eight bytes, as those of a battery do.
            pack(
                8, 8, start_us + number // assets * _PULSE_US, 8, number / 7, 8, number / 11, 8, number / 13,
                8, number / 17, 8, number / 19, 4, number % assets + 1, 2, 0,
            )
            for number in range(first, min(first + GROUP_ROWS, rows))
        ]  # fmt: skip
        yield b"".join([_HEADER, *packed, _TRAILER])


def _make_partition(connection: psycopg.Connection, start: datetime) -> None:
    """Create one as the headend does: with the table's index, and attached."""
    name = sql.Identifier(f"samples_{start:%Y%m%d}")
    connection.execute(sql.SQL("CREATE TABLE {} (LIKE samples INCLUDING ALL)").format(name))
    connection.execute(
        sql.SQL("ALTER TABLE samples ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            name, sql.Literal(start), sql.Literal(start + timedelta(days=1))
        )
    )


def _connect(url: str) -> psycopg.Connection:
    options = f"-c statement_timeout={_STATEMENT_TIMEOUT_S}s -c TimeZone=UTC {_COUNTING}"
    return psycopg.connect(make_conninfo(url, connect_timeout=10, options=options), autocommit=True)


def _one_int(connection: psycopg.Connection, query: str) -> int:
    found = connection.execute(query.encode()).fetchone()
    if found is None:
        raise RuntimeError("a count returned nothing")
    return int(found[0])
