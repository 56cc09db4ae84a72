"""`/agents`: the connected assets and their agents, and past sessions."""

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.asset_query import FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.ndjson import lines_response, wants_lines
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query, query_id, query_limit, query_name
from trioder.api.responses import list_response
from trioder.api.schemas.resources import (
    DEFAULT_HISTORY_ROWS,
    MAX_HISTORY_ROWS,
    AgentRow,
    AgentsQuery,
    SessionRow,
    SessionsQuery,
)
from trioder.process.rfc3339 import format_ms
from trioder.store.interface import StoreUnavailableError
from trioder.store.records import PastSession


def agents_blueprint(headend: Headend, indexes: FleetIndexes) -> Blueprint:
    """Return the routes of agents."""
    blueprint = Blueprint("agents", __name__)
    assets, sessions = headend.fleet.assets, headend.sessions

    def row(key: int) -> AgentRow | None:
        session = sessions.session_of(key)
        if session is None:
            return None
        return AgentRow(
            asset_id=assets[key].id,
            asset_name=assets[key].name,
            site_name=assets[key].site_name,
            peer=session.peer,
            agent_id=session.agent_id,
            connected_at=format_ms(session.connected_ms),
            clock_skew_s=_rounded(session.clock_skew_s),
            clock_error_s=_rounded(session.clock_error_s),
        )

    def connected(key: int) -> bool:
        return sessions.session_of(key) is not None

    @blueprint.get("/agents")
    @documented(list[AgentRow], role="viewer", query=AgentsQuery, errors=(404,), lines=True)
    async def list_agents() -> TrioResponse:
        """List the connected assets, in fleet order."""
        keys = await indexes.of_request().keys_of_query(checked_query(AgentsQuery), has_row=connected)
        return lines_response(keys, row) if wants_lines() else list_response(keys, row)

    @blueprint.get("/agents/sessions")
    @documented(list[SessionRow], role="viewer", query=SessionsQuery, errors=(404, 503))
    async def list_sessions() -> TrioResponse:
        """List the last sessions, newest first; none without a database."""
        query = checked_query(SessionsQuery)
        limit = query_limit(query, highest=MAX_HISTORY_ROWS, default=DEFAULT_HISTORY_ROWS)
        asset_id, agent_id = query_id(query, "asset_id"), query_name(query, "agent_id")
        index = indexes.of_request()
        asset = None if asset_id is None else assets[index.key_of(asset_id)]
        try:
            past = await headend.store.sessions(
                limit=limit, asset=asset, agent_id=agent_id, scope=index.scope
            )
        except StoreUnavailableError as error:
            raise ApiError(503, f"the sessions cannot be read now: {error}") from None
        return list_response(past, _session_row)

    return blueprint


def _rounded(seconds: float | None) -> float | None:
    # The protocol's timestamps have a resolution of 1 ms.
    return None if seconds is None else round(seconds, 3)


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
