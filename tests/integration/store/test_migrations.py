"""Databases of older versions: they become today's, and what is in them can still be read."""

from dataclasses import replace
from pathlib import Path

import msgspec
import psycopg
import pytest

from tests.integration.store.senders import samples, until_health
from tests.integration.store.servers import FLEET, in_database, open_store_on, own_database, run_sql
from trioder.domain.access import EVERYTHING, Scope
from trioder.domain.dispatch import (
    AssetSetpointRecord,
    DispatchRecord,
    DispatchTarget,
    ExcludedAssetRecord,
    ReallocationRecord,
)
from trioder.store.postgres.schema import SCHEMA_VERSION, migrations, schema_text
from trioder.store.records import Watermark

_FOLDER = Path(__file__).with_name("schemas")
_OLDER = range(1, SCHEMA_VERSION)
_CATALOG = {
    "columns": "SELECT table_name, column_name, ordinal_position > 0, data_type, is_nullable, column_default "
    "FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, ordinal_position",
    "views": "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' ORDER BY viewname",
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname",
    "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
    "WHERE connamespace = 'public'::regnamespace AND contype != 'n' ORDER BY 1, 2",
    "triggers": "SELECT tgname, tgenabled, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal "
    "ORDER BY tgname",
    "functions": "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace "
    "ORDER BY proname",
    "policies": "SELECT * FROM pg_policies WHERE schemaname = 'public' ORDER BY tablename, policyname",
    "relations": "SELECT relname, relkind, reloptions, relrowsecurity, relforcerowsecurity FROM pg_class "
    "WHERE relnamespace = 'public'::regnamespace AND relkind != 'i' ORDER BY relname",
}


def catalog(url: str) -> dict[str, list[tuple]]:
    return {name: run_sql(url, query) for name, query in _CATALOG.items()}


def make_database_of(version: int, url: str) -> None:
    """Make what a headend of that version made, with its fleet and a day of samples."""
    with psycopg.connect(url) as connection:
        connection.execute((_FOLDER / f"version_{version}.sql").read_text().encode())
        connection.execute("UPDATE schema_version SET digest = 'of that version'")
        asset = FLEET.assets[0]
        connection.execute(
            "INSERT INTO sites VALUES (%s, 'Site', 'Somewhere', NULL, NULL, true)", [asset.site_id]
        )
        connection.execute(
            "INSERT INTO assets VALUES (%s, %s, 'a', 'b', 40, 10, -10, 1, 1, 10, 0, 100, 0, 0, true)",
            [asset.id, asset.site_id],
        )
        connection.execute(
            "INSERT INTO asset_versions (asset_id, site_id, capacity_mwhr, max_mw, min_mw) "
            "VALUES (%s, %s, 40, 10, -10)",
            [asset.id, asset.site_id],
        )
        connection.execute("CREATE TABLE samples_20270115 (LIKE samples INCLUDING ALL)")
        connection.execute(
            "ALTER TABLE samples ATTACH PARTITION samples_20270115 "
            "FOR VALUES FROM ('2027-01-15') TO ('2027-01-16')"
        )
        connection.execute(
            "INSERT INTO samples VALUES ('2027-01-15 12:00+00', 20, 1, 1, 10, 10, 1, 0), "
            "('2027-01-15 12:01+00', 21, 1, 1, 10, 10, 1, 1), ('2020-01-01', 22, 1, 1, 10, 10, 1, 0)"
        )


def test_every_older_version_has_its_migration_and_its_schema_here() -> None:
    assert list(migrations()) == [version + 1 for version in _OLDER]
    assert {file.name for file in _FOLDER.iterdir()} == {f"version_{version}.sql" for version in _OLDER}


@pytest.mark.parametrize("version", _OLDER)
async def test_a_migrated_database_is_as_a_new_one(version: int, database_url: str, server_url: str) -> None:
    make_database_of(version, database_url)
    run_sql(database_url, "DROP TABLE samples_20270115")
    async with open_store_on(database_url) as store:
        await until_health(store, "ok")
    with own_database(in_database(server_url, "postgres")) as new_url:
        async with open_store_on(new_url) as store:
            await until_health(store, "ok")
        assert catalog(database_url) == catalog(new_url)


@pytest.mark.parametrize("version", _OLDER)
async def test_samples_of_before_have_the_quality_of_their_source(version: int, database_url: str) -> None:
    make_database_of(version, database_url)
    async with open_store_on(database_url) as store:
        await until_health(store, "ok")
        past = await store.history(FLEET.assets[0], limit=10)
    found = [(sample.telemetry.soc_mwhr, sample.quality) for sample in past]
    assert found == [(21.0, "synthesized"), (20.0, "good"), (22.0, "good")]
    assert run_sql(database_url, "SELECT soc_mwhr, quality FROM telemetry ORDER BY ts DESC") == found


async def test_a_quality_column_is_added_without_touching_the_rows(database_url: str) -> None:
    make_database_of(2, database_url)
    of_files = (
        "SELECT relname, relfilenode FROM pg_class WHERE relname ~ '^samples_' AND relkind = 'r' ORDER BY 1"
    )
    before = run_sql(database_url, of_files)
    async with open_store_on(database_url) as store:
        await until_health(store, "ok")
    after = dict(run_sql(database_url, of_files))
    assert len(before) == 2
    assert before == [(name, after[name]) for name, _ in before]


@pytest.mark.parametrize("version", _OLDER)
async def test_older_watermarks_have_no_time_until_their_next_batch(version: int, database_url: str) -> None:
    make_database_of(version, database_url)
    run_sql(database_url, "INSERT INTO ingest_watermarks (outbox_id, batch_seq) VALUES ('box-0', 7)")
    async with open_store_on(database_url) as store:
        await until_health(store, "ok")
        assert await store.watermark("box-0") == Watermark(7, None)
        store.submit("box-0", 7, samples(1_800_000_000_007))
        await store.wait_idle()
        assert await store.watermark("box-0") == Watermark(7, None)
        store.submit("box-0", 8, samples(1_800_000_000_008))
        await store.wait_idle()
        assert await store.watermark("box-0") == Watermark(8, 1_800_000_000_008)


def encoded(records: object) -> bytes:
    """The same for lists and tuples."""
    return msgspec.json.encode(records)


def record_of_before() -> DispatchRecord:
    dispatch_id = "3f1d2c4b-0000-4000-8000-0000000000bb"
    members = tuple(
        AssetSetpointRecord(
            asset_id=asset.id,
            mw=1.0 / 3.0,
            reversion_mw=0.5,
            wire_id=dispatch_id,
            code="share",
            allocation="a third",
            state="accepted",
            held_mw=None if number else 0.25,
            answer="ok" if number else None,
            sent_ms=1_800_000_000_001 + number,
            answered_ms=1_800_000_000_123,
            ends_ms=1_800_000_060_000,
        )
        for number, asset in enumerate(FLEET.assets[2:0:-1])
    )
    return DispatchRecord(
        dispatch_id=dispatch_id,
        target=DispatchTarget(kind="assets"),
        mw=1.0,
        allocated_mw=2.0 / 3.0,
        shortfall_mw=1.0 / 3.0,
        valid_until_ms=1_800_000_060_000,
        expires_in_s=7.5,
        strategy="headroom",
        resplit=True,
        dispatched_ms=1_800_000_000_000,
        ends_ms=1_800_000_060_000,
        state="accepted",
        is_open=True,
        idempotency_key="k-1",
        request_digest="d",
        resplits=(
            ReallocationRecord(at_ms=6, wire_id="w", dropped=(("a", "b"),), changed=1, shortfall_mw=0.5),
            ReallocationRecord(at_ms=9, wire_id="", dropped=(), changed=0, shortfall_mw=1.0),
        ),
        by_state={"accepted": 2},
        assets_left_out=1,
        members=members,
        left_out=(ExcludedAssetRecord(asset_id=FLEET.assets[3].id, code="stale", allocation="none: stale"),),
    )


async def test_dispatches_of_version_2_become_rows(database_url: str) -> None:
    make_database_of(2, database_url)
    recorded = record_of_before()
    lone = replace(
        recorded,
        dispatch_id="3f1d2c4b-0000-4000-8000-0000000000cc",
        target=DispatchTarget(kind="asset", id=FLEET.assets[1].id),
        is_open=False,
        idempotency_key=None,
        strategy=None,
        valid_until_ms=None,
        duration_s=60,
        dispatched_ms=1_800_000_001_000,
        members=recorded.members[1:],
        left_out=(),
        resplits=(),
    )
    for record in (recorded, lone):
        run_sql(
            database_url,
            "INSERT INTO dispatches SELECT %s, %s, nullif(%s, '')::uuid, '{}', %s, %s, %s, %s, %s, %s, "
            "to_timestamp(%s / 1000.0), to_timestamp(%s / 1000.0), %s, %s, %s, %s::jsonb",
            record.dispatch_id,
            record.target.kind,
            record.target.id,
            record.mw,
            record.allocated_mw,
            record.shortfall_mw,
            record.duration_s,
            record.reversion_mw,
            record.strategy,
            record.dispatched_ms,
            record.ends_ms,
            record.state,
            record.is_open,
            record.idempotency_key,
            msgspec.json.encode(record).decode(),
        )
    # Somebody's own view on what keeps its name.
    run_sql(database_url, "CREATE VIEW mine AS SELECT asset_id, mw FROM dispatch_members")
    async with open_store_on(database_url) as store:
        await until_health(store, "ok")
        assert encoded(await store.open_dispatches()) == encoded([recorded])
        assert encoded(await store.find_dispatch(idempotency_key="k-1")) == encoded(recorded)
        assert encoded(await store.dispatches(limit=5, whole=True)) == encoded([lone, recorded])
        of_one = await store.dispatches(limit=5, asset=FLEET.assets[2], whole=True)
        assert encoded(of_one) == encoded([recorded])
    assert len(run_sql(database_url, "SELECT * FROM mine")) == 3


async def test_dispatches_of_version_1_become_rows(database_url: str) -> None:
    make_database_of(1, database_url)
    asset_id = FLEET.assets[0].id
    run_sql(
        database_url,
        "INSERT INTO dispatches VALUES (gen_random_uuid(), %s, -3, 60, '2027-01-15', 'acknowledged', "
        "'2027-01-15 00:00:01', 'ok', 'why'), "
        "(gen_random_uuid(), %s, 1, 9000000000000000000, '2027-01-14', 'replaced', NULL, NULL, NULL)",
        asset_id,
        asset_id,
    )
    async with open_store_on(database_url) as store:
        await until_health(store, "ok")
        first, second = await store.dispatches(limit=10, whole=True)
        assert await store.open_dispatches() == []
    assert (first.mw, first.duration_s, first.state, first.by_state) == (
        -3.0,
        60,
        "accepted",
        {"accepted": 1},
    )
    [member] = first.members
    assert (member.asset_id, member.answer, member.reason) == (asset_id, "ok", "why")
    assert first.ends_ms == first.dispatched_ms + 60_000
    assert (second.state, second.ends_ms) == ("superseded", None)


async def test_a_database_that_went_through_version_2_keeps_the_dispatches_of_version_1(
    database_url: str,
) -> None:
    make_database_of(1, database_url)
    run_sql(
        database_url,
        "INSERT INTO dispatches VALUES (gen_random_uuid(), %s, -3, 60, '2027-01-15', 'sent')",
        FLEET.assets[0].id,
    )
    # As the headend of version 2 applied it.
    with psycopg.connect(database_url) as connection:
        connection.execute((_FOLDER / "version_2.sql").read_text().encode())
    async with open_store_on(database_url) as store:
        await until_health(store, "ok")
        [only] = await store.dispatches(limit=10)
    assert (only.mw, only.state) == (-3.0, "sent")
    assert run_sql(database_url, "SELECT to_regclass('dispatches_v1') IS NULL") == [(True,)]


async def test_records_of_version_3_belong_to_the_default_tenant_and_to_no_site(database_url: str) -> None:
    make_database_of(3, database_url)
    asset = FLEET.assets[0]
    run_sql(database_url, "INSERT INTO asset_lists (digest, asset_keys) VALUES ('x', '{1}')")
    run_sql(
        database_url,
        "INSERT INTO sessions (session_id, agent_id, epoch, peer, list_id, connected_at) "
        "SELECT gen_random_uuid(), 'agent', 1, 'peer', list_id, now() FROM asset_lists",
    )
    run_sql(
        database_url,
        "INSERT INTO dispatches VALUES (gen_random_uuid(), 'asset', %s, 1, 1, 0, NULL, 0, NULL, now(), NULL, "
        "'completed', false, 'key', NULL, 60, false, 'digest', '{}', 0)",
        asset.id,
    )
    default, other = Scope(tenant="default"), Scope(tenant="north")
    site = Scope(tenant="default", site_ids=frozenset({asset.site_id}))
    async with open_store_on(database_url) as store:
        await until_health(store, "ok")
        [session] = await store.sessions(limit=5, scope=default)
        [dispatch] = await store.dispatches(limit=5, scope=default)
        for scope in (other, site):
            assert list(await store.sessions(limit=5, scope=scope)) == []
            assert list(await store.dispatches(limit=5, scope=scope)) == []
        for scope in (default, EVERYTHING):
            found = await store.find_dispatch(idempotency_key="key", scope=scope)
            assert found is not None
            assert found.dispatch_id == dispatch.dispatch_id
        assert await store.find_dispatch(idempotency_key="key", scope=other) is None
    assert session.identity == ""
    assert (dispatch.tenant, dispatch.requested_by) == ("default", "")


async def test_a_headend_of_version_3_can_go_on_writing_while_another_one_migrates(database_url: str) -> None:
    async with open_store_on(database_url) as store:
        await until_health(store, "ok")
    run_sql(
        database_url,
        "INSERT INTO sites (id, name, location, lat, lon, in_fleet) "
        "VALUES (gen_random_uuid(), 'a', 'b', NULL, NULL, true)",
    )
    run_sql(database_url, "INSERT INTO asset_lists (digest, asset_keys) VALUES ('x', '{1}')")
    run_sql(
        database_url,
        "INSERT INTO sessions (session_id, agent_id, epoch, peer, list_id, connected_at, disconnected_at, "
        "reason) SELECT gen_random_uuid(), 'agent', 1, 'peer', list_id, now(), NULL, NULL FROM asset_lists",
    )
    run_sql(
        database_url,
        "INSERT INTO dispatches (dispatch_id, target, target_id, mw, allocated_mw, shortfall_mw, duration_s, "
        "reversion_mw, strategy, dispatched_at, ends_at, state, living, idempotency_key, valid_until, "
        "expires_in_s, resplit, request_digest, by_state, assets_left_out) VALUES (gen_random_uuid(), "
        "'fleet', NULL, 1, 1, 0, NULL, 0, NULL, now(), NULL, 'completed', false, NULL, NULL, 60, false, "
        "NULL, '{}', 0)",
    )


@pytest.mark.parametrize("older", [2, 3])
def test_headends_of_older_versions_find_a_newer_version_and_refuse_it(older: int, database_url: str) -> None:
    run_sql(database_url, schema_text())
    # What they ask for: version 2 the digest as well.
    query = {2: "SELECT version, digest FROM schema_version", 3: "SELECT version FROM schema_version"}[older]
    assert max(row[0] for row in run_sql(database_url, f"{query} ORDER BY version")) > older
