"""`/dispatch`: a command for one asset, handed to the dispatcher."""

import msgspec
from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.headend.api.answers import json_answer
from trioder.headend.api.errors import ApiError
from trioder.headend.api.inputs import checked_id, checked_query, read_json_body
from trioder.headend.api.models import DispatchAnswer, DispatchBody, NoQuery
from trioder.headend.api.openapi import documented
from trioder.headend.dispatcher import DispatchRefusedError
from trioder.headend.service import Headend
from trioder.sim.model import DispatchRequest

_STATUS_OF_REFUSAL = {"bad_request": 400, "out_of_bounds": 400, "not_found": 404}
_decoder = msgspec.json.Decoder(DispatchBody)


def dispatch_blueprint(headend: Headend) -> Blueprint:
    """The route of dispatches."""
    blueprint = Blueprint("dispatch", __name__)

    @blueprint.post("/dispatch")
    @documented(DispatchAnswer, body=DispatchBody, errors=(404, 408, 413, 415))
    async def dispatch() -> TrioResponse:
        """Command one asset."""
        checked_query(NoQuery)
        body = await read_json_body(_decoder)
        request = DispatchRequest(
            asset_id=checked_id("asset_id", body.asset_id), mw=body.mw, duration_s=body.duration_s
        )
        try:
            dispatched = headend.dispatcher.dispatch(request)
        except DispatchRefusedError as refusal:
            raise ApiError(_STATUS_OF_REFUSAL[refusal.code], refusal.message, code=refusal.code) from None
        made = dispatched.dispatch
        return json_answer(
            DispatchAnswer(
                asset_id=made.asset_id,
                mw=made.mw,
                duration_s=made.duration_s,
                dispatch_id=made.dispatch_id,
                delivery=dispatched.delivery,
            )
        )

    return blueprint
