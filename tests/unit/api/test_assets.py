"""`/assets`: fields, filters and pages."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.unit.api.rest import make_fleet, open_rest, uuid_of


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


async def test_assets_are_listed_in_fleet_order_with_their_nameplate(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rows = await rest.get("/assets")
        assert ids(rows) == [asset.id for asset in rest.headend.fleet.assets]
        assert rows[0] == {
            "id": uuid_of(1000),
            "site_id": uuid_of(0),
            "site_name": "Site 0",
            "name": "Battery 0/0",
            "location": "Nowhere",
            "capacity_mwhr": 40.0,
            "max_mw": 10.0,
            "min_mw": -8.0,
            "efficiency": 0.9,
            "ramp_rate_mw_per_min": 100.0,
            "charge_efficiency": 0.9,
            "discharge_efficiency": 0.9,
            "min_soc_pct": 0.0,
            "max_soc_pct": 100.0,
            "aux_load_mw": 0.0,
            "self_discharge_pct_per_day": 0.0,
        }


async def test_one_asset_is_found_by_its_id_in_any_case(autojump_clock: object) -> None:
    async with open_rest() as rest:
        asset_id = uuid_of(1002)
        assert await rest.get(f"/assets/{asset_id.upper()}") == (await rest.get("/assets"))[2]


async def test_assets_of_one_site(autojump_clock: object) -> None:
    async with open_rest() as rest:
        assert ids(await rest.get(f"/assets?site_id={uuid_of(1).upper()}")) == [uuid_of(1002), uuid_of(1003)]


@pytest.mark.parametrize("site", ["", f"&site_id={uuid_of(1)}"])
async def test_the_pages_together_are_the_whole_list(autojump_clock: object, site: str) -> None:
    async with open_rest(fleet=make_fleet(assets_a_site=7)) as rest:
        whole = await rest.get(f"/assets?limit=1000{site}")
        pages, after = [], ""
        while page := await rest.get(f"/assets?limit=3{after}{site}"):
            assert len(page) <= 3
            pages += page
            after = f"&after={page[-1]['id']}"
        assert pages == whole


async def test_a_long_list_is_complete(autojump_clock: object) -> None:
    fleet = make_fleet(sites=3, assets_a_site=701)
    async with open_rest(fleet=fleet) as rest:
        assert ids(await rest.get("/assets")) == [asset.id for asset in fleet.assets]


@pytest.mark.parametrize(
    "junk",
    [
        "nope",
        "%00",
        "%ff%fe",
        "..%2f..%2fetc%2fpasswd",
        "%0d%0ax: y",
        "'; drop table assets",
        "é",
        "x" * 5000,
    ],
)
async def test_any_unknown_asset_id_is_not_found(autojump_clock: object, junk: str) -> None:
    async with open_rest() as rest:
        for path in (f"/assets/{quote(junk, safe='%')}", f"/telemetry/{quote(junk, safe='%')}"):
            status, body = await rest.ask("GET", path)
            assert (status, body["error"]) == (404, "not_found")
            assert len(body["message"]) < 300
            assert body["message"].isprintable()


async def test_unknown_ids_in_the_query_are_named(autojump_clock: object) -> None:
    async with open_rest() as rest:
        for name in ("site_id", "after"):
            status, body = await rest.ask("GET", f"/assets?{name}={uuid_of(77)}")
            assert status == 404
            assert uuid_of(77) in body["message"]


@pytest.mark.parametrize(
    ("query", "value", "rule"),
    [
        ("limit=0", "'0'", "from 1 to"),
        ("limit=-1", "'-1'", "from 1 to"),
        ("limit=ten", "'ten'", "whole number"),
        ("limit=1.5", "'1.5'", "whole number"),
        ("limit=", "''", "whole number"),
        ("limit=" + "9" * 100, "'999", "from 1 to"),
        ("limit=%D9%A1", "'\\u0661'", "whole number"),
        ("limit=1&limit=2", "limit is given 2 times", "once"),
        ("site_id=nope", "'nope'", "UUID"),
        ("site_id=%00%0a", "'\\x00\\n'", "UUID"),
        ("after=", "''", "UUID"),
        ("colour=red", "'colour'", "site_id, limit, after"),
    ],
)
async def test_a_bad_query_is_refused_with_the_value_and_the_rule(
    autojump_clock: object, query: str, value: str, rule: str
) -> None:
    async with open_rest() as rest:
        status, body = await rest.ask("GET", f"/assets?{query}")
        assert (status, body["error"]) == (400, "bad_request")
        assert value in body["message"]
        assert rule in body["message"]


async def test_head_has_no_body_and_the_length_of_get(autojump_clock: object) -> None:
    async with open_rest() as rest:
        got, headed = await rest.raw("GET", "/assets"), await rest.raw("HEAD", "/assets")
        assert (headed.status_code, headed.headers["content-length"]) == (200, got.headers["content-length"])
        assert json.loads(await got.get_data())
