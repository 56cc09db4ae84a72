"""Sessions and dispatches in the store over a model database: beside telemetry, bounded, found at once."""

from dataclasses import replace
from itertools import pairwise

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.unit.store.model_database import dispatch_record
from tests.unit.store.model_dispatches import hand_over
from tests.unit.store.test_record_queue import audit
from tests.unit.store.test_store import Sender, open_over, steady_database
from trioder.store.interface import StoreUnavailableError
from trioder.store.postgres import record_writer
from trioder.store.postgres.database import DatabaseError


async def test_telemetry_does_not_wait_for_records(autojump_clock: MockClock) -> None:
    database = steady_database()
    database.records_delay_s = 15.0
    async with open_over(database) as store:
        sender = Sender(store, outboxes=1)
        hand_over(store.record_dispatch, dispatch_record("d"))
        for _ in range(10):
            sender.send("box-0")
            await trio.sleep(1)
        assert sender.committed["box-0"] == 10
        assert store.stats.records_waiting == 1
        await trio.sleep(10)
        assert store.stats.records_waiting == 0


async def test_records_that_cannot_be_written_are_a_database_that_is_not_well(
    autojump_clock: MockClock,
) -> None:
    database = steady_database()
    database.refuses_records = "permission denied for table dispatches"
    async with open_over(database) as store:
        sender = Sender(store, outboxes=1)
        hand_over(store.record_dispatch, dispatch_record("d"))
        for _ in range(10):
            sender.send("box-0")
            await trio.sleep(1)
        assert (store.health, store.health_reason) == ("error", database.refuses_records)
        assert sender.committed["box-0"] == 10
        database.refuses_records = ""
        await trio.sleep(10)
        assert store.health == "ok"
        assert database.recorded["d"] == dispatch_record("d")


async def test_a_dispatch_is_written_again_only_as_far_as_it_has_changed(autojump_clock: MockClock) -> None:
    database = steady_database()
    members = tuple(
        replace(dispatch_record("d").members[0], asset_id=f"asset {number}") for number in range(1_000)
    )
    group = replace(dispatch_record("d"), by_state={"sent": 1_000}, members=members)
    async with open_over(database) as store:
        hand_over(store.record_dispatch, group)
        await trio.sleep(1)
        moved = replace(members[7], state="accepted")
        group = replace(group, members=(*members[:7], moved, *members[8:]))
        hand_over(store.record_dispatch, group, changed=[7])
        await trio.sleep(1)
    assert database.shares_written == [1_000, 1]
    assert database.recorded["d"] == group


async def test_a_lookup_of_a_dispatch_fails_until_the_database_was_reached(
    autojump_clock: MockClock,
) -> None:
    database = steady_database()
    database.away = "not there yet"
    async with open_over(database) as store:
        with pytest.raises(StoreUnavailableError, match="not there yet"):
            await store.find_dispatch(idempotency_key="k")
        database.away = ""
        await trio.sleep(10)
        assert await store.find_dispatch(idempotency_key="k") is None


async def test_a_database_that_does_not_answer_in_time_is_unavailable(
    autojump_clock: MockClock,
) -> None:
    database = steady_database()
    database.answers_within_s = 8.0
    async with open_over(database) as store:
        with trio.fail_after(3), pytest.raises(StoreUnavailableError, match="did not answer within 2 s"):
            await store.find_dispatch(idempotency_key="k")


async def test_a_dispatch_that_waits_to_be_written_is_found(autojump_clock: MockClock) -> None:
    database = steady_database()
    async with open_over(database) as store:
        database.away = "away"
        waiting = replace(dispatch_record("d"), idempotency_key="k")
        hand_over(store.record_dispatch, waiting)
        await trio.sleep(10)
        assert await store.find_dispatch(idempotency_key="k") == waiting
        assert await store.find_dispatch(dispatch_id="d") == waiting
        with pytest.raises(StoreUnavailableError):
            await store.find_dispatch(idempotency_key="another")


async def test_what_has_changed_and_waits_counts_more_than_what_is_written(autojump_clock: MockClock) -> None:
    database = steady_database()
    members = tuple(
        replace(dispatch_record("d").members[0], asset_id=f"asset {number}") for number in range(3)
    )
    group = replace(dispatch_record("d"), by_state={"sent": 3}, members=members)
    async with open_over(database) as store:
        hand_over(store.record_dispatch, group)
        await trio.sleep(1)
        database.records_delay_s = 15.0
        moved = replace(members[1], state="accepted")
        group = replace(group, members=(members[0], moved, members[2]))
        hand_over(store.record_dispatch, group, changed=[1])
        assert await store.find_dispatch(dispatch_id="d") == group


async def test_records_that_have_no_room_are_counted_and_logged(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_writer, "QUEUE_BYTES", 100_000)
    database = steady_database()
    async with open_over(database) as store:
        database.away = "away"
        with capture_logs() as lines:
            for number in range(300):
                hand_over(store.record_dispatch, dispatch_record(f"d{number}", "completed"))
        stats = store.stats
        assert stats.records_dropped == 300 - stats.records_waiting
        assert stats.shares_dropped > 0
        found = [line for line in lines if line["event"].startswith("records dropped")]
        assert sum(line["sessions_and_dispatches"] for line in found) == stats.records_dropped
        assert sum(line["shares_of_dispatches"] for line in found) == stats.shares_dropped


async def test_old_records_that_cannot_be_deleted_do_no_harm(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = steady_database()
    calls = []

    async def drop_old_records() -> bool:
        calls.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if len(calls) == 1:
            raise DatabaseError("canceling statement due to lock timeout")
        return len(calls) < 4

    monkeypatch.setattr(database, "drop_old_records", drop_old_records)
    async with open_over(database) as store:
        await trio.sleep(2 * 3600)
        assert store.health == "ok"
    # Once an hour; and at once while there is more.
    assert [round(later - before) for before, later in pairwise(calls)] == [3600, 1, 1]


async def test_a_store_whose_unwritten_records_had_to_go_is_well_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_writer, "QUEUE_BYTES", 20_000)
    database = steady_database()
    database.refuses_records = "permission denied for table sessions"
    async with open_over(database) as store:
        for number in range(100):
            hand_over(store.record_dispatch, dispatch_record(f"d{number}", "completed"))
        await trio.sleep(10)
        assert store.health == "error"
        database.refuses_records = ""
        await trio.sleep(10)
        assert store.health == "ok"
        assert store.stats.records_waiting == 0
        assert len(database.recorded) == 100 - store.stats.records_dropped


async def test_records_wait_until_the_fleet_is_mirrored_however_often_it_changes(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = steady_database()
    mirrored: list[float] = []

    async def mirror_fleet() -> None:
        await trio.sleep(3)
        mirrored.append(trio.current_time())

    monkeypatch.setattr(database, "mirror_fleet", mirror_fleet)
    async with open_over(database) as store:
        store.fleet_changed()
        hand_over(store.record_dispatch, dispatch_record("d"))
        await trio.sleep(1)
        store.fleet_changed()
        store.fleet_changed()
        await trio.sleep(1)
        assert not database.recorded
        await trio.sleep(6)
        assert len(mirrored) == 2
        assert "d" in database.recorded


async def test_an_audit_record_whose_commit_was_unheard_is_there_once(
    autojump_clock: MockClock,
) -> None:
    database = steady_database()
    async with open_over(database) as store:
        database.records_lost_once = "the connection was lost while it committed"
        for target in "abc":
            store.record_audit(audit(target))
        await trio.sleep(10)
        found = await store.audit(limit=9)
    assert [past.record.target for past in found] == ["c", "b", "a"]


async def test_audit_records_that_have_no_room_are_counted_apart(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_writer, "QUEUE_BYTES", 100_000)
    database = steady_database()
    async with open_over(database) as store:
        database.away = "away"
        for number in range(300):
            store.record_audit(audit(str(number), "refused"))
        stats = store.stats
        assert stats.audit_records_dropped == 300 - stats.records_waiting
        assert stats.records_dropped == 0
