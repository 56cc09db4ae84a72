"""Sessions and dispatches that wait to be written: the newest state of each wins. Synchronous, bounded.

What must not be forgotten (the end of a session that the database knows) never is; there are no more of
those than sessions that were open when the database went away.
"""

from collections.abc import Sequence
from itertools import islice

from trioder.store.postgres.database import Note, SessionNote
from trioder.store.records import DispatchRecord, SessionRecord

_DISPATCH_BYTES = 1_000
_MEMBER_BYTES = 400


class Notes:
    """One pending note for each session and each dispatch.

    Args:
        max_bytes: from here on the oldest dispatches go, and sessions that came and went unwritten.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._pending: dict[str, Note] = {}
        self._live: dict[str, SessionRecord] = {}
        # The live sessions that the database knows.
        self._written: set[str] = set()

    def __len__(self) -> int:
        """How many notes wait."""
        return len(self._pending)

    def open_session(self, session: SessionRecord) -> int:
        """A session begins; returns how many notes had to go for it."""
        self._live[session.session_id] = session
        return self._put(session.session_id, SessionNote(session=session))

    def close_session(self, session_id: str, *, disconnected_ms: int, reason: str) -> int:
        """A session has ended; returns how many notes had to go for it."""
        session = self._live.pop(session_id, None)
        if session is None:
            return 0
        return self._put(
            session_id, SessionNote(session=session, disconnected_ms=disconnected_ms, reason=reason)
        )

    def record_dispatch(self, dispatch: DispatchRecord) -> int:
        """A dispatch is as it says now; returns how many notes had to go for it."""
        return self._put(dispatch.dispatch_id, dispatch)

    def first(self, count: int) -> list[Note]:
        """The notes that wait longest; they stay."""
        return list(islice(self._pending.values(), count))

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
            if self._pending.get(key) is note:
                self._remove(key)

    def _put(self, key: str, note: Note) -> int:
        if key in self._pending:
            # A note keeps its place: what changes all the time must be written, too.
            self._size += _size_of(note) - _size_of(self._pending[key])
            self._pending[key] = note
        else:
            self._size += _size_of(note)
            self._pending[key] = note
        if self._size <= self._max_bytes:
            return 0
        return self._make_room()

    def _make_room(self) -> int:
        # A quarter at a time: the search below is not for every note.
        goal = self._max_bytes * 3 // 4
        dropped = 0
        for key in [key for key, note in self._pending.items() if self._may_go(key, note)]:
            if self._size <= goal:
                break
            self._remove(key)
            dropped += 1
        return dropped

    def _may_go(self, key: str, note: Note) -> bool:
        if isinstance(note, DispatchRecord):
            return True
        return note.disconnected_ms is not None and key not in self._written

    def _remove(self, key: str) -> None:
        self._size -= _size_of(self._pending.pop(key))


def _key_of(note: Note) -> str:
    return note.dispatch_id if isinstance(note, DispatchRecord) else note.session.session_id


def _size_of(note: Note) -> int:
    if isinstance(note, DispatchRecord):
        return _DISPATCH_BYTES + _MEMBER_BYTES * (len(note.members) + len(note.left_out))
    return note.size
