"""`/dispatch`: dispatches one asset or many, and shows past dispatches from memory and the store."""

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial

import msgspec
from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.access import AccessControl, principal
from trioder.api.asset_query import FleetIndexes
from trioder.api.commands import Commands
from trioder.api.context import Headend
from trioder.api.dispatch_lookup import find_dispatches, no_dispatch, stored_dispatch
from trioder.api.dispatch_rows import allocation_row, dispatch_response, dispatch_row
from trioder.api.errors import ApiError
from trioder.api.openapi import documented
from trioder.api.parsing import (
    Query,
    checked_query,
    query_choice,
    query_flag,
    query_limit,
    query_number,
    read_json_body,
)
from trioder.api.responses import list_response, object_chunks, object_response, stream_response
from trioder.api.targets import described_target
from trioder.control.dispatcher import Dispatcher
from trioder.control.model import Dispatch
from trioder.domain.dispatch import (
    AllocationRecord,
    DispatchRecord,
)
from trioder.domain.text import preview
from trioder.events.counters import TenantCounters
from trioder.process.slices import Steps, parts_of, run_in_slices
from trioder.schemas.dispatch import (
    DEFAULT_DISPATCH_ROWS,
    DEFAULT_WAIT_S,
    MAX_WAIT_S,
    MAX_WHOLE_DISPATCH_ROWS,
    DispatchBody,
    DispatchesQuery,
    DispatchQuery,
    DispatchResponse,
    DispatchRow,
    ShowDispatchQuery,
)
from trioder.schemas.resources import MAX_HISTORY_ROWS

_decoder = msgspec.json.Decoder(DispatchBody)
# The cost of counting an allocation.
_CODE_US = 0.1


def dispatch_blueprint(
    headend: Headend, indexes: FleetIndexes, access: AccessControl, counters: TenantCounters
) -> Blueprint:
    """Return the routes of dispatches; `counters` count them."""
    blueprint = Blueprint("dispatch", __name__)
    _add_post(blueprint, headend, indexes, access, counters)
    _add_cancel(blueprint, headend, indexes, access)
    _add_queries(blueprint, headend, indexes)
    return blueprint


def _add_post(
    blueprint: Blueprint,
    headend: Headend,
    indexes: FleetIndexes,
    access: AccessControl,
    counters: TenantCounters,
) -> None:
    dispatcher = headend.dispatcher
    commands = Commands(headend, indexes, counters)

    @blueprint.post("/dispatch")
    @documented(
        DispatchResponse,
        role="operator",
        query=DispatchQuery,
        body=DispatchBody,
        errors=(404, 408, 409, 413, 415, 503),
        also={202: DispatchResponse},
    )
    async def dispatch() -> TrioResponse:
        """Dispatch one asset, or many together. With an Idempotency-Key it can be repeated safely."""
        access.check_dispatch_rate()
        body: DispatchBody | None = None
        try:
            query = checked_query(DispatchQuery)
            wait_s = _wait_s_of(query)
            allocations = query_flag(query, "allocations", default=True)
            body = await read_json_body(_decoder)
            record = await commands.carry_out(body)
        except ApiError as error:
            if body is None or not body.dry_run:
                target = "" if body is None else described_target(body)
                access.record("dispatch", target=target, outcome="failed", reason=error.message)
            raise
        status = 200
        if not body.dry_run:
            access.record("dispatch", target=record.dispatch_id, tenant=record.tenant)
            if wait_s is not None:
                if not await dispatcher.wait_answered(record.dispatch_id, within_s=wait_s):
                    status = 202
                record = await dispatcher.find_in_slices(record.dispatch_id) or record
        shares = _shares(record)
        by_code = await run_in_slices(_code_steps(shares))
        row = dispatch_response(record, by_code=by_code, allocations=allocations, dry_run=body.dry_run)
        return object_response(
            row, "allocations", shares if allocations else (), allocation_row, status=status
        )


def _add_cancel(blueprint: Blueprint, headend: Headend, indexes: FleetIndexes, access: AccessControl) -> None:
    dispatcher = headend.dispatcher

    async def cancel_visible(dispatch_id: str) -> DispatchRecord:
        index = indexes.of_request()
        dispatch = dispatcher.history.get(dispatch_id.lower())
        if dispatch is None or not index.shows(dispatch):
            record = await stored_dispatch(headend, dispatch_id, index)
        elif dispatch.is_stop and not dispatch.ended:
            raise ApiError(409, "this dispatch is an emergency stop; POST /resume ends it")
        elif dispatch.ended:
            record = await dispatcher.record_in_slices(dispatch)
        else:
            return await dispatcher.cancel_in_slices(dispatch, requested_by=principal().name)
        if record is None:
            raise no_dispatch(dispatch_id)
        if record.state != "cancelled":
            raise ApiError(409, f"the dispatch has ended: it is {record.state}")
        return record

    @blueprint.delete("/dispatch/<dispatch_id>")
    @documented(DispatchRow, role="operator", query=ShowDispatchQuery, errors=(404, 409, 503))
    async def cancel_dispatch(dispatch_id: str) -> TrioResponse:
        """End an open dispatch: each asset goes to its reversion. Cancelling it again is safe."""
        query = checked_query(ShowDispatchQuery)
        allocations = query_flag(query, "allocations", default=True)
        try:
            record = await cancel_visible(dispatch_id)
        except ApiError as error:
            access.record("cancel", target=preview(dispatch_id), outcome="failed", reason=error.message)
            raise
        access.record("cancel", target=record.dispatch_id, tenant=record.tenant)
        row = dispatch_row(record, allocations=allocations)
        return object_response(row, "allocations", _shares(record) if allocations else (), allocation_row)


def _add_queries(blueprint: Blueprint, headend: Headend, indexes: FleetIndexes) -> None:
    dispatcher = headend.dispatcher

    @blueprint.get("/dispatch/<dispatch_id>")
    @documented(DispatchRow, role="viewer", query=ShowDispatchQuery, errors=(404, 503))
    async def show_dispatch(dispatch_id: str) -> TrioResponse:
        """Show the state of one dispatch, and of each of its members."""
        query = checked_query(ShowDispatchQuery)
        allocations = query_flag(query, "allocations", default=True)
        index = indexes.of_request()
        dispatch = dispatcher.history.get(dispatch_id.lower())
        if dispatch is not None and index.shows(dispatch):
            record: DispatchRecord | None = await dispatcher.record_in_slices(dispatch, whole=allocations)
        else:
            record = await stored_dispatch(headend, dispatch_id, index, whole=allocations)
        if record is None:
            raise no_dispatch(dispatch_id)
        row = dispatch_row(record, allocations=allocations)
        return object_response(row, "allocations", _shares(record) if allocations else (), allocation_row)

    @blueprint.get("/dispatch")
    @documented(list[DispatchRow], role="viewer", query=DispatchesQuery, errors=(404, 503))
    async def list_dispatches() -> TrioResponse:
        """List the last dispatches, newest first; without a database, those in the headend's memory."""
        query = checked_query(DispatchesQuery)
        allocations = query_flag(query, "allocations", default=False)
        highest = MAX_WHOLE_DISPATCH_ROWS if allocations else MAX_HISTORY_ROWS
        limit = query_limit(query, highest=highest, default=min(DEFAULT_DISPATCH_ROWS, highest))
        found = await find_dispatches(headend, indexes.of_request(), query, limit=limit, whole=allocations)
        if allocations:
            return stream_response(_whole_records(found, dispatcher))
        records = [await _record_of(each, dispatcher, whole=False) for each in found]
        return list_response(records, partial(dispatch_row, allocations=False))


def _wait_s_of(query: Query) -> int | None:
    wait = query_choice(query, "wait", ("ack",))
    wait_s = query_number(query, "wait_s", lowest=1, highest=MAX_WAIT_S, default=DEFAULT_WAIT_S)
    return None if wait is None else wait_s


def _shares(record: DispatchRecord) -> Sequence[AllocationRecord]:
    return (*record.members, *record.left_out)


def _code_steps(shares: Sequence[AllocationRecord]) -> Steps[Counter[str]]:
    """Count allocations by their code, in steps; a single asset may have none."""
    by_code = Counter[str]()
    for part in parts_of(shares):
        by_code.update(share.code for share in part if share.code)
        yield _CODE_US * len(part)
    return by_code


async def _record_of(
    dispatch: Dispatch | DispatchRecord, dispatcher: Dispatcher, *, whole: bool
) -> DispatchRecord:
    if isinstance(dispatch, Dispatch):
        return await dispatcher.record_in_slices(dispatch, whole=whole)
    return dispatch


async def _whole_records(
    dispatches: Sequence[Dispatch | DispatchRecord], dispatcher: Dispatcher
) -> AsyncGenerator[bytes]:
    """Encode a list of records with their allocations; only one record at a time is in memory."""
    yield b"["
    for number, dispatch in enumerate(dispatches):
        if number:
            yield b","
        record = await _record_of(dispatch, dispatcher, whole=True)
        row = dispatch_row(record, allocations=True)
        async with aclosing(object_chunks(row, "allocations", _shares(record), allocation_row)) as chunks:
            async for chunk in chunks:
                yield chunk  # noqa: ASYNC119  # Quart closes the outermost
    yield b"]"
