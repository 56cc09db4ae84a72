"""Large groups are made and begun in slices: other tasks run in between, and see nothing half done."""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from tests.unit.control.driver import (
    acknowledge,
    advance,
    connect,
    dispatch_group,
    dispatch_one,
    only,
    report_sample,
    still_parts,
    take_setpoints,
)
from tests.unit.headend.parts import Parts
from trioder.control.registry import SMALL_GROUP
from trioder.domain.dispatch import (
    AllocationOf,
    AllocationRecord,
    DispatchRecord,
    DispatchRefusedError,
    DispatchTarget,
    GroupRequest,
)
from trioder.domain.fleet import Fleet
from trioder.gateway.sessions import Session
from trioder.process.slices import Steps, run_at_once, run_in_slices
from trioder.store.none import NoneStore

ASSETS = 3 * SMALL_GROUP


class RecordingStore(NoneStore):
    """Remembers the newest record of each dispatch, and how many it was handed."""

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, DispatchRecord] = {}
        self.handed = self.shares_handed = 0
        self._members: dict[str, dict[int, AllocationRecord]] = defaultdict(dict)

    def record_dispatch(
        self, dispatch: DispatchRecord, *, changed: Collection[int], share_of: AllocationOf
    ) -> None:
        setpoints = self._members[dispatch.dispatch_id]
        setpoints.update({key: share_of(key) for key in changed})
        self.records[dispatch.dispatch_id] = replace(
            dispatch, members=[setpoints[key] for key in sorted(setpoints)]
        )
        self.handed += 1
        self.shares_handed += len(changed)


def large_fleet(store: NoneStore | None = None) -> tuple[Parts, Session]:
    parts = still_parts(assets=ASSETS, store=store)
    session = connect(parts, *range(ASSETS))
    report_sample(parts, *range(ASSETS))
    return parts, session


def request(mw: float = 1_500.0, **asked: object) -> GroupRequest:
    return GroupRequest(target=DispatchTarget(kind="fleet"), keys=range(ASSETS), mw=mw, **asked)  # type: ignore[arg-type]  # a test's shorthand


def is_known(parts: Parts) -> bool:
    return bool(parts.dispatcher.history.newest(1, counts=lambda dispatch: dispatch.is_group))


@asynccontextmanager
async def group_under_way(
    parts: Parts, reached: Callable[[], bool], **asked: object
) -> AsyncIterator[tuple[trio.CancelScope, list[DispatchRecord]]]:
    """A large group in progress; it continues while the block waits, and has finished after it."""
    scope, records = trio.CancelScope(), []

    async def dispatch_large() -> None:
        with scope:
            records.append(await parts.dispatcher.dispatch_group_in_slices(request(**asked)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dispatch_large)
        await trio.lowlevel.checkpoint()
        while not reached():
            await trio.lowlevel.checkpoint()
        yield scope, records


@pytest.mark.parametrize("strategy", ["headroom", "capacity", "equal"])
@pytest.mark.parametrize("reversion_mw", [0.0, 20.0])
async def test_in_slices_is_as_in_one_piece(strategy: str, reversion_mw: float) -> None:
    asked = {"strategy": strategy, "reversion_mw": reversion_mw, "duration_s": 60}
    whole_parts, whole_session = large_fleet()
    parts, session = large_fleet()
    whole = whole_parts.dispatcher.record_of(dispatch_group(whole_parts, 1_500.0, **asked))
    record = await parts.dispatcher.dispatch_group_in_slices(request(**asked))
    assert record == whole
    assert take_setpoints(session) == take_setpoints(whole_session)


async def test_other_tasks_run_while_a_large_group_is_made_begun_and_recorded() -> None:
    parts, _ = large_fleet()
    turns = {"unknown": 0, "known": 0}

    async def others() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            turns["known" if is_known(parts) else "unknown"] += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await parts.dispatcher.dispatch_group_in_slices(request())
        nursery.cancel_scope.cancel()
    assert turns["unknown"] >= 4
    assert turns["known"] >= 4


async def test_a_group_cancelled_while_it_is_built_has_no_effect() -> None:
    store = RecordingStore()
    parts, session = large_fleet(store)
    turns = iter(range(3))
    async with group_under_way(parts, lambda: next(turns, None) is None) as (scope, records):
        assert not is_known(parts)
        scope.cancel()
    assert scope.cancelled_caught
    assert not is_known(parts)
    assert take_setpoints(session) == ()
    assert parts.dispatcher.in_force(0) is None
    parts.dispatcher.flush()
    assert (records, store.records, parts.counters.dispatches_group) == ([], {}, 0)
    # Nor does it stand in the way of the next one.
    with trio.fail_after(5):
        assert (await parts.dispatcher.dispatch_group_in_slices(request())).state == "sent"


async def test_a_group_cancelled_while_it_is_delivered_is_delivered_whole() -> None:
    store = RecordingStore()
    parts, session = large_fleet(store)
    async with group_under_way(parts, lambda: is_known(parts)) as (scope, _):
        assert parts.counters.dispatches_sent < ASSETS
        scope.cancel()
    assert len(take_setpoints(session)) == ASSETS
    [record] = store.records.values()
    assert record.by_state == {"sent": ASSETS}
    assert sum(setpoint.mw for setpoint in record.members) == pytest.approx(1_500.0)


@pytest.mark.parametrize("known", [False, True])
async def test_a_dispatch_to_an_asset_meanwhile_is_newer(known: bool) -> None:
    parts, session = large_fleet()
    last = ASSETS - 1
    turns = iter(range(3))
    reached = (lambda: is_known(parts)) if known else (lambda: next(turns, None) is None)
    async with group_under_way(parts, reached, resplit=False) as (_, records):
        assert is_known(parts) is known
        single = dispatch_one(parts, 7.0, key=last)
    [record] = records
    assert parts.dispatcher.in_force(last) is only(single)
    assert only(single).state == "sent"
    assert record.by_state == {"sent": ASSETS - 1, "superseded": 1}
    assert record.members[last].reason == f"by {single.dispatch_id}"
    assert [
        setpoint.mw
        for setpoint in take_setpoints(session)
        if setpoint.asset_id == record.members[last].asset_id
    ] == [7.0]


async def test_an_earlier_setpoint_is_superseded() -> None:
    parts, _ = large_fleet()
    single = dispatch_one(parts, 7.0, key=3)
    await parts.dispatcher.dispatch_group_in_slices(request())
    assert only(single).state == "superseded"


async def test_of_two_large_groups_the_later_request_is_in_force() -> None:
    parts, session = large_fleet()
    records: dict[float, DispatchRecord] = {}

    async def dispatch_large(mw: float) -> None:
        records[mw] = await parts.dispatcher.dispatch_group_in_slices(request(mw, resplit=False))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dispatch_large, 1_500.0)
        while not is_known(parts):
            await trio.lowlevel.checkpoint()
        nursery.start_soon(dispatch_large, 3_000.0)
    assert {setpoint.mw for setpoint in take_setpoints(session)} == {2.0}
    states = {
        mw: (await parts.dispatcher.find_in_slices(one.dispatch_id)).by_state for mw, one in records.items()
    }
    assert states == {1_500.0: {"superseded": ASSETS}, 3_000.0: {"sent": ASSETS}}


async def test_an_agent_that_disconnects_or_connects_meanwhile_is_dispatched_once() -> None:
    parts = still_parts(assets=ASSETS)
    connect(parts, *range(1, ASSETS - 1), agent_id="most")
    leaving = connect(parts, ASSETS - 1, agent_id="leaving")
    first = connect(parts, 0, agent_id="first")
    report_sample(parts, *range(ASSETS))
    async with group_under_way(parts, lambda: is_known(parts)) as (_, records):
        parts.disconnect(leaving)
        parts.disconnect(first)
        again = connect(parts, 0, agent_id="first", number=1)
    [record] = records
    assert record.members[ASSETS - 1].state == "queued"
    assert record.members[0].state == "sent"
    assert [setpoint.mw for setpoint in take_setpoints(again)] == [record.members[0].mw]
    back = connect(parts, ASSETS - 1, agent_id="leaving", number=1)
    assert [setpoint.mw for setpoint in take_setpoints(back)] == [record.members[ASSETS - 1].mw]


@pytest.mark.parametrize("known", [False, True])
async def test_an_asset_that_is_retired_meanwhile_is_not_dispatched(known: bool) -> None:
    parts, session = large_fleet()
    turns = iter(range(3))
    reached = (lambda: is_known(parts)) if known else (lambda: next(turns, None) is None)
    async with group_under_way(parts, reached, resplit=False) as (_, records):
        newer = Fleet(sites=parts.fleet.sites, assets=parts.fleet.assets[:-1])
        parts.dispatcher.fleet_changed(parts.fleet.reload(newer))
    [record] = records
    last = record.members[ASSETS - 1]
    assert (last.state, last.reason) == ("failed", "its asset has left the fleet")
    assert record.by_state == {"sent": ASSETS - 1, "failed": 1}
    assert last.asset_id not in {setpoint.asset_id for setpoint in take_setpoints(session)}


async def test_a_group_is_not_split_anew_before_all_have_their_share() -> None:
    parts, _ = large_fleet()
    async with group_under_way(parts, lambda: is_known(parts)):
        dispatch_one(parts, 7.0, key=ASSETS - 1)
        advance(parts, 0.1)
        [dispatch] = parts.dispatcher.history.newest(1, counts=lambda dispatch: dispatch.is_group)
        assert dispatch.reallocations == []
    advance(parts, 1.0)
    assert len(dispatch.reallocations) == 1


async def test_a_group_is_not_reallocated_while_another_supersedes_it() -> None:
    parts, session = large_fleet()
    await parts.dispatcher.dispatch_group_in_slices(request())
    [former] = parts.dispatcher.history.newest(1, counts=lambda _: True)
    take_setpoints(session)
    half = ASSETS // 2
    async with group_under_way(parts, lambda: former.count_by_state["superseded"] >= half, mw=3_000.0):
        assert not former.ended
        advance(parts, 0.1)
    advance(parts, 1.0)
    assert (former.ended, former.reallocations) == (True, [])
    assert {message.mw for message in take_setpoints(session)} == {2.0}


async def test_only_what_has_changed_is_recorded_again() -> None:
    store = RecordingStore()
    parts, session = large_fleet(store)
    record = await parts.dispatcher.dispatch_group_in_slices(request())
    [dispatch] = parts.dispatcher.history.newest(1, counts=lambda _: True)
    assert (store.handed, store.shares_handed) == (1, ASSETS)
    for setpoint in (dispatch.setpoints[0], dispatch.setpoints[1]):
        acknowledge(parts, session, setpoint, "accepted")
    await parts.dispatcher.flush_large()
    assert (store.handed, store.shares_handed) == (2, ASSETS + 2)
    assert store.records[record.dispatch_id].by_state == {"accepted": 2, "sent": ASSETS - 2}
    assert store.records[record.dispatch_id].members[1].state == "accepted"


async def test_a_flush_at_the_end_leaves_nothing_to_record() -> None:
    store = RecordingStore()
    parts, session = large_fleet(store)
    record = await parts.dispatcher.dispatch_group_in_slices(request())
    [dispatch] = parts.dispatcher.history.newest(1, counts=lambda _: True)
    acknowledge(parts, session, dispatch.setpoints[0], "accepted")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parts.dispatcher.flush_large)
        acknowledge(parts, session, dispatch.setpoints[0], "completed")
        parts.dispatcher.flush()
    assert store.handed == 2
    # Nothing was seen of it.
    assert store.records[record.dispatch_id].members[0].state == "not_tracked"


async def test_a_record_that_is_cancelled_is_made_the_next_time() -> None:
    store = RecordingStore()
    parts, session = large_fleet(store)
    record = await parts.dispatcher.dispatch_group_in_slices(request())
    [dispatch] = parts.dispatcher.history.newest(1, counts=lambda _: True)
    acknowledge(parts, session, dispatch.setpoints[0], "accepted")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parts.dispatcher.flush_large)
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    await parts.dispatcher.flush_large()
    assert store.records[record.dispatch_id].members[0].state == "accepted"


async def test_a_refused_large_group_is_counted_and_leaves_nothing() -> None:
    parts, session = large_fleet()
    with pytest.raises(DispatchRefusedError, match="reversion_mw is 1000000000"):
        await parts.dispatcher.dispatch_group_in_slices(request(reversion_mw=1e9))
    with pytest.raises(DispatchRefusedError, match="mw is nan"):
        await parts.dispatcher.dispatch_group_in_slices(replace(request(), mw=float("nan")))
    assert parts.counters.dispatches_refused == 2
    assert (is_known(parts), take_setpoints(session)) == (False, ())


async def test_a_planned_large_group_dispatches_nothing() -> None:
    parts, session = large_fleet()
    planned = await parts.dispatcher.dispatch_group_in_slices(request(), dry_run=True)
    assert len(planned.members) == ASSETS
    assert (is_known(parts), take_setpoints(session)) == (False, ())


def test_a_computation_pauses_by_what_its_steps_take() -> None:
    def steps() -> Steps[str]:
        for _ in range(10):
            yield 500.0
        return "done"

    async def counted() -> int:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            await trio.lowlevel.checkpoint()
            before = turns
            assert await run_in_slices(steps()) == "done"
            nursery.cancel_scope.cancel()
        return turns - before

    assert run_at_once(steps()) == "done"
    assert 1 <= trio.run(counted) <= 4


async def test_a_group_whose_start_fails_does_not_keep_others_from_being_reallocated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts, _ = large_fleet()

    def fail(_assignment: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(parts.dispatcher._delivery, "put", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        dispatch_group(parts, 1_500.0, duration_s=600)
    [dispatch] = parts.dispatcher.history.newest(1, counts=lambda dispatch: dispatch.is_group)
    assert not dispatch.is_starting
