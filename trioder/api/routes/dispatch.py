"""`/dispatch`: dispatches one asset or many, and shows past dispatches from memory and the store."""

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

import msgspec
from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.asset_query import FleetIndex
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.idempotency import IdempotencyKeys
from trioder.api.openapi import documented
from trioder.api.parsing import (
    Query,
    checked_id,
    checked_query,
    checked_time_ms,
    is_id,
    query_choice,
    query_flag,
    query_id,
    query_limit,
    query_number,
    read_json_body,
)
from trioder.api.responses import list_response, object_chunks, object_response, stream_response
from trioder.api.schemas.dispatch import (
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
    allocation_row,
    dispatch_response,
    dispatch_row,
)
from trioder.api.schemas.resources import MAX_HISTORY_ROWS
from trioder.control.dispatcher import Dispatcher
from trioder.control.model import Dispatch
from trioder.domain.dispatch import (
    AllocationRecord,
    DispatchRecord,
    DispatchRefusedError,
    DispatchRequest,
    DispatchTarget,
    GroupRequest,
)
from trioder.domain.lifecycle import STATES
from trioder.domain.text import preview
from trioder.process.slices import Steps, parts_of, run_in_slices
from trioder.store.interface import StoreUnavailableError

_STATUS_OF_REFUSAL = {"bad_request": 400, "out_of_bounds": 400, "not_found": 404}
_TARGETS = ("asset_id", "asset_ids", "site_id", "fleet")
# The cost of checking an id.
_ID_US = 1.0

_decoder = msgspec.json.Decoder(DispatchBody)


def dispatch_blueprint(headend: Headend, index: FleetIndex) -> Blueprint:
    """Return the routes of dispatches."""
    blueprint = Blueprint("dispatch", __name__)
    _add_post(blueprint, headend, index)
    _add_queries(blueprint, headend, index)
    return blueprint


def _add_post(blueprint: Blueprint, headend: Headend, index: FleetIndex) -> None:
    dispatcher = headend.dispatcher
    keys = IdempotencyKeys(store=headend.store, find=dispatcher.find_in_slices)

    @blueprint.post("/dispatch")
    @documented(
        DispatchResponse,
        query=DispatchQuery,
        body=DispatchBody,
        errors=(404, 408, 409, 413, 415, 503),
        also={202: DispatchResponse},
    )
    async def dispatch() -> TrioResponse:
        """Dispatch one asset, or many together. With an Idempotency-Key it can be repeated safely."""
        query = checked_query(DispatchQuery)
        wait_s = _wait_s_of(query)
        allocations = query_flag(query, "allocations", default=True)
        body = await read_json_body(_decoder)
        request = await run_in_slices(_request_steps(body, index))

        async def execute(key: str | None, digest: str | None) -> DispatchRecord:
            keyed = replace(request, idempotency_key=key, request_digest=digest)
            try:
                if isinstance(keyed, GroupRequest):
                    return await dispatcher.dispatch_group_in_slices(keyed, dry_run=body.dry_run)
                return dispatcher.record_of(dispatcher.dispatch(keyed, dry_run=body.dry_run))
            except DispatchRefusedError as refusal:
                raise ApiError(_STATUS_OF_REFUSAL[refusal.code], refusal.message, code=refusal.code) from None

        status = 200
        if body.dry_run:
            record = await execute(None, None)
        else:
            record = await keys.execute_once(body, execute)
            if wait_s is not None:
                if not await dispatcher.wait_answered(record.dispatch_id, within_s=wait_s):
                    status = 202
                record = await dispatcher.find_in_slices(record.dispatch_id) or record
        row = dispatch_response(record, allocations=allocations, dry_run=body.dry_run)
        shares = _shares(record) if allocations else ()
        return object_response(row, "allocations", shares, allocation_row, status=status)


def _add_queries(blueprint: Blueprint, headend: Headend, index: FleetIndex) -> None:
    dispatcher = headend.dispatcher

    @blueprint.get("/dispatch/<dispatch_id>")
    @documented(DispatchRow, query=ShowDispatchQuery, errors=(404, 503))
    async def show_dispatch(dispatch_id: str) -> TrioResponse:
        """Show the state of one dispatch, and of each of its members."""
        query = checked_query(ShowDispatchQuery)
        allocations = query_flag(query, "allocations", default=True)
        record = await dispatcher.find_in_slices(dispatch_id.lower()) or await _stored(headend, dispatch_id)
        if record is None:
            raise ApiError(404, f"there is no dispatch {preview(dispatch_id)}")
        row = dispatch_row(record, allocations=allocations)
        return object_response(row, "allocations", _shares(record) if allocations else (), allocation_row)

    @blueprint.get("/dispatch")
    @documented(list[DispatchRow], query=DispatchesQuery, errors=(404,))
    async def list_dispatches() -> TrioResponse:
        """List the last dispatches, newest first; without a database, those in the headend's memory."""
        query = checked_query(DispatchesQuery)
        allocations = query_flag(query, "allocations", default=False)
        highest = MAX_WHOLE_DISPATCH_ROWS if allocations else MAX_HISTORY_ROWS
        limit = query_limit(query, highest=highest, default=min(DEFAULT_DISPATCH_ROWS, highest))
        state = query_choice(query, "state", STATES)
        asset_id = query_id(query, "asset_id")
        key = None if asset_id is None else index.key_of(asset_id)

        def matches(dispatch: Dispatch) -> bool:
            return (key is None or key in dispatch.setpoints) and (state is None or dispatch.state == state)

        found: list[Dispatch | DispatchRecord] = [*dispatcher.history.newest(limit, counts=matches)]
        if len(found) < limit:
            stored = await _list_stored(headend, limit, key, state, whole=allocations)
            # The headend's memory is more recent than the store.
            found += (record for record in stored if dispatcher.history.get(record.dispatch_id) is None)
            found = sorted(found, key=lambda each: each.dispatched_ms, reverse=True)[:limit]
        if allocations:
            return stream_response(_whole_records(found, dispatcher))
        records = [await _record_of(each, dispatcher, whole=False) for each in found]
        return list_response(records, partial(dispatch_row, allocations=False))


def _wait_s_of(query: Query) -> int | None:
    wait = query_choice(query, "wait", ("ack",))
    wait_s = query_number(query, "wait_s", lowest=1, highest=MAX_WAIT_S, default=DEFAULT_WAIT_S)
    return None if wait is None else wait_s


def _request_steps(body: DispatchBody, index: FleetIndex) -> Steps[DispatchRequest | GroupRequest]:
    """Convert a body in steps: one of the maximum size names 25,000 assets.

    Raises:
        ApiError: 400 unless there is exactly one target; 404 when it is not in the fleet.
    """
    targets = [name for name in _TARGETS if getattr(body, name) is not None]
    if len(targets) != 1:
        found = "none" if not targets else f"{len(targets)}: {', '.join(targets)}"
        names = ", ".join(f"`{name}`" for name in _TARGETS)
        raise ApiError(400, f"the body must name exactly one of {names}; it names {found}")
    if body.fleet is False:
        raise ApiError(400, "fleet is false; it must be true, or one of the other targets is named instead")
    if body.asset_id is None:
        target, keys = yield from _target_steps(body, index)
        return GroupRequest(
            target=target,
            keys=keys,
            mw=body.mw,
            duration_s=body.duration_s,
            valid_until_ms=_valid_until_ms(body),
            reversion_mw=body.reversion_mw,
            expires_in_s=body.expires_in_s,
            strategy=body.strategy or "headroom",
            resplit=body.resplit is not False,
        )
    for name in ("strategy", "resplit"):
        if getattr(body, name) is not None:
            raise ApiError(400, f"{name} is given with asset_id; it is for commands to many assets")
    return DispatchRequest(
        asset_id=checked_id("asset_id", body.asset_id),
        mw=body.mw,
        duration_s=body.duration_s,
        valid_until_ms=_valid_until_ms(body),
        reversion_mw=body.reversion_mw,
        expires_in_s=body.expires_in_s,
    )


def _target_steps(body: DispatchBody, index: FleetIndex) -> Steps[tuple[DispatchTarget, Sequence[int]]]:
    if body.asset_ids is not None:
        ids: list[str] = []
        for part in parts_of(body.asset_ids):
            ids += [
                checked_id(f"asset_ids[{position}]", text) for position, text in enumerate(part, len(ids))
            ]
            yield _ID_US * len(part)
        if not ids:
            raise ApiError(400, "asset_ids is empty; a group has at least one asset")
        if len(set(ids)) < len(ids):
            [(repeated, _)] = Counter(ids).most_common(1)
            raise ApiError(400, f"asset_ids names {repeated} more than once")
        return DispatchTarget(kind="assets"), sorted(index.keys_of(ids))
    if body.site_id is not None:
        site_id = checked_id("site_id", body.site_id)
        keys = index.keys_of_site(site_id)
        if not keys:
            raise ApiError(400, f"site {preview(site_id)} has no assets; a group has at least one")
        return DispatchTarget(kind="site", id=site_id), keys
    return DispatchTarget(kind="fleet"), index.all_keys


def _valid_until_ms(body: DispatchBody) -> int | None:
    return None if body.valid_until is None else checked_time_ms("valid_until", body.valid_until)


def _shares(record: DispatchRecord) -> Sequence[AllocationRecord]:
    return (*record.members, *record.left_out)


async def _stored(headend: Headend, dispatch_id: str) -> DispatchRecord | None:
    if not is_id(dispatch_id):
        return None
    try:
        return await headend.store.find_dispatch(dispatch_id=dispatch_id.lower())
    except StoreUnavailableError as error:
        raise ApiError(503, f"older dispatches cannot be read now: {error}") from None


async def _list_stored(
    headend: Headend, limit: int, key: int | None, state: str | None, *, whole: bool
) -> Sequence[DispatchRecord]:
    asset = None if key is None else headend.fleet.assets[key]
    try:
        return await headend.store.dispatches(limit=limit, asset=asset, state=state, whole=whole)
    except StoreUnavailableError:
        return ()


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
