"""The database's clock decides nothing, and no clock of a headend or an agent loses or doubles a row."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from tests.integration.store.senders import Sender, samples
from tests.integration.store.servers import FLEET, open_store_on, run_sql
from tests.unit.process.fake_clock import STEPS_S
from tests.unit.store.model_dispatches import hand_over
from trioder.domain.dispatch import AssetSetpointRecord, DispatchRecord, DispatchTarget
from trioder.process.wall_time import WallClock
from trioder.store.records import SessionRecord

SESSION = SessionRecord(
    session_id="3f1d2c4b-0000-4000-8000-0000000000aa",
    agent_id="agent",
    epoch=1,
    peer="127.0.0.1:1",
    asset_keys=[0, 1],
    connected_ms=0,
)


every_size = pytest.mark.parametrize("wrong_s", [sign * size_s for size_s in STEPS_S for sign in (1, -1)])


def set_database_clock(url: str, wrong_s: float) -> None:
    """Define a wrong now() in the database, found before the one that every database has."""
    [(name,)] = run_sql(url, "SELECT current_database()")
    run_sql(url, "CREATE SCHEMA IF NOT EXISTS clock")
    run_sql(
        url,
        "CREATE OR REPLACE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE AS "
        f"$$ SELECT pg_catalog.now() + {wrong_s} * interval '1 second' $$",
    )
    run_sql(url, f'ALTER DATABASE "{name}" SET search_path = clock, pg_catalog, public')


def database_ahead_s(url: str) -> float:
    [(ahead_s,)] = run_sql(
        url, "SELECT extract(epoch FROM max(updated_at) - pg_catalog.now()) FROM ingest_watermarks"
    )
    return float(ahead_s)


@every_size
async def test_a_headend_whose_clock_is_wrong_and_set(database_url: str, wrong_s: float) -> None:
    wall = WallClock.starting_now()
    wall.adjust(wrong_s)
    await keep_and_find_all(database_url, wall, wrong_s=wrong_s)


@every_size
async def test_a_database_whose_clock_is_wrong_from_the_start(database_url: str, wrong_s: float) -> None:
    set_database_clock(database_url, wrong_s)
    await keep_and_find_all(database_url, WallClock.starting_now(), wrong_s=0.0)
    assert database_ahead_s(database_url) == pytest.approx(wrong_s, abs=60)


@every_size
async def test_a_database_whose_clock_is_set_while_it_runs(database_url: str, wrong_s: float) -> None:
    set_database_clock(database_url, 0.0)
    set_wrong = partial(set_database_clock, database_url, wrong_s)
    await keep_and_find_all(database_url, WallClock.starting_now(), wrong_s=0.0, half_way=set_wrong)
    assert database_ahead_s(database_url) == pytest.approx(wrong_s, abs=60)


async def keep_and_find_all(
    database_url: str, wall: WallClock, *, wrong_s: float, half_way: Callable[[], None] = lambda: None
) -> None:
    """Write telemetry, a session and a dispatch, before and after the headend's clock is put right."""
    async with open_store_on(database_url, wall=wall) as store:
        sender = Sender(store)
        times_ms = []

        async def send_some(count: int) -> None:
            for _ in range(count):
                seq = len(times_ms) + 1
                times_ms.append(wall.now_ms() + seq)
                assert store.submit("box-0", seq, samples(times_ms[-1], soc_mwhr=float(seq)))
            await sender.until_all_committed(len(times_ms))

        session = replace(SESSION, connected_ms=wall.now_ms())
        store.open_session(session)
        await send_some(5)
        half_way()
        wall.adjust(-wrong_s)
        # As the headend does: open sessions are recorded again.
        corrected = replace(session, connected_ms=session.connected_ms - round(wrong_s * 1000))
        store.open_session(corrected)
        await send_some(5)
        # What is sent again is known, whatever time it is of.
        assert store.submit("box-0", 3, samples(times_ms[2], soc_mwhr=3.0))
        member = AssetSetpointRecord(
            asset_id=FLEET.assets[0].id, mw=1.0, wire_id="3f1d2c4b-0000-4000-8000-0000000000bb", state="sent"
        )
        dispatch = DispatchRecord(
            dispatch_id=member.wire_id,
            target=DispatchTarget(kind="asset", id=member.asset_id),
            mw=1.0,
            allocated_mw=1.0,
            dispatched_ms=wall.now_ms(),
            state="sent",
            is_open=True,
            members=(member,),
        )
        hand_over(store.record_dispatch, dispatch)
        await store.wait_idle()
        past = await store.history(FLEET.assets[0], limit=100)
        [open_one] = await store.sessions(limit=10)
        [found] = await store.open_dispatches()
        store.close_session(session.session_id, disconnected_ms=wall.now_ms(), reason="bye")
        await store.wait_idle()
    assert sorted(one.telemetry.ts_unix_ms for one in past) == sorted(times_ms)
    assert open_one.connected_ms == corrected.connected_ms
    assert found.dispatch_id == dispatch.dispatch_id
    [(lasted_s,)] = run_sql(
        database_url, "SELECT extract(epoch FROM disconnected_at - connected_at)::float FROM sessions"
    )
    assert 0 <= lasted_s < 60
