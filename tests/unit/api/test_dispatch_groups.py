"""`POST /dispatch` to groups: targets, allocations, and the errors of everything else."""

import json

import pytest

from tests.unit.api.rest import Rest, make_fleet, open_rest, uuid_of
from trioder.domain.fleet import Fleet, Site

# Two sites of two assets each, all of 10 MW discharge and 8 MW charge.
SITE = uuid_of(1)
ASSETS = [uuid_of(1000 + key) for key in range(4)]


def body(mw: float = 12.0, **fields: object) -> bytes:
    return json.dumps({"mw": mw, **fields}).encode()


def connect_all(rest: Rest) -> None:
    rest.connect(0, 1, 2, 3)
    rest.report(0, 1, 2, 3, current_mw=0.0)


async def nothing_was_commanded(rest: Rest) -> bool:
    return await rest.get("/dispatch") == [] and rest.headend.counters.dispatches_sent == 0


@pytest.mark.parametrize(
    ("target", "row", "shares"),
    [
        ({"asset_ids": [ASSETS[2], ASSETS[0].upper()]}, {"kind": "assets", "id": None}, {0: 6.0, 2: 6.0}),
        ({"site_id": SITE}, {"kind": "site", "id": SITE}, {2: 6.0, 3: 6.0}),
        ({"fleet": True}, {"kind": "fleet", "id": None}, {0: 3.0, 1: 3.0, 2: 3.0, 3: 3.0}),
    ],
)
async def test_the_total_is_split_over_the_target(
    autojump_clock: object, target: dict[str, object], row: dict[str, object], shares: dict[int, float]
) -> None:
    async with open_rest() as rest:
        connect_all(rest)
        status, response = await rest.post(body(duration_s=60, **target))
        assert status == 200
        assert (response["status"], response["target"], response["asset_id"]) == ("ok", row, None)
        assert (response["mw"], response["allocated_mw"], response["shortfall_mw"]) == (12.0, 12.0, 0.0)
        assert {row["asset_id"]: row["mw"] for row in response["allocations"]} == {
            ASSETS[key]: mw for key, mw in shares.items()
        }
        assert {row["code"] for row in response["allocations"]} == {"share"}
        assert "its share by headroom" in response["allocations"][0]["allocation"]
        assert response["by_state"] == {"sent": len(shares)}


async def test_a_shortfall_is_reported(autojump_clock: object) -> None:
    async with open_rest() as rest:
        connect_all(rest)
        status, response = await rest.post(body(mw=-40.0, fleet=True, duration_s=60, strategy="capacity"))
        assert (status, response["status"], response["strategy"]) == (200, "shortfall", "capacity")
        assert (response["allocated_mw"], response["shortfall_mw"]) == (-32.0, -8.0)
        assert {row["code"] for row in response["allocations"]} == {"limited_by_nameplate"}


async def test_an_asset_without_a_share_has_a_reason(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0)
        rest.report(0, current_mw=0.0)
        _, response = await rest.post(body(mw=4.0, asset_ids=ASSETS[:2]))
        assert (response["members"], response["left_out"]) == (1, 1)
        assert response["allocations"][1] == response["allocations"][1] | {
            "asset_id": ASSETS[1],
            "mw": None,
            "code": "not_connected",
            "allocation": "none: not connected",
            "state": None,
        }


async def test_the_allocations_can_be_omitted(autojump_clock: object) -> None:
    async with open_rest() as rest:
        connect_all(rest)
        status, response = await rest.ask(
            "POST",
            "/dispatch?allocations=false",
            data=body(fleet=True),
            headers={"content-type": "application/json"},
        )
        assert (status, response["allocations"], response["members"]) == (200, None, 4)


async def test_a_dry_run_has_the_same_response_and_dispatches_nothing(autojump_clock: object) -> None:
    async with open_rest() as rest:
        connect_all(rest)
        _, planned = await rest.post(body(fleet=True, dry_run=True))
        assert await nothing_was_commanded(rest)
        _, accepted = await rest.post(body(fleet=True))
        assert (planned["dispatch_id"], planned["dry_run"], accepted["dry_run"]) == (None, True, False)
        for name in ("mw", "allocated_mw", "shortfall_mw", "strategy", "status", "left_out"):
            assert planned[name] == accepted[name]
        shares = [
            [(row["asset_id"], row["mw"], row["allocation"]) for row in response["allocations"]]
            for response in (planned, accepted)
        ]
        assert shares[0] == shares[1]


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        ({}, 400, "it names none"),
        ({"asset_id": ASSETS[0], "site_id": SITE}, 400, "it names 2: asset_id, site_id"),
        ({"asset_ids": ASSETS, "fleet": True}, 400, "it names 2: asset_ids, fleet"),
        ({"fleet": False}, 400, "fleet is false"),
        ({"asset_ids": []}, 400, "asset_ids is empty"),
        ({"asset_ids": [ASSETS[0], ASSETS[1], ASSETS[0]]}, 400, f"names {ASSETS[0]} more than once"),
        ({"asset_ids": [ASSETS[0], uuid_of(7), uuid_of(8)]}, 404, f"{uuid_of(7)}, {uuid_of(8)}"),
        ({"asset_ids": [ASSETS[0], "x"]}, 400, "asset_ids[1] is 'x'; it must be a UUID"),
        ({"asset_ids": ASSETS[0]}, 400, "$.asset_ids"),
        ({"site_id": uuid_of(7)}, 404, uuid_of(7)),
        ({"site_id": "x"}, 400, "site_id is 'x'"),
        ({"fleet": "yes"}, 400, "$.fleet"),
        ({"fleet": True, "strategy": "best"}, 400, "$.strategy"),
        ({"fleet": True, "duration_s": 0}, 400, "duration_s is 0"),
        ({"fleet": True, "duration_s": -1}, 400, "duration_s is -1"),
        ({"fleet": True, "valid_until": "tomorrow"}, 400, "valid_until is 'tomorrow'"),
        ({"fleet": True, "valid_until": "2020-01-01T00:00:00Z"}, 400, "valid_until is 2020-01-01"),
        ({"fleet": True, "expires_in_s": -1}, 400, "expires_in_s is -1"),
        ({"fleet": True, "reversion_mw": 1e6}, 400, "reversion_mw is 1000000.0"),
        ({"asset_id": ASSETS[0], "strategy": "equal"}, 400, "strategy is given with asset_id"),
        ({"asset_id": ASSETS[0], "resplit": False}, 400, "resplit is given with asset_id"),
    ],
)
async def test_a_bad_group_is_refused_and_nothing_is_dispatched(
    autojump_clock: object, fields: dict[str, object], status: int, reason: str
) -> None:
    async with open_rest() as rest:
        connect_all(rest)
        refused, response = await rest.post(body(**fields))
        assert refused == status, response
        assert reason in response["message"]
        assert response["message"].isprintable()
        assert await nothing_was_commanded(rest)


async def test_a_total_that_is_not_finite_is_refused(autojump_clock: object) -> None:
    async with open_rest() as rest:
        connect_all(rest)
        status, response = await rest.post(b'{"fleet": true, "mw": NaN}')
        assert (status, response["error"]) == (400, "bad_request")
        assert await nothing_was_commanded(rest)


async def test_a_site_without_assets_is_refused(autojump_clock: object) -> None:
    fleet = make_fleet()
    empty = Site(id=uuid_of(77), name="Field", location="Nowhere", lat=None, lon=None)
    async with open_rest(fleet=Fleet(sites=(*fleet.sites, empty), assets=fleet.assets)) as rest:
        status, response = await rest.post(body(site_id=empty.id))
        assert status == 400
        assert "has no assets" in response["message"]


async def test_a_large_group_has_the_same_response_as_a_small_one(autojump_clock: object) -> None:
    assets = 1_100
    async with open_rest(fleet=make_fleet(sites=1, assets_a_site=assets)) as rest:
        rest.connect(*range(1_000))
        rest.report(*range(1_000))
        status, accepted = await rest.post(b'{"fleet": true, "mw": 500}')
        assert (status, accepted["status"], accepted["state"]) == (200, "ok", "sent")
        assert (accepted["members"], accepted["left_out"], accepted["dry_run"]) == (1_000, 100, False)
        rows = accepted["allocations"]
        assert [row["asset_id"] for row in rows] == [asset.id for asset in rest.headend.fleet.assets]
        assert sum(row["mw"] for row in rows[:1_000]) == pytest.approx(500.0)
        assert {(row["mw"], row["code"]) for row in rows[1_000:]} == {(None, "not_connected")}
        record = await rest.get(f"/dispatch/{accepted['dispatch_id']}")
        assert record["allocations"] == rows
        [listed] = await rest.get("/dispatch?allocations=true")
        assert listed == record
        assert (await rest.get("/dispatch"))[0] == record | {"allocations": None}


async def test_the_allocations_of_a_large_group_can_be_omitted(autojump_clock: object) -> None:
    async with open_rest(fleet=make_fleet(sites=1, assets_a_site=1_100)) as rest:
        response = await rest.raw("POST", "/dispatch?allocations=false", json={"fleet": True, "mw": 500.0})
        accepted = await response.get_json()
        assert (accepted["allocations"], accepted["left_out"]) == (None, 1_100)
        assert "Content-Length" in response.headers
        head = await rest.raw("HEAD", f"/dispatch/{accepted['dispatch_id']}")
        assert (head.status_code, await head.get_data()) == (200, b"")
