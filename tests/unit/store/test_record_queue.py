"""Sessions and dispatches that wait: the newest state wins, and what must not be forgotten is not."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from tests.unit.store.model_database import dispatch_record
from tests.unit.store.model_dispatches import hand_over
from trioder.domain.access import AuditOutcome, AuditRecord, IdentityBinding
from trioder.domain.dispatch import AllocationOf, AssetSetpointRecord, DispatchRecord, DispatchTarget
from trioder.store.postgres.pending_records import (
    PendingAudit,
    PendingBinding,
    PendingDispatch,
    PendingRecord,
    PendingSession,
)
from trioder.store.postgres.record_queue import Dropped, RecordQueue
from trioder.store.records import SessionRecord


def session(session_id: str) -> SessionRecord:
    return SessionRecord(
        session_id=session_id, agent_id="agent", epoch=1, peer="x", asset_keys=(0,), connected_ms=1
    )


def test_a_session_opened_and_closed_is_one_record() -> None:
    records = RecordQueue(max_bytes=1_000_000)
    records.open_session(session("a"))
    records.close_session("a", disconnected_ms=5, reason="gone")
    [record] = records.first(10)
    assert isinstance(record, PendingSession)
    assert (record.disconnected_ms, record.reason) == (5, "gone")


def test_what_changed_while_it_was_written_is_written_again() -> None:
    records = RecordQueue(max_bytes=1_000_000)
    records.open_session(session("a"))
    written = records.first(10)
    records.close_session("a", disconnected_ms=5, reason="gone")
    records.remove_written(written)
    [record] = records.first(10)
    records.remove_written([record])
    assert (len(records), record.disconnected_ms) == (0, 5)


def group(dispatch_id: str, states: str, *, is_open: bool = True) -> DispatchRecord:
    """A dispatch to as many assets as there are letters, each with its letter as its state."""
    members = tuple(
        AssetSetpointRecord(asset_id=f"asset {key}", mw=1.0, wire_id=dispatch_id, state=state)
        for key, state in enumerate(states)
    )
    return DispatchRecord(
        dispatch_id=dispatch_id,
        target=DispatchTarget(kind="fleet"),
        mw=1.0,
        allocated_mw=1.0,
        dispatched_ms=1,
        state="sent",
        is_open=is_open,
        by_state=Counter(states),
        members=members,
    )


def put_dispatch(
    records: RecordQueue, record: DispatchRecord, *, changed: Sequence[int] | None = None
) -> Dropped:
    def put(dispatch: DispatchRecord, *, changed: Collection[int], share_of: AllocationOf) -> Dropped:
        return records.put(PendingDispatch(dispatch=dispatch, changed=frozenset(changed), share_of=share_of))

    return hand_over(put, record, changed=changed)


def written(record: PendingRecord) -> dict[int, str]:
    assert isinstance(record, PendingDispatch)
    return {key: record.share_of(key).state for key in sorted(record.changed)}


def test_of_a_dispatch_only_what_has_changed_is_written_and_the_newest_of_it() -> None:
    records = RecordQueue(max_bytes=1_000_000)
    put_dispatch(records, group("d", "aaaa"))
    put_dispatch(records, group("d", "abaa"), changed=[1])
    [record] = records.first(10)
    assert written(record) == {0: "a", 1: "b", 2: "a", 3: "a"}
    put_dispatch(records, group("d", "abca"), changed=[2])
    put_dispatch(records, group("d", "abcc"), changed=[3])
    records.remove_written([record])
    [record] = records.first(10)
    assert written(record) == {2: "c", 3: "c"}
    records.remove_written([record])
    assert len(records) == 0


def test_a_failed_write_is_repeated_with_the_changes_since() -> None:
    records = RecordQueue(max_bytes=1_000_000)
    put_dispatch(records, group("d", "aaa"))
    records.first(10)
    put_dispatch(records, group("d", "aab"), changed=[2])
    # As after a failure.
    [record] = records.first(10)
    assert written(record) == {0: "a", 1: "a", 2: "b"}


def test_a_dispatch_of_which_all_waits_is_found_whole() -> None:
    records = RecordQueue(max_bytes=1_000_000)
    put_dispatch(records, replace(group("d", "aaa"), idempotency_key="k"))
    given = records.first(10)
    put_dispatch(records, replace(group("d", "aab"), idempotency_key="k"), changed=[2])
    found = records.find_dispatch(dispatch_id=None, idempotency_key="k")
    assert found is not None
    assert found.is_whole
    assert written(found) == {0: "a", 1: "a", 2: "b"}
    records.remove_written(given)
    found = records.find_dispatch(dispatch_id="d", idempotency_key=None)
    assert found is not None
    assert not found.is_whole
    assert records.find_dispatch(dispatch_id="e", idempotency_key="other") is None


def test_large_dispatches_are_written_one_by_one_and_small_ones_together() -> None:
    records = RecordQueue(max_bytes=1_000_000_000)
    for number in range(3):
        put_dispatch(records, group(f"large {number}", "a" * 15_000))
    for number in range(600):
        put_dispatch(records, group(f"small {number}", "a"))
    sizes = []
    while records:
        given = records.first(500)
        sizes.append(len(given))
        records.remove_written(given)
    assert sizes == [1, 1, 500, 101]


def test_a_large_dispatch_does_not_push_others_out_and_is_kept_itself() -> None:
    records = RecordQueue(max_bytes=1_000_000)
    for number in range(20):
        put_dispatch(records, group(f"d{number}", "a"))
    dropped = put_dispatch(records, group("large", "a" * 100_000, is_open=False))
    assert dropped == Dropped()
    assert len(records) == 21
    found = records.find_dispatch(dispatch_id="large", idempotency_key=None)
    assert found is not None
    assert found.is_whole


def test_without_room_the_shares_of_ended_dispatches_go_before_the_dispatches() -> None:
    records = RecordQueue(max_bytes=100_000)
    put_dispatch(records, group("lives", "a" * 100))
    dropped = [put_dispatch(records, group(f"d{number}", "a" * 10, is_open=False)) for number in range(200)]
    first_records = next(number for number, each in enumerate(dropped) if each.records)
    first_shares = next(number for number, each in enumerate(dropped) if each.shares)
    assert first_shares < first_records
    kept = records.first(1_000)
    assert len(kept) + sum(each.records for each in dropped) == 201
    # Open dispatches and the newest are kept whole.
    assert len(written(kept[0])) == 100
    assert len(written(kept[-1])) == 10


def test_the_end_of_a_recorded_session_is_never_dropped() -> None:
    records = RecordQueue(max_bytes=20_000)
    records.open_session(session("known"))
    records.remove_written(records.first(10))
    records.close_session("known", disconnected_ms=5, reason="gone")
    dropped = sum(
        put_dispatch(records, dispatch_record(f"d{number}", "completed")).records for number in range(100)
    )
    for number in range(100):
        dropped += records.open_session(session(f"s{number}")).records
        dropped += records.close_session(f"s{number}", disconnected_ms=6, reason="gone").records
    kept = records.first(1_000)
    assert dropped > 150
    assert len(kept) + dropped == 201
    assert kept[0] == PendingSession(session=session("known"), disconnected_ms=5, reason="gone")


def test_the_end_of_an_unknown_session_is_nothing() -> None:
    records = RecordQueue(max_bytes=1_000)
    assert records.close_session("never", disconnected_ms=1, reason="gone") == Dropped()
    assert len(records) == 0


def audit(target: str, outcome: AuditOutcome = "ok") -> AuditRecord:
    return AuditRecord(
        at_ms=1,
        principal="ops",
        kind="token",
        tenant="north",
        peer="x",
        action="dispatch",
        target=target,
        outcome=outcome,
    )


def test_audit_records_are_all_given_out_in_order() -> None:
    records = RecordQueue(max_bytes=1_000_000)
    for number in range(10):
        records.put(PendingAudit(record=audit(str(number))))
    given = records.first(100)
    assert [each.record.target for each in given if isinstance(each, PendingAudit)] == list("0123456789")
    assert len({each.key for each in given}) == 10


def test_a_flood_of_refusals_drops_the_oldest_refusals_and_nothing_else() -> None:
    records = RecordQueue(max_bytes=100_000)
    records.put(PendingAudit(record=audit("command")))
    records.put(PendingBinding(binding=IdentityBinding(claim="outbox", value="box", identity="a")))
    records.open_session(session("a"))
    records.close_session("a", disconnected_ms=5, reason="gone")
    put_dispatch(records, group("d", "aa", is_open=False))
    dropped = [records.put(PendingAudit(record=audit(str(number), "refused"))) for number in range(1_000)]
    assert {(each.records, each.shares) for each in dropped} == {(0, 0)}
    kept = [each for each in records.first(10_000) if isinstance(each, PendingAudit)]
    assert kept[0].record.target == "command"
    assert kept[-1].record.target == "999"
    assert sum(each.audit_records for each in dropped) == 1_001 - len(kept)
    assert len(records) == len(kept) + 3


def test_without_room_other_records_are_dropped_before_the_audit_of_commands() -> None:
    records = RecordQueue(max_bytes=50_000)
    for number in range(20):
        records.put(PendingAudit(record=audit(str(number))))
    dropped = [put_dispatch(records, group(f"d{number}", "a", is_open=False)) for number in range(100)]
    assert sum(each.records for each in dropped) > 50
    assert sum(each.audit_records for each in dropped) == 0


def test_a_binding_waits_once_and_is_never_dropped() -> None:
    records = RecordQueue(max_bytes=10_000)
    first = IdentityBinding(claim="outbox", value="box", identity="a")
    records.put(PendingBinding(binding=first))
    records.put(PendingBinding(binding=IdentityBinding(claim="outbox", value="box", identity="b")))
    for number in range(100):
        records.put(PendingAudit(record=audit(str(number))))
    assert [each.binding for each in records.first(1_000) if isinstance(each, PendingBinding)] == [first]


def test_a_key_that_waits_is_its_tenants_own() -> None:
    records = RecordQueue(max_bytes=1_000_000)
    for tenant in ("north", "south"):
        record = replace(group(f"d-{tenant}", "a"), idempotency_key="k", tenant=tenant)
        put_dispatch(records, record)
    for tenant in ("north", "south"):
        found = records.find_dispatch(dispatch_id=None, idempotency_key="k", tenant=tenant)
        assert found is not None
        assert found.dispatch.tenant == tenant
    assert records.find_dispatch(dispatch_id="d-north", idempotency_key=None, tenant="south") is None
    assert records.find_dispatch(dispatch_id=None, idempotency_key="k", tenant="east") is None


def test_the_end_of_a_session_whose_opening_is_being_written_is_never_dropped() -> None:
    records = RecordQueue(max_bytes=20_000)
    records.open_session(session("opening"))
    in_flight = records.first(10)
    records.close_session("opening", disconnected_ms=5, reason="gone")
    for number in range(100):
        records.put(PendingAudit(record=audit(str(number))))
    records.remove_written(in_flight)
    [kept] = [each for each in records.first(1_000) if isinstance(each, PendingSession)]
    assert kept == PendingSession(session=session("opening"), disconnected_ms=5, reason="gone")
