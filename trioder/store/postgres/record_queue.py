"""Sessions and dispatches that wait to be written: the newest state of each wins. Synchronous, bounded.

What must not be forgotten (the end of a session that the database knows, a dispatch that lives) never is.
There are no more of those than sessions that were open when the database went away, and than the headend
has dispatches in memory.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from trioder.domain.dispatch import AllocationOf, DispatchRecord
from trioder.store.postgres.database import DispatchNote, Note, SessionNote
from trioder.store.records import SessionRecord

# As many shares are written in one transaction, or those of one dispatch.
_SHARES_A_GROUP = 20_000


class Dropped(NamedTuple):
    """What had to go for want of room: whole notes, and shares of dispatches that are noted otherwise."""

    notes: int = 0
    shares: int = 0


class RecordQueue:
    """One pending note for each session and each dispatch.

    When there is no more room, these go, the oldest first, until there is: sessions that came and went
    unwritten; the shares of dispatches that have ended, but not of the newest; such dispatches themselves.

    Args:
        max_bytes: from here on.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._pending: dict[str, Note] = {}
        # Those that `first` gave out last, and of which nobody has said yet that they are written.
        self._given: dict[str, Note] = {}
        self._live: dict[str, SessionRecord] = {}
        # The live sessions that the database knows.
        self._written: set[str] = set()

    def __len__(self) -> int:
        """How many notes wait."""
        return len(self._pending)

    def open_session(self, session: SessionRecord) -> Dropped:
        """A session begins; returns what had to go for it."""
        self._live[session.session_id] = session
        return self._put(session.session_id, SessionNote(session=session))

    def close_session(self, session_id: str, *, disconnected_ms: int, reason: str) -> Dropped:
        """A session has ended; returns what had to go for it."""
        session = self._live.pop(session_id, None)
        if session is None:
            return Dropped()
        return self._put(
            session_id, SessionNote(session=session, disconnected_ms=disconnected_ms, reason=reason)
        )

    def record_dispatch(
        self, dispatch: DispatchRecord, *, changed: Collection[int], share_of: AllocationOf
    ) -> Dropped:
        """A dispatch is as it says now; returns what had to go for it."""
        key = dispatch.dispatch_id
        note = DispatchNote(dispatch=dispatch, changed=frozenset(changed), share_of=share_of)
        former = self._pending.get(key)
        # What is being written now is not written again, unless that fails.
        if isinstance(former, DispatchNote) and self._given.get(key) is not former:
            note = former.followed_by(note)
        return self._put(key, note)

    def find_dispatch(self, *, dispatch_id: str | None, idempotency_key: str | None) -> DispatchNote | None:
        """The note of the dispatch with this id, or with this key."""
        if dispatch_id is not None and dispatch_id in self._pending:
            return self._whole_note(dispatch_id)
        if idempotency_key is not None:
            for key, note in self._pending.items():
                if isinstance(note, DispatchNote) and note.dispatch.idempotency_key == idempotency_key:
                    return self._whole_note(key)
        return None

    def first(self, count: int) -> list[Note]:
        """The notes that wait longest; they stay. Those that were given out before were not written."""
        for key in self._given.keys() & self._pending.keys():
            unwritten = self._whole_note(key)
            if unwritten is not None:
                self._replace(key, unwritten)
        self._given = {}
        shares = 0
        for key, note in self._pending.items():
            shares += len(note.changed) if isinstance(note, DispatchNote) else 0
            if self._given and (len(self._given) == count or shares > _SHARES_A_GROUP):
                break
            self._given[key] = note
        return list(self._given.values())

    def dealt_with(self, notes: Sequence[Note]) -> None:
        """These are written, or never will be; one that has changed meanwhile stays."""
        for note in notes:
            key = _key_of(note)
            if isinstance(note, SessionNote):
                if key in self._live:
                    self._written.add(key)
                elif note.disconnected_ms is not None:
                    self._written.discard(key)
                else:
                    # It ended while its beginning was written: its end waits, and must.
                    self._written.add(key)
            self._given.pop(key, None)
            if self._pending.get(key) is note:
                self._remove(key)

    def _whole_note(self, key: str) -> DispatchNote | None:
        """A dispatch's note with what was given out to be written and may never be."""
        note, given = self._pending[key], self._given.get(key)
        if not isinstance(note, DispatchNote):
            return None
        return given.followed_by(note) if isinstance(given, DispatchNote) else note

    def _put(self, key: str, note: Note) -> Dropped:
        if key in self._pending:
            # A note keeps its place: what changes all the time must be written, too.
            self._replace(key, note)
        else:
            self._size += note.size
            self._pending[key] = note
        if self._size <= self._max_bytes:
            return Dropped()
        return self._make_room()

    def _make_room(self) -> Dropped:
        # A quarter at a time: the search below is not for every note.
        goal = self._max_bytes * 3 // 4
        sessions = [key for key, note in self._pending.items() if self._may_go(key, note)]
        # What is being written goes by itself.
        ended = [key for key, note in self._pending.items() if _has_ended(note) and key not in self._given]
        dropped_notes = dropped_shares = 0
        for key in sessions:
            if self._size <= goal:
                break
            self._remove(key)
            dropped_notes += 1
        for key in ended[:-1]:
            note = self._pending[key]
            if self._size <= goal:
                break
            if isinstance(note, DispatchNote):
                dropped_shares += len(note.changed)
                self._replace(key, note.without_shares())
        for key in ended[:-1]:
            if self._size <= goal:
                break
            self._remove(key)
            dropped_notes += 1
        return Dropped(dropped_notes, dropped_shares)

    def _may_go(self, key: str, note: Note) -> bool:
        return isinstance(note, SessionNote) and note.disconnected_ms is not None and key not in self._written

    def _replace(self, key: str, note: Note) -> None:
        self._size += note.size - self._pending[key].size
        self._pending[key] = note

    def _remove(self, key: str) -> None:
        self._size -= self._pending.pop(key).size


def _key_of(note: Note) -> str:
    return note.dispatch.dispatch_id if isinstance(note, DispatchNote) else note.session.session_id


def _has_ended(note: Note) -> bool:
    return isinstance(note, DispatchNote) and not note.dispatch.is_open
