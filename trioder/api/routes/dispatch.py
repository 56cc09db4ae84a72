"""`POST /dispatch`: a command for one asset or many, handed to the dispatcher.

What became of commands is told in `dispatch_records`.
"""

from typing import TypedDict

import msgspec
from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.asset_query import FleetIndex
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.idempotency import IdempotencyKeys
from trioder.api.openapi import documented
from trioder.api.parsing import Query, checked_query, query_choice, query_flag, query_number, read_json_body
from trioder.api.schemas.dispatch import (
    DEFAULT_WAIT_S,
    MAX_WAIT_S,
    DispatchAnswer,
    DispatchBody,
    DispatchQuery,
)
from trioder.api.schemas.dispatch_requests import request_steps
from trioder.api.schemas.dispatch_responses import show_taken
from trioder.control.requests import DispatchRefusedError, GroupRequest
from trioder.domain.dispatch import DispatchRecord
from trioder.process.slices import run_in_slices

_STATUS_OF_REFUSAL = {"bad_request": 400, "out_of_bounds": 400, "not_found": 404}
_decoder = msgspec.json.Decoder(DispatchBody)


class _Options(TypedDict):
    dry_run: bool
    idempotency_key: str | None
    request_digest: str | None


def dispatch_blueprint(headend: Headend, index: FleetIndex) -> Blueprint:
    """The route that commands."""
    blueprint = Blueprint("dispatch", __name__)
    dispatcher = headend.dispatcher
    keys = IdempotencyKeys(store=headend.store, find=dispatcher.find_in_slices)

    @blueprint.post("/dispatch")
    @documented(
        DispatchAnswer,
        query=DispatchQuery,
        body=DispatchBody,
        errors=(404, 408, 409, 413, 415, 503),
        also={202: DispatchAnswer},
    )
    async def dispatch() -> TrioResponse:
        """Command one asset, or many together. An Idempotency-Key makes it safe to send again."""
        query = checked_query(DispatchQuery)
        wait_s = _wait_s_of(query)
        allocations = query_flag(query, "allocations", default=True)
        body = await read_json_body(_decoder)
        request = await run_in_slices(request_steps(body, index))

        async def give(key: str | None, digest: str | None) -> DispatchRecord:
            options = _Options(dry_run=body.dry_run, idempotency_key=key, request_digest=digest)
            try:
                if isinstance(request, GroupRequest):
                    return await dispatcher.dispatch_group_in_slices(request, **options)
                return dispatcher.record_of(dispatcher.dispatch(request, **options))
            except DispatchRefusedError as refusal:
                raise ApiError(_STATUS_OF_REFUSAL[refusal.code], refusal.message, code=refusal.code) from None

        if body.dry_run:
            return show_taken(await give(None, None), allocations=allocations, dry_run=True)
        record = await keys.execute_once(body, give)
        answered = True
        if wait_s is not None:
            answered = await dispatcher.wait_answered(record.dispatch_id, within_s=wait_s)
            record = await dispatcher.find_in_slices(record.dispatch_id) or record
        status = 200 if answered else 202
        return show_taken(record, allocations=allocations, dry_run=False, status=status)

    return blueprint


def _wait_s_of(query: Query) -> int | None:
    wanted = query_choice(query, "wait", ("ack",))
    wait_s = query_number(query, "wait_s", lowest=1, highest=MAX_WAIT_S, default=DEFAULT_WAIT_S)
    return None if wanted is None else wait_s
