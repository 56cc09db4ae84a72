"""`/fleet/reload`: the fleet file is read again."""

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query
from trioder.api.responses import json_answer
from trioder.api.schemas.resources import FleetReloadAnswer, NoQuery
from trioder.fleet import FleetFileError


def fleet_blueprint(headend: Headend) -> Blueprint:
    """The route that reloads the fleet."""
    blueprint = Blueprint("fleet_reload", __name__)

    @blueprint.post("/fleet/reload")
    @documented(FleetReloadAnswer, errors=(409,))
    async def reload_fleet() -> TrioResponse:
        """Read the fleet file again; one with errors changes nothing, and each error is reported."""
        checked_query(NoQuery)
        try:
            change = await headend.reloader.reload()
        except FleetFileError as error:
            raise ApiError(409, f"the fleet file has errors, and nothing has changed:\n{error}") from None
        return json_answer(
            FleetReloadAnswer(
                assets=len(headend.fleet.keys),
                added=len(change.added),
                changed=len(change.changed),
                retired=len(change.retired),
            )
        )

    return blueprint
