"""Records waiting to be written: the newest state of each session and dispatch wins. Synchronous, bounded.

Never dropped are the end of a session that the database has open, an open dispatch or alarm, a binding,
limits of a site, and schedules with their occurrences. There are no more of these than sessions open when the
database went away, than the others in memory, and than occurrences that were due meanwhile.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from trioder.domain.access import ALL_TENANTS
from trioder.store.postgres.pending_records import DropOrder, PendingDispatch, PendingRecord, PendingSession
from trioder.store.records import SessionRecord

# Written in one transaction, unless a single dispatch has more.
_SHARES_PER_GROUP = 20_000


class Dropped(NamedTuple):
    """What was dropped for lack of room.

    Attributes:
        records: sessions, dispatches and cleared alarms.
        shares: of dispatches that stay otherwise.
        audit_records: of the audit.
        events: of agents and alarms.
    """

    records: int = 0
    shares: int = 0
    audit_records: int = 0
    events: int = 0


class RecordQueue:
    """One pending record per key, so of each session, dispatch, binding and alarm; all others in order.

    When full, records are dropped in their `DropOrder`, the oldest first; of the ended dispatches the newest
    stays.

    Args:
        max_bytes: the bound.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._pending: dict[str, PendingRecord] = {}
        # Returned by the last `first`, and not known to be written.
        self._in_flight: dict[str, PendingRecord] = {}
        self._open_sessions: dict[str, SessionRecord] = {}
        # The open sessions that the database has.
        self._written: set[str] = set()

    def __len__(self) -> int:
        """The number of records waiting."""
        return len(self._pending)

    def open_session(self, session: SessionRecord) -> Dropped:
        """Add a session; return what was dropped for it."""
        self._open_sessions[session.session_id] = session
        return self.put(PendingSession(session=session))

    def close_session(self, session_id: str, *, disconnected_ms: int, reason: str) -> Dropped:
        """Add the end of a session; return what was dropped for it."""
        session = self._open_sessions.pop(session_id, None)
        if session is None:
            return Dropped()
        return self.put(PendingSession(session=session, disconnected_ms=disconnected_ms, reason=reason))

    def put(self, record: PendingRecord) -> Dropped:
        """Add a record, merged with the one of its key that waits; return what was dropped for it."""
        previous = self._pending.get(record.key)
        if previous is None:
            self._size += record.size
            self._pending[record.key] = record
        elif self._in_flight.get(record.key) is previous:
            # What is being written now is written again only if that fails.
            self._replace(record)
        else:
            # It keeps its place: what changes all the time must be written, too.
            self._replace(previous.merged_with(record))
        return Dropped() if self._size <= self._max_bytes else self._free_memory()

    def __contains__(self, record: PendingRecord) -> bool:
        """Whether a record with the key of this one waits."""
        return record.key in self._pending

    def find_dispatch(
        self, *, dispatch_id: str | None, idempotency_key: str | None, tenant: str = ALL_TENANTS
    ) -> PendingDispatch | None:
        """Return the pending record of the tenant's dispatch with this id, or this idempotency key."""

        def is_tenants(record: PendingRecord | None) -> bool:
            return isinstance(record, PendingDispatch) and tenant in {ALL_TENANTS, record.dispatch.tenant}

        if dispatch_id is not None and is_tenants(self._pending.get(dispatch_id)):
            return self._unwritten_dispatch(dispatch_id)
        if idempotency_key is not None:
            for key, record in self._pending.items():
                if (
                    isinstance(record, PendingDispatch)
                    and record.dispatch.idempotency_key == idempotency_key
                    and is_tenants(record)
                ):
                    return self._unwritten_dispatch(key)
        return None

    def first(self, count: int) -> list[PendingRecord]:
        """Return the oldest records without removing them; those returned before were not written."""
        for key in self._in_flight.keys() & self._pending.keys():
            self._replace(self._unwritten(key))
        self._in_flight = {}
        shares = 0
        for key, record in self._pending.items():
            shares += len(record.changed) if isinstance(record, PendingDispatch) else 0
            if self._in_flight and (len(self._in_flight) == count or shares > _SHARES_PER_GROUP):
                break
            self._in_flight[key] = record
        return list(self._in_flight.values())

    def remove_written(self, records: Sequence[PendingRecord]) -> None:
        """Remove records that are written, or never will be; one that has changed meanwhile stays."""
        for record in records:
            key = record.key
            if isinstance(record, PendingSession):
                if key in self._open_sessions or record.disconnected_ms is None:
                    # If it was closed while its opening was written, its end waits and must be written.
                    self._written.add(key)
                else:
                    self._written.discard(key)
            self._in_flight.pop(key, None)
            if self._pending.get(key) is record:
                self._remove(key)

    def _unwritten(self, key: str) -> PendingRecord:
        """A pending record merged with the one in flight, which may never be written."""
        record, in_flight = self._pending[key], self._in_flight.get(key)
        return record if in_flight is None or in_flight is record else in_flight.merged_with(record)

    def _unwritten_dispatch(self, key: str) -> PendingDispatch | None:
        record = self._unwritten(key)
        return record if isinstance(record, PendingDispatch) else None

    def _free_memory(self) -> Dropped:
        # A quarter at a time: this search is too slow for every record.
        goal = self._max_bytes * 3 // 4
        droppable: defaultdict[DropOrder, list[PendingRecord]] = defaultdict(list)
        for key, record in self._pending.items():
            order = record.drop_order
            # Those in flight are removed soon anyway; of those written as open the end must be written.
            if order is not None and key not in self._in_flight and key not in self._written:
                droppable[order].append(record)
        # The newest stays.
        del droppable[DropOrder.ENDED_DISPATCH][-1:]
        dropped: Counter[str] = Counter()
        for order in DropOrder:
            if order is DropOrder.ENDED_DISPATCH:
                dropped["shares"] = self._drop_shares(goal, droppable[order])
            for record in droppable[order]:
                if self._size <= goal:
                    break
                self._remove(record.key)
                dropped[record.counted_as] += 1
        return Dropped(**dropped)

    def _drop_shares(self, goal: int, records: Iterable[PendingRecord]) -> int:
        """Drop the shares of dispatches in this order until the size is down to `goal`; return how many."""
        dropped = 0
        for record in records:
            if self._size <= goal:
                break
            if isinstance(record, PendingDispatch):
                dropped += len(record.changed)
                self._replace(record.without_shares())
        return dropped

    def _replace(self, record: PendingRecord) -> None:
        self._size += record.size - self._pending[record.key].size
        self._pending[record.key] = record

    def _remove(self, key: str) -> None:
        self._size -= self._pending.pop(key).size
