"""The databases that there are: of other versions, of others, refused, away, or dropped."""

import re

import psycopg
import pytest

from tests.integration.store.senders import Sender, keep, samples, until_health
from tests.integration.store.servers import (
    FLEET,
    in_database,
    open_store_on,
    run_sql,
)
from trioder.process.wall_time import WallClock
from trioder.store.interface import StoreConfigurationError
from trioder.store.postgres import open_postgres_store
from trioder.store.postgres.schema import SCHEMA_VERSION, schema_text


async def test_the_schema_is_applied_once_and_by_hand_does_no_harm(database_url: str) -> None:
    for _ in range(2):
        async with open_store_on(database_url) as store:
            assert store.health == "ok"
    with psycopg.connect(database_url) as connection:
        connection.execute(schema_text().encode())
    assert run_sql(database_url, "SELECT version FROM schema_version") == [(SCHEMA_VERSION,)]


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


async def test_a_refused_login_is_reported_without_the_password_and_retried(password_url: str) -> None:
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


async def test_an_unavailable_server_is_reported() -> None:
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


async def test_a_dropped_database_is_created_again(database_url: str, server_url: str) -> None:
    name = re.search(r"/(test_\w+)\?", database_url)[1]
    async with open_store_on(database_url) as store:
        sender = Sender(store)
        sender.send()
        await sender.until_all_committed(1)
        run_sql(in_database(server_url, "postgres"), f"DROP DATABASE {name} WITH (FORCE)")
        sender.send()
        await until_health(store, "error")
        run_sql(server_url, f"CREATE DATABASE {name}")
        await sender.until_all_committed(2)
    assert run_sql(database_url, "SELECT soc_mwhr FROM samples") == [(2.0,)]
