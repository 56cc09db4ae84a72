"""`/whoami` and `/audit`: the caller as it was authenticated, and what callers did."""

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.access import principal
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.openapi import documented
from trioder.api.parsing import Query, checked_query, query_limit, query_number
from trioder.api.responses import json_response, list_response
from trioder.domain.access import PastAuditRecord
from trioder.domain.text import preview
from trioder.process.rfc3339 import format_ms
from trioder.schemas.access import AuditQuery, AuditRow, WhoAmIResponse
from trioder.schemas.resources import DEFAULT_HISTORY_ROWS, MAX_HISTORY_ROWS, NoQuery
from trioder.store.interface import StoreUnavailableError

_MAX_NUMBER = 10**18 - 1
_MAX_NAME_LENGTH = 256


def access_blueprint(headend: Headend) -> Blueprint:
    """Return the routes of access."""
    blueprint = Blueprint("access", __name__)

    @blueprint.get("/whoami")
    @documented(WhoAmIResponse, role="viewer")
    async def show_caller() -> TrioResponse:
        """Show the caller: its name, role, tenant and sites."""
        checked_query(NoQuery)
        caller = principal()
        site_ids, expires_ms = caller.scope.site_ids, caller.expires_ms
        return json_response(
            WhoAmIResponse(
                name=caller.name,
                kind=caller.kind,
                role=caller.role,
                tenant=caller.scope.tenant,
                sites=None if site_ids is None else sorted(site_ids),
                expires_at=None if expires_ms is None else format_ms(expires_ms),
            )
        )

    @blueprint.get("/audit")
    @documented(list[AuditRow], role="admin", query=AuditQuery, errors=(503,))
    async def list_audit() -> TrioResponse:
        """List commands, changes of access and refused attempts, newest first."""
        query = checked_query(AuditQuery)
        limit = query_limit(query, highest=MAX_HISTORY_ROWS, default=DEFAULT_HISTORY_ROWS)
        before = query_number(query, "before", lowest=1, highest=_MAX_NUMBER, default=_MAX_NUMBER)
        try:
            past = await headend.store.audit(
                limit=limit,
                before=before if "before" in query else None,
                principal=_principal_of(query),
                scope=principal().scope,
            )
        except StoreUnavailableError as error:
            raise ApiError(503, f"the audit cannot be read now: {error}") from None
        return list_response(past, _row)

    return blueprint


def _principal_of(query: Query) -> str | None:
    if "principal" not in query:
        return None
    name = query["principal"][0]
    if not 0 < len(name) <= _MAX_NAME_LENGTH or not name.isprintable():
        raise ApiError(
            400, f"principal is {preview(name)}; it must be 1 to {_MAX_NAME_LENGTH} printable characters"
        )
    return name


def _row(past: PastAuditRecord) -> AuditRow:
    record = past.record
    return AuditRow(
        number=past.number,
        time=format_ms(record.at_ms),
        principal=record.principal,
        kind=record.kind,
        tenant=record.tenant,
        peer=record.peer,
        action=record.action,
        target=record.target,
        outcome=record.outcome,
        reason=record.reason,
        request_id=record.request_id,
    )
