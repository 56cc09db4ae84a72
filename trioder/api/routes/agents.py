"""`/agents`: the connected assets and their agents, and past sessions."""

from functools import partial

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.asset_query import FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.ndjson import lines_response, wants_lines
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query, query_id, query_limit, query_name
from trioder.api.reads import Reads, agent_row
from trioder.api.responses import list_response, read_response
from trioder.domain.text import preview
from trioder.process.rfc3339 import format_ms
from trioder.process.slices import run_in_slices
from trioder.schemas.resources import (
    DEFAULT_HISTORY_ROWS,
    MAX_HISTORY_ROWS,
    AgentRow,
    AgentsQuery,
    SessionRow,
    SessionsQuery,
)
from trioder.store.interface import StoreUnavailableError
from trioder.store.records import PastSession


def agents_blueprint(headend: Headend, indexes: FleetIndexes, reads: Reads) -> Blueprint:
    """Return the routes of agents."""
    blueprint = Blueprint("agents", __name__)
    assets, sessions = headend.fleet.assets, headend.sessions

    def connected(key: int) -> bool:
        return sessions.session_of(key) is not None

    @blueprint.get("/agents")
    @documented(list[AgentRow], role="viewer", query=AgentsQuery, errors=(404,), lines=True, has_etag=True)
    async def list_agents() -> TrioResponse:
        """List the connected assets, in fleet order."""
        index, query = indexes.of_request(), checked_query(AgentsQuery)
        if wants_lines():
            keys = await run_in_slices(index.key_steps(query, has_row=connected))
            return lines_response(keys, partial(agent_row, headend))
        return await read_response(reads.agents, index, query)

    @blueprint.get("/agents/sessions")
    @documented(list[SessionRow], role="viewer", query=SessionsQuery, errors=(404, 503))
    async def list_sessions() -> TrioResponse:
        """List the last sessions, newest first; none without a database."""
        query = checked_query(SessionsQuery)
        limit = query_limit(query, highest=MAX_HISTORY_ROWS, default=DEFAULT_HISTORY_ROWS)
        asset_id, site_id, before = (query_id(query, name) for name in ("asset_id", "site_id", "before"))
        agent_id, index = query_name(query, "agent_id"), indexes.of_request()
        asset = None if asset_id is None else assets[index.key_of(asset_id)]
        if site_id is not None:
            index.keys_of_site(site_id)
        try:
            last = None if before is None else await headend.store.find_session(before, scope=index.scope)
            if before is not None and last is None:
                raise ApiError(404, f"there is no session {preview(before)}")
            past = await headend.store.sessions(
                limit=limit,
                asset=asset,
                site_id=site_id,
                agent_id=agent_id,
                before=None if last is None else (last.connected_ms, last.session_id),
                scope=index.scope,
            )
        except StoreUnavailableError as error:
            raise ApiError(503, f"the sessions cannot be read now: {error}") from None
        return list_response(past, _session_row)

    return blueprint


def _session_row(session: PastSession) -> SessionRow:
    disconnected_ms = session.disconnected_ms
    return SessionRow(
        session_id=session.session_id,
        agent_id=session.agent_id,
        epoch=session.epoch,
        peer=session.peer,
        assets=session.assets,
        connected_at=format_ms(session.connected_ms),
        disconnected_at=None if disconnected_ms is None else format_ms(disconnected_ms),
        reason=session.reason,
    )
