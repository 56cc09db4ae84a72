"""A model of the database: transactions, locks and rows as PostgreSQL has them, and all of its bad days.

The store's own logic runs over it unchanged; it takes the place of `psycopg_database` and the server.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

import trio

from tests.unit.store import model_dispatches
from tests.unit.store.model_audit import ModelAudit
from tests.unit.store.model_database import NoReads
from trioder.domain.access import EVERYTHING, IdentityBinding, PastAuditRecord, Scope
from trioder.domain.alarms import Alarm, AlarmFilter, EventFilter, PastEvent
from trioder.domain.assets import Asset
from trioder.domain.dispatch import DispatchRecord
from trioder.domain.schedules import Occurrence, Schedule
from trioder.domain.site_limits import SiteLimitsRecord
from trioder.store.postgres.batch_queue import PendingBatch
from trioder.store.postgres.database import DatabaseError, Maintenance, Watermarks, Written
from trioder.store.postgres.pending_records import PendingDispatch, PendingRecord, PendingSession
from trioder.store.records import NOTHING_COMMITTED, Watermark

T = TypeVar("T")

# As long as the real one waits before it cuts the connection.
_ANSWER_WITHIN_S = 20.0
_LOCK_WITHIN_S = 5.0


class DatabaseServer:
    """What lasts: rows, marks, sessions. Its transactions are its own, and may outlive who began them.

    Attributes:
        away: why nobody can connect; empty when one can.
        failure: how likely a transaction fails; half of those are committed nevertheless.
        delay_s: the longest that each half of a transaction takes.
        batches: what was committed, by outbox, in the order of the commits.
        sessions: by id, as last written.
    """

    def __init__(self, rng: random.Random, nursery: trio.Nursery) -> None:
        self.away = ""
        self.failure = 0.0
        self.delay_s = 0.01
        self.batches: dict[str, list[PendingBatch]] = defaultdict(list)
        self.marks: dict[str, Watermark] = {}
        self.sessions: dict[str, PendingSession] = {}
        self.dispatches: dict[str, DispatchRecord] = {}
        self.audited = ModelAudit()
        self.commits_unheard = 0
        self.late_commits = 0
        self._rng = rng
        self._nursery = nursery
        self._locked: set[str] = set()
        self._records_under_way = 0
        self._unlocked = trio.Event()
        self._run = 0

    def crash(self, reason: str) -> None:
        """What is not committed is rolled back, every connection is lost, and nobody can connect."""
        self.away = reason
        self._run += 1

    def are_restored(self) -> None:
        self.away = ""

    @property
    def open_sessions(self) -> set[str]:
        return {key for key, record in self.sessions.items() if record.disconnected_ms is None}

    async def execute(
        self,
        client: "DatabaseClient",
        *,
        outbox_ids: Collection[str] = (),
        record_ids: Collection[str] = (),
        begin: Callable[[], None],
        commit: Callable[[], T],
    ) -> T:
        """Run a transaction; the client's patience, its death and the answer's loss are apart from its fate.

        Raises:
            DatabaseError: it failed, or nobody knows.
        """
        answer: list[T | DatabaseError] = []
        done = trio.Event()
        fails = self._rng.random() < self.failure
        unheard = fails and self._rng.random() < 0.5
        refused = fails and not unheard
        delays_s = [self._rng.random() * self.delay_s for _ in range(2)]

        async def transact() -> None:
            locked = await self._lock(self.marks.keys() & set(outbox_ids))
            self._records_under_way += bool(record_ids)
            try:
                await self._reach(client, delays_s[0], fails=refused)
                # Rows that are written are locked, new ones as well: who writes them next waits.
                locked |= await self._lock(record_ids)
                answer.append(await self._transact(client, begin, commit, delays_s[1]))
            except DatabaseError as error:
                answer.append(error)
            self._records_under_way -= bool(record_ids)
            self._unlock(locked)
            done.set()

        self._nursery.start_soon(transact)
        with trio.move_on_after(_ANSWER_WITHIN_S):
            await done.wait()
        if not answer:
            client.lost()
            raise DatabaseError(f"the database did not answer within {_ANSWER_WITHIN_S:g} s")
        result = answer[0]
        if isinstance(result, DatabaseError):
            raise result
        if unheard:
            self.commits_unheard += 1
            client.lost()
            raise DatabaseError("the connection was lost while it committed")
        return result

    async def wait_for_records(self) -> None:
        """Wait until nobody writes records, as the lock that their transactions share makes one wait."""
        with trio.move_on_after(_LOCK_WITHIN_S):
            while self._records_under_way:
                await self._unlocked.wait()
            return
        raise DatabaseError("canceling statement due to lock timeout")

    async def _reach(self, client: "DatabaseClient", delay_s: float, *, fails: bool) -> None:
        """What precedes the COMMIT; with the connection, it is lost."""
        run, connection = self._run, client.connection
        await trio.sleep(delay_s)
        if self.away or run != self._run:
            raise DatabaseError(self.away or "the server was restarted")
        if fails or connection != client.connection:
            raise DatabaseError("the connection was lost before the commit")

    async def _transact(
        self, client: "DatabaseClient", begin: Callable[[], None], commit: Callable[[], T], delay_s: float
    ) -> T:
        """From here on the COMMIT is sent, whether or not its sender still runs."""
        run, connection = self._run, client.connection
        begin()
        await trio.sleep(delay_s)
        if run != self._run:
            raise DatabaseError(self.away or "the server was restarted")
        if connection != client.connection:
            self.late_commits += 1
        return commit()

    async def _lock(self, wanted: Collection[str]) -> set[str]:
        """Lock rows, in one go."""
        locked = set(wanted)
        while locked & self._locked:
            await self._unlocked.wait()
        self._locked |= locked
        return locked

    def _unlock(self, locked: set[str]) -> None:
        self._locked -= locked
        self._unlocked.set()
        self._unlocked = trio.Event()


class DatabaseClient(NoReads):
    """One headend's `Database`; dead with it.

    Attributes:
        connection: counts the connections; 0 while there is none.
    """

    def __init__(self, server: DatabaseServer) -> None:
        self._server = server
        self._connections = 0
        self._dead = False
        self.connection = 0

    def lost(self) -> None:
        self.connection = 0

    def die(self) -> None:
        """The headend was killed; what its connection was at takes its course."""
        self._dead = True
        self.lost()

    async def connect(self, *, first: bool) -> Watermarks:
        server = self._server
        await trio.sleep(server.delay_s / 2)
        self._check_there(connected=False)
        self._connections += 1
        self.connection = self._connections
        if first:
            await server.wait_for_records()
            self._check_there()
            for key in server.open_sessions:
                record = server.sessions[key]
                server.sessions[key] = PendingSession(
                    session=record.session,
                    disconnected_ms=record.session.connected_ms,
                    reason="headend ended",
                )
        return Watermarks(by_outbox=dict(server.marks))

    async def disconnect(self) -> None:
        self.lost()
        await trio.lowlevel.checkpoint()

    async def write(self, batches: Sequence[PendingBatch], *, rows: bool = True) -> Written:
        self._check_there()
        server = self._server
        before: dict[str, Watermark] = {}
        outbox_ids = sorted({batch.outbox_id for batch in batches})

        def begin() -> None:
            before.update({key: server.marks[key] for key in outbox_ids if key in server.marks})

        def commit() -> Written:
            after = dict(before)
            fresh = []
            for batch in batches:
                if batch.batch_seq > after.get(batch.outbox_id, NOTHING_COMMITTED).batch_seq:
                    after[batch.outbox_id] = batch.watermark
                    fresh.append(batch)
            if any(server.marks.get(key) != before.get(key) for key in after):
                raise DatabaseError("another connection moved the marks of the same outboxes")
            for batch in fresh if rows else ():
                server.batches[batch.outbox_id].append(batch)
            server.marks.update(after)
            return Written(watermarks=after, rows=sum(batch.rows for batch in fresh) if rows else 0)

        return await server.execute(self, outbox_ids=outbox_ids, begin=begin, commit=commit)

    async def write_records(self, records: Iterable[PendingRecord]) -> None:
        self._check_there()
        wanted = list(records)

        def commit() -> None:
            for record in wanted:
                if isinstance(record, PendingSession):
                    self._server.sessions[record.session.session_id] = record
                elif isinstance(record, PendingDispatch):
                    model_dispatches.keep(self._server.dispatches, record)
                else:
                    self._server.audited.keep(record)

        ids = [record.key for record in wanted]
        await self._server.execute(self, record_ids=ids, begin=lambda: None, commit=commit)

    async def summarize(self) -> bool:
        await trio.lowlevel.checkpoint()
        return False

    async def mirror_fleet(self) -> None:
        self._check_there()
        await trio.lowlevel.checkpoint()

    async def drop_old_records(self) -> bool:
        await trio.lowlevel.checkpoint()
        self._check_there()
        return False

    async def maintain(self) -> Maintenance:
        self._check_there()
        await trio.sleep(self._server.delay_s / 2)
        self._check_there()
        return Maintenance()

    async def watermark(self, outbox_id: str) -> Watermark:
        await trio.lowlevel.checkpoint()
        self._check_there(connected=False)
        return self._server.marks.get(outbox_id, NOTHING_COMMITTED)

    async def open_dispatches(self, *, limit: int) -> Sequence[DispatchRecord]:
        await trio.lowlevel.checkpoint()
        self._check_there(connected=False)
        return model_dispatches.open_dispatches(self._server.dispatches.values(), limit=limit)

    async def find_dispatch(
        self, *, dispatch_id: str | None, idempotency_key: str | None, whole: bool, scope: Scope = EVERYTHING
    ) -> DispatchRecord | None:
        await trio.lowlevel.checkpoint()
        self._check_there(connected=False)
        return model_dispatches.found(
            self._server.dispatches.values(),
            dispatch_id=dispatch_id,
            idempotency_key=idempotency_key,
            scope=scope,
        )

    async def dispatches(
        self,
        *,
        limit: int,
        asset: Asset | None,
        site_id: str | None,
        state: str | None,
        before: tuple[int, str] | None,
        whole: bool,
        scope: Scope = EVERYTHING,
    ) -> Sequence[DispatchRecord]:
        await trio.lowlevel.checkpoint()
        self._check_there(connected=False)
        return model_dispatches.newest(
            self._server.dispatches.values(),
            limit=limit,
            asset=asset,
            state=state,
            before=before,
            whole=whole,
            scope=scope,
        )

    async def audit(
        self, *, limit: int, before: int | None, principal: str | None, scope: Scope = EVERYTHING
    ) -> Sequence[PastAuditRecord]:
        await trio.lowlevel.checkpoint()
        self._check_there(connected=False)
        return self._server.audited.newest(limit=limit, before=before, principal=principal, scope=scope)

    async def identity_bindings(self) -> Sequence[IdentityBinding]:
        await trio.lowlevel.checkpoint()
        self._check_there(connected=False)
        return list(self._server.audited.bindings.values())

    async def site_limits(self) -> Sequence[SiteLimitsRecord]:
        await trio.lowlevel.checkpoint()
        self._check_there(connected=False)
        return list(self._server.audited.site_limits.values())

    async def alarms(self, which: AlarmFilter, *, limit: int) -> Sequence[Alarm]:
        await trio.lowlevel.checkpoint()
        self._check_there(connected=False)
        return self._server.audited.newest_alarms(which, limit=limit)

    async def find_alarm(self, alarm_id: str, *, scope: Scope = EVERYTHING) -> Alarm | None:
        await trio.lowlevel.checkpoint()
        self._check_there(connected=False)
        found = self._server.audited.alarms.get(alarm_id)
        return found if found is not None and AlarmFilter(scope=scope).matches(found) else None

    async def open_alarms(self, *, limit: int) -> Sequence[Alarm]:
        await trio.lowlevel.checkpoint()
        self._check_there(connected=False)
        return self._server.audited.newest_alarms(AlarmFilter(state="open"), limit=limit)[::-1]

    async def events(self, which: EventFilter, *, limit: int) -> Sequence[PastEvent]:
        await trio.lowlevel.checkpoint()
        self._check_there(connected=False)
        return self._server.audited.newest_events(which, limit=limit)

    async def schedules(self) -> Sequence[Schedule]:
        await trio.lowlevel.checkpoint()
        self._check_there(connected=False)
        return list(self._server.audited.schedules.values())

    async def last_occurrences(self, *, now_ms: int) -> Sequence[Occurrence]:
        await trio.lowlevel.checkpoint()
        self._check_there(connected=False)
        return self._server.audited.last_occurrences(now_ms=now_ms)

    async def occurrences(
        self, schedule_id: str, *, after_ms: int, before_ms: int, limit: int, scope: Scope = EVERYTHING
    ) -> Sequence[Occurrence]:
        await trio.lowlevel.checkpoint()
        self._check_there(connected=False)
        return self._server.audited.occurrences_of(
            schedule_id, after_ms=after_ms, before_ms=before_ms, limit=limit
        )

    def _check_there(self, *, connected: bool = True) -> None:
        if self._dead:
            raise DatabaseError("nobody asks any more")
        if self._server.away:
            self.lost()
            raise DatabaseError(self._server.away)
        if connected and not self.connection:
            raise DatabaseError("not connected")
