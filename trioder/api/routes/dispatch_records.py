"""`GET /dispatch`: what became of commands, from the headend's memory and, for the older ones, the store."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.asset_query import FleetIndex
from trioder.api.context import Headend
from trioder.api.errors import ApiError, shown
from trioder.api.openapi import documented
from trioder.api.parsing import checked_id, checked_query, query_choice, query_flag, query_id, query_limit
from trioder.api.responses import list_answer, stream_answer
from trioder.api.schemas.dispatch import (
    DEFAULT_DISPATCH_ROWS,
    MAX_WHOLE_DISPATCH_ROWS,
    DispatchesQuery,
    DispatchRow,
    ShowDispatchQuery,
)
from trioder.api.schemas.dispatch_responses import dispatch_row, record_chunks, show_record
from trioder.api.schemas.resources import MAX_HISTORY_ROWS
from trioder.control.dispatcher import Dispatcher
from trioder.control.lifecycle import STATES
from trioder.control.model import Dispatch
from trioder.domain.dispatch import DispatchRecord
from trioder.store.interface import StoreUnavailableError


def dispatch_records_blueprint(headend: Headend, index: FleetIndex) -> Blueprint:
    """The routes that tell of commands."""
    blueprint = Blueprint("dispatch_records", __name__)
    dispatcher = headend.dispatcher

    @blueprint.get("/dispatch/<dispatch_id>")
    @documented(DispatchRow, query=ShowDispatchQuery, errors=(404, 503))
    async def show_dispatch(dispatch_id: str) -> TrioResponse:
        """Show what became of one command, and of each of its members."""
        query = checked_query(ShowDispatchQuery)
        allocations = query_flag(query, "allocations", default=True)
        found = await dispatcher.find_in_slices(dispatch_id.lower()) or await _recorded(headend, dispatch_id)
        if found is None:
            raise ApiError(404, f"there is no dispatch {shown(dispatch_id)}")
        return show_record(found, allocations=allocations)

    @blueprint.get("/dispatch")
    @documented(list[DispatchRow], query=DispatchesQuery, errors=(404,))
    async def list_dispatches() -> TrioResponse:
        """List the last commands, newest first; without a database, those that the headend remembers."""
        query = checked_query(DispatchesQuery)
        allocations = query_flag(query, "allocations", default=False)
        highest = MAX_WHOLE_DISPATCH_ROWS if allocations else MAX_HISTORY_ROWS
        limit = query_limit(query, highest=highest, default=min(DEFAULT_DISPATCH_ROWS, highest))
        state = query_choice(query, "state", STATES)
        asset_id = query_id(query, "asset_id")
        key = None if asset_id is None else index.key_of(asset_id)

        def counts(command: Dispatch) -> bool:
            return (key is None or key in command.setpoints) and (state is None or command.state == state)

        found: list[Dispatch | DispatchRecord] = [*dispatcher.newest_dispatches(limit, counts=counts)]
        if len(found) < limit:
            older = await _older(headend, limit, key, state, whole=allocations)
            found = _merged(found, older, headend, limit)
        if allocations:
            return stream_answer(_whole_records(found, dispatcher))
        records = [await _record_of(one, dispatcher, whole=False) for one in found]
        return list_answer(
            range(len(records)), lambda position: dispatch_row(records[position], allocations=False)
        )

    return blueprint


async def _recorded(headend: Headend, dispatch_id: str) -> DispatchRecord | None:
    try:
        return await headend.store.find_dispatch(dispatch_id=checked_id("dispatch_id", dispatch_id))
    except ApiError:
        # As any other path that leads nowhere.
        return None
    except StoreUnavailableError as error:
        raise ApiError(503, f"older dispatches cannot be read now: {error}") from None


async def _older(
    headend: Headend, limit: int, key: int | None, state: str | None, *, whole: bool
) -> Sequence[DispatchRecord]:
    asset = None if key is None else headend.fleet.assets[key]
    try:
        return await headend.store.dispatches(limit=limit, asset=asset, state=state, whole=whole)
    except StoreUnavailableError:
        return ()


async def _record_of(
    one: Dispatch | DispatchRecord, dispatcher: Dispatcher, *, whole: bool
) -> DispatchRecord:
    return await dispatcher.record_in_slices(one, whole=whole) if isinstance(one, Dispatch) else one


async def _whole_records(
    found: Sequence[Dispatch | DispatchRecord], dispatcher: Dispatcher
) -> AsyncGenerator[bytes]:
    """A list of records with their allocations; one at a time is whole in memory."""
    yield b"["
    for number, one in enumerate(found):
        if number:
            yield b","
        async with aclosing(record_chunks(await _record_of(one, dispatcher, whole=True))) as chunks:
            async for chunk in chunks:
                yield chunk  # noqa: ASYNC119  # Quart closes the outermost
    yield b"]"


def _merged(
    newer: Sequence[Dispatch | DispatchRecord], older: Sequence[DispatchRecord], headend: Headend, limit: int
) -> list[Dispatch | DispatchRecord]:
    # What the headend remembers it knows better than the record.
    unknown = [record for record in older if not headend.dispatcher.remembers(record.dispatch_id)]
    return sorted([*newer, *unknown], key=lambda record: record.dispatched_ms, reverse=True)[:limit]
