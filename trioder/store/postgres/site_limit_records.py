"""Writes and reads the limits of sites that users have set."""

from collections.abc import Sequence

from trioder.domain.site_limits import SiteLimits, SiteLimitsRecord
from trioder.store.postgres.audit_records import storable
from trioder.store.postgres.pending_records import PendingSiteLimits
from trioder.store.postgres.pg_connection import Connection, timestamp

_WRITE = """
    INSERT INTO site_limits (site_id, export_limit_mw, import_limit_mw, until, set_at, set_by)
    VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (site_id) DO UPDATE SET (export_limit_mw, import_limit_mw, until, set_at, set_by) = (
        excluded.export_limit_mw, excluded.import_limit_mw, excluded.until, excluded.set_at, excluded.set_by
    )
"""
_READ = """
    SELECT
        site_id::text, export_limit_mw, import_limit_mw, (extract(epoch FROM until) * 1000)::bigint,
        (extract(epoch FROM set_at) * 1000)::bigint, set_by
    FROM site_limits ORDER BY site_id
"""


async def write_site_limits(connection: Connection, pending: Sequence[PendingSiteLimits]) -> None:
    """Write or remove the limits of each site."""
    # In order: otherwise two headends' transactions could deadlock.
    for each in sorted(pending, key=lambda one: one.site_id):
        record = each.record
        if record is None:
            await connection.execute("DELETE FROM site_limits WHERE site_id = %s", [each.site_id])
            continue
        await connection.execute(
            _WRITE,
            [
                record.site_id,
                record.limits.export_mw,
                record.limits.import_mw,
                timestamp(record.until_ms),
                timestamp(record.set_ms),
                storable(record.set_by),
            ],
        )


async def read_site_limits(connection: Connection) -> Sequence[SiteLimitsRecord]:
    """See `Queries.site_limits`."""
    found = await connection.execute(_READ)
    return [
        SiteLimitsRecord(
            site_id=site_id,
            limits=SiteLimits(export_mw=export_mw, import_mw=import_mw),
            until_ms=until_ms,
            set_ms=set_ms,
            set_by=set_by,
        )
        for site_id, export_mw, import_mw, until_ms, set_ms, set_by in await found.fetchall()
    ]
