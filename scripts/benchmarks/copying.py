"""What the database itself can do: new databases, binary COPY of ready bytes into one, and what it counts.

All of it is synchronous, and called in a thread.
"""

import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from trioder.store.postgres.schema import schema_text
from trioder.store.postgres.store import GROUP_ROWS

_SCRATCH = "bench_copy"
_STATEMENT_TIMEOUT_S = 120
# Millions of rows are told apart in memory and by one process: the defaults take minutes for it.
_COUNTING = "-c work_mem=256MB -c max_parallel_workers_per_gather=0"
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_ROW = struct.Struct("!h iq id id id id id ii ih")
_COPY = (
    "COPY samples (ts, soc_mwhr, current_mw, setpoint_mw, available_discharge_mw, available_charge_mw, "
    "asset_key, source) FROM STDIN (FORMAT BINARY)"
)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
# Each asset has a row at every pulse; so close together that all lie in one day.
_PULSE_US = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The rows of `samples`, and how many different (asset, instant) they are of."""

    rows: int
    distinct: int


def server_version(url: str) -> str:
    """Return the server's version, such as 18.1."""
    with _connected(url) as connection:
        return _number_text(connection.info.server_version)


def count_rows(url: str) -> int:
    """Count `samples`."""
    with _connected(url) as connection:
        return _one_int(connection, "SELECT count(*) FROM samples")


def count_distinct(url: str) -> Counts:
    """Count `samples` in both ways."""
    with _connected(url) as connection:
        connection.execute("ANALYZE samples")
        return Counts(
            rows=_one_int(connection, "SELECT count(*) FROM samples"),
            distinct=_one_int(
                connection, "SELECT count(*) FROM (SELECT DISTINCT asset_key, ts FROM samples) AS pairs"
            ),
        )


def make_database(url: str, name: str) -> str:
    """Make an empty database on the server that `url` names, and return how to connect to it."""
    with _connected(url) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        # What was written before is not to be written to disk on this one's time.
        connection.execute("CHECKPOINT")
    return make_conninfo(url, dbname=name)


def warm_up(url: str, *, rows: int, assets: int, check: Callable[[], None]) -> float:
    """Make the server one that treats all alike who come after this; return the seconds as `copy_rows` does.

    Whoever writes first has to make the files of the log; and the vacuum of what one has written would fall
    into the time of another.
    """
    with _connected(url) as connection:
        connection.execute("ALTER SYSTEM SET autovacuum = off")
        connection.execute("SELECT pg_reload_conf()")
    took_s = copy_rows(url, rows=rows, assets=assets, check=check)
    # Drops them, and what they left to be written to disk is written before anything is measured.
    make_database(url, _SCRATCH)
    return took_s


def copy_rows(url: str, *, rows: int, assets: int, check: Callable[[], None]) -> float:
    """COPY so many rows into a scratch database on the same server, in transactions of the headend's size.

    Args:
        url: of the server's own database.
        rows: how many.
        assets: how many there are at each instant.
        check: called between chunks; what it raises ends this.

    Returns:
        The seconds that the COPY statements took, with their commits; not the packing of the bytes.
    """
    took_s = 0.0
    with _connected(make_database(url, _SCRATCH)) as connection:
        connection.execute(schema_text().encode())
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        _make_partition(connection, midnight)
        for chunk in _chunks(rows=rows, assets=assets, start=midnight):
            check()
            started_s = time.perf_counter()
            with connection.cursor().copy(_COPY) as copy:
                copy.write(chunk)
            took_s += time.perf_counter() - started_s
        kept = _one_int(connection, "SELECT count(*) FROM samples")
        if kept != rows:
            raise RuntimeError(f"{rows} rows were copied, and {kept} are there")
    return took_s


def _chunks(*, rows: int, assets: int, start: datetime) -> Iterator[bytes]:
    start_us = (start - _EPOCH) // timedelta(microseconds=1)
    pack = _ROW.pack
    for first in range(0, rows, GROUP_ROWS):
        packed = [
            # Numbers that fill their eight bytes, as those of a battery do.
            pack(
                8, 8, start_us + number // assets * _PULSE_US, 8, number / 7, 8, number / 11, 8, number / 13,
                8, number / 17, 8, number / 19, 4, number % assets + 1, 2, 0,
            )
            for number in range(first, min(first + GROUP_ROWS, rows))
        ]  # fmt: skip
        yield b"".join([_HEADER, *packed, _TRAILER])


def _make_partition(connection: psycopg.Connection, start: datetime) -> None:
    """Make one as the headend does: with the table's index, and attached."""
    name = sql.Identifier(f"samples_{start:%Y%m%d}")
    connection.execute(sql.SQL("CREATE TABLE {} (LIKE samples INCLUDING ALL)").format(name))
    connection.execute(
        sql.SQL("ALTER TABLE samples ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            name, sql.Literal(start), sql.Literal(start + timedelta(days=1))
        )
    )


def _connected(url: str) -> psycopg.Connection:
    options = f"-c statement_timeout={_STATEMENT_TIMEOUT_S}s -c TimeZone=UTC {_COUNTING}"
    conninfo = make_conninfo(url, connect_timeout=10, options=options)
    return psycopg.connect(conninfo, autocommit=True)


def _one_int(connection: psycopg.Connection, query: str) -> int:
    found = connection.execute(query.encode()).fetchone()
    if found is None:
        raise RuntimeError("a count has answered nothing")
    return int(found[0])


def _number_text(version: int) -> str:
    # 180001 is 18.1.
    return f"{version // 10_000}.{version % 10_000}"
