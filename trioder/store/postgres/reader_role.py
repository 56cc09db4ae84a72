"""Runs reads as the role `trioder_reader`, which sees only the rows of a scope: row-level security.

The policies are in schema.sql. Queries filter by their scope as well; the role makes sure of it. Where the
headend's user cannot use the role, reads run as that user, with a warning at the start.
"""

from collections.abc import Awaitable, Callable
from typing import Any, LiteralString, TypeVar

import psycopg
import structlog

from trioder.domain.access import EVERYTHING, Scope
from trioder.store.postgres.pg_connection import Connection

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")

# Held while roles and privileges change; any number, the same for every headend.
_LOCK = 7_204_331_101
# With policies; their views, which read as whoever queries them, need no more than the privilege.
_TABLES = [
    *("sites", "assets", "asset_versions", "samples", "sessions", "asset_lists", "dispatches"),
    *("dispatch_shares", "dispatch_resplits", "audit", "alarms", "events"),
    *("schedules", "schedule_occurrences"),
    *("telemetry_hours", "telemetry_5m"),
]
_VIEWS = ["telemetry", "agent_sessions", "dispatch_members", "dispatch_left_out"]
_BECOME: LiteralString = """
    SELECT
        set_config('search_path', %s, true), set_config('trioder.tenant', %s, true),
        set_config('trioder.sites', %s, true), set_config('role', 'trioder_reader', true)
"""
_CREATE: LiteralString = "CREATE ROLE trioder_reader NOLOGIN"


class ReaderRole:
    """The role for reads with a scope; unavailable until `prepare` has found that it can be used."""

    def __init__(self) -> None:
        # Where the tables are: `$user` in the user's own path would be another schema for the role.
        self._search_path: str | None = None
        self._warned = False

    async def prepare(self, connection: Connection) -> None:
        """Create the role if it is missing, and grant what it reads; warn, once, if it cannot be used."""
        self._search_path = None
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            search_path, schema, user = await _row(
                connection,
                "SELECT array_to_string(ARRAY(SELECT quote_ident(name) FROM unnest(current_schemas(false)) "
                "AS name), ', '), quote_ident(current_schema()), quote_ident(current_user)",
            )
            remedy = await _become_member(connection, user)
            reason = "the headend's database user may not use the role"
            if not remedy:
                reason = await _grant(connection, schema) or await _check(connection, search_path)
                remedy = (
                    "make it an ordinary role that owns nothing: see docs/decisions/row-level-security.md"
                )
        if not reason:
            self._search_path = search_path
        elif not self._warned:
            self._warned = True
            log.warning(
                "reads are not under row-level security: queries filter by tenant nevertheless",
                role="trioder_reader",
                reason=reason,
                remedy=remedy,
            )

    async def run(
        self, connection: Connection, scope: Scope, query: Callable[[Connection], Awaitable[T]]
    ) -> T:
        """Run a query that sees only what lies in the scope."""
        if scope == EVERYTHING or self._search_path is None:
            return await query(connection)
        # The array is not empty text, which would be no restriction, even for no site at all.
        sites = "" if scope.site_ids is None else "{" + ",".join(sorted(scope.site_ids)) + "}"
        async with connection.transaction():
            await connection.execute(_BECOME, [self._search_path, scope.tenant, sites])
            return await query(connection)


async def _become_member(connection: Connection, user: str) -> str:
    """Make the role exist and this user its member; return what a superuser has to run, if that fails."""
    exists, is_member = await _membership(connection)
    if not exists:
        await _attempt(connection, _CREATE)
    elif is_member:
        return ""
    # Who creates a role need not be its member, from PostgreSQL 16 on.
    await _attempt(connection, "GRANT trioder_reader TO CURRENT_USER")
    exists, is_member = await _membership(connection)
    if is_member:
        return ""
    grant = f"GRANT trioder_reader TO {user}"
    return f"as superuser run: {grant}" if exists else f"as superuser run: {_CREATE}; {grant}"


async def _membership(connection: Connection) -> tuple[bool, bool]:
    """Return whether the role exists, and whether this user may take it."""
    privilege = "SET" if connection.info.server_version >= 160_000 else "MEMBER"
    exists, is_member = await _row(
        connection,
        "SELECT count(*) > 0, coalesce(bool_and(pg_has_role(oid, %s)), false) FROM pg_roles "
        "WHERE rolname = 'trioder_reader'",
        [privilege],
    )
    return exists, is_member


async def _grant(connection: Connection, schema: str) -> str:
    """Give the role what it lacks; return why that failed, or an empty text."""
    [missing] = await _row(
        connection,
        "SELECT count(*) FROM unnest(%s::text[]) AS name "
        "WHERE NOT has_table_privilege('trioder_reader', name, 'SELECT')",
        [_TABLES + _VIEWS],
    )
    if missing:
        reason = await _attempt(
            connection, f"GRANT SELECT ON {', '.join(_TABLES + _VIEWS)} TO trioder_reader"
        )
        if reason:
            return reason
    [may_use] = await _row(
        connection, "SELECT has_schema_privilege('trioder_reader', current_schema(), 'USAGE')"
    )
    return "" if may_use else await _attempt(connection, f"GRANT USAGE ON SCHEMA {schema} TO trioder_reader")


async def _check(connection: Connection, search_path: str) -> str:
    """Return why the role sees all rows, as a superuser or an owner would, or none; or an empty text."""
    is_secured = may_read = False
    async with connection.transaction():
        await connection.execute(_BECOME, [search_path, "", ""])
        is_secured, may_read = await _row(
            connection,
            "SELECT bool_and(row_security_active(name)), bool_and(has_table_privilege(name, 'SELECT')) "
            "FROM unnest(%s::text[]) AS name",
            [_TABLES],
        )
        raise psycopg.Rollback
    if not is_secured:
        return "row-level security does not apply to the role"
    return "" if may_read else "the role may not read all tables"


async def _attempt(connection: Connection, statement: str) -> str:
    """Run a statement that may be refused; return why, or an empty text."""
    try:
        async with connection.transaction():
            await connection.execute(statement.encode())
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        return error.diag.message_primary or str(error)
    return ""


async def _row(
    connection: Connection, query: LiteralString, values: list[object] | None = None
) -> tuple[Any, ...]:
    row = await (await connection.execute(query, values)).fetchone()
    assert row is not None  # noqa: S101  # one row, whatever there is
    return row
