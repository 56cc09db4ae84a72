"""`POST /dispatch`: a command for one asset or many, handed to the dispatcher.

What became of commands is told in `dispatch_records`.
"""

import msgspec
from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.headend.api.answers import json_answer
from trioder.headend.api.dispatch_answers import dispatch_answer
from trioder.headend.api.dispatch_models import (
    DEFAULT_WAIT_S,
    MAX_WAIT_S,
    DispatchAnswer,
    DispatchBody,
    DispatchQuery,
    NotAnsweredBody,
)
from trioder.headend.api.dispatch_requests import read_request
from trioder.headend.api.errors import ApiError
from trioder.headend.api.idempotency import IdempotencyKeys
from trioder.headend.api.inputs import (
    Query,
    checked_query,
    query_choice,
    query_flag,
    query_number,
    read_json_body,
)
from trioder.headend.api.openapi import documented
from trioder.headend.api.selection import FleetIndex
from trioder.headend.dispatch.command import Command
from trioder.headend.dispatch.requests import DispatchRefusedError, GroupRequest
from trioder.headend.service import Headend

_STATUS_OF_REFUSAL = {"bad_request": 400, "out_of_bounds": 400, "not_found": 404}
_decoder = msgspec.json.Decoder(DispatchBody)


def dispatch_blueprint(headend: Headend, index: FleetIndex) -> Blueprint:
    """The route that commands."""
    blueprint = Blueprint("dispatch", __name__)
    dispatcher = headend.dispatcher
    keys = IdempotencyKeys(store=headend.store, record_of=dispatcher.record_of, find=dispatcher.find)

    @blueprint.post("/dispatch")
    @documented(
        DispatchAnswer,
        query=DispatchQuery,
        body=DispatchBody,
        errors=(404, 408, 409, 413, 415),
        also={504: NotAnsweredBody},
    )
    async def dispatch() -> TrioResponse:
        """Command one asset, or many together. An Idempotency-Key makes it safe to send again."""
        query = checked_query(DispatchQuery)
        wait_s = _wait_s_of(query)
        allocations = query_flag(query, "allocations", default=True)
        body = await read_json_body(_decoder)
        request = read_request(body, index)

        def give(key: str | None, digest: str | None) -> Command:
            give_it = dispatcher.dispatch_group if isinstance(request, GroupRequest) else dispatcher.dispatch
            try:
                return give_it(request, dry_run=body.dry_run, idempotency_key=key, request_digest=digest)  # type: ignore[arg-type]  # each its own
            except DispatchRefusedError as refusal:
                raise ApiError(_STATUS_OF_REFUSAL[refusal.code], refusal.message, code=refusal.code) from None

        if body.dry_run:
            planned = dispatcher.record_of(give(None, None))
            return json_answer(dispatch_answer(planned, allocations=allocations, dry_run=True))
        record = await keys.give_once(body, give)
        if wait_s is None:
            return json_answer(dispatch_answer(record, allocations=allocations, dry_run=False))
        answered = await dispatcher.wait_answered(record.dispatch_id, within_s=wait_s)
        record = dispatcher.find(record.dispatch_id) or record
        answer = dispatch_answer(record, allocations=allocations, dry_run=False)
        if answered:
            return json_answer(answer)
        message = f"not every agent has answered within {wait_s} s; the command stands"
        return json_answer(NotAnsweredBody(message=message, dispatch=answer), status=504)

    return blueprint


def _wait_s_of(query: Query) -> int | None:
    wanted = query_choice(query, "wait", ("ack",))
    wait_s = query_number(query, "wait_s", lowest=1, highest=MAX_WAIT_S, default=DEFAULT_WAIT_S)
    return None if wanted is None else wait_s
