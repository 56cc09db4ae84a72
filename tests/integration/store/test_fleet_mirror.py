"""The fleet in the database's tables: `sites` and `assets` are what the fleet file says, to the letter."""

from dataclasses import replace

from tests.integration.store.servers import SITE, asset, open_store_on, run_sql
from trioder.domain.fleet import Fleet

# What an array, a row or a statement of SQL is written with, and what resembles none of it.
NAMES = [
    'says "hello"',
    'back\\slash \\" \\N',
    "{curly, braces}",
    "NULL",
    "it's; DROP TABLE assets --",
    "%s %(name)s",
    "Überlandwerk ⚡ 東京",
    " leading and trailing ",
]


def found(database_url: str) -> list[tuple[object, ...]]:
    return run_sql(
        database_url,
        "SELECT id::text, name, location, capacity_mwhr, max_mw, min_mw, in_fleet FROM assets ORDER BY id",
    )


def expected(fleet: Fleet, *, in_fleet: bool = True) -> list[tuple[object, ...]]:
    return [
        (each.id, each.name, each.location, each.capacity_mwhr, each.max_mw, each.min_mw, in_fleet)
        for each in fleet.assets
    ]


async def test_every_name_and_number_arrives_as_it_is(database_url: str) -> None:
    fleet = Fleet(
        sites=(
            replace(SITE, name=NAMES[0], location="", lat=-33.123456789012345, lon=151.0),
            replace(SITE, id=asset(90).id, name=NAMES[1], tenant="north"),
        ),
        assets=tuple(
            replace(asset(number, capacity_mwhr=1e-7 * number / 3), name=name, location=name)
            for number, name in enumerate(NAMES, start=1)
        ),
    )
    async with open_store_on(database_url, fleet=fleet) as store:
        await store.wait_idle()
        assert store.health == "ok"
    assert found(database_url) == expected(fleet)
    assert run_sql(
        database_url, "SELECT id::text, name, location, lat, lon, tenant FROM sites ORDER BY id"
    ) == [
        (site.id, site.name, site.location, site.lat, site.lon, site.tenant)
        for site in sorted(fleet.sites, key=lambda site: site.id)
    ]


async def test_what_left_the_fleet_is_kept_and_marked_as_such(database_url: str) -> None:
    before = Fleet(sites=(SITE,), assets=(asset(1), asset(2)))
    after = Fleet(sites=(SITE,), assets=(replace(asset(2), name="renamed"),))
    for fleet in (before, after):
        async with open_store_on(database_url, fleet=fleet) as store:
            await store.wait_idle()
    gone = Fleet(sites=(SITE,), assets=(asset(1),))
    assert found(database_url) == [*expected(gone, in_fleet=False), *expected(after)]


async def test_a_site_that_gets_another_tenant_is_mirrored(database_url: str) -> None:
    for tenant in ("north", "south"):
        fleet = Fleet(sites=(replace(SITE, tenant=tenant),), assets=(asset(1),))
        async with open_store_on(database_url, fleet=fleet) as store:
            await store.wait_idle()
    assert run_sql(database_url, "SELECT tenant FROM sites") == [("south",)]
