"""Each batch is in the database once, whatever becomes of connections, servers and data."""

import random

import pytest
import trio

from tests.integration.store.proxy import open_proxy
from tests.integration.store.senders import Sender, until_health
from tests.integration.store.servers import (
    open_store_on,
    run_sql,
)
from trioder.store.postgres import psycopg_database


@pytest.mark.parametrize("seed", range(3))
async def test_each_batch_is_kept_once_while_connections_are_killed(database_url: str, seed: int) -> None:
    rng = random.Random(seed)
    last = 150
    async with open_store_on(database_url) as store:
        sender = Sender(store, outboxes=4)
        kept_at_kill = -1
        with trio.fail_after(60):
            while min(sender.next.values()) <= last or min(sender.kept.values()) < last:
                for outbox_id in sender.next:
                    if sender.next[outbox_id] <= last:
                        sender.send(outbox_id, keys=range(40))
                await trio.sleep(rng.random() * 0.02)
                # At any moment, but not before something was kept since the last time: on a busy machine a
                # store that is killed every 100 ms never gets from its connection to its first commit.
                if rng.random() < 0.1 and sum(sender.kept.values()) > kept_at_kill:
                    kept_at_kill = sum(sender.kept.values())
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
        await until_health(store, r"error the database did not answer within 0\.5 s")
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
        with trio.fail_after(30):
            while sender.kept != {"box-0": 10, "box-1": 5}:
                await trio.sleep(0.01)
        assert store.figures.batches_unwritable == 1
    assert run_sql(database_url, "SELECT count(*) FROM samples") == [(14,)]


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
