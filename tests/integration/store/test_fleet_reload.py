"""The fleet changes while the store is open: what is new is kept, what is retired can still be read."""

from dataclasses import replace

from tests.integration.store.senders import samples
from tests.integration.store.servers import SITE, asset, open_store_on, run_sql
from trioder.domain.fleet import Fleet

NOW_MS = 1_800_000_000_000


async def test_samples_of_an_added_asset_are_stored_and_those_of_a_changed_one_have_its_new_nameplate(
    database_url: str,
) -> None:
    fleet = Fleet(sites=(SITE,), assets=(asset(1), asset(2)))
    async with open_store_on(database_url, fleet=fleet) as store:
        store.store_unsequenced(samples(NOW_MS, keys=range(2)))
        await store.wait_idle()
        fleet.reload(Fleet(sites=(SITE,), assets=(asset(3), asset(1, capacity_mwhr=80.0))))
        store.fleet_changed()
        store.store_unsequenced(samples(NOW_MS + 1000, keys=range(3)))
        await store.wait_idle()
        assert store.health == "ok"
        assert len(await store.history(fleet.assets[2], limit=10)) == 1
        past = await store.history(fleet.assets[0], limit=10)
        assert [sample.telemetry.capacity_mwhr for sample in past] == [80.0, 40.0]
    in_fleet = run_sql(database_url, "SELECT id::text, in_fleet FROM assets ORDER BY id")
    assert in_fleet == [(asset(1).id, True), (asset(2).id, False), (asset(3).id, True)]


async def test_a_retired_asset_and_its_history_are_found_after_a_restart(database_url: str) -> None:
    other_site = replace(SITE, id=asset(90).id, name="Former site")
    retired = replace(asset(2), site_id=other_site.id, name="Former battery")
    fleet = Fleet(sites=(SITE, other_site), assets=(asset(1), retired))
    async with open_store_on(database_url, fleet=fleet) as store:
        store.store_unsequenced(samples(NOW_MS, keys=range(2)))
        await store.wait_idle()
    async with open_store_on(database_url, fleet=Fleet(sites=(SITE,), assets=(asset(1),))) as store:
        await store.wait_idle()
        found = await store.find_retired_asset(retired.id)
        assert found is not None
        assert (found.name, found.site_name, found.capacity_mwhr) == ("Former battery", "Former site", 40.0)
        assert len(await store.history(found, limit=10)) == 1
        assert await store.find_retired_asset(asset(1).id) is None
        assert await store.find_retired_asset(asset(77).id) is None


async def test_a_retired_asset_whose_site_has_gone_too_does_not_keep_the_database_from_being_used(
    database_url: str,
) -> None:
    other_site = replace(SITE, id=asset(90).id, name="Former site")
    retired = replace(asset(2), site_id=other_site.id)
    fleet = Fleet(sites=(SITE, other_site), assets=(asset(1), retired))
    # The database has never seen either.
    fleet.reload(Fleet(sites=(SITE,), assets=(asset(1),)))
    async with open_store_on(database_url, fleet=fleet) as store:
        store.store_unsequenced(samples(NOW_MS))
        await store.wait_idle()
        assert store.health == "ok"
        assert len(await store.history(fleet.assets[0], limit=10)) == 1
