"""The topic `sites` of the live feed: the sums of each site, where it is asked for."""

from typing import Any

import trio

from tests.unit.api.feeds import Follower, Received, follow, names
from tests.unit.api.rest import Rest, make_fleet, open_rest, uuid_of
from tests.unit.api.tenants import asset_ids, bearer, open_tenants, secret_of, site_id
from trioder.domain.fleet import Fleet


async def report_for(rest: Rest, seconds: float, *keys: int, **values: Any) -> None:
    for _ in range(round(seconds * 2)):
        rest.report(*keys, **values)
        await trio.sleep(0.5)


def rows_of(events: list[Received]) -> dict[str, Any]:
    """The newest row of each site."""
    return {row["id"]: row for event in events if event.name == "sites" for row in event.data["rows"]}


async def until_site(follower: Follower, site: int, **values: object) -> None:
    """Wait for a row of a site with these values."""
    while True:
        for row in (await follower.next("sites"))["rows"]:
            if row["id"] == uuid_of(site) and all(row[name] == value for name, value in values.items()):
                return


async def test_a_snapshot_has_every_site_as_get_sites_has_it(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0, 1)
        rest.report(0, 1, current_mw=2.5)
        async with follow(rest, "topics=sites") as follower:
            rows = rows_of(await follower.until("complete"))
        for site in await rest.get("/sites"):
            row = rows.pop(site["id"])
            assert row == {name: site[name] for name in row}
            assert {"current_mw", "requested_mw", "stopped_assets", "by_quality", "available"} <= row.keys()
        assert rows == {}


async def test_the_topic_is_sent_only_where_it_is_asked_for(autojump_clock: object) -> None:
    async with open_rest() as rest, follow(rest) as follower:
        events = await follower.within(6)
        assert events[0].data["topics"] == [
            "fleet",
            "telemetry",
            "dispatch",
            "schedules",
            "alarms",
            "sessions",
        ]
        assert "sites" not in names(events)
        async with follow(rest, "topics=sites,fleet") as other:
            assert (await other.event()).data["topics"] == ["fleet", "sites"]


async def test_a_site_is_sent_when_its_sums_change_and_not_before(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0)
        rest.report(0)
        async with follow(rest, "topics=sites") as follower:
            await follower.until("complete")
            # The first events may repeat the snapshot.
            await follower.within(1)
            assert set(names(await follower.within(8))) == {"heartbeat"}
            rest.report(0, current_mw=-3.0)
            changed = await follower.next("sites")
            assert [(row["id"], row["current_mw"]) for row in changed["rows"]] == [(uuid_of(0), -3.0)]
            # Age alone makes it stale.
            await until_site(follower, 0, live_assets=0, stale_assets=2)


async def test_sites_are_sent_at_most_every_two_seconds(autojump_clock: object) -> None:
    async with open_rest() as rest, follow(rest, "topics=sites") as follower:
        rest.connect(0)
        await follower.until("complete")
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(_report_later, rest, number * 0.25, float(number) / 10)
            events = await follower.within(10)
        assert 4 <= names(events).count("sites") <= 6


async def _report_later(rest: Rest, after_s: float, mw: float) -> None:
    await trio.sleep(after_s)
    rest.report(0, current_mw=mw)


async def test_a_client_that_reconnects_has_the_newest_sums(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0, 2)
        rest.report(0, 2)
        async with follow(rest, "topics=sites") as follower:
            await follower.until("complete")
            await report_for(rest, 6, 0, 2)
            await follower.within(0.5)
            last_id = follower.last_id
        await report_for(rest, 4, 0, current_mw=7.5)
        async with follow(rest, "topics=sites", headers={"Last-Event-ID": last_id}) as follower:
            events = await follower.until("complete")
            events += await follower.within(2.5)
        assert events[0].data["resumed"]
        assert rows_of(events)[uuid_of(0)]["current_mw"] == 7.5


async def test_filters_and_scopes_select_sites(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        for secret, query, sites in (
            (secret_of("viewer", "alpha"), "", {site_id("alpha"), site_id("alpha", 1)}),
            (secret_of("site", "alpha"), "", {site_id("alpha")}),
            (secret_of("viewer", "*"), f"&site_id={site_id('beta')}", {site_id("beta")}),
            # Of some of a site's assets there are no sums of the site.
            (secret_of("viewer", "alpha"), f"&asset_id={asset_ids('alpha')[0]}", set()),
        ):
            async with follow(tenants.rest, f"topics=sites{query}", headers=bearer(secret)) as follower:
                assert rows_of(await follower.until("complete")).keys() == sites


async def test_a_reload_begins_anew_with_the_sites_there_are(autojump_clock: object) -> None:
    fleet = make_fleet(sites=2)
    smaller = Fleet(sites=fleet.sites[:1], assets=fleet.assets[:2])
    async with open_rest(fleet=smaller) as rest:
        rest.headend.reloader._read = lambda: fleet
        async with follow(rest, "topics=sites") as follower:
            assert rows_of(await follower.until("complete")).keys() == {uuid_of(0)}
            await rest.headend.reloader.reload()
            await follower.until("begin")
            assert rows_of(await follower.until("complete")).keys() == {uuid_of(0), uuid_of(1)}
