"""Prepares a database for a headend: applies or migrates the schema, and mirrors the fleet.

A database need not be in UTF8: the server converts. SQL_ASCII stores every byte as it is; other encodings,
such as LATIN1, lack some characters.
"""

import re
from array import array
from collections.abc import Sequence
from pathlib import Path

import psycopg
import structlog

from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet
from trioder.store.postgres.database import DatabaseError
from trioder.store.postgres.pg_connection import Connection

log = structlog.stdlib.get_logger(__name__)

SCHEMA_VERSION = 8
# Older ones have no views that read as whoever queries them.
_MIN_SERVER_VERSION = 150_000
_RELATIONS = [
    *("schema_version", "sites", "assets", "asset_versions", "samples", "samples_default", "telemetry"),
    *("ingest_watermarks", "asset_lists", "sessions", "agent_sessions", "dispatches", "dispatch_shares"),
    *("dispatch_resplits", "dispatch_members", "dispatch_left_out", "telemetry_retention", "audit"),
    *("identity_bindings", "site_limits", "alarms", "events"),
    *("schedules", "schedule_occurrences"),
    *("telemetry_hours", "telemetry_5m"),
]
# Any number, the same for every headend: one at a time changes the schema or the fleet.
_LOCK = 7_204_331_100
_ASSETS_PER_STATEMENT = 5_000
# Encodings in which every text can be stored.
_COMPLETE_ENCODINGS = ("UTF8", "SQL_ASCII")
_REMEDY = "make a database with ENCODING 'UTF8' TEMPLATE template0, and name it in DATABASE_URL"


def schema_text() -> str:
    """Return schema.sql, which is beside this module in an installed package."""
    beside = Path(__file__).with_name("schema.sql")
    path = beside if beside.exists() else Path(__file__).parents[3] / "schema.sql"
    return path.read_text(encoding="utf-8")


def migrations() -> dict[int, str]:
    """Return the SQL of each migration by the version that it leads to, from 2 on."""
    files = sorted(Path(__file__).with_name("migrations").glob("[0-9]*.sql"))
    return {int(file.name.partition("_")[0]): file.read_text(encoding="utf-8") for file in files}


async def schema_is_current(connection: Connection) -> bool:
    """Return whether the database has this version of the schema and all of its relations.

    Raises:
        DatabaseError: the database has a newer version.
    """
    version, whole = await _version_of(connection)
    return whole and version == SCHEMA_VERSION


async def apply_schema(connection: Connection) -> None:
    """Bring the database to this version of the schema in one transaction; do nothing if it is current.

    It waits for readers of the tables and views. There is no time limit: a migration reads every old record.

    Raises:
        DatabaseError: the database has a newer version, or the server is too old.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        version, whole = await _version_of(connection)
        if whole and version == SCHEMA_VERSION:
            return
        if connection.info.server_version < _MIN_SERVER_VERSION:
            raise DatabaseError(
                f"the server is PostgreSQL {connection.info.server_version // 10_000}, the headend needs "
                f"{_MIN_SERVER_VERSION // 10_000} or newer"
            )
        await connection.execute("SET LOCAL statement_timeout = 0")
        if version:
            for number, text in migrations().items():
                if number > version:
                    log.info("database schema migrates", from_version=number - 1, to_version=number)
                    await connection.execute(text.encode())
        # After a migration as well: it adds what version 2 gained without a number.
        await connection.execute(schema_text().encode())


async def _version_of(connection: Connection) -> tuple[int, bool]:
    """Return the schema's version, 0 if there is none, and whether all of its relations exist."""
    found = await connection.execute(
        "SELECT to_regclass('schema_version') IS NOT NULL, bool_and(to_regclass(name) IS NOT NULL) "
        "FROM unnest(%s::text[]) AS name",
        [_RELATIONS],
    )
    versioned, whole = (await found.fetchone()) or (False, False)
    if not versioned:
        return 0, False
    found = await connection.execute("SELECT coalesce(max(version), 0) FROM schema_version")
    [version] = (await found.fetchone()) or (0,)
    if version > SCHEMA_VERSION:
        raise DatabaseError(
            f"the database has schema version {version}, this headend knows {SCHEMA_VERSION} and older: "
            "it takes a newer headend, or a database of its own"
        )
    return version, bool(whole)


async def mirror_fleet(connection: Connection, fleet: Fleet) -> "array[int]":
    """Copy the fleet to `sites` and `assets`; return the database's key of every asset, by its position.

    Raises:
        DatabaseError: a name cannot be stored in the database's encoding.
    """
    try:
        return await _mirror_fleet(connection, fleet)
    except psycopg.errors.UntranslatableCharacter as error:
        raise _unencodable_name_error(connection, error, fleet) from error


async def _mirror_fleet(connection: Connection, fleet: Fleet) -> "array[int]":
    db_keys = array("i")
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        await _mirror_sites(connection, fleet)
        for assets in _chunks(fleet):
            await _mirror_assets(connection, assets)
            db_keys.extend(await _db_keys_of(connection, assets))
        await connection.execute(
            "UPDATE assets SET in_fleet = false WHERE in_fleet AND id != ALL (%s::uuid[])",
            [_array(list(fleet.index_by_id))],
        )
    return db_keys


def _chunks(fleet: Fleet) -> list[Sequence[Asset]]:
    """The assets in fleet order, in chunks of one statement's size."""
    step = _ASSETS_PER_STATEMENT
    return [fleet.assets[start : start + step] for start in range(0, len(fleet.assets), step)]


async def _mirror_sites(connection: Connection, fleet: Fleet) -> None:
    # A retired asset refers to its site.
    sites = (*fleet.sites, *fleet.former_sites.values())
    await connection.execute(
        """
        INSERT INTO sites AS old (id, name, location, lat, lon, tenant, in_fleet)
        SELECT *, true FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::float8[], %s::float8[], %s::text[])
        ON CONFLICT (id) DO UPDATE SET (name, location, lat, lon, tenant, in_fleet)
            = (excluded.name, excluded.location, excluded.lat, excluded.lon, excluded.tenant, true)
        WHERE (old.name, old.location, old.lat, old.lon, old.tenant, old.in_fleet)
            IS DISTINCT FROM (
                excluded.name, excluded.location, excluded.lat, excluded.lon, excluded.tenant, true
            )
        """,
        [
            _array([site.id for site in sites]),
            _array([site.name for site in sites]),
            _array([site.location for site in sites]),
            _array([site.lat for site in sites]),
            _array([site.lon for site in sites]),
            _array([site.tenant for site in sites]),
        ],
    )
    await connection.execute(
        "UPDATE sites SET in_fleet = false WHERE in_fleet AND id != ALL (%s::uuid[])",
        [_array(list(fleet.sites_by_id))],
    )


_NUMBERS = (
    "capacity_mwhr",
    "max_mw",
    "min_mw",
    "charge_efficiency",
    "discharge_efficiency",
    "ramp_rate_mw_per_min",
    "min_soc_pct",
    "max_soc_pct",
    "aux_load_mw",
    "self_discharge_pct_per_day",
)
_COLUMNS = ("id", "site_id", "name", "location", *_NUMBERS)
_MIRROR_ASSETS = f"""
    INSERT INTO assets AS old ({", ".join(_COLUMNS)}, in_fleet)
    SELECT *, true FROM unnest(
        %s::uuid[], %s::uuid[], %s::text[], %s::text[], {", ".join("%s::float8[]" for _ in _NUMBERS)}
    )
    ON CONFLICT (id) DO UPDATE SET ({", ".join(_COLUMNS)}, in_fleet)
        = ({", ".join(f"excluded.{name}" for name in _COLUMNS)}, true)
    WHERE ({", ".join(f"old.{name}" for name in _COLUMNS)}, old.in_fleet)
        IS DISTINCT FROM ({", ".join(f"excluded.{name}" for name in _COLUMNS)}, true)
"""  # noqa: S608  # constants only


async def _mirror_assets(connection: Connection, assets: Sequence[Asset]) -> None:
    await connection.execute(
        _MIRROR_ASSETS.encode(), [_array([getattr(asset, name) for asset in assets]) for name in _COLUMNS]
    )


async def _db_keys_of(connection: Connection, assets: Sequence[Asset]) -> list[int]:
    columns = [
        _array([getattr(asset, name) for asset in assets])
        for name in ("id", "site_id", "capacity_mwhr", "max_mw", "min_mw")
    ]
    # Not ON CONFLICT: every existing row would use up a number of the sequence.
    await connection.execute(
        """
        INSERT INTO asset_versions (asset_id, site_id, capacity_mwhr, max_mw, min_mw)
        SELECT wanted.* FROM unnest(%s::uuid[], %s::uuid[], %s::float8[], %s::float8[], %s::float8[])
            AS wanted (asset_id, site_id, capacity_mwhr, max_mw, min_mw)
        LEFT JOIN asset_versions USING (asset_id, site_id, capacity_mwhr, max_mw, min_mw)
        WHERE asset_key IS NULL
        """,
        columns,
    )
    found = await connection.execute(
        """
        SELECT asset_key FROM unnest(%s::uuid[], %s::uuid[], %s::float8[], %s::float8[], %s::float8[])
            WITH ORDINALITY AS wanted (asset_id, site_id, capacity_mwhr, max_mw, min_mw, position)
        JOIN asset_versions USING (asset_id, site_id, capacity_mwhr, max_mw, min_mw)
        ORDER BY position
        """,
        columns,
    )
    return [key for (key,) in await found.fetchall()]


def _array(values: Sequence[str] | Sequence[float | None]) -> str:
    """An array in PostgreSQL's text format: several times faster than psycopg's conversion of a list."""
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: str | float | None) -> str:
    match value:
        case None:
            return "NULL"
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case _:
            return repr(value)


def _encoding_of(connection: Connection) -> str:
    """The encoding of the database itself, as PostgreSQL names it."""
    return connection.info.parameter_status("server_encoding") or "unknown"


def warn_about_encoding(connection: Connection) -> None:
    """Log if texts may not be storable in the database's encoding."""
    encoding = _encoding_of(connection)
    if encoding not in _COMPLETE_ENCODINGS:
        log.warning(
            "the database is not in UTF8: records with a text that it cannot hold are dropped and counted",
            encoding=encoding,
            remedy=_REMEDY,
        )


def _unencodable_name_error(
    connection: Connection, error: psycopg.errors.UntranslatableCharacter, fleet: Fleet
) -> DatabaseError:
    """The error for a fleet with a name that the database cannot store; quotes the first one."""
    # Such as: byte sequence 0xe9 0x9b 0xbb in encoding "UTF8"; in every language of the server.
    sequence = re.search(r"0x[0-9a-f]{2}(?: 0x[0-9a-f]{2})*", str(error))
    character = ""
    if sequence is not None:
        character = bytes.fromhex(sequence[0].replace("0x", "")).decode(errors="replace")
    texts = [text for site in fleet.sites for text in (site.name, site.location)]
    texts += [text for asset in fleet.assets for text in (asset.name, asset.location)]
    name = next((text for text in texts if character and character in text), "?")
    return DatabaseError(
        f"the database's encoding is {_encoding_of(connection)}, which cannot hold the name {name!r} of the "
        f"fleet file; UTF8 can: {_REMEDY}"
    )
