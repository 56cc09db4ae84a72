"""`/telemetry`: latest samples of one and many assets, their quality, and an empty history."""

import json
import math
import re

import pytest
import trio

from tests.unit.api.rest import make_fleet, open_rest, uuid_of
from trioder.domain.quality import Quality


async def test_the_latest_sample_of_an_asset(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.report(0, current_mw=-5.0)
        await trio.sleep(1.5)
        assert await rest.get(f"/telemetry/{uuid_of(1000).upper()}") == {
            "asset_id": uuid_of(1000),
            "site_id": uuid_of(0),
            "site_name": "Site 0",
            "timestamp": "2026-01-01T00:00:00.000Z",
            "soc_mwhr": 20.0,
            "soc_pct": 50.0,
            "capacity_mwhr": 40.0,
            "current_mw": -5.0,
            "setpoint_mw": -5.0,
            "max_mw": 10.0,
            "min_mw": -8.0,
            "status": "charging",
            "available_discharge_mw": 10.0,
            "available_charge_mw": 8.0,
            "source": "agent",
            "age_s": 1.5,
            "quality": "good",
            "dispatch_id": None,
            "remaining_s": None,
            "priority": None,
        }


async def test_a_sample_goes_stale(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.report(0)
        await trio.sleep(60)
        row = await rest.get(f"/telemetry/{uuid_of(1000)}")
        assert (row["quality"], row["age_s"]) == ("stale", 60.0)
        assert (await rest.get("/sites"))[0]["stale_assets"] == 2


async def test_samples_of_disconnected_assets_are_marked_as_synthesized(autojump_clock: object) -> None:
    async with open_rest(tick_s=4.0) as rest:
        await trio.sleep(9)
        rows = await rest.get("/telemetry")
        assert [(row["source"], row["quality"]) for row in rows] == [("synthesized", "synthesized")] * 4


async def test_an_asset_without_a_sample_is_omitted_from_the_list_and_not_found_by_id(
    autojump_clock: object,
) -> None:
    async with open_rest() as rest:
        rest.report(1, 3)
        assert [row["asset_id"] for row in await rest.get("/telemetry")] == [uuid_of(1001), uuid_of(1003)]
        status, body = await rest.ask("GET", f"/telemetry/{uuid_of(1000)}")
        assert (status, body["error"]) == (404, "not_found")
        assert uuid_of(1000) in body["message"]


async def test_the_latest_samples_by_id_and_by_site(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.report(0, 1, 2, 3)
        some = f"asset_id={uuid_of(1003).upper()}&asset_id={uuid_of(1000)}"
        assert [r["asset_id"] for r in await rest.get(f"/telemetry?{some}")] == [uuid_of(1000), uuid_of(1003)]
        rows = await rest.get(f"/telemetry?{some}&site_id={uuid_of(1)}")
        assert [row["asset_id"] for row in rows] == [uuid_of(1003)]


async def test_pages_of_telemetry_skip_assets_without_a_sample(autojump_clock: object) -> None:
    async with open_rest(fleet=make_fleet(assets_a_site=3)) as rest:
        rest.report(1, 4, 5)
        first = await rest.get("/telemetry?limit=2")
        assert [row["asset_id"] for row in first] == [uuid_of(1001), uuid_of(1004)]
        rest_of_it = await rest.get(f"/telemetry?limit=2&after={first[-1]['asset_id']}")
        assert [row["asset_id"] for row in rest_of_it] == [uuid_of(1005)]


async def test_every_unknown_id_is_named(autojump_clock: object) -> None:
    async with open_rest() as rest:
        query = f"asset_id={uuid_of(1000)}&asset_id={uuid_of(7)}&asset_id={uuid_of(8)}"
        status, body = await rest.ask("GET", f"/telemetry?{query}")
        assert status == 404
        assert uuid_of(7) in body["message"]
        assert uuid_of(8) in body["message"]
        assert uuid_of(1000) not in body["message"]


async def test_there_is_no_history_without_a_database(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.report(0)
        times = "start=2026-01-01T00:00:00Z&end=2026-01-01T01:00:00%2B00:30"
        assert await rest.get(f"/telemetry/{uuid_of(1000)}/history?limit=5&{times}") == []


@pytest.mark.parametrize(
    ("query", "value", "rule"),
    [
        ("limit=0", "'0'", "from 1 to 10000"),
        ("limit=10001", "'10001'", "from 1 to 10000"),
        ("start=yesterday", "'yesterday'", "RFC 3339"),
        ("end=2026-01-01T00:00:00", "'2026-01-01T00:00:00'", "RFC 3339"),
        ("start=9999-12-31T23:59:59-23:59", "9999", "RFC 3339"),
        ("start=2026-01-02T00:00:00Z&end=2026-01-01T00:00:00Z", "2026-01-02", "before"),
        ("site_id=x", "'site_id'", "limit, start, end"),
    ],
)
async def test_a_bad_query_of_history_is_refused(
    autojump_clock: object, query: str, value: str, rule: str
) -> None:
    async with open_rest() as rest:
        status, body = await rest.ask("GET", f"/telemetry/{uuid_of(1000)}/history?{query}")
        assert (status, body["error"]) == (400, "bad_request")
        assert value in body["message"]
        assert rule in body["message"]


async def test_the_history_of_an_unknown_asset_is_not_found(autojump_clock: object) -> None:
    async with open_rest() as rest:
        assert (await rest.ask("GET", f"/telemetry/{uuid_of(7)}/history"))[0] == 404


VALUES = ("soc_mwhr", "soc_pct", "current_mw", "setpoint_mw", "available_discharge_mw", "available_charge_mw")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
async def test_a_value_that_is_not_finite_is_null_and_suspect(autojump_clock: object, value: float) -> None:
    async with open_rest() as rest:
        rest.report(0, current_mw=value, soc_mwhr=value, available_mw=(value, value), quality=Quality.SUSPECT)
        for path in (f"/telemetry/{uuid_of(1000)}", "/telemetry"):
            response = await rest.raw("GET", path)
            text = (await response.get_data()).decode()
            assert not re.search("nan|inf(?!o)", text, re.IGNORECASE)
            body = json.loads(text)
            row = body[0] if isinstance(body, list) else body
            assert [row[name] for name in (*VALUES, "status")] == [None] * 7
            assert (row["quality"], row["max_mw"]) == ("suspect", 10.0)


@pytest.mark.parametrize("quality", [Quality.SUSPECT, Quality.BAD])
async def test_suspect_and_bad_samples_keep_their_quality_at_any_age(
    autojump_clock: object, quality: Quality
) -> None:
    async with open_rest() as rest:
        rest.report(0, current_mw=30.0, quality=quality)
        for age_s in (0.0, 100.0):
            row = await rest.get(f"/telemetry/{uuid_of(1000)}")
            assert (row["current_mw"], row["age_s"]) == (30.0, age_s)
            assert (row["quality"], row["status"]) == (quality.name.lower(), "discharging")
            await trio.sleep(100)


async def test_metrics_count_suspect_and_bad_assets(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.report(0, 1, quality=Quality.SUSPECT)
        rest.report(2, quality=Quality.BAD)
        rest.report(3)
        text = (await (await rest.raw("GET", "/metrics")).get_data()).decode()
        assert "\ntrioder_assets_suspect 2.0\n" in text
        assert "\ntrioder_assets_bad 1.0\n" in text
        for counter in ("suspect", "bad", "wrong_time", "repeated"):
            assert f"\ntrioder_samples_{counter}_total 0.0\n" in text
