"""`/agents`: which assets are connected now, and who drives them."""

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.headend.api.answers import list_answer
from trioder.headend.api.inputs import checked_query
from trioder.headend.api.models import AgentRow, AgentsQuery
from trioder.headend.api.openapi import documented
from trioder.headend.api.selection import FleetIndex
from trioder.headend.service import Headend
from trioder.process.rfc3339 import format_ms


def agents_blueprint(headend: Headend, index: FleetIndex) -> Blueprint:
    """The route of agents."""
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
        )

    def connected(key: int) -> bool:
        return sessions.session_of(key) is not None

    @blueprint.get("/agents")
    @documented(list[AgentRow], query=AgentsQuery, errors=(404,))
    async def list_agents() -> TrioResponse:
        """List the connected assets, in fleet order."""
        return list_answer(index.keys_of_query(checked_query(AgentsQuery), counts=connected), row)

    return blueprint
