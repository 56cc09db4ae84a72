"""Commands to many assets by REST: whom they are for, what each gets, and how everything else is refused."""

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
    rest.tell(0, 1, 2, 3, current_mw=0.0)


async def nothing_was_commanded(rest: Rest) -> bool:
    return await rest.get("/dispatch") == [] and rest.headend.counters.dispatches_sent == 0


@pytest.mark.parametrize(
    ("target", "told", "shares"),
    [
        ({"asset_ids": [ASSETS[2], ASSETS[0].upper()]}, {"kind": "assets", "id": None}, {0: 6.0, 2: 6.0}),
        ({"site_id": SITE}, {"kind": "site", "id": SITE}, {2: 6.0, 3: 6.0}),
        ({"fleet": True}, {"kind": "fleet", "id": None}, {0: 3.0, 1: 3.0, 2: 3.0, 3: 3.0}),
    ],
)
async def test_the_total_is_split_over_the_target(
    autojump_clock: object, target: dict[str, object], told: dict[str, object], shares: dict[int, float]
) -> None:
    async with open_rest() as rest:
        connect_all(rest)
        status, answer = await rest.post(body(duration_s=60, **target))
        assert status == 200
        assert (answer["status"], answer["target"], answer["asset_id"]) == ("ok", told, None)
        assert (answer["mw"], answer["allocated_mw"], answer["shortfall_mw"]) == (12.0, 12.0, 0.0)
        assert {row["asset_id"]: row["mw"] for row in answer["allocations"]} == {
            ASSETS[key]: mw for key, mw in shares.items()
        }
        assert {row["code"] for row in answer["allocations"]} == {"share"}
        assert "its share by headroom" in answer["allocations"][0]["allocation"]
        assert answer["by_state"] == {"sent": len(shares)}


async def test_a_shortfall_is_told_in_so_many_words(autojump_clock: object) -> None:
    async with open_rest() as rest:
        connect_all(rest)
        status, answer = await rest.post(body(mw=-40.0, fleet=True, duration_s=60, strategy="capacity"))
        assert (status, answer["status"], answer["strategy"]) == (200, "shortfall", "capacity")
        assert (answer["allocated_mw"], answer["shortfall_mw"]) == (-32.0, -8.0)
        assert {row["code"] for row in answer["allocations"]} == {"limited_by_nameplate"}


async def test_an_asset_that_gets_nothing_is_told_why(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0)
        rest.tell(0, current_mw=0.0)
        _, answer = await rest.post(body(mw=4.0, asset_ids=ASSETS[:2]))
        assert (answer["members"], answer["left_out"]) == (1, 1)
        assert answer["allocations"][1] == answer["allocations"][1] | {
            "asset_id": ASSETS[1],
            "mw": None,
            "code": "not_connected",
            "allocation": "none: not connected",
            "state": None,
        }


async def test_the_allocations_can_be_left_out_of_the_answer(autojump_clock: object) -> None:
    async with open_rest() as rest:
        connect_all(rest)
        status, answer = await rest.ask(
            "POST",
            "/dispatch?allocations=false",
            data=body(fleet=True),
            headers={"content-type": "application/json"},
        )
        assert (status, answer["allocations"], answer["members"]) == (200, None, 4)


async def test_a_dry_run_answers_the_same_and_commands_nothing(autojump_clock: object) -> None:
    async with open_rest() as rest:
        connect_all(rest)
        _, planned = await rest.post(body(fleet=True, dry_run=True))
        assert await nothing_was_commanded(rest)
        _, given = await rest.post(body(fleet=True))
        assert (planned["dispatch_id"], planned["dry_run"], given["dry_run"]) == (None, True, False)
        for name in ("mw", "allocated_mw", "shortfall_mw", "strategy", "status", "left_out"):
            assert planned[name] == given[name]
        shares = [
            [(row["asset_id"], row["mw"], row["allocation"]) for row in answer["allocations"]]
            for answer in (planned, given)
        ]
        assert shares[0] == shares[1]


@pytest.mark.parametrize(
    ("fields", "status", "told"),
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
async def test_a_bad_group_is_refused_and_nothing_is_commanded(
    autojump_clock: object, fields: dict[str, object], status: int, told: str
) -> None:
    async with open_rest() as rest:
        connect_all(rest)
        refused, answer = await rest.post(body(**fields))
        assert refused == status, answer
        assert told in answer["message"]
        assert answer["message"].isprintable()
        assert await nothing_was_commanded(rest)


async def test_a_total_that_is_no_number_is_refused(autojump_clock: object) -> None:
    async with open_rest() as rest:
        connect_all(rest)
        status, answer = await rest.post(b'{"fleet": true, "mw": NaN}')
        assert (status, answer["error"]) == (400, "bad_request")
        assert await nothing_was_commanded(rest)


async def test_a_site_without_assets_is_refused(autojump_clock: object) -> None:
    fleet = make_fleet()
    empty = Site(id=uuid_of(77), name="Field", location="Nowhere", lat=None, lon=None)
    async with open_rest(fleet=Fleet(sites=(*fleet.sites, empty), assets=fleet.assets)) as rest:
        status, answer = await rest.post(body(site_id=empty.id))
        assert status == 400
        assert "has no assets" in answer["message"]


async def test_a_large_group_is_answered_like_a_small_one(autojump_clock: object) -> None:
    assets = 1_100
    async with open_rest(fleet=make_fleet(sites=1, assets_a_site=assets)) as rest:
        rest.connect(*range(1_000))
        rest.tell(*range(1_000))
        status, given = await rest.post(b'{"fleet": true, "mw": 500}')
        assert (status, given["status"], given["state"]) == (200, "ok", "sent")
        assert (given["members"], given["left_out"], given["dry_run"]) == (1_000, 100, False)
        rows = given["allocations"]
        assert [row["asset_id"] for row in rows] == [asset.id for asset in rest.headend.fleet.assets]
        assert sum(row["mw"] for row in rows[:1_000]) == pytest.approx(500.0)
        assert {(row["mw"], row["code"]) for row in rows[1_000:]} == {(None, "not_connected")}
        shown = await rest.get(f"/dispatch/{given['dispatch_id']}")
        assert shown["allocations"] == rows
        [listed] = await rest.get("/dispatch?allocations=true")
        assert listed == shown
        assert (await rest.get("/dispatch"))[0] == shown | {"allocations": None}


async def test_the_allocations_of_a_large_group_may_be_left_away(autojump_clock: object) -> None:
    async with open_rest(fleet=make_fleet(sites=1, assets_a_site=1_100)) as rest:
        response = await rest.raw("POST", "/dispatch?allocations=false", json={"fleet": True, "mw": 500.0})
        given = await response.get_json()
        assert (given["allocations"], given["left_out"]) == (None, 1_100)
        assert "Content-Length" in response.headers
        head = await rest.raw("HEAD", f"/dispatch/{given['dispatch_id']}")
        assert (head.status_code, await head.get_data()) == (200, b"")
