"""`/dispatch/{dispatch_id}/allocations`: what the assets of a dispatch were allocated, page by page."""

from bisect import bisect_right
from collections.abc import Sequence

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.asset_query import FleetIndexes
from trioder.api.context import Headend
from trioder.api.dispatch_lookup import no_dispatch, stored_dispatch
from trioder.api.dispatch_rows import allocation_row
from trioder.api.errors import ApiError
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query, query_choice, query_id, query_limit
from trioder.api.responses import list_response
from trioder.control.model import Dispatch
from trioder.domain.dispatch import LEFT_OUT, AllocationRecord
from trioder.domain.fleet import Fleet
from trioder.domain.lifecycle import STATES
from trioder.domain.text import preview
from trioder.process.slices import Steps, parts_of, run_in_slices
from trioder.schemas.dispatch import (
    DEFAULT_DISPATCH_ROWS,
    AllocationRow,
    AllocationsQuery,
)
from trioder.schemas.resources import MAX_HISTORY_ROWS
from trioder.store.interface import StoreUnavailableError

# The cost of finding an allocation's place and state, and of its record.
_PLACE_US = 0.3
_RECORD_US = 3.0


def allocations_blueprint(headend: Headend, indexes: FleetIndexes) -> Blueprint:
    """Return the route of allocations."""
    blueprint = Blueprint("allocations", __name__)

    @blueprint.get("/dispatch/<dispatch_id>/allocations")
    @documented(list[AllocationRow], role="viewer", query=AllocationsQuery, errors=(404, 503))
    async def list_allocations(dispatch_id: str) -> TrioResponse:
        """List the allocations of one dispatch, page by page."""
        query = checked_query(AllocationsQuery)
        limit = query_limit(query, highest=MAX_HISTORY_ROWS, default=DEFAULT_DISPATCH_ROWS)
        state, after = query_choice(query, "state", (*STATES, LEFT_OUT)), query_id(query, "after")
        index = indexes.of_request()
        dispatch = headend.dispatcher.history.get(dispatch_id.lower())
        page: Sequence[AllocationRecord] | None
        if dispatch is not None and index.shows(dispatch):
            page = await run_in_slices(
                _page_steps(dispatch, headend.fleet, limit=limit, after=after, state=state)
            )
        else:
            # It is a dispatch of the caller, before any of its allocations is read.
            if await stored_dispatch(headend, dispatch_id, index, whole=False) is None:
                raise no_dispatch(dispatch_id)
            try:
                page = await headend.store.allocations(
                    dispatch_id.lower(), limit=limit, after=after, state=state, scope=index.scope
                )
            except StoreUnavailableError as error:
                raise ApiError(503, f"older dispatches cannot be read now: {error}") from None
        if page is None:
            raise ApiError(404, f"there is no asset {preview(after or '')} in the dispatch")
        return list_response(page, allocation_row)

    return blueprint


def _page_steps(
    dispatch: Dispatch, fleet: Fleet, *, limit: int, after: str | None, state: str | None
) -> Steps[Sequence[AllocationRecord] | None]:
    """Return a page of the allocations of a dispatch in memory, in steps; None if `after` has none."""
    # Those that left the fleet have negative keys, as they have in the database.
    excluded = (key for key in dispatch.excluded if key not in dispatch.setpoints)
    keys = sorted((*dispatch.retired_keys, *dispatch.setpoints, *excluded))
    yield _PLACE_US * len(keys)
    if after is not None:
        last = _key_of(dispatch, fleet, after)
        if last is None:
            return None
        keys = keys[bisect_right(keys, last) :]
    page: list[AllocationRecord] = []
    for part in parts_of(keys):
        if len(page) == limit:
            break
        found = [key for key in part if state in {None, _state_of(dispatch, key)}][: limit - len(page)]
        # A reload meanwhile may have changed which keys it has.
        known = [key for key in found if _state_of(dispatch, key) is not None]
        page += [dispatch.allocation_record(fleet.asset_ids, key) for key in known]
        yield _PLACE_US * len(part) + _RECORD_US * len(known)
    return page


def _key_of(dispatch: Dispatch, fleet: Fleet, asset_id: str) -> int | None:
    key = fleet.index_by_id.get(asset_id)
    if key is not None and (key in dispatch.setpoints or key in dispatch.excluded):
        return key
    for retired_key, record in zip(dispatch.retired_keys, dispatch.retired, strict=True):
        if record.asset_id == asset_id:
            return retired_key
    return None


def _state_of(dispatch: Dispatch, key: int) -> str | None:
    """Return the state of an asset's setpoint; LEFT_OUT for one without; None for one with no part in it."""
    if key < 0:
        return dispatch.retired[-1 - key].state
    setpoint = dispatch.setpoints.get(key)
    if setpoint is not None:
        return setpoint.state
    return LEFT_OUT if key in dispatch.excluded else None
