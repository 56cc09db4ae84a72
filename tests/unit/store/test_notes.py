"""Sessions and dispatches that wait: the newest state wins, and what must not be forgotten is not."""

from tests.unit.store.model_database import dispatch_record
from trioder.store.postgres.database import SessionNote
from trioder.store.postgres.notes import Notes
from trioder.store.records import SessionRecord


def session(session_id: str) -> SessionRecord:
    return SessionRecord(
        session_id=session_id, agent_id="agent", epoch=1, peer="x", asset_keys=(0,), connected_ms=1
    )


def test_a_session_that_came_and_went_is_one_note() -> None:
    notes = Notes(max_bytes=1_000_000)
    notes.open_session(session("a"))
    notes.close_session("a", disconnected_ms=5, reason="gone")
    [note] = notes.first(10)
    assert isinstance(note, SessionNote)
    assert (note.disconnected_ms, note.reason) == (5, "gone")


def test_what_changed_while_it_was_written_is_written_again() -> None:
    notes = Notes(max_bytes=1_000_000)
    notes.open_session(session("a"))
    written = notes.first(10)
    notes.close_session("a", disconnected_ms=5, reason="gone")
    notes.dealt_with(written)
    [note] = notes.first(10)
    notes.dealt_with([note])
    assert (len(notes), note.disconnected_ms) == (0, 5)


def test_the_newest_state_of_a_dispatch_wins() -> None:
    notes = Notes(max_bytes=1_000_000)
    notes.record_dispatch(dispatch_record("d", "queued"))
    notes.record_dispatch(dispatch_record("d", "sent"))
    assert notes.first(10) == [dispatch_record("d", "sent")]


def test_the_end_of_a_session_that_the_database_knows_is_never_dropped() -> None:
    notes = Notes(max_bytes=20_000)
    notes.open_session(session("known"))
    notes.dealt_with(notes.first(10))
    notes.close_session("known", disconnected_ms=5, reason="gone")
    dropped = sum(notes.record_dispatch(dispatch_record(f"d{number}")) for number in range(100))
    for number in range(100):
        dropped += notes.open_session(session(f"s{number}"))
        dropped += notes.close_session(f"s{number}", disconnected_ms=6, reason="gone")
    kept = notes.first(1_000)
    assert dropped > 150
    assert len(kept) + dropped == 201
    assert kept[0] == SessionNote(session=session("known"), disconnected_ms=5, reason="gone")


def test_the_end_of_an_unknown_session_is_nothing() -> None:
    notes = Notes(max_bytes=1_000)
    assert notes.close_session("never", disconnected_ms=1, reason="gone") == 0
    assert len(notes) == 0
