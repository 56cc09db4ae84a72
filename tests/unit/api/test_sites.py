"""`/sites` and `/fleet`: sums over live assets, counts of the others, available power."""

import math

import pytest
import trio

from tests.unit.api.rest import make_fleet, open_rest, uuid_of
from tests.unit.api.tenants import open_tenants, secret_of, site_id
from trioder.domain.alarms import Alarm, AlarmSource, Severity
from trioder.domain.quality import Quality

NOTHING = {"discharge_mw": 0.0, "charge_mw": 0.0}


async def test_sites_sum_over_their_live_assets(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.report(0, current_mw=5.0)
        first, second = await rest.get("/sites")
        assert first == {
            "id": uuid_of(0),
            "name": "Site 0",
            "tenant": "default",
            "location": "Nowhere",
            "lat": 1.5,
            "export_limit_mw": None,
            "import_limit_mw": None,
            "limits_until": None,
            "lon": -2.5,
            "assets": 2,
            "connected_assets": 0,
            "live_assets": 1,
            "stale_assets": 1,
            "by_quality": {"good": 1, "stale": 0, "suspect": 0, "bad": 0, "synthesized": 0},
            "capacity_mwhr": 80.0,
            "max_mw": 20.0,
            "min_mw": -16.0,
            "current_mw": 5.0,
            "setpoint_mw": 5.0,
            "soc_mwhr": 20.0,
            "requested_mw": None,
            "dispatched_assets": 0,
            "stopped_assets": 0,
            "alarms": {"critical": 0, "major": 0, "minor": 0, "warning": 0},
            "unacknowledged_alarms": 0,
            "available": {"now": NOTHING, "15_min": NOTHING, "60_min": NOTHING},
        }
        assert list(first)[:2] == ["id", "name"]
        assert (second["live_assets"], second["current_mw"]) == (0, 0.0)


async def test_the_fleet_is_the_sum_of_all(autojump_clock: object) -> None:
    async with open_rest(fleet=make_fleet(sites=3, assets_a_site=400)) as rest:
        rest.connect(*range(1000))
        rest.report(*range(1000), current_mw=-2.0)
        fleet = await rest.get("/fleet")
        assert (fleet["assets"], fleet["connected_assets"], fleet["live_assets"]) == (1200, 1000, 1000)
        assert (fleet["current_mw"], fleet["soc_mwhr"]) == (-2000.0, 20_000.0)
        sites = await rest.get("/sites")
        for name in ("capacity_mwhr", "max_mw", "current_mw", "stale_assets"):
            assert fleet[name] == sum(site[name] for site in sites)


async def test_stale_assets_are_excluded_from_sums_and_counted(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0, 1, 2, 3)
        rest.report(0, 1, current_mw=4.0)
        await trio.sleep(10)
        rest.report(2, current_mw=3.0)
        await trio.sleep(5)
        fleet = await rest.get("/fleet")
        assert fleet["by_quality"] == {"good": 1, "stale": 2, "suspect": 0, "bad": 0, "synthesized": 0}
        assert (fleet["live_assets"], fleet["stale_assets"], fleet["current_mw"]) == (1, 3, 3.0)


async def test_available_power_decreases_with_duration(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0, 1)
        # 20 of 40 MWh at 90 % each way, limits of 10 and 8 MW: more than an hour's worth of either.
        rest.report(0, current_mw=0.0, soc_mwhr=20.0, available_mw=(10.0, 10.0))
        # 5.6 MWh to discharge and 36 to charge.
        rest.report(1, current_mw=0.0, soc_mwhr=4.0, available_mw=(10.0, 10.0))
        available = (await rest.get("/fleet"))["available"]
        assert available["15_min"] == {"discharge_mw": 20.0, "charge_mw": 16.0}
        assert available["60_min"] == {"discharge_mw": pytest.approx(13.6), "charge_mw": 16.0}


async def test_available_power_for_a_duration_is_at_most_that_of_now(
    autojump_clock: object,
) -> None:
    async with open_rest() as rest:
        rest.connect(0, 1)
        rest.report(0, current_mw=0.0, available_mw=(0.0, 3.0))
        rest.report(1, current_mw=0.0)
        available = (await rest.get("/fleet"))["available"]
        assert available["now"] == {"discharge_mw": 10.0, "charge_mw": 11.0}
        assert available["15_min"] == available["now"]


async def test_the_power_of_disconnected_assets_is_not_available(autojump_clock: object) -> None:
    async with open_rest(tick_s=4.0) as rest:
        await trio.sleep(1)
        fleet = await rest.get("/fleet")
        assert fleet["by_quality"]["synthesized"] == fleet["live_assets"] == 4
        assert fleet["available"]["15_min"] == NOTHING


async def test_available_power_is_at_most_what_devices_report(
    autojump_clock: object,
) -> None:
    async with open_rest() as rest:
        rest.connect(0, 1)
        rest.report(0, current_mw=0.0, available_mw=(3.0, 3.0))
        # Noise of a device that can do nothing.
        rest.report(1, current_mw=0.0, available_mw=(-0.05, -0.05))
        available = (await rest.get("/fleet"))["available"]
        for horizon in ("now", "15_min", "60_min"):
            assert available[horizon] == {"discharge_mw": 3.0, "charge_mw": 3.0}


@pytest.mark.parametrize("quality", [Quality.SUSPECT, Quality.BAD])
@pytest.mark.parametrize("mw", [9.0, math.nan, -math.inf, 1e308])
async def test_suspect_and_bad_assets_are_excluded_from_sums_and_counted(
    autojump_clock: object, quality: Quality, mw: float
) -> None:
    async with open_rest() as rest:
        rest.connect(0, 1)
        rest.report(0, current_mw=4.0, available_mw=(5.0, 5.0))
        rest.report(1, current_mw=mw, soc_mwhr=mw, available_mw=(mw, mw), quality=quality)
        # However old it is.
        await trio.sleep(5)
        rest.report(0, current_mw=4.0, available_mw=(5.0, 5.0))
        await trio.sleep(11)
        fleet = await rest.get("/fleet")
        assert fleet["by_quality"] == {"good": 1, "stale": 0, "suspect": 0, "bad": 0, "synthesized": 0} | {
            quality.name.lower(): 1
        }
        assert (fleet["live_assets"], fleet["stale_assets"]) == (1, 2)
        assert (fleet["current_mw"], fleet["setpoint_mw"], fleet["soc_mwhr"]) == (4.0, 4.0, 20.0)
        assert fleet["available"]["now"] == {"discharge_mw": 5.0, "charge_mw": 5.0}
        site = (await rest.get("/sites"))[0]
        assert {name: site[name] for name in ("current_mw", "by_quality")} == {
            name: fleet[name] for name in ("current_mw", "by_quality")
        }


def alarm_at(number: int, *site_ids: str, severity: Severity = "major", tenant: str = "alpha") -> Alarm:
    return Alarm(
        alarm_id=uuid_of(70_000 + number),
        kind="device_fault",
        severity=severity,
        source=AlarmSource("agent", f"agent-{number}"),
        tenant=tenant,
        site_ids=site_ids,
        reason="of the device",
        raised_ms=1_767_225_600_000,
    )


async def test_the_open_alarms_of_a_site_are_counted_by_severity(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        register = tenants.rest.headend.alarms.register
        first, second = site_id("alpha"), site_id("alpha", 1)

        async def counts(role: str = "viewer") -> list[tuple[dict[str, int], int]]:
            sites = await tenants.get("/sites", secret=secret_of(role, "alpha"))
            return [(site["alarms"], site["unacknowledged_alarms"]) for site in sites]

        # The fixture's own.
        none, one = dict.fromkeys(("critical", "major", "minor", "warning"), 0), {"major": 1}
        assert await counts() == [(none | one, 1), (none, 0)]
        register.raise_alarm(alarm_at(1, first, second, severity="critical"))
        register.raise_alarm(alarm_at(2, second, severity="minor"))
        both = alarm_at(1, first, second, severity="critical")
        assert await counts() == [(none | one | {"critical": 1}, 2), (none | {"critical": 1, "minor": 1}, 2)]
        # To a caller of the first site alone, one that lists another site is not shown.
        assert await counts("site") == [(none | one, 1)]
        register.acknowledge(both, by="ann", comment=None)
        assert [unacknowledged for _, unacknowledged in await counts()] == [1, 1]
        register.clear(both)
        assert await counts() == [(none | one, 1), (none | {"minor": 1}, 1)]


async def test_what_open_dispatches_ask_for_is_summed(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0, 1)
        rest.report(0, 1, current_mw=0.0)
        before = await rest.raw("GET", "/fleet")
        status, made = await rest.post(b'{"fleet": true, "mw": 12}')
        assert status == 200
        fleet = await rest.get("/fleet")
        assert (fleet["requested_mw"], fleet["dispatched_assets"], fleet["stopped_assets"]) == (12.0, 2, 0)
        # Though no sample has come.
        unchanged = await rest.raw("GET", "/fleet", headers={"If-None-Match": before.headers["ETag"]})
        assert unchanged.status_code == 200
        assert (await rest.ask("DELETE", f"/dispatch/{made['dispatch_id']}"))[0] == 200
        fleet = await rest.get("/fleet")
        assert (fleet["requested_mw"], fleet["dispatched_assets"]) == (None, 0)
