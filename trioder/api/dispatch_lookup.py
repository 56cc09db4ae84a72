"""Finds dispatches within what the caller sees: those in memory, and older ones in the store."""

from collections.abc import Sequence

from trioder.api.asset_query import FleetIndex
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.parsing import Query, is_id, query_choice, query_id
from trioder.control.model import Dispatch
from trioder.domain.dispatch import DispatchRecord
from trioder.domain.lifecycle import STATES
from trioder.domain.text import preview
from trioder.store.interface import StoreUnavailableError

# In a list, newest first: dispatched_ms, the number of one in memory, dispatch_id.
_Order = tuple[int, int, str]


async def find_dispatches(
    headend: Headend, index: FleetIndex, query: Query, *, limit: int, whole: bool
) -> Sequence[Dispatch | DispatchRecord]:
    """Return the last dispatches that a query asks for, newest first; while the store is away, of memory.

    Args:
        headend: the headend.
        index: of what the caller sees.
        query: of `DispatchesQuery`.
        limit: at most so many.
        whole: records of the store with their allocations.

    Raises:
        ApiError: 400; 404: an asset, a site or `before` does not exist; 503: `before` cannot be read now.
    """
    history = headend.dispatcher.history
    state = query_choice(query, "state", STATES)
    asset_id, site_id, before = (query_id(query, name) for name in ("asset_id", "site_id", "before"))
    key = None if asset_id is None else index.key_of(asset_id)
    at_site = None if site_id is None else frozenset(index.keys_of_site(site_id))
    last = None if before is None else await _order_of(headend, index, before)

    def matches(dispatch: Dispatch) -> bool:
        return (
            (key is None or key in dispatch.setpoints)
            and (at_site is None or not at_site.isdisjoint(dispatch.setpoints.keys()))
            and (state is None or dispatch.state == state)
            and (last is None or dispatch.order < last)
            and index.shows(dispatch)
        )

    def is_in_memory(record: DispatchRecord) -> bool:
        # Which is more recent than the store. What another tenant's agent reports under its id is not it.
        dispatch = history.get(record.dispatch_id)
        return dispatch is not None and index.shows(dispatch)

    found: list[Dispatch | DispatchRecord] = [*history.newest(limit, counts=matches)]
    if len(found) == limit:
        return found
    try:
        stored = await headend.store.dispatches(
            # Those of the same instant that are in memory may all precede it.
            limit=limit if last is None else limit + history.count_at(last[0]),
            asset=None if key is None else headend.fleet.assets[key],
            site_id=site_id,
            state=state,
            before=None if last is None else (last[0], last[2] if not last[1] else _AFTER_ALL_IDS),
            whole=whole,
            scope=index.scope,
        )
    except StoreUnavailableError:
        return found
    found += (record for record in stored if not is_in_memory(record))
    return sorted(found, key=_order, reverse=True)[:limit]


# The store does not know the numbers of those in memory: any of the same instant may follow.
_AFTER_ALL_IDS = "ffffffff-ffff-ffff-ffff-ffffffffffff"


def _order(dispatch: Dispatch | DispatchRecord) -> _Order:
    if isinstance(dispatch, Dispatch):
        return dispatch.order
    return dispatch.dispatched_ms, 0, dispatch.dispatch_id


async def _order_of(headend: Headend, index: FleetIndex, dispatch_id: str) -> _Order:
    dispatch = headend.dispatcher.history.get(dispatch_id)
    if dispatch is not None and index.shows(dispatch):
        return dispatch.order
    record = await stored_dispatch(headend, dispatch_id, index, whole=False)
    if record is None:
        raise no_dispatch(dispatch_id)
    return _order(record)


def no_dispatch(dispatch_id: str) -> ApiError:
    """Return the error for a dispatch that does not exist within the scope."""
    return ApiError(404, f"there is no dispatch {preview(dispatch_id)}")


async def stored_dispatch(
    headend: Headend, dispatch_id: str, index: FleetIndex, *, whole: bool = True
) -> DispatchRecord | None:
    """Return a dispatch from the store; None if there is none within the scope.

    Raises:
        ApiError: 503.
    """
    if not is_id(dispatch_id):
        return None
    try:
        return await headend.store.find_dispatch(
            dispatch_id=dispatch_id.lower(), whole=whole, scope=index.scope
        )
    except StoreUnavailableError as error:
        raise ApiError(503, f"older dispatches cannot be read now: {error}") from None
