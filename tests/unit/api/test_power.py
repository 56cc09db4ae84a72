"""`/fleet/power` and `/sites/{site_id}/power`: the last minutes of power."""

from collections.abc import Sequence
from typing import Any

import pytest
import trio

from tests.unit.api.rest import START_S, Rest, make_fleet, open_rest, uuid_of
from tests.unit.api.tenants import open_tenants, secret_of, site_id
from trioder.domain.fleet import Fleet
from trioder.domain.quality import Quality
from trioder.domain.telemetry import SitePower
from trioder.store.interface import StoreHealth, StoreUnavailableError
from trioder.store.none import NoneStore

START_MS = round(START_S * 1000)


class PowerStore(NoneStore):
    """Has the power of the first site in some periods of 15 s before the start and after it."""

    def __init__(self, *, live: int = 2, away_until_s: float = 0.0) -> None:
        super().__init__()
        self.live = live
        self.away_until_s = away_until_s
        self.asked: list[tuple[int, int, int]] = []

    @property
    def health(self) -> StoreHealth:
        return "ok"

    async def site_power(self, *, start_ms: int, end_ms: int, step_s: int) -> Sequence[SitePower]:
        await trio.lowlevel.checkpoint()
        self.asked.append((start_ms, end_ms, step_s))
        if trio.current_time() < self.away_until_s:
            raise StoreUnavailableError("gone for lunch")
        starts_ms = range(START_MS - 60_000, end_ms, 15_000)
        return [SitePower(uuid_of(0), ms, self.live, 7.0, 8.0) for ms in starts_ms]


async def report_for(rest: Rest, seconds: int, *keys: int, **values: Any) -> None:
    for _ in range(seconds):
        rest.report(*keys, **values)
        await trio.sleep(1)


async def points_of(rest: Rest, path: str = "/fleet/power") -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = (await rest.get(path))["points"]
    return points


async def test_a_point_is_added_every_few_seconds(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0, 1, 2)
        rest.report(0, 1, current_mw=5.0)
        rest.report(2, current_mw=-2.0)
        await rest.post(b'{"asset_id": "%s", "mw": 3.5}' % uuid_of(1000).encode())
        await trio.sleep(6)
        fleet = await rest.get("/fleet/power")
        assert (fleet["site_id"], fleet["step_s"]) == (None, 5)
        assert fleet["points"][-1] == {
            "at": "2026-01-01T00:00:05.000Z",
            "current_mw": 8.0,
            "setpoint_mw": 8.0,
            "requested_mw": 3.5,
            "assets": 4,
            "live_assets": 3,
        }
        site = await rest.get(f"/sites/{uuid_of(1).upper()}/power")
        assert site["site_id"] == uuid_of(1)
        assert site["points"][-1] == {
            "at": "2026-01-01T00:00:05.000Z",
            "current_mw": -2.0,
            "setpoint_mw": -2.0,
            "requested_mw": None,
            "assets": 2,
            "live_assets": 1,
        }


async def test_without_a_good_sample_the_power_is_not_known(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0, 1)
        await trio.sleep(6)
        rest.report(0, current_mw=5.0)
        rest.report(1, current_mw=5.0, quality=Quality.SUSPECT)
        await trio.sleep(20)
        points = await points_of(rest)
        # At 0 and 5 s there was none, at 20 s it is older than 12 s.
        assert [point["current_mw"] for point in points] == [None, None, 5.0, 5.0, None, None]
        assert [point["live_assets"] for point in points] == [0, 0, 1, 1, 0, 0]


async def test_samples_of_the_headends_model_count(autojump_clock: object) -> None:
    async with open_rest(tick_s=4.0) as rest:
        await trio.sleep(6)
        assert (await points_of(rest))[-1]["live_assets"] == 4


@pytest.mark.parametrize("assets", [1, 40])
async def test_runs_of_assets_are_added_as_single_ones_are(autojump_clock: object, assets: int) -> None:
    async with open_rest(fleet=make_fleet(sites=2, assets_a_site=assets)) as rest:
        keys = range(2 * assets)
        rest.connect(*keys)
        rest.report(*keys, current_mw=2.0)
        rest.report(0, current_mw=9.0, quality=Quality.BAD)
        await trio.sleep(6)
        first, second = [(await points_of(rest, f"/sites/{uuid_of(site)}/power"))[-1] for site in (0, 1)]
        assert (second["live_assets"], second["current_mw"]) == (assets, 2.0 * assets)
        assert first["live_assets"] == assets - 1
        assert first["current_mw"] == (2.0 * (assets - 1) if assets > 1 else None)


async def test_fifteen_minutes_are_kept(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0)
        await report_for(rest, 1100, 0)
        points = await points_of(rest)
        assert len(points) == 180
        assert points[0]["at"] == "2026-01-01T00:03:25.000Z"
        assert len(await points_of(rest, "/fleet/power?minutes=2")) == 24


async def test_a_caller_gets_the_sum_over_what_it_sees(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        await trio.sleep(6)

        async def newest(path: str, role: str, tenant: str) -> dict[str, Any]:
            body = await tenants.get(path, secret=secret_of(role, tenant))
            point: dict[str, Any] = body["points"][-1]
            return point

        assert (await newest("/fleet/power", "viewer", "*"))["assets"] == 8
        assert (await newest("/fleet/power", "viewer", "alpha"))["current_mw"] == 20.0
        assert (await newest("/fleet/power", "site", "alpha"))["current_mw"] == 10.0
        assert (await newest(f"/sites/{site_id('beta')}/power", "viewer", "beta"))["requested_mw"] == 1.0
        assert (await newest("/fleet/power", "viewer", "beta"))["requested_mw"] == 1.0


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/fleet/power?minutes=16", 400, "minutes is '16'; it must be a whole number from 1 to 15"),
        ("/fleet/power?minutes=0", 400, "minutes is '0'"),
        ("/sites/x/power", 400, "site_id is 'x'; it must be a UUID"),
        (f"/sites/{uuid_of(9)}/power", 404, "there is no site"),
    ],
)
async def test_what_is_refused(autojump_clock: object, path: str, status: int, says: str) -> None:
    async with open_rest() as rest:
        found, body = await rest.ask("GET", path)
        assert (found, says in body["message"]) == (status, True), body


async def test_minutes_before_the_start_come_from_the_store(autojump_clock: object) -> None:
    store = PowerStore()
    async with open_rest(store=store) as rest:
        await trio.sleep(1)
        assert store.asked == [(START_MS - 900_000, START_MS, 15)]
        points = await points_of(rest, f"/sites/{uuid_of(0)}/power")
        # That of the start itself is of more assets than the headend has heard of by then.
        assert [point["at"][14:19] for point in points] == ["59:15", "59:30", "59:45", "00:00"]
        assert points[0] == {
            "at": "2025-12-31T23:59:15.000Z",
            "current_mw": 7.0,
            "setpoint_mw": 8.0,
            "requested_mw": None,
            "assets": 2,
            "live_assets": 2,
        }


async def test_what_the_store_has_of_more_assets_replaces_points_after_the_start(
    autojump_clock: object,
) -> None:
    async with open_rest(store=PowerStore()) as rest:
        rest.connect(0, 1)
        await report_for(rest, 16, 0)
        await report_for(rest, 30, 0, 1)
        points = await points_of(rest, f"/sites/{uuid_of(0)}/power")
        power = {point["at"][14:19]: point["current_mw"] for point in points}
        # Until 15 s one of the two assets was missing; from then on the headend's own points are as good.
        assert power["00:15"] == 7.0
        assert "00:05" not in power
        assert power["00:20"] == power["00:45"] == 10.0


async def test_points_of_fewer_assets_are_left_out_beside_better_ones(autojump_clock: object) -> None:
    async with open_rest(store=PowerStore()) as rest:
        rest.connect(0, 1)
        # At the start itself no asset has been heard of.
        await trio.sleep(1)
        await report_for(rest, 40, 0, 1)
        points = await points_of(rest, f"/sites/{uuid_of(0)}/power")
        shown = [point["at"][14:19] for point in points]
        assert shown[3:7] == ["00:00", "00:05", "00:10", "00:15"]
        assert {point["live_assets"] for point in points} == {2}


async def test_the_store_is_asked_again_when_it_was_away(autojump_clock: object) -> None:
    store = PowerStore(away_until_s=10)
    async with open_rest(store=store) as rest:
        await trio.sleep(1)
        assert (await points_of(rest))[0]["at"] == "2026-01-01T00:00:00.000Z"
        await trio.sleep(100)
        assert (await points_of(rest))[0]["at"] == "2025-12-31T23:59:15.000Z"
        assert len(store.asked) == 3


async def test_a_store_without_these_minutes_changes_nothing(autojump_clock: object) -> None:
    async with open_rest(store=PowerStore(live=0)) as rest:
        await trio.sleep(100)
        points = await points_of(rest)
        assert {point["current_mw"] for point in points} == {None}
        assert points[-1]["at"] == "2026-01-01T00:01:40.000Z"


async def test_a_reload_adds_sites_and_leaves_the_others_curves(autojump_clock: object) -> None:
    fleet = make_fleet(sites=2)
    smaller = Fleet(sites=fleet.sites[:1], assets=fleet.assets[:2])
    async with open_rest(fleet=smaller) as rest:
        rest.connect(0)
        await report_for(rest, 6, 0)
        change = rest.headend.fleet.reload(fleet)
        rest.headend.latest.fleet_changed(change)
        rest.connect(2, agent_id="agent-2")
        await report_for(rest, 6, 0, 2, current_mw=3.0)
        first, second = [await points_of(rest, f"/sites/{uuid_of(site)}/power") for site in (0, 1)]
        assert [point["current_mw"] for point in first] == [5.0, 5.0, 3.0]
        assert [point["current_mw"] for point in second] == [3.0]
        assert [point["current_mw"] for point in await points_of(rest)] == [5.0, 5.0, 6.0]


@pytest.mark.parametrize("by_ms", [-600_000, 600_000])
async def test_a_step_of_the_clock_keeps_the_points(autojump_clock: object, by_ms: int) -> None:
    async with open_rest() as rest:
        rest.connect(0)
        await report_for(rest, 6, 0)
        before = await points_of(rest)
        rest.headend.wall.adjust(by_ms / 1000)
        rest.headend.recent_power.clock_stepped(by_ms)
        rest.headend.latest.clock_stepped(by_ms)
        after = await points_of(rest)
        shifted = {-600_000: "2025-12-31T23:50:05.000Z", 600_000: "2026-01-01T00:10:05.000Z"}
        assert (len(after), after[-1]["at"]) == (len(before), shifted[by_ms])


async def test_in_a_fleet_of_very_many_sites_points_are_further_apart(autojump_clock: object) -> None:
    async with open_rest(fleet=make_fleet(sites=20_000, assets_a_site=1)) as rest:
        await trio.sleep(1)
        fleet = await rest.get("/fleet/power?minutes=1")
        assert (fleet["step_s"], fleet["points"][0]["assets"]) == (15, 20_000)
