"""Reads with a scope, with and without row-level security; and headends whose user may not make the role."""

import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import psycopg
import pytest
from structlog.testing import capture_logs

from tests.integration.store import tenants
from tests.integration.store.senders import until_health
from tests.integration.store.servers import SITE, asset, open_store_on, run_password_server, run_sql
from tests.integration.store.tenants import (
    ALL_AT_A_AND_C,
    ASSETS,
    EAST,
    FLEET,
    NORTH,
    NORTH_AT_A,
    NORTH_NOWHERE,
    RECORDS,
    SOUTH,
    dispatch_named,
    name_of,
    record_dispatch,
    record_id,
    session_id,
)
from trioder.domain.access import EVERYTHING, Scope
from trioder.domain.fleet import Fleet
from trioder.store.interface import StoreUnavailableError
from trioder.store.postgres.store import PostgresStore
from trioder.store.records import SessionRecord

_WARNING = "reads are not under row-level security: queries filter by tenant nevertheless"


@pytest.fixture(scope="module")
def boss_url() -> Iterator[str]:
    with run_password_server("s3cret") as url:
        yield url


@pytest.fixture
def login_url(boss_url: str) -> Iterator[str]:
    """A login with a database of its own, and no role for reads on the server."""
    name = f"login_{secrets.token_hex(4)}"
    _drop_reader(boss_url)
    run_sql(boss_url, f"CREATE ROLE {name} LOGIN PASSWORD 'another'")
    run_sql(boss_url, f"CREATE DATABASE {name} OWNER {name}")
    yield boss_url.replace("boss:s3cret", f"{name}:another").replace("/postgres?", f"/{name}?")
    run_sql(boss_url, f"DROP DATABASE {name} WITH (FORCE)")
    _drop_reader(boss_url)
    run_sql(boss_url, f"DROP ROLE {name}")


def _reader_exists(url: str) -> bool:
    return run_sql(url, "SELECT count(*) FROM pg_roles WHERE rolname = 'trioder_reader'") == [(1,)]


def _drop_reader(url: str) -> None:
    if _reader_exists(url):
        run_sql(url, "DROP OWNED BY trioder_reader")
        run_sql(url, "DROP ROLE trioder_reader")


def _login(url: str) -> str:
    return url.partition("//")[2].partition(":")[0]


@pytest.fixture(params=["with the role", "without the role"])
async def store(
    request: pytest.FixtureRequest, database_url: str, login_url: str
) -> AsyncIterator[PostgresStore]:
    secured = request.param == "with the role"
    url = database_url if secured else login_url
    await tenants.fill(url)
    async with open_store_on(url, fleet=FLEET) as opened:
        await until_health(opened, "ok")
        assert (opened._database._reader._search_path is not None) == secured
        yield opened


_SEEN = {
    "north": (NORTH, {"a", "ab"}, {1, 2, 4}),
    "south": (SOUTH, {"c"}, {3, 5}),
    "nobody": (EAST, set(), set()),
    "north at a": (NORTH_AT_A, {"a"}, {1, 4}),
    "north nowhere": (NORTH_NOWHERE, set(), set()),
    "all at a and c": (ALL_AT_A_AND_C, {"a", "c", "ac"}, {1, 3, 4, 5}),
    "all": (EVERYTHING, set(RECORDS), {1, 2, 3, 4, 5}),
}


async def test_reads_return_what_lies_in_the_scope(store: PostgresStore) -> None:
    for scope, records, assets in _SEEN.values():
        sessions = await store.sessions(limit=99, scope=scope)
        assert {name_of(each.session_id) for each in sessions} == records
        dispatches = await store.dispatches(limit=99, scope=scope)
        assert {name_of(each.dispatch_id) for each in dispatches} == records
        for number, each in enumerate(ASSETS, start=1):
            past = await store.history(each, limit=9, scope=scope)
            assert len(past) == (number in assets)
            hour_ms = 1_800_000_000_000
            buckets = await store.history_buckets(
                each, resolution_s=3600, start_ms=hour_ms, end_ms=hour_ms + 3_600_000, limit=9, scope=scope
            )
            assert len(buckets) == (number in assets)
            retired = await store.find_retired_asset(each.id, scope=scope)
            assert (retired is not None) == (number in assets and number > 3)
        for name in RECORDS:
            found = await store.find_dispatch(dispatch_id=record_id(name), scope=scope)
            assert (found is not None) == (name in records)
            assert found is None or len(found.members) == len(RECORDS[name][1])


async def test_sessions_and_dispatches_of_an_asset_are_those_of_the_scope(store: PostgresStore) -> None:
    sessions = await store.sessions(limit=9, asset=ASSETS[0], scope=NORTH)
    assert {name_of(each.session_id) for each in sessions} == {"a", "ab"}
    dispatches = await store.dispatches(limit=9, asset=ASSETS[0], scope=NORTH)
    assert {name_of(each.dispatch_id) for each in dispatches} == {"a", "ab"}
    assert list(await store.dispatches(limit=9, asset=ASSETS[0], scope=SOUTH)) == []


async def test_identities_and_requesters_are_read_back(store: PostgresStore) -> None:
    [session] = await store.sessions(limit=9, scope=SOUTH)
    assert session.identity == "spiffe://x/tenant/south/agent/agent-c"
    [dispatch] = await store.dispatches(limit=9, scope=SOUTH)
    assert (dispatch.tenant, dispatch.requested_by) == ("south", "ops-south")


async def test_an_idempotency_key_is_its_tenants_own(store: PostgresStore) -> None:
    async def digest_of(scope: Scope) -> str | None:
        found = await store.find_dispatch(idempotency_key="key", scope=scope)
        return None if found is None else found.request_digest

    # All dispatches have this key; the newest of the tenant counts.
    assert await digest_of(NORTH) == "ab"
    assert await digest_of(SOUTH) == "c"
    assert await digest_of(EAST) is None
    assert await digest_of(EVERYTHING) == "ac"


async def test_a_dispatch_that_waits_to_be_written_is_found_within_its_scope(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store_on(database_url, fleet=FLEET) as store:
        await until_health(store, "ok")
        # Nothing is written from here on.
        monkeypatch.setattr(store._record_writer.queue, "first", lambda count: [])
        for name in RECORDS:
            record_dispatch(store, name)
        for scope, records, _ in _SEEN.values():
            for name in RECORDS:
                found = await store.find_dispatch(dispatch_id=record_id(name), scope=scope)
                assert (found is not None) == (name in records)


@pytest.mark.parametrize(("count", "seen"), [(256, 1), (257, 0)])
async def test_sessions_at_very_many_sites_are_for_those_who_see_all(
    database_url: str, count: int, seen: int
) -> None:
    sites = [replace(SITE, id=asset(1_000 + number).id, tenant="north") for number in range(count)]
    assets = [replace(asset(number), site_id=site.id) for number, site in enumerate(sites)]
    every_site = Scope(tenant="north", site_ids=frozenset(site.id for site in sites))
    async with open_store_on(database_url, fleet=Fleet(sites=sites, assets=assets)) as store:
        store.open_session(
            SessionRecord(
                session_id=session_id("a"),
                agent_id="agent",
                epoch=1,
                peer="x",
                asset_keys=range(count),
                connected_ms=1,
                tenant="north",
            )
        )
        await store.wait_idle()
        assert len(await store.sessions(limit=9, scope=NORTH)) == 1
        assert len(await store.sessions(limit=9, scope=every_site)) == seen


async def test_a_dispatch_of_which_only_a_part_waits_is_at_more_sites_than_that_part(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store_on(database_url, fleet=FLEET) as store:
        await until_health(store, "ok")
        monkeypatch.setattr(store._record_writer.queue, "first", lambda count: [])
        record_dispatch(store, "ab", keys=[0])
        assert await store.find_dispatch(dispatch_id=record_id("ab"), scope=NORTH) is not None
        assert await store.find_dispatch(dispatch_id=record_id("ab"), scope=NORTH_AT_A) is None


async def test_a_dispatch_that_gets_assets_at_another_site_leaves_the_scope_of_its_first(
    database_url: str,
) -> None:
    async with open_store_on(database_url, fleet=FLEET) as store:
        for keys, names in (([0], ["ab"]), ([1], []), ([], [])):
            record_dispatch(store, "ab", keys=keys)
            await store.wait_idle()
            found = await store.dispatches(limit=9, scope=NORTH_AT_A)
            assert [name_of(each.dispatch_id) for each in found] == names


async def test_a_dispatch_of_which_no_shares_are_on_record_is_at_no_site(store: PostgresStore) -> None:
    # As when they were dropped because there was no room.
    dispatch = replace(dispatch_named("a"), dispatch_id=record_id("f"), members=())
    store.record_dispatch(dispatch, changed=(), share_of=lambda key: pytest.fail(f"asked for {key}"))
    await store.wait_idle()
    for scope, expected in ((NORTH, True), (NORTH_AT_A, False), (NORTH_NOWHERE, False)):
        found = await store.dispatches(limit=9, scope=scope)
        assert ("f" in {name_of(each.dispatch_id) for each in found}) == expected


async def test_a_user_that_may_not_make_the_role_is_told_what_to_run(login_url: str, boss_url: str) -> None:
    async def warnings() -> list[dict]:
        with capture_logs() as lines:
            async with open_store_on(login_url, fleet=FLEET) as store:
                await until_health(store, "ok")
        return [line for line in lines if line["event"] == _WARNING]

    [warning] = await warnings()
    login = _login(login_url)
    remedy = f"CREATE ROLE trioder_reader NOLOGIN; GRANT trioder_reader TO {login}"
    assert warning["remedy"] == f"as superuser run: {remedy}"
    run_sql(boss_url, "CREATE ROLE trioder_reader NOLOGIN")
    [warning] = await warnings()
    assert warning["remedy"] == f"as superuser run: GRANT trioder_reader TO {login}"
    run_sql(boss_url, f"GRANT trioder_reader TO {login}")
    assert await warnings() == []
    with psycopg.connect(login_url) as connection:
        connection.execute("SET ROLE trioder_reader")
        assert connection.execute("SELECT count(*) FROM sites").fetchall() == [(0,)]


async def test_a_user_that_may_make_roles_makes_it(login_url: str, boss_url: str) -> None:
    run_sql(boss_url, f"ALTER ROLE {_login(login_url)} CREATEROLE")
    with capture_logs() as lines:
        async with open_store_on(login_url, fleet=FLEET) as store:
            await until_health(store, "ok")
            assert store._database._reader._search_path is not None
    assert not [line for line in lines if line["event"] == _WARNING]


async def test_a_role_to_which_the_policies_do_not_apply_is_not_used(login_url: str, boss_url: str) -> None:
    run_sql(boss_url, "CREATE ROLE trioder_reader NOLOGIN BYPASSRLS")
    run_sql(boss_url, f"GRANT trioder_reader TO {_login(login_url)}")
    with capture_logs() as lines:
        async with open_store_on(login_url, fleet=FLEET) as store:
            await until_health(store, "ok")
    [warning] = [line for line in lines if line["event"] == _WARNING]
    assert warning["reason"] == "row-level security does not apply to the role"


async def test_a_role_that_was_taken_away_meanwhile_shows_nothing(login_url: str, boss_url: str) -> None:
    run_sql(boss_url, "CREATE ROLE trioder_reader NOLOGIN")
    run_sql(boss_url, f"GRANT trioder_reader TO {_login(login_url)}")
    async with open_store_on(login_url, fleet=FLEET) as store:
        await until_health(store, "ok")
        run_sql(boss_url, f"REVOKE trioder_reader FROM {_login(login_url)}")
        with pytest.raises(StoreUnavailableError, match="permission denied"):
            await store.sessions(limit=9, scope=NORTH)


@pytest.mark.parametrize(("tenant", "sees"), [(None, 0), ("north", 3), ("*", 5)])
async def test_a_login_of_its_own_for_reading_sees_the_tenant_that_it_is_given(
    login_url: str, boss_url: str, tenant: str | None, sees: int
) -> None:
    run_sql(boss_url, f"ALTER ROLE {_login(login_url)} CREATEROLE")
    await tenants.fill(login_url)
    run_sql(boss_url, "DROP ROLE IF EXISTS dashboard")
    run_sql(boss_url, "CREATE ROLE dashboard LOGIN PASSWORD 'board'")
    run_sql(boss_url, "GRANT trioder_reader TO dashboard")
    if tenant is not None:
        run_sql(boss_url, f"ALTER ROLE dashboard SET trioder.tenant = '{tenant}'")
    url = login_url.replace(f"{_login(login_url)}:another", "dashboard:board")
    assert run_sql(url, "SELECT count(*) FROM telemetry") == [(sees,)]
