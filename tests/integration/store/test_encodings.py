"""Databases that are not in UTF8: they work, or are refused in one sentence; at the start and later."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
import trio

from tests.integration.store.senders import Sender, keep, samples, until_health
from tests.integration.store.servers import FLEET, SITE, in_database, open_store_on, run_sql
from trioder.domain.fleet import Fleet
from trioder.store.records import SessionRecord


def fleet_named(name: str) -> Fleet:
    site = replace(SITE, name=name)
    return Fleet(sites=(site,), assets=tuple(replace(each, site_name=name) for each in FLEET.assets))


@contextmanager
def database_in(server_url: str, encoding: str) -> Iterator[str]:
    name = f"in_{encoding.lower()}"
    run_sql(server_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    run_sql(
        server_url,
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    try:
        yield in_database(server_url, name)
    finally:
        run_sql(server_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def make_database(server_url: str) -> Iterator[Callable[[str], str]]:
    with ExitStack() as stack:
        yield lambda encoding: stack.enter_context(database_in(server_url, encoding))


def session(agent_id: str) -> SessionRecord:
    return SessionRecord(
        session_id="3f1d2c4b-1111-4000-8000-000000000001",
        agent_id=agent_id,
        epoch=1,
        peer="127.0.0.1:1",
        asset_keys=[0],
        connected_ms=1_800_000_000_000,
    )


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("UTF8", "Straße 電池"), ("SQL_ASCII", "Straße 電池"), ("LATIN1", "Straße"), ("WIN1250", "Łódź")],
)
async def test_it_works_where_the_names_fit(
    make_database: Callable[[str], str], encoding: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    url = make_database(encoding)
    async with open_store_on(url, fleet=fleet_named(name)) as store:
        await keep(store, samples(1_800_000_000_000))
        store.open_session(session(agent_id=name))
        await store.wait_idle()
        assert [past.agent_id for past in await store.sessions(limit=5)] == [name]
        [past] = await store.history(FLEET.assets[0], limit=5)
        assert past.telemetry.site_id == SITE.id
    found = run_sql(f"{url}&client_encoding=UTF8", "SELECT name FROM sites")
    assert found == [(name,)]


async def test_a_url_that_asks_for_another_encoding_changes_nothing(
    make_database: Callable[[str], str],
) -> None:
    url = make_database("UTF8") + "&client_encoding=LATIN1"
    async with open_store_on(url, fleet=fleet_named("電池")) as store:
        assert (store.health, store.health_reason) == ("ok", "")


async def test_a_name_that_does_not_fit_is_refused_and_named_until_there_is_another_database(
    make_database: Callable[[str], str], server_url: str
) -> None:
    url = make_database("LATIN1")
    async with open_store_on(url, fleet=fleet_named("Halle 電池")) as store:
        assert store.health_reason == (
            "the database's encoding is LATIN1, which cannot hold the name 'Halle 電池' of the fleet file; "
            "UTF8 can: make a database with ENCODING 'UTF8' TEMPLATE template0, and name it in DATABASE_URL"
        )
        run_sql(server_url, "DROP DATABASE in_latin1 WITH (FORCE)")
        run_sql(server_url, "CREATE DATABASE in_latin1 TEMPLATE template0 ENCODING 'UTF8'")
        await until_health(store, "ok")
        # And back again, while it runs.
        run_sql(server_url, "DROP DATABASE in_latin1 WITH (FORCE)")
        run_sql(server_url, "CREATE DATABASE in_latin1 TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
        await until_health(store, "error .*encoding is LATIN1.*Halle 電池")


async def test_an_outbox_whose_name_does_not_fit_stops_no_other(make_database: Callable[[str], str]) -> None:
    url = make_database("LATIN1")
    async with open_store_on(url) as store:
        sender = Sender(store)
        assert store.submit("電池", 1, samples(1_800_000_000_000))
        sender.send()
        await sender.until_all_committed(1)
        with trio.fail_after(10):
            while store.stats.batches_unwritable == 0:
                await trio.sleep(0.01)
        sender.send()
        await sender.until_all_committed(2)
        assert store.health == "ok"
    assert run_sql(url, "SELECT outbox_id FROM ingest_watermarks WHERE outbox_id ~ '^box'") == [("box-0",)]
