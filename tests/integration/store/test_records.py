"""Sessions and dispatches on record, and what a headend that died has left of them."""

import asyncio
from array import array
from dataclasses import replace
from functools import partial

import msgspec
import psycopg
import trio
import trio_asyncio

from tests.integration.store.senders import until_health
from tests.integration.store.servers import (
    FLEET,
    open_store_on,
    run_sql,
)
from tests.unit.store.model_dispatches import hand_over
from trioder.domain.dispatch import (
    AssetSetpointRecord,
    DispatchRecord,
    DispatchTarget,
    ExcludedAssetRecord,
    ReallocationRecord,
)
from trioder.process.wall_time import WallClock
from trioder.store.postgres import open_postgres_store
from trioder.store.postgres.pending_records import PendingSession
from trioder.store.postgres.pg_connection import open_pg_connection
from trioder.store.postgres.record_writes import write_records
from trioder.store.records import SessionRecord


async def test_sessions_and_dispatches_are_listed_by_name_in_views(database_url: str) -> None:
    session = SessionRecord(
        session_id="3f1d2c4b-0000-4000-8000-0000000000aa",
        agent_id="agent",
        epoch=2**64 - 1,
        peer="127.0.0.1:1",
        asset_keys=[0, 1],
        connected_ms=1_800_000_000_000,
    )
    member = AssetSetpointRecord(
        asset_id=FLEET.assets[1].id, mw=-3.0, wire_id="3f1d2c4b-0000-4000-8000-0000000000bb", state="sent"
    )
    dispatch = DispatchRecord(
        dispatch_id=member.wire_id,
        target=DispatchTarget(kind="asset", id=member.asset_id),
        mw=-3.0,
        allocated_mw=-3.0,
        duration_s=60,
        dispatched_ms=1_800_000_000_000,
        state="sent",
        is_open=True,
        members=(member,),
    )
    answered = replace(
        dispatch, state="accepted", members=(replace(member, state="accepted", answer="ok\0"),)
    )
    async with open_store_on(database_url) as store:
        store.open_session(session)
        hand_over(store.record_dispatch, dispatch)
        await store.wait_idle()
        [open_one] = await store.sessions(limit=10, asset=FLEET.assets[1])
        store.close_session(session.session_id, disconnected_ms=1_800_000_009_000, reason="bye\0bye")
        hand_over(store.record_dispatch, answered)
        await store.wait_idle()
        [closed] = await store.sessions(limit=10, agent_id="agent")
        assert await store.sessions(limit=10, asset=FLEET.assets[2]) == []
    assert (open_one.epoch, open_one.assets, open_one.disconnected_ms) == (2**64 - 1, 2, None)
    assert (closed.disconnected_ms, closed.reason) == (1_800_000_009_000, "bye\N{REPLACEMENT CHARACTER}bye")
    assert run_sql(database_url, "SELECT asset_name, site_name FROM agent_sessions ORDER BY 1") == [
        ("Battery 1", "Site"),
        ("Battery 2", "Site"),
    ]
    assert run_sql(database_url, "SELECT asset_id::text, mw, state, answer FROM dispatch_members") == [
        (FLEET.assets[1].id, -3.0, "accepted", "ok\N{REPLACEMENT CHARACTER}")
    ]


async def test_sessions_that_open_together_keep_their_assets_and_their_ends(database_url: str) -> None:
    # Two of them with the same assets, one that is over already.
    lists = {1: [0], 2: [1, 0], 3: [1, 0]}
    async with open_store_on(database_url) as store:
        for number, asset_keys in lists.items():
            store.open_session(
                SessionRecord(
                    session_id=f"3f1d2c4b-0000-4000-8000-{number:012}",
                    agent_id=f"agent {number}",
                    epoch=2**64 - number,
                    peer="x",
                    asset_keys=asset_keys,
                    connected_ms=1_000,
                )
            )
        store.close_session("3f1d2c4b-0000-4000-8000-000000000003", disconnected_ms=2_000, reason="gone")
        await store.wait_idle()
        known = run_sql(database_url, "SELECT asset_key FROM asset_versions ORDER BY asset_key")
        rows = run_sql(
            database_url,
            "SELECT agent_id, epoch, asset_keys, reason FROM sessions JOIN asset_lists USING (list_id) "
            "ORDER BY agent_id",
        )
    keys = [key for (key,) in known]
    assert {
        (agent_id, int(epoch), len(asset_keys), reason) for agent_id, epoch, asset_keys, reason in rows
    } == {
        ("agent 1", 2**64 - 1, 1, None),
        ("agent 2", 2**64 - 2, 2, None),
        ("agent 3", 2**64 - 3, 2, "gone"),
    }
    assert all(set(asset_keys) <= set(keys) for _, _, asset_keys, _ in rows)


async def test_sessions_that_a_dead_headend_left_open_are_closed(database_url: str) -> None:
    def session(number: int) -> SessionRecord:
        return SessionRecord(
            session_id=f"3f1d2c4b-0000-4000-8000-{number:012}",
            agent_id="agent",
            epoch=1,
            peer="x",
            asset_keys=[0],
            connected_ms=1_000,
        )

    async with open_store_on(database_url) as store:
        store.open_session(session(1))
    async with open_store_on(database_url) as store:
        store.open_session(session(2))
        await store.wait_idle()
        # The connection's loss is not the headend's end.
        run_sql(
            database_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid != pg_backend_pid()",
        )
        await until_health(store, "error")
        await until_health(store, "ok")
        rows = run_sql(database_url, "SELECT reason FROM sessions ORDER BY session_id")
    assert rows == [("headend ended",), (None,)]


async def test_a_session_that_a_dead_headend_was_still_writing_is_closed_as_well(database_url: str) -> None:
    record = PendingSession(
        session=SessionRecord(
            session_id="3f1d2c4b-0000-4000-8000-000000000001",
            agent_id="agent",
            epoch=1,
            peer="x",
            asset_keys=[0],
            connected_ms=1_000,
        )
    )
    async with open_store_on(database_url):
        keys = array("i", [key for (key,) in run_sql(database_url, "SELECT asset_key FROM asset_versions")])
    written, commit = asyncio.Event(), asyncio.Event()

    async def write_slowly(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        async with connection.transaction():
            await write_records(connection, [record], keys, FLEET)
            written.set()
            await commit.wait()

    async def let_it_commit() -> None:
        await trio.sleep(0.5)
        commit.set()

    async with trio_asyncio.open_loop(), trio.open_nursery() as nursery:
        pg_connection = await open_pg_connection(database_url, statement_timeout_s=10)
        nursery.start_soon(partial(pg_connection.run, write_slowly, within_s=20))
        await trio_asyncio.aio_as_trio(written.wait)()
        nursery.start_soon(let_it_commit)
        wall = WallClock.starting_now()
        async with open_postgres_store(database_url, fleet=FLEET, wall=wall) as store:
            await until_health(store, "ok")
            assert run_sql(database_url, "SELECT reason FROM sessions") == [("headend ended",)]
        await pg_connection.aclose()


async def test_dispatches_are_read_back_as_they_were_recorded(database_url: str) -> None:
    members = tuple(
        AssetSetpointRecord(
            asset_id=asset.id,
            mw=1.0 / 3.0,
            wire_id="3f1d2c4b-0000-4000-8000-0000000000bb",
            code="share",
            allocation="a third",
            state="accepted",
            answered_ms=5,
        )
        for asset in FLEET.assets[:2]
    )
    group = DispatchRecord(
        dispatch_id="3f1d2c4b-0000-4000-8000-0000000000bb",
        target=DispatchTarget(kind="assets"),
        mw=1.0,
        allocated_mw=2.0 / 3.0,
        shortfall_mw=1.0 / 3.0,
        duration_s=60,
        valid_until_ms=7,
        strategy="headroom",
        resplit=True,
        dispatched_ms=1_800_000_000_000,
        ends_ms=1_800_000_060_000,
        state="accepted",
        is_open=True,
        idempotency_key="k-1",
        request_digest="d",
        resplits=(
            ReallocationRecord(
                at_ms=6,
                wire_id="w",
                dropped=(("a", "b"),),
                changed=1,
                shortfall_mw=0.5,
                adjusted=(("c", "d"), ("e", "limited: it says")),
                joined=("f",),
            ),
        ),
        by_state={"accepted": 2},
        assets_left_out=1,
        members=members,
        left_out=(ExcludedAssetRecord(asset_id=FLEET.assets[2].id, code="stale", allocation="none: stale"),),
    )
    ended = replace(
        group,
        dispatch_id="3f1d2c4b-0000-4000-8000-0000000000cc",
        dispatched_ms=1_800_000_001_000,
        state="completed",
        is_open=False,
        idempotency_key=None,
        members=members[:1],
    )
    async with open_store_on(database_url) as store:
        hand_over(store.record_dispatch, group)
        hand_over(store.record_dispatch, ended)
        await store.wait_idle()
        found = await store.find_dispatch(dispatch_id=group.dispatch_id)
        assert msgspec.json.encode(found) == msgspec.json.encode(group)
        assert await store.find_dispatch(idempotency_key="k-1") == found
        assert await store.find_dispatch(idempotency_key="k-2") is None
        assert await store.open_dispatches() == [found]

        async def listed(**wanted: object) -> list[str]:
            found = await store.dispatches(limit=10, **wanted)  # type: ignore[arg-type]  # a test's shorthand
            return [record.dispatch_id[-2:] for record in found]

        assert await listed() == ["cc", "bb"]
        [_, slim] = await store.dispatches(limit=10)
        [_, whole] = await store.dispatches(limit=10, whole=True)
        assert (slim.by_state, slim.assets_left_out, slim.members, slim.left_out) == (
            {"accepted": 2},
            1,
            (),
            (),
        )
        assert whole == found
        assert await listed(asset=FLEET.assets[1]) == ["bb"]
        assert await listed(asset=FLEET.assets[0], state="completed") == ["cc"]
        assert await listed(asset=FLEET.assets[2]) == []
