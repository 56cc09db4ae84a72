"""Dispatches to very many assets on record: whole, changed row by row, and never half."""

from dataclasses import replace
from uuid import UUID

import trio

from tests.integration.store.senders import until_health
from tests.integration.store.servers import FLEET, open_store_on, run_sql
from tests.unit.store.model_dispatches import hand_over
from trioder.domain.dispatch import (
    AllocationRecord,
    AssetSetpointRecord,
    DispatchRecord,
    DispatchTarget,
    ExcludedAssetRecord,
    ReallocationRecord,
)

DISPATCH_ID = str(UUID(int=0xB))


def group(assets: int, left_out: int = 0) -> DispatchRecord:
    return DispatchRecord(
        dispatch_id=DISPATCH_ID,
        target=DispatchTarget(kind="fleet"),
        mw=1.0,
        allocated_mw=1.0,
        strategy="headroom",
        resplit=True,
        dispatched_ms=1_800_000_000_000,
        state="sent",
        is_open=True,
        by_state={"sent": assets},
        assets_left_out=left_out,
        members=tuple(
            # In another order than the fleet's.
            AssetSetpointRecord(
                asset_id=str(UUID(int=assets - key)), mw=key / 3, wire_id=DISPATCH_ID, state="sent"
            )
            for key in range(assets)
        ),
        left_out=tuple(
            ExcludedAssetRecord(asset_id=str(UUID(int=10**9 + key)), code="stale", allocation="none: stale")
            for key in range(left_out)
        ),
    )


async def test_a_group_larger_than_what_once_was_dropped_is_recorded_whole(database_url: str) -> None:
    recorded = group(45_000, 500)
    async with open_store_on(database_url) as store:
        hand_over(store.record_dispatch, recorded)
        with trio.fail_after(60):
            await store.wait_idle()
        found = await store.find_dispatch(dispatch_id=DISPATCH_ID)
        assert store.stats.records_dropped == 0
    assert found is not None
    assert tuple(found.members) == recorded.members
    assert tuple(found.left_out) == recorded.left_out


async def test_only_what_has_changed_is_written_again(database_url: str) -> None:
    recorded = group(1_500, 2)
    rows = "SELECT asset_id, xmin::text FROM dispatch_shares ORDER BY position"
    async with open_store_on(database_url) as store:
        hand_over(store.record_dispatch, recorded)
        await store.wait_idle()
        before = run_sql(database_url, rows)
        # One member moves on, and one asset that was left out takes part.
        shares: list[AllocationRecord] = [*recorded.members, *recorded.left_out]
        moved = replace(recorded.members[700], state="accepted", answer="ok", held_mw=1.0, mean_mw=0.5)
        joins = replace(recorded.members[0], asset_id=recorded.left_out[0].asset_id, mw=9.0)
        shares[700], shares[1_500] = moved, joins
        store.record_dispatch(
            replace(
                recorded,
                by_state={"sent": 1_500, "accepted": 1},
                assets_left_out=1,
                resplits=(
                    ReallocationRecord(
                        at_ms=5, wire_id="w", dropped=(("a", "b"),), changed=1, shortfall_mw=0.0
                    ),
                ),
                members=(),
                left_out=(),
            ),
            changed={700, 1_500},
            share_of=shares.__getitem__,
        )
        await store.wait_idle()
        after = run_sql(database_url, rows)
        found = await store.find_dispatch(dispatch_id=DISPATCH_ID)
    assert [key for key, (old, new) in enumerate(zip(before, after, strict=True)) if old != new] == [
        700,
        1_500,
    ]
    assert found is not None
    assert found.members[700] == moved
    assert found.members[1_500] == joins
    assert tuple(found.left_out) == recorded.left_out[1:]
    assert len(found.resplits) == 1
    assert run_sql(database_url, "SELECT mw FROM dispatch_members WHERE state = 'accepted'") == [(moved.mw,)]
    assert run_sql(database_url, "SELECT code FROM dispatch_left_out") == [("stale",)]


async def test_a_connection_that_is_lost_in_the_middle_leaves_no_half_of_it(database_url: str) -> None:
    recorded = group(8_000)
    asked = 0

    def share_of(key: int) -> AllocationRecord:
        nonlocal asked
        asked += 1
        if asked == 4_000:
            run_sql(
                database_url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid != pg_backend_pid() AND state != 'idle'",
            )
            seen.append(run_sql(database_url, "SELECT count(*) FROM dispatches")[0][0])
        return recorded.members[key]

    seen: list[int] = []
    async with open_store_on(database_url) as store:
        store.record_dispatch(replace(recorded, members=()), changed=range(8_000), share_of=share_of)
        with trio.fail_after(60):
            while run_sql(database_url, "SELECT count(*) FROM dispatches") == [(0,)]:
                await trio.sleep(0.02)
        await until_health(store, "ok")
        await store.wait_idle()
        found = await store.find_dispatch(dispatch_id=DISPATCH_ID)
    assert seen == [0]
    assert found is not None
    assert tuple(found.members) == recorded.members


async def test_dispatches_of_one_asset_are_found_newest_first(database_url: str) -> None:
    asset = FLEET.assets[0]
    async with open_store_on(database_url) as store:
        for number in range(30):
            member = AssetSetpointRecord(
                asset_id=asset.id if number % 3 else FLEET.assets[1].id,
                mw=float(number),
                wire_id=str(UUID(int=number)),
                state="sent" if number % 2 else "completed",
            )
            hand_over(
                store.record_dispatch,
                replace(
                    group(0),
                    dispatch_id=member.wire_id,
                    mw=float(number),
                    # Not in the order in which they are recorded.
                    dispatched_ms=1_800_000_000_000 + number * 7 % 30,
                    state=member.state,
                    members=(member,),
                ),
            )
        await store.wait_idle()
        of_asset = await store.dispatches(limit=5, asset=asset)
        sent = await store.dispatches(limit=100, asset=asset, state="sent")
    expected = sorted((n for n in range(30) if n % 3), key=lambda n: n * 7 % 30, reverse=True)
    assert [record.mw for record in of_asset] == expected[:5]
    assert [record.mw for record in sent] == [number for number in expected if number % 2]
