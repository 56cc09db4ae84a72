"""The store over a real PostgreSQL: exactly once through failures, and what people find in the tables."""

import asyncio
import random
import re
from array import array
from dataclasses import replace
from functools import partial

import msgspec
import psycopg
import pytest
import trio
import trio_asyncio

from tests.integration.store.proxy import open_proxy
from tests.integration.store.servers import (
    FLEET,
    SITE,
    asset,
    in_database,
    open_store_on,
    run_password_server,
    run_sql,
)
from trioder.fleet import Fleet
from trioder.process.wall_time import WallClock
from trioder.store.interface import StoreConfigurationError
from trioder.store.postgres import open_postgres_store, psycopg_database
from trioder.store.postgres.database import SessionNote
from trioder.store.postgres.link import open_link
from trioder.store.postgres.schema import SCHEMA_VERSION, schema_text
from trioder.store.postgres.store import PostgresStore
from trioder.store.postgres.writes import write_notes
from trioder.store.records import (
    DispatchRecord,
    DispatchTarget,
    LeftOutRecord,
    MemberRecord,
    ResplitRecord,
    Samples,
    SessionRecord,
)

DAY_MS = 86_400_000


def samples(
    ts_unix_ms: int, *, keys: range = range(1), soc_mwhr: float = 20.0, source: str = "agent"
) -> Samples:
    rows = len(keys)
    return Samples(
        ts_unix_ms=ts_unix_ms,
        source=source,
        asset_keys=array("i", keys),
        soc_mwhr=[soc_mwhr] * rows,
        current_mw=[1.0 / 3.0] * rows,
        setpoint_mw=[-2.5] * rows,
        available_discharge_mw=[10.0] * rows,
        available_charge_mw=[9.0] * rows,
    )


class Sender:
    """Outboxes with a go-back-N cursor each; every batch tells its own number as its energy."""

    def __init__(self, store: PostgresStore, outboxes: int = 1) -> None:
        self.store = store
        self.next = {f"box-{number}": 1 for number in range(outboxes)}
        self.kept = dict.fromkeys(self.next, 0)
        self.held_back: set[str] = set()
        self._news = trio.Event()
        store.listen(self)

    def batches_committed(self, outbox_id: str, batch_seq: int) -> None:
        self.kept[outbox_id] = max(self.kept[outbox_id], batch_seq)
        self.next[outbox_id] = max(self.next[outbox_id], batch_seq + 1)
        self._news.set()
        self._news = trio.Event()

    def batches_let_go(self, outbox_id: str) -> None:
        self.next[outbox_id] = self.kept[outbox_id] + 1

    def room_again(self) -> None:
        self.held_back.clear()

    def send(self, outbox_id: str = "box-0", *, keys: range = range(1)) -> None:
        seq = self.next[outbox_id]
        batch = samples(1_800_000_000_000 + seq, keys=keys, soc_mwhr=float(seq))
        if outbox_id not in self.held_back and self.store.submit(outbox_id, seq, batch):
            self.next[outbox_id] = seq + 1
        else:
            self.held_back.add(outbox_id)

    async def until_all_kept(self, seq: int, *, within_s: float = 30) -> None:
        with trio.fail_after(within_s):
            while min(self.kept.values()) < seq:
                await self._news.wait()


async def until_health(store: PostgresStore, pattern: str, *, within_s: float = 30) -> None:
    with trio.fail_after(within_s):
        while not re.search(pattern, f"{store.health} {store.health_reason}"):
            await trio.sleep(0.01)


async def keep(store: PostgresStore, *batches: Samples) -> None:
    sender = Sender(store)
    for seq, batch in enumerate(batches, start=1):
        assert store.submit("box-0", seq, batch)
    await sender.until_all_kept(len(batches))


async def test_people_find_what_was_kept_in_the_view(database_url: str) -> None:
    async with open_store_on(database_url) as store:
        await keep(store, samples(1_800_000_000_123))
        [row] = run_sql(database_url, "SELECT * FROM telemetry")
        columns = [
            name
            for (name,) in run_sql(
                database_url,
                "SELECT column_name FROM information_schema.columns WHERE table_name = 'telemetry' "
                "ORDER BY ordinal_position",
            )
        ]
        found = dict(zip(columns, row, strict=True))
        [past] = await store.history(FLEET.assets[0], limit=10)
    told = past.telemetry
    assert found["ts"].timestamp() == pytest.approx(1_800_000_000.123)
    assert (told.ts_unix_ms, told.current_mw, told.setpoint_mw) == (1_800_000_000_123, 1.0 / 3.0, -2.5)
    assert (str(found["asset_id"]), str(found["site_id"])) == (told.asset_id, told.site_id)
    assert found["source"] == past.source == "agent"
    for name in (
        "soc_mwhr",
        "soc_pct",
        "capacity_mwhr",
        "current_mw",
        "setpoint_mw",
        "max_mw",
        "min_mw",
        "status",
    ):
        assert found[name] == getattr(told, name), name


async def test_history_is_bounded_newest_first_and_within_its_times(database_url: str) -> None:
    start = 1_800_000_000_000
    async with open_store_on(database_url) as store:
        await keep(store, *(samples(start + second * 1000) for second in range(10)))

        async def times(**selection: int) -> list[int]:
            past = await store.history(FLEET.assets[0], **selection)
            return [(sample.telemetry.ts_unix_ms - start) // 1000 for sample in past]

        assert await times(limit=3) == [9, 8, 7]
        assert await times(limit=100, start_ms=start + 2000, end_ms=start + 5000) == [4, 3, 2]
        assert await store.history(FLEET.assets[1], limit=3) == []


async def test_history_keeps_the_nameplate_of_its_time(database_url: str) -> None:
    async with open_store_on(database_url) as store:
        await keep(store, samples(1_800_000_000_000))
    larger = Fleet(sites=(SITE,), assets=(asset(1, capacity_mwhr=80.0), *FLEET.assets[1:-1]))
    async with open_store_on(database_url, fleet=larger) as store:
        store.keep(samples(1_800_000_001_000, source="synthesized"))
        await store.wait_idle()
        past = await store.history(larger.assets[0], limit=10)
    assert [(each.telemetry.soc_pct, each.source) for each in past] == [
        (25.0, "synthesized"),
        (50.0, "agent"),
    ]
    assert run_sql(database_url, "SELECT count(*) FROM assets WHERE in_fleet") == [(39,)]


@pytest.mark.parametrize("seed", range(3))
async def test_each_batch_is_kept_once_while_connections_are_killed(database_url: str, seed: int) -> None:
    rng = random.Random(seed)
    last = 150
    async with open_store_on(database_url) as store:
        sender = Sender(store, outboxes=4)
        with trio.fail_after(60):
            while min(sender.next.values()) <= last or min(sender.kept.values()) < last:
                for outbox_id in sender.next:
                    if sender.next[outbox_id] <= last:
                        sender.send(outbox_id, keys=range(40))
                await trio.sleep(rng.random() * 0.02)
                if rng.random() < 0.1:
                    run_sql(
                        database_url,
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid != pg_backend_pid()",
                    )
        assert store.figures.database_failures > 0
    counts = run_sql(database_url, "SELECT soc_mwhr, count(*) FROM samples GROUP BY soc_mwhr ORDER BY 1")
    assert counts == [(float(seq), 4 * 40) for seq in range(1, last + 1)]


async def test_a_commit_whose_answer_is_lost_is_not_made_twice(password_url: str) -> None:
    async with open_proxy(password_url) as proxy, open_store_on(proxy.url) as store:
        sender = Sender(store)
        for seq in range(1, 21):
            proxy.cut_after_next_commit = seq % 5 == 0
            sender.send(keys=range(10))
            await sender.until_all_kept(seq)
        assert proxy.cuts == 4
    assert run_sql(password_url, "SELECT count(*), count(DISTINCT soc_mwhr) FROM samples") == [(200, 20)]


async def test_a_server_that_hangs_is_noticed_and_found_again(
    password_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psycopg_database, "_WRITE_WITHIN_S", 0.5)
    async with open_proxy(password_url) as proxy, open_store_on(proxy.url) as store:
        sender = Sender(store)
        sender.send()
        await sender.until_all_kept(1)
        proxy.frozen = True
        sender.send()
        await until_health(store, r"error the database did not answer within 0\.5 s", within_s=5)
        proxy.thaw()
        await sender.until_all_kept(2)
        await until_health(store, "ok")


async def test_leaving_does_not_wait_for_a_server_that_hangs(password_url: str) -> None:
    async with open_proxy(password_url) as proxy:
        async with open_store_on(proxy.url) as store:
            proxy.frozen = True
            Sender(store).send()
            await trio.sleep(0.3)
            left = trio.current_time()
        assert trio.current_time() - left < 5


async def test_two_headends_that_write_the_same_batches_keep_each_once(database_url: str) -> None:
    async with open_store_on(database_url) as one, open_store_on(database_url) as two:
        senders = [Sender(one, outboxes=3), Sender(two, outboxes=3)]
        for _ in range(50):
            for sender in senders:
                for outbox_id in sender.next:
                    if sender.next[outbox_id] <= 40:
                        sender.send(outbox_id)
            await trio.sleep(0.01)
        for sender in senders:
            await sender.until_all_kept(40)
    counts = run_sql(database_url, "SELECT soc_mwhr, count(*) FROM samples GROUP BY 1 ORDER BY 1")
    assert counts == [(float(seq), 3) for seq in range(1, 41)]


async def test_data_that_the_database_refuses_costs_that_batch_alone(database_url: str) -> None:
    async with open_store_on(database_url) as store:
        run_sql(database_url, "ALTER TABLE samples ADD CONSTRAINT odd CHECK (soc_mwhr != 7)")
        sender = Sender(store, outboxes=2)
        for _ in range(10):
            sender.send("box-0")
        for _ in range(5):
            sender.send("box-1")
        with trio.fail_after(10):
            while sender.kept != {"box-0": 10, "box-1": 5}:
                await trio.sleep(0.01)
        assert store.figures.batches_unwritable == 1
    assert run_sql(database_url, "SELECT count(*) FROM samples") == [(14,)]


async def test_sessions_and_dispatches_are_told_with_names(database_url: str) -> None:
    session = SessionRecord(
        session_id="3f1d2c4b-0000-4000-8000-0000000000aa",
        agent_id="agent",
        epoch=2**64 - 1,
        peer="127.0.0.1:1",
        asset_keys=[0, 1],
        connected_ms=1_800_000_000_000,
    )
    member = MemberRecord(
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
        living=True,
        members=(member,),
    )
    answered = replace(
        dispatch, state="accepted", members=(replace(member, state="accepted", answer="ok\0"),)
    )
    async with open_store_on(database_url) as store:
        store.open_session(session)
        store.record_dispatch(dispatch)
        await store.wait_idle()
        [open_one] = await store.sessions(limit=10, asset=FLEET.assets[1])
        store.close_session(session.session_id, disconnected_ms=1_800_000_009_000, reason="bye\0bye")
        store.record_dispatch(answered)
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
    note = SessionNote(
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
            await write_notes(connection, [note], keys)
            written.set()
            await commit.wait()

    async def let_it_commit() -> None:
        await trio.sleep(0.5)
        commit.set()

    async with trio_asyncio.open_loop(), trio.open_nursery() as nursery:
        link = await open_link(database_url, statement_timeout_s=10)
        nursery.start_soon(partial(link.run, write_slowly, within_s=20))
        await trio_asyncio.aio_as_trio(written.wait)()
        nursery.start_soon(let_it_commit)
        wall = WallClock.starting_now()
        async with open_postgres_store(database_url, fleet=FLEET, wall=wall) as store:
            await until_health(store, "ok")
            assert run_sql(database_url, "SELECT reason FROM sessions") == [("headend ended",)]
        await link.aclose()


async def test_samples_go_to_the_partition_of_their_day_and_wild_ones_to_the_default(
    database_url: str,
) -> None:
    now_ms = 1_800_000_000_000
    wall = WallClock(now_ms / 1000, trio.current_time())
    async with open_store_on(database_url, wall=wall) as store:
        names = run_sql(database_url, "SELECT relid::text FROM pg_partition_tree('samples') WHERE isleaf")
        assert {name for (name,) in names} == {
            "samples_default",
            "samples_20270115",
            "samples_20270116",
            "samples_20270117",
        }
        await keep(store, *(samples(ts) for ts in (now_ms, now_ms - 3 * DAY_MS, 1, now_ms + 5 * DAY_MS)))
    counts = run_sql(
        database_url, "SELECT tableoid::regclass::text, count(*) FROM samples GROUP BY 1 ORDER BY 1"
    )
    assert counts == [("samples_20270112", 1), ("samples_20270115", 1), ("samples_default", 2)]
    # The day comes: what lay in the default partition moves.
    later = WallClock(now_ms / 1000 + 5 * 86_400, trio.current_time())
    async with open_store_on(database_url, wall=later) as store:
        assert len(await store.history(FLEET.assets[0], limit=10)) == 4
    counts = run_sql(
        database_url, "SELECT tableoid::regclass::text, count(*) FROM samples GROUP BY 1 ORDER BY 1"
    )
    assert ("samples_20270120", 1) in counts


async def test_what_is_older_than_the_retention_is_dropped(database_url: str) -> None:
    now_ms = 1_800_000_000_000
    async with open_store_on(database_url, wall=WallClock(now_ms / 1000, trio.current_time())) as store:
        await keep(store, *(samples(now_ms - days * DAY_MS) for days in range(5)))
    later = WallClock(now_ms / 1000, trio.current_time())
    async with open_store_on(database_url, wall=later, retention_days=2):
        pass
    assert run_sql(database_url, "SELECT count(*) FROM samples") == [(3,)]


async def test_the_schema_is_applied_once_and_by_hand_does_no_harm(database_url: str) -> None:
    for _ in range(2):
        async with open_store_on(database_url) as store:
            assert store.health == "ok"
    with psycopg.connect(database_url) as connection:
        connection.execute(schema_text().encode())
    assert run_sql(database_url, "SELECT version FROM schema_version") == [(SCHEMA_VERSION,)]


async def test_a_database_of_version_1_keeps_its_dispatches_aside(database_url: str) -> None:
    async with open_store_on(database_url):
        pass
    # As version 1 had it.
    run_sql(database_url, "DROP TABLE dispatches CASCADE")
    run_sql(
        database_url,
        "CREATE TABLE dispatches (dispatch_id uuid PRIMARY KEY, asset_id uuid NOT NULL REFERENCES assets, "
        "mw double precision NOT NULL, duration_s bigint, dispatched_at timestamptz NOT NULL, "
        "state text NOT NULL, sent_at timestamptz, answer text, reason text)",
    )
    run_sql(database_url, "CREATE INDEX dispatches_asset_id ON dispatches (asset_id, dispatched_at DESC)")
    run_sql(database_url, "CREATE INDEX dispatches_dispatched_at ON dispatches (dispatched_at DESC)")
    run_sql(database_url, "UPDATE schema_version SET version = 1, digest = 'older'")
    run_sql(
        database_url,
        f"INSERT INTO dispatches SELECT gen_random_uuid(), '{FLEET.assets[0].id}', 1, 60, now(), 'sent'",
    )
    async with open_store_on(database_url) as store:
        await until_health(store, "ok")
        assert await store.dispatches(limit=10) == []
    assert run_sql(database_url, "SELECT mw, state FROM dispatches_v1") == [(1.0, "sent")]
    assert run_sql(database_url, "SELECT max(version) FROM schema_version") == [(SCHEMA_VERSION,)]


async def test_dispatches_are_read_back_as_they_were_recorded(database_url: str) -> None:
    members = tuple(
        MemberRecord(
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
        living=True,
        idempotency_key="k-1",
        request_digest="d",
        resplits=(ResplitRecord(at_ms=6, wire_id="w", dropped=[("a", "b")], changed=1, shortfall_mw=0.5),),
        by_state={"accepted": 2},
        assets_left_out=1,
        members=members,
        left_out=(LeftOutRecord(asset_id=FLEET.assets[2].id, code="stale", allocation="none: stale"),),
    )
    ended = replace(
        group,
        dispatch_id="3f1d2c4b-0000-4000-8000-0000000000cc",
        dispatched_ms=1_800_000_001_000,
        state="completed",
        living=False,
        idempotency_key=None,
        members=members[:1],
    )
    async with open_store_on(database_url) as store:
        store.record_dispatch(group)
        store.record_dispatch(ended)
        await store.wait_idle()
        found = await store.find_dispatch(dispatch_id=group.dispatch_id)
        assert msgspec.json.encode(found) == msgspec.json.encode(group)
        assert await store.find_dispatch(idempotency_key="k-1") == found
        assert await store.find_dispatch(idempotency_key="k-2") is None
        assert await store.living_dispatches() == [found]

        async def listed(**wanted: object) -> list[str]:
            told = await store.dispatches(limit=10, **wanted)  # type: ignore[arg-type]  # a test's shorthand
            return [record.dispatch_id[-2:] for record in told]

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


async def test_a_newer_schema_is_refused_until_it_is_gone(database_url: str) -> None:
    run_sql(
        database_url, "CREATE TABLE schema_version (version integer, digest text, applied_at timestamptz)"
    )
    run_sql(database_url, f"INSERT INTO schema_version VALUES ({SCHEMA_VERSION + 1})")
    async with open_store_on(database_url) as store:
        await until_health(store, f"error the database has schema version {SCHEMA_VERSION + 1}")
        assert run_sql(database_url, "SELECT to_regclass('samples') IS NULL") == [(True,)]
        run_sql(database_url, "DROP TABLE schema_version")
        await until_health(store, "ok")


async def test_an_ordinary_login_with_a_database_of_its_own_is_enough(password_url: str) -> None:
    run_sql(password_url, "CREATE ROLE plain LOGIN PASSWORD 'another'")
    run_sql(password_url, "CREATE DATABASE plain OWNER plain")
    url = password_url.replace("boss:s3cret", "plain:another").replace("/postgres?", "/plain?")
    async with open_store_on(url) as store:
        await keep(store, samples(1_800_000_000_000))
        assert len(await store.history(FLEET.assets[0], limit=5)) == 1


async def test_a_refused_login_is_told_without_the_password_and_forgiven(password_url: str) -> None:
    run_sql(password_url, "DROP ROLE IF EXISTS late")
    url = password_url.replace("boss:s3cret", "late:hush-hush").replace("/postgres?", "/late?")
    async with open_store_on(url) as store:
        assert store.health == "error"
        assert 'password authentication failed for user "late"' in store.health_reason
        assert "hush" not in store.health_reason
        run_sql(password_url, "CREATE ROLE late LOGIN PASSWORD 'hush-hush'")
        await until_health(store, 'error .*database "late" does not exist')
        run_sql(password_url, "CREATE DATABASE late OWNER late")
        await until_health(store, "ok")


async def test_a_server_that_is_not_there_is_told() -> None:
    async with open_store_on("postgresql://nobody@127.0.0.1:1/none") as store:
        assert store.health == "error"
        assert "Connection refused" in store.health_reason


@pytest.mark.parametrize(
    "url", ["", "mysql://x", "postgresql://host:notaport:/x?bad", "postgresql://h/?nonsense=1"]
)
async def test_what_is_no_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(StoreConfigurationError, match="DATABASE_URL") as refusal:
        async with open_postgres_store(url, fleet=FLEET, wall=WallClock.starting_now()):
            pass
    assert not url or url not in str(refusal.value)


async def test_a_dropped_database_is_begun_anew(database_url: str, server_url: str) -> None:
    name = re.search(r"/(test_\w+)\?", database_url)[1]
    async with open_store_on(database_url) as store:
        sender = Sender(store)
        sender.send()
        await sender.until_all_kept(1)
        run_sql(in_database(server_url, "postgres"), f"DROP DATABASE {name} WITH (FORCE)")
        sender.send()
        await until_health(store, "error")
        run_sql(server_url, f"CREATE DATABASE {name}")
        await sender.until_all_kept(2)
    assert run_sql(database_url, "SELECT soc_mwhr FROM samples") == [(2.0,)]


async def test_a_full_disk_is_told_and_survived(database_url: str) -> None:
    async with open_store_on(database_url) as store:
        # As the server itself says it, when the disk is full: nothing here may fill a real one.
        run_sql(
            database_url,
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION "
            "'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$",
        )
        run_sql(
            database_url,
            "CREATE TRIGGER full_disk BEFORE INSERT ON samples FOR EACH ROW EXECUTE FUNCTION full_disk()",
        )
        sender = Sender(store)
        sender.send()
        await until_health(store, "error could not extend file: No space left on device")
        run_sql(database_url, "DROP TRIGGER full_disk ON samples")
        await sender.until_all_kept(1)
        await until_health(store, "ok")
    assert run_sql(database_url, "SELECT count(*) FROM samples") == [(1,)]


@pytest.fixture(scope="module")
def password_server() -> str:
    with run_password_server("s3cret") as url:
        yield url


@pytest.fixture
def password_url(password_server: str) -> str:
    with psycopg.connect(password_server, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return password_server
