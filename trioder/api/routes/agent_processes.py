"""`/agents/processes`: the agent processes, connected or not, within what the caller sees."""

from collections.abc import Collection, Sequence

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.asset_query import FleetIndex, FleetIndexes
from trioder.api.context import Headend
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query, query_flag, query_id, query_limit
from trioder.api.responses import list_response
from trioder.gateway.sessions import Session
from trioder.process.rfc3339 import format_ms
from trioder.process.slices import Steps, parts_of, run_in_slices
from trioder.schemas.agents import MAX_SITE_IDS, AgentProcessesQuery, AgentProcessRow
from trioder.schemas.resources import MAX_HISTORY_ROWS

# The cost of finding whether the caller sees an asset, and of a row.
_SEEN_US = 0.3
_ROW_US = 15.0


def agent_processes_blueprint(headend: Headend, indexes: FleetIndexes) -> Blueprint:
    """Return the route of agent processes."""
    blueprint = Blueprint("agent_processes", __name__)

    @blueprint.get("/agents/processes")
    @documented(list[AgentProcessRow], role="viewer", query=AgentProcessesQuery, errors=(404,))
    async def list_processes() -> TrioResponse:
        """List the agent processes that are connected, or were since the headend's start, by agent_id."""
        query = checked_query(AgentProcessesQuery)
        limit = query_limit(query, highest=MAX_HISTORY_ROWS, default=MAX_HISTORY_ROWS)
        index, site_id = indexes.of_request(), query_id(query, "site_id")
        if site_id is not None:
            index.keys_of_site(site_id)
        sessions: list[Session] = []
        if query_flag(query, "connected", default=True):
            sessions += headend.sessions
        if not query_flag(query, "connected", default=False):
            sessions += headend.sessions.closed
        sessions.sort(key=lambda session: session.agent_id)
        rows = await run_in_slices(_row_steps(headend, index, sessions, site_id=site_id, limit=limit))
        return list_response(rows, lambda row: row)

    return blueprint


def _row_steps(
    headend: Headend, index: FleetIndex, sessions: Sequence[Session], *, site_id: str | None, limit: int
) -> Steps[Sequence[AgentProcessRow]]:
    rows: list[AgentProcessRow] = []
    assets = headend.fleet.assets
    for session in sessions:
        if len(rows) == limit:
            break
        seen, site_ids = 0, set[str]()
        # None of one that only delivers a backlog: it is not listed.
        for part in parts_of(session.asset_keys):
            own = [assets[key].site_id for key in part if index.has(key)]
            seen += len(own)
            site_ids.update(own)
            yield _SEEN_US * len(part)
        if seen and (site_id is None or site_id in site_ids):
            rows.append(_row(headend, session, assets=seen, site_ids=site_ids))
            yield _ROW_US
    return rows


def _row(headend: Headend, session: Session, *, assets: int, site_ids: Collection[str]) -> AgentProcessRow:
    is_connected = session.closed_ms is None
    backlog = headend.ingest.backlog(session.outbox_id) if is_connected and session.outbox_id else None
    return AgentProcessRow(
        agent_id=session.agent_id,
        connected=is_connected,
        session_id=session.session_id,
        assets=assets,
        site_ids=sorted(site_ids) if len(site_ids) <= MAX_SITE_IDS else None,
        connected_at=format_ms(session.connected_ms),
        disconnected_at=_time(session.closed_ms),
        reason=None if is_connected else session.closed_reason,
        last_seen_at=format_ms(session.received_ms),
        peer=session.peer,
        clock_skew_s=_rounded(session.clock_skew_s),
        clock_error_s=_rounded(session.clock_error_s),
        backlog_batches=None if backlog is None else backlog[0],
        backlog_s=None if backlog is None else round(backlog[1], 3),
        epoch=session.epoch,
        protocol=session.protocol,
        version=session.version or None,
        identity=session.identity or None,
        certificate_expires_at=_time(session.certificate_expires_ms),
        tenant=session.tenant,
    )


def _time(ts_unix_ms: int | None) -> str | None:
    return None if ts_unix_ms is None else format_ms(ts_unix_ms)


def _rounded(seconds: float | None) -> float | None:
    # The protocol's timestamps have a resolution of 1 ms.
    return None if seconds is None else round(seconds, 3)
