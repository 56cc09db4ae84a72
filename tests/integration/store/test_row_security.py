"""Row-level security in a real database: what the role for reads sees without any filter in the query."""

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from tests.integration.store import tenants
from tests.integration.store.senders import until_health
from tests.integration.store.servers import open_store_on, own_database, run_sql
from tests.integration.store.tenants import (
    ALL_AT_A_AND_C,
    ASSETS,
    EAST,
    NORTH,
    NORTH_AT_A,
    NORTH_NOWHERE,
    RECORDS,
    SITES,
    SOUTH,
    name_of,
    record_id,
    session_id,
)
from trioder.domain.access import EVERYTHING, Scope
from trioder.store.postgres import dispatch_reads, reads, site_reads


@pytest.fixture
async def url(database_url: str) -> AsyncIterator[str]:
    await tenants.fill(database_url)
    return database_url


def as_reader(connection: psycopg.Connection, query: str, scope: Scope | None) -> list[tuple]:
    with connection.transaction():
        connection.execute("SET LOCAL ROLE trioder_reader")
        if scope is not None:
            connection.execute("SELECT set_config('trioder.tenant', %s, true)", [scope.tenant])
            if scope.site_ids is not None:
                sites = "{" + ",".join(scope.site_ids) + "}"
                connection.execute("SELECT set_config('trioder.sites', %s, true)", [sites])
        return connection.execute(query.encode()).fetchall()


def reader_sees(url: str, query: str, scope: Scope | None) -> list[tuple]:
    with psycopg.connect(url, autocommit=True) as connection:
        return as_reader(connection, query, scope)


# By what they show, without a WHERE. Assets 4 and 5 are retired, at sites a and c.
_BY_SITE = ["telemetry", "assets", "asset_versions", "samples JOIN asset_versions USING (asset_key)"]
_BY_RECORD = {
    "sessions": "session_id",
    "agent_sessions": "session_id",
    "asset_lists JOIN sessions USING (list_id)": "session_id",
    "dispatches": "dispatch_id",
    "dispatch_shares": "dispatch_id",
    "dispatch_resplits": "dispatch_id",
    "dispatch_members": "dispatch_id",
}
_SCOPES = {
    "north": (NORTH, {"a", "b"}, {"a", "ab"}, {"north"}),
    "south": (SOUTH, {"c"}, {"c"}, {"south"}),
    "nobody": (EAST, set(), set(), set()),
    "north at a": (NORTH_AT_A, {"a"}, {"a"}, {"north"}),
    "north nowhere": (NORTH_NOWHERE, set(), set(), {"north"}),
    "all at a and c": (ALL_AT_A_AND_C, {"a", "c"}, {"a", "c", "ac"}, {"north", "south", "*", ""}),
    "all": (EVERYTHING, {"a", "b", "c"}, set(RECORDS), {"north", "south", "*", ""}),
    "not set": (None, set(), set(), set()),
}


@pytest.mark.parametrize("name", _SCOPES)
async def test_the_reader_sees_its_scope_and_nothing_else(url: str, name: str) -> None:
    scope, sites, records, audited = _SCOPES[name]
    by_id = {site.id: site.name for site in SITES.values()}
    seen = reader_sees(url, "SELECT id::text FROM sites", scope)
    assert {by_id[site_id] for (site_id,) in seen} == sites
    for relation in _BY_SITE:
        found = reader_sees(url, f"SELECT site_id::text FROM {relation}", scope)
        expected = sorted(site.name for site in SITES.values() for each in ASSETS if each.site_id == site.id)
        assert sorted(by_id[site_id] for (site_id,) in found) == [one for one in expected if one in sites]
    for relation, key in _BY_RECORD.items():
        found = reader_sees(url, f"SELECT {key} FROM {relation}", scope)
        assert {name_of(uuid) for (uuid,) in found} == records, relation
    assert {tenant for (tenant,) in reader_sees(url, "SELECT tenant FROM audit", scope)} == audited


async def test_samples_without_their_assets_are_hidden_as_well(url: str) -> None:
    assert reader_sees(url, "SELECT count(*) FROM samples", NORTH) == [(3,)]
    assert reader_sees(url, "SELECT count(*) FROM samples", NORTH_AT_A) == [(2,)]
    assert reader_sees(url, "SELECT count(*) FROM samples", None) == [(0,)]
    [(partition,)] = run_sql(url, "SELECT tableoid::regclass::text FROM samples LIMIT 1")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader_sees(url, f"SELECT * FROM {partition}", EVERYTHING)


async def test_summaries_are_hidden_as_their_samples_are(url: str) -> None:
    run_sql(url, "CREATE TABLE summaries PARTITION OF telemetry_5m DEFAULT")
    run_sql(
        url,
        "INSERT INTO telemetry_5m (bucket, asset_key, samples, good, worst) "
        "SELECT now(), asset_key, 1, 1, 0 FROM asset_versions",
    )
    for scope, count in ((NORTH, 3), (NORTH_AT_A, 2), (EAST, 0), (EVERYTHING, 5), (None, 0)):
        assert reader_sees(url, "SELECT count(*) FROM telemetry_5m", scope) == [(count,)]


async def test_a_transaction_that_had_a_tenant_leaves_none_behind(url: str) -> None:
    # The setting is then an empty text, as is the tenant of some audit records.
    with psycopg.connect(url, autocommit=True) as connection:
        assert as_reader(connection, "SELECT count(*) FROM audit", EVERYTHING) == [(4,)]
        assert as_reader(connection, "SELECT current_setting('trioder.tenant', true)", None) == [("",)]
        for relation in ("audit", "sites", "sessions", "telemetry"):
            assert as_reader(connection, f"SELECT count(*) FROM {relation}", None) == [(0,)]


@pytest.mark.parametrize("site_ids", ["NULL", "'{}'"])
async def test_records_without_sites_are_for_those_who_see_all_sites(url: str, site_ids: str) -> None:
    for relation in ("sessions", "dispatches"):
        run_sql(url, f"UPDATE {relation} SET site_ids = {site_ids}")
        assert reader_sees(url, f"SELECT count(*) FROM {relation}", NORTH) == [(2,)]
        assert reader_sees(url, f"SELECT count(*) FROM {relation}", NORTH_AT_A) == [(0,)]


@pytest.mark.parametrize(
    "relation", ["ingest_watermarks", "identity_bindings", "telemetry_retention", "site_limits"]
)
async def test_the_reader_reads_nothing_that_it_needs_not(url: str, relation: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader_sees(url, f"SELECT * FROM {relation}", EVERYTHING)


@pytest.mark.parametrize("statement", ["INSERT INTO sites SELECT * FROM sites", "DELETE FROM sessions"])
async def test_the_reader_writes_nothing(url: str, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader_sees(url, statement, EVERYTHING)


async def test_the_owner_sees_everything(url: str) -> None:
    for relation, count in {"telemetry": 5, "sites": 3, "sessions": 4, "dispatches": 4, "audit": 4}.items():
        assert run_sql(url, f"SELECT count(*) FROM {relation}") == [(count,)]


async def test_a_query_whose_filter_was_forgotten_returns_the_scope_nevertheless(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (reads, dispatch_reads, site_reads):
        monkeypatch.setattr(module, "of_scope", lambda _: {"tenant": None, "site_ids": None})
    async with open_store_on(url, fleet=tenants.FLEET) as store:
        await until_health(store, "ok")
        assert list(await store.history(ASSETS[2], limit=9, scope=NORTH)) == []
        assert len(await store.history(ASSETS[2], limit=9, scope=SOUTH)) == 1
        sessions = await store.sessions(limit=9, scope=NORTH_AT_A)
        assert [name_of(each.session_id) for each in sessions] == ["a"]
        dispatches = await store.dispatches(limit=9, scope=SOUTH, whole=True)
        assert [(name_of(each.dispatch_id), len(each.members)) for each in dispatches] == [("c", 1)]
        assert await store.find_retired_asset(ASSETS[4].id, scope=NORTH) is None
        assert await store.find_session(session_id("c"), scope=NORTH) is None
        hour_ms = 1_800_000_000_000
        [bucket] = await store.site_history(
            None, resolution_s=3600, start_ms=hour_ms, end_ms=hour_ms + 3_600_000, limit=9, scope=SOUTH
        )
        assert bucket.assets == 2
        # The allocations of a dispatch have no filter of their own.
        assert await store.allocations(record_id("c"), limit=9, scope=NORTH) == []
        assert len(await store.allocations(record_id("c"), limit=9, scope=SOUTH) or ()) == 1


async def test_the_role_is_left_after_each_read(url: str) -> None:
    async with open_store_on(url, fleet=tenants.FLEET) as store:
        await until_health(store, "ok")
        for _ in range(3):
            assert len(await store.sessions(limit=9, scope=NORTH)) == 2
            assert len(await store.sessions(limit=9)) == 4
            assert list(await store.sessions(limit=9, scope=EAST)) == []


async def test_tables_in_a_schema_named_after_the_user_are_read(database_url: str) -> None:
    # `$user`, first in the default search path, is another schema for the role.
    [(user,)] = run_sql(database_url, "SELECT current_user")
    run_sql(database_url, f'CREATE SCHEMA "{user}"')
    await tenants.fill(database_url)
    assert run_sql(database_url, "SELECT schemaname FROM pg_tables WHERE tablename = 'audit'") == [(user,)]
    async with open_store_on(database_url, fleet=tenants.FLEET) as store:
        await until_health(store, "ok")
        assert len(await store.history(ASSETS[0], limit=9, scope=NORTH)) == 1
        assert store._database._reader._search_path is not None


@pytest.fixture
def other_database(server_url: str) -> Iterator[str]:
    with own_database(server_url) as other:
        yield other


async def test_two_databases_of_one_server_share_the_role(url: str, other_database: str) -> None:
    await tenants.fill(other_database)
    for each in (url, other_database):
        assert reader_sees(each, "SELECT count(*) FROM sessions", NORTH) == [(2,)]
