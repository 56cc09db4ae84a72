"""Each batch is in the database once, whatever becomes of connections, servers and data."""

import random

import pytest
import trio

from tests.integration.store.proxy import open_proxy
from tests.integration.store.senders import Sender, samples, until_health
from tests.integration.store.servers import (
    open_store_on,
    run_sql,
)
from trioder.store.postgres import psycopg_database
from trioder.store.records import NOTHING_COMMITTED, Watermark


@pytest.mark.parametrize("seed", range(3))
async def test_each_batch_is_stored_once_while_connections_are_killed(database_url: str, seed: int) -> None:
    rng = random.Random(seed)
    last = 150
    async with open_store_on(database_url) as store:
        sender = Sender(store, outboxes=4)
        committed_at_kill = -1
        with trio.fail_after(60):
            while min(sender.next.values()) <= last or min(sender.committed.values()) < last:
                for outbox_id in sender.next:
                    if sender.next[outbox_id] <= last:
                        sender.send(outbox_id, keys=range(40))
                await trio.sleep(rng.random() * 0.02)
                # At any moment, but not before something was committed since the last time: on a busy machine
                # a store that is killed every 100 ms never gets from its connection to its first commit.
                if rng.random() < 0.1 and sum(sender.committed.values()) > committed_at_kill:
                    committed_at_kill = sum(sender.committed.values())
                    run_sql(
                        database_url,
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid != pg_backend_pid()",
                    )
        assert store.stats.database_failures > 0
    counts = run_sql(database_url, "SELECT soc_mwhr, count(*) FROM samples GROUP BY soc_mwhr ORDER BY 1")
    assert counts == [(float(seq), 4 * 40) for seq in range(1, last + 1)]


async def test_a_commit_whose_answer_is_lost_is_not_made_twice(password_url: str) -> None:
    async with open_proxy(password_url) as proxy, open_store_on(proxy.url) as store:
        sender = Sender(store)
        for seq in range(1, 21):
            proxy.cut_after_next_commit = seq % 5 == 0
            sender.send(keys=range(10))
            await sender.until_all_committed(seq)
        assert proxy.cuts == 4
    assert run_sql(password_url, "SELECT count(*), count(DISTINCT soc_mwhr) FROM samples") == [(200, 20)]


async def test_a_server_that_hangs_is_noticed_and_found_again(
    password_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psycopg_database, "_WRITE_WITHIN_S", 0.5)
    async with open_proxy(password_url) as proxy, open_store_on(proxy.url) as store:
        sender = Sender(store)
        sender.send()
        await sender.until_all_committed(1)
        proxy.frozen = True
        sender.send()
        await until_health(store, r"error the database did not answer within 0\.5 s")
        proxy.thaw()
        await sender.until_all_committed(2)
        await until_health(store, "ok")


async def test_leaving_does_not_wait_for_a_server_that_hangs(password_url: str) -> None:
    async with open_proxy(password_url) as proxy:
        async with open_store_on(proxy.url) as store:
            proxy.frozen = True
            Sender(store).send()
            await trio.sleep(0.3)
            left = trio.current_time()
        # It waits for 3 s; the server's answer could take for ever, and a write 20 s.
        assert trio.current_time() - left < 15


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
            await sender.until_all_committed(40)
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
        with trio.fail_after(30):
            while sender.committed != {"box-0": 10, "box-1": 5}:
                await trio.sleep(0.01)
        assert store.stats.batches_unwritable == 1
    assert run_sql(database_url, "SELECT count(*) FROM samples") == [(14,)]


async def test_a_full_disk_is_reported_and_survived(database_url: str) -> None:
    async with open_store_on(database_url) as store:
        # As the server itself reports it when the disk is full: nothing here may fill a real one.
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
        await sender.until_all_committed(1)
        await until_health(store, "ok")
    assert run_sql(database_url, "SELECT count(*) FROM samples") == [(1,)]


async def test_a_watermark_has_the_time_of_its_batch_after_reconnects_and_restarts(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_ms = 1_800_000_000_000
    async with open_store_on(database_url) as store:
        sender = Sender(store, outboxes=2)
        for seq in range(1, 4):
            sender.send("box-0")
            sender.send("box-1")
            await sender.until_all_committed(seq)
        assert await store.watermark("box-0") == Watermark(3, first_ms + 3)
        run_sql(
            database_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid != pg_backend_pid()",
        )
        sender.send("box-0")
        sender.send("box-1")
        await sender.until_all_committed(4)
        assert await store.watermark("box-0") == Watermark(4, first_ms + 4)
    # With fewer watermarks read at its start than there are, the other one is looked up.
    monkeypatch.setattr(psycopg_database, "MAX_WATERMARKS", 1)
    async with open_store_on(database_url) as store:
        for outbox_id in ("box-0", "box-1"):
            assert await store.watermark(outbox_id) == Watermark(4, first_ms + 4)
        assert await store.watermark("box-2") == NOTHING_COMMITTED
        # The same number once more, of another time: nothing is written, and nothing changes.
        store.submit("box-0", 4, samples(first_ms + 99))
        store.submit("box-2", 1, samples(-(2**63)))
        await store.wait_idle()
        assert await store.watermark("box-0") == Watermark(4, first_ms + 4)
        # A time that no row can have is one that a watermark can.
        assert await store.watermark("box-2") == Watermark(1, -(2**63))
    assert run_sql(
        database_url,
        "SELECT outbox_id, batch_seq::int, batch_ts_unix_ms FROM ingest_watermarks "
        "WHERE outbox_id LIKE 'box%' ORDER BY 1",
    ) == [("box-0", 4, first_ms + 4), ("box-1", 4, first_ms + 4), ("box-2", 1, -(2**63))]


async def test_a_batch_whose_rows_are_refused_leaves_its_time(database_url: str) -> None:
    async with open_store_on(database_url) as store:
        run_sql(database_url, "ALTER TABLE samples ADD CONSTRAINT odd CHECK (soc_mwhr != 2)")
        sender = Sender(store)
        sender.send()
        sender.send()
        await sender.until_all_committed(2)
        assert store.stats.batches_unwritable == 1
        assert await store.watermark("box-0") == Watermark(2, 1_800_000_000_002)
