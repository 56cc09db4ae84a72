"""Writes and reads what is only ever added: the audit, and the bindings of identities."""

from collections.abc import Sequence
from typing import LiteralString

from trioder.domain.access import ALL_TENANTS, AuditRecord, IdentityBinding, PastAuditRecord, Scope
from trioder.store.postgres.pending_records import PendingAudit, PendingBinding
from trioder.store.postgres.pg_connection import Connection, timestamp

# In the order of the rows of `unnest`, so that the numbers are in the order of the records.
_WRITE_AUDIT: LiteralString = """
    INSERT INTO audit
        (id, at, principal, kind, tenant, peer, action, target, outcome, reason, request_id)
    SELECT * FROM unnest(
        %s::uuid[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
        %s::text[], %s::text[], %s::text[]
    )
    ON CONFLICT (id) DO NOTHING
"""
_AUDIT: LiteralString = """
    SELECT
        number, (extract(epoch FROM at) * 1000)::bigint, principal, kind, tenant, peer, action, target,
        outcome, reason, request_id
    FROM audit
    WHERE (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
        AND (%(before)s::bigint IS NULL OR number < %(before)s)
        AND (%(principal)s::text IS NULL OR principal = %(principal)s)
    ORDER BY number DESC LIMIT %(limit)s
"""


async def write_audit(connection: Connection, pending: Sequence[PendingAudit]) -> None:
    """Add the records, in order; those written before are skipped."""
    if not pending:
        return
    records = [each.record for each in pending]
    await connection.execute(
        _WRITE_AUDIT,
        [
            [each.key for each in pending],
            [timestamp(record.at_ms) for record in records],
            [storable(record.principal) for record in records],
            [storable(record.kind) for record in records],
            [storable(record.tenant) for record in records],
            [storable(record.peer) for record in records],
            [storable(record.action) for record in records],
            [storable(record.target) for record in records],
            [record.outcome for record in records],
            [storable(record.reason) for record in records],
            [storable(record.request_id) for record in records],
        ],
    )


async def write_bindings(connection: Connection, pending: Sequence[PendingBinding]) -> None:
    """Add the bindings; what is bound already stays as it is."""
    if not pending:
        return
    # In order: otherwise two headends' transactions could deadlock.
    bindings = sorted((each.binding for each in pending), key=lambda one: (one.claim, one.value))
    await connection.execute(
        "INSERT INTO identity_bindings (claim, value, identity) "
        "SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]) ON CONFLICT DO NOTHING",
        [
            [binding.claim for binding in bindings],
            [storable(binding.value) for binding in bindings],
            [storable(binding.identity) for binding in bindings],
        ],
    )


async def read_audit(
    connection: Connection, scope: Scope, *, limit: int, before: int | None, principal: str | None
) -> Sequence[PastAuditRecord]:
    """See `Queries.audit`."""
    found = await connection.execute(
        _AUDIT,
        {
            "tenant": None if scope.tenant == ALL_TENANTS else scope.tenant,
            "before": before,
            "principal": principal,
            "limit": limit,
        },
    )
    return [
        PastAuditRecord(
            number=number,
            record=AuditRecord(
                at_ms=at_ms,
                principal=by,
                kind=kind,
                tenant=tenant,
                peer=peer,
                action=action,
                target=target,
                outcome=outcome,
                reason=reason,
                request_id=request_id,
            ),
        )
        for number, at_ms, by, kind, tenant, peer, action, target, outcome, reason, request_id in (
            await found.fetchall()
        )
    ]


async def read_identity_bindings(connection: Connection) -> Sequence[IdentityBinding]:
    """See `Queries.identity_bindings`."""
    found = await connection.execute("SELECT claim, value, identity FROM identity_bindings")
    return [
        IdentityBinding(claim=claim, value=value, identity=identity)
        for claim, value, identity in await found.fetchall()
    ]


def storable(text: str) -> str:
    """Return the text without NUL, which a peer may send and a text column cannot hold."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
