"""The dispatches in memory, by their ids and those that agents know: open ones, and the last that ended."""

from collections.abc import Callable, Iterator

from trioder.control.model import Dispatch

MAX_DISPATCHES = 10_000
# About 400 bytes each.
MAX_SETPOINTS = 100_000


class DispatchHistory:
    """The dispatches in memory: all open ones and the last that have ended. Older ones are the store's."""

    def __init__(self, *, max_dispatches: int = MAX_DISPATCHES, max_setpoints: int = MAX_SETPOINTS) -> None:
        self._max_dispatches = max_dispatches
        self._max_setpoints = max_setpoints
        self._open: dict[str, Dispatch] = {}
        self._ended: dict[str, Dispatch] = {}
        self._ended_setpoints = 0
        # The first holder of an id has it alone; a further one has it with its tenant.
        self._by_wire_id: dict[str | tuple[str, str], Dispatch] = {}
        self._wire_ids: dict[str, set[str | tuple[str, str]]] = {}

    def __iter__(self) -> Iterator[Dispatch]:
        """The open ones, oldest first."""
        return iter(tuple(self._open.values()))

    def add(self, dispatch: Dispatch) -> None:
        """Add a dispatch."""
        self._open[dispatch.dispatch_id] = dispatch
        for wire_id in {dispatch.dispatch_id, *(one.wire_id for one in dispatch.setpoints.values())}:
            self.add_wire_id(dispatch, wire_id)
        self.archive_if_ended(dispatch)

    def add_wire_id(self, dispatch: Dispatch, wire_id: str) -> None:
        """Agents know the dispatch by this id as well."""
        is_free = self._by_wire_id.get(wire_id, dispatch) is dispatch
        key = wire_id if is_free else (wire_id, dispatch.tenant)
        self._by_wire_id[key] = dispatch
        self._wire_ids.setdefault(dispatch.dispatch_id, set()).add(key)

    def archive_if_ended(self, dispatch: Dispatch) -> None:
        """The dispatch has changed: once it has ended, it may be evicted."""
        if not dispatch.ended or dispatch.dispatch_id not in self._open:
            return
        del self._open[dispatch.dispatch_id]
        self._ended[dispatch.dispatch_id] = dispatch
        self._ended_setpoints += _size_of(dispatch)
        while len(self._ended) > self._max_dispatches or self._ended_setpoints > self._max_setpoints:
            if len(self._ended) == 1:
                return
            self._evict(next(iter(self._ended)))

    def reopen(self, dispatch: Dispatch) -> None:
        """The dispatch is about to get another setpoint, though it may have ended."""
        if self._ended.pop(dispatch.dispatch_id, None) is not None:
            self._ended_setpoints -= _size_of(dispatch)
            self._open[dispatch.dispatch_id] = dispatch

    def get(self, dispatch_id: str) -> Dispatch | None:
        """The dispatch with this id."""
        return self._open.get(dispatch_id) or self._ended.get(dispatch_id)

    def has_wire_id(self, wire_id: str) -> bool:
        """Whether a dispatch is known by this id, to agents of whatever tenant."""
        return wire_id in self._by_wire_id

    def by_wire_id(self, wire_id: str, *, tenant: str) -> Dispatch | None:
        """The dispatch that the tenant's agents know by this id. An adopted one is of one tenant alone."""
        dispatch = self._by_wire_id.get(wire_id)
        if dispatch is not None and not (dispatch.adopted and dispatch.tenant != tenant):
            return dispatch
        return self._by_wire_id.get((wire_id, tenant))

    def newest(self, limit: int, *, counts: Callable[[Dispatch], bool]) -> list[Dispatch]:
        """The last `limit` dispatches for which `counts` is true, newest first."""
        found = filter(counts, [*self._open.values(), *self._ended.values()])
        return sorted(found, key=lambda dispatch: dispatch.order, reverse=True)[:limit]

    def count_at(self, at_ms: int) -> int:
        """How many dispatches in memory are of this instant, as their order has it."""
        return sum(
            dispatch.order[0] == at_ms
            for dispatches in (self._open, self._ended)
            for dispatch in dispatches.values()
        )

    def _evict(self, dispatch_id: str) -> None:
        dispatch = self._ended.pop(dispatch_id)
        self._ended_setpoints -= _size_of(dispatch)
        for wire_id in self._wire_ids.pop(dispatch_id):
            del self._by_wire_id[wire_id]


def _size_of(dispatch: Dispatch) -> int:
    return 1 + len(dispatch.setpoints) + len(dispatch.excluded)
