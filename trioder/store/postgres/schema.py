"""The schema is applied or migrated, and the fleet mirrored: what a headend does to a database at first."""

from array import array
from collections.abc import Sequence
from pathlib import Path

import structlog

from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet
from trioder.store.postgres.database import DatabaseError
from trioder.store.postgres.pg_connection import Connection

log = structlog.stdlib.get_logger(__name__)

SCHEMA_VERSION = 3
_RELATIONS = [
    *("schema_version", "sites", "assets", "asset_versions", "samples", "samples_default", "telemetry"),
    *("ingest_watermarks", "asset_lists", "sessions", "agent_sessions", "dispatches", "dispatch_shares"),
    *("dispatch_resplits", "dispatch_members", "dispatch_left_out", "telemetry_retention"),
]
# Any number, the same for every headend: one at a time changes the schema.
_LOCK = 7_204_331_100
_ASSETS_A_STATEMENT = 5_000


def schema_text() -> str:
    """The text of schema.sql, which lies beside this module in an installed package."""
    beside = Path(__file__).with_name("schema.sql")
    path = beside if beside.exists() else Path(__file__).parents[3] / "schema.sql"
    return path.read_text(encoding="utf-8")


def migrations() -> dict[int, str]:
    """The SQL that leads to each version from the one before, by version; there is none to version 1."""
    files = sorted(Path(__file__).with_name("migrations").glob("[0-9]*.sql"))
    return {int(file.name.partition("_")[0]): file.read_text(encoding="utf-8") for file in files}


async def schema_is_current(connection: Connection) -> bool:
    """Whether the database has this schema, whole.

    Raises:
        DatabaseError: the database has a newer one.
    """
    version, whole = await _version_of(connection)
    return whole and version == SCHEMA_VERSION


async def apply_schema(connection: Connection) -> None:
    """Bring the database to this schema, in one transaction; touch nothing when it is there.

    It waits for whoever reads the tables and views. A migration takes as long as it takes: every row of the
    old records is read.

    Raises:
        DatabaseError: the database has a newer one.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        version, whole = await _version_of(connection)
        if whole and version == SCHEMA_VERSION:
            return
        await connection.execute("SET LOCAL statement_timeout = 0")
        if version:
            for number, text in migrations().items():
                if number > version:
                    log.info("database schema migrates", from_version=number - 1, to_version=number)
                    await connection.execute(text.encode())
        # After a migration as well: for what was added to version 2 without a number.
        await connection.execute(schema_text().encode())


async def _version_of(connection: Connection) -> tuple[int, bool]:
    """The schema's version, 0 where there is none, and whether all of its relations are there."""
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
    """Make `sites` and `assets` those of the fleet; return the database's key of every asset it has had."""
    keys = array("i")
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        await _mirror_sites(connection, fleet)
        for assets in _in_steps(fleet):
            await _mirror_assets(connection, assets)
            keys.extend(await _keys_of(connection, assets))
        await connection.execute(
            "UPDATE assets SET in_fleet = false WHERE in_fleet AND id != ALL (%s::uuid[])",
            [_array(list(fleet.index_by_id))],
        )
    return keys


def _in_steps(fleet: Fleet) -> list[Sequence[Asset]]:
    """The assets in file order, as many as one statement takes at a time."""
    step = _ASSETS_A_STATEMENT
    return [fleet.assets[start : start + step] for start in range(0, len(fleet.assets), step)]


async def _mirror_sites(connection: Connection, fleet: Fleet) -> None:
    # A retired asset refers to its site.
    sites = (*fleet.sites, *fleet.former_sites.values())
    await connection.execute(
        """
        INSERT INTO sites AS old (id, name, location, lat, lon, in_fleet)
        SELECT *, true FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::float8[], %s::float8[])
        ON CONFLICT (id) DO UPDATE SET (name, location, lat, lon, in_fleet)
            = (excluded.name, excluded.location, excluded.lat, excluded.lon, true)
        WHERE (old.name, old.location, old.lat, old.lon, old.in_fleet)
            IS DISTINCT FROM (excluded.name, excluded.location, excluded.lat, excluded.lon, true)
        """,
        [
            _array([site.id for site in sites]),
            _array([site.name for site in sites]),
            _array([site.location for site in sites]),
            _array([site.lat for site in sites]),
            _array([site.lon for site in sites]),
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
"""  # noqa: S608  # names of ours alone


async def _mirror_assets(connection: Connection, assets: Sequence[Asset]) -> None:
    await connection.execute(
        _MIRROR_ASSETS.encode(), [_array([getattr(asset, name) for asset in assets]) for name in _COLUMNS]
    )


async def _keys_of(connection: Connection, assets: Sequence[Asset]) -> list[int]:
    columns = [
        _array([getattr(asset, name) for asset in assets])
        for name in ("id", "site_id", "capacity_mwhr", "max_mw", "min_mw")
    ]
    # Not ON CONFLICT: each row that is there already would use a number up.
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
    """An array in PostgreSQL's own text: psycopg takes several times as long over the elements of a list."""
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: str | float | None) -> str:
    match value:
        case None:
            return "NULL"
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case _:
            return repr(value)
