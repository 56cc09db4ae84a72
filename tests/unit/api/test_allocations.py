"""`/dispatch/{dispatch_id}/allocations`, page by page; counts of dispatches without their allocations."""

import random
from typing import Any

import pytest
import trio

from tests.unit.api.rest import Rest, make_fleet, open_rest, uuid_of
from tests.unit.api.test_dispatch_records import ASSETS, acknowledge, open_over, post
from tests.unit.store.model_database import ModelDatabase

SITE = uuid_of(0)


async def pages(rest: Rest, dispatch_id: str, *, limit: int, query: str = "") -> list[list[dict[str, Any]]]:
    """All pages, each requested after the last row of the one before."""
    found: list[list[dict[str, Any]]] = []
    after = ""
    while True:
        page = await rest.get(f"/dispatch/{dispatch_id}/allocations?limit={limit}{query}{after}")
        found.append(page)
        if len(page) < limit:
            return found
        after = f"&after={page[-1]['asset_id']}"


async def test_the_pages_together_are_all_allocations_in_fleet_order(autojump_clock: object) -> None:
    async with open_rest(fleet=make_fleet(sites=1, assets_a_site=700)) as rest:
        rest.connect(*range(600))
        rest.report(*range(600), current_mw=0.0)
        _, made = await rest.post(b'{"fleet": true, "mw": 60}')
        found = await pages(rest, made["dispatch_id"], limit=260)
        assert list(map(len, found)) == [260, 260, 180]
        rows = [row for page in found for row in page]
        assert [row["asset_id"] for row in rows] == [uuid_of(1000 + key) for key in range(700)]
        whole = await rest.get(f"/dispatch/{made['dispatch_id']}")
        assert rows == whole["allocations"]


async def test_a_state_selects_rows_of_all_pages(autojump_clock: object) -> None:
    async with open_rest() as rest:
        session = rest.connect(0, 1, 2)
        rest.report(0, 1, 2, current_mw=0.0)
        _, made = await post(rest, fleet=True)
        dispatch_id = str(made["dispatch_id"])
        acknowledge(rest, session, dispatch_id, 0)
        acknowledge(rest, session, dispatch_id, 1, "rejected")
        acknowledge(rest, session, dispatch_id, 2)

        async def listed(state: str) -> list[str]:
            found = await pages(rest, dispatch_id, limit=1, query=f"&state={state}")
            return [row["asset_id"] for page in found for row in page]

        assert await listed("accepted") == [ASSETS[0], ASSETS[2]]
        assert await listed("rejected") == [ASSETS[1]]
        assert await listed("left_out") == [ASSETS[3]]
        assert await listed("tracking") == []


@pytest.mark.parametrize(
    ("query", "status", "reason"),
    [
        ("limit=0", 400, "from 1 to 10000"),
        ("limit=10001", 400, "from 1 to 10000"),
        ("state=lost", 400, "state is 'lost'"),
        ("after=x", 400, "after is 'x'; it must be a UUID"),
        (f"after={uuid_of(5)}", 404, f"there is no asset '{uuid_of(5)}' in the dispatch"),
        (f"after={ASSETS[1]}", 404, "in the dispatch"),
        ("allocations=true", 400, "there is no query parameter"),
    ],
)
async def test_a_page_that_cannot_be_is_refused(
    autojump_clock: object, query: str, status: int, reason: str
) -> None:
    async with open_rest() as rest:
        _, made = await post(rest, asset_id=ASSETS[0])
        path = f"/dispatch/{made['dispatch_id']}/allocations?{query}"
        assert (await rest.ask("GET", path))[0] == status
        assert reason in (await rest.ask("GET", path))[1]["message"]


@pytest.mark.parametrize("dispatch_id", [uuid_of(5), "nope"])
async def test_an_unknown_dispatch_has_no_allocations(autojump_clock: object, dispatch_id: str) -> None:
    async with open_rest() as rest:
        status, body = await rest.ask("GET", f"/dispatch/{dispatch_id}/allocations")
        assert (status, dispatch_id in body["message"]) == (404, True)


async def test_the_codes_of_a_new_dispatch_are_counted(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0, 1)
        rest.report(0, 1, current_mw=0.0)
        for dry_run in (True, False):
            _, made = await post(rest, "?allocations=false", fleet=True, mw=50, dry_run=dry_run)
            assert made["allocations"] is None
            assert made["by_code"] == {"limited_by_nameplate": 2, "not_connected": 2}
            assert (made["members"], made["left_out"]) == (2, 2)
        _, single = await post(rest, asset_id=ASSETS[0])
        assert single["by_code"] == {}


async def test_a_dispatch_to_one_asset_has_its_reason(autojump_clock: object) -> None:
    database = ModelDatabase(random.Random(1))
    async with open_over(database) as rest:
        session = rest.connect(0, 1)
        rest.report(0, 1, current_mw=0.0)
        _, single = await post(rest, asset_id=ASSETS[0])
        acknowledge(rest, session, single["dispatch_id"], 0, "rejected")
        _, group = await post(rest, asset_ids=[ASSETS[1]])
        acknowledge(rest, session, group["dispatch_id"], 1, "rejected")
        await trio.sleep(2)
        rows = {row["dispatch_id"]: row for row in await rest.get("/dispatch")}
        assert rows[single["dispatch_id"]]["reason"] == "because"
        assert rows[group["dispatch_id"]]["reason"] is None
    async with open_over(database) as rest:
        found = await rest.get(f"/dispatch/{single['dispatch_id']}?allocations=false")
        assert (found["state"], found["reason"], found["allocations"]) == ("rejected", "because", None)


async def test_dispatches_are_listed_by_site_page_by_page(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0, 1, 2, 3)
        rest.report(0, 1, 2, 3, current_mw=0.0)
        # Those of one instant follow each other, too.
        targets = ({"asset_id": ASSETS[0]}, {"asset_id": ASSETS[2]}, {"fleet": True}, {"site_id": SITE})
        made = [(await post(rest, **target))[1]["dispatch_id"] for target in targets]

        async def listed(query: str) -> list[object]:
            return [row["dispatch_id"] for row in await rest.get(f"/dispatch?{query}")]

        assert await listed("limit=2") == [made[3], made[2]]
        assert await listed(f"limit=2&before={made[2]}") == [made[1], made[0]]
        assert await listed(f"limit=2&before={made[0]}") == []
        assert await listed(f"site_id={SITE}") == [made[3], made[2], made[0]]
        assert await listed(f"site_id={SITE}&before={made[2]}") == [made[0]]
        assert await listed(f"site_id={uuid_of(1)}") == [made[2], made[1]]


async def test_pages_of_dispatches_go_on_in_the_database(autojump_clock: object) -> None:
    database = ModelDatabase(random.Random(1))
    made = []
    async with open_over(database) as rest:
        session = rest.connect(0)
        for _ in range(3):
            made.append((await post(rest, asset_id=ASSETS[0]))[1]["dispatch_id"])
            acknowledge(rest, session, made[-1], 0, "rejected")
            await trio.sleep(1)
        await trio.sleep(2)
    async with open_over(database) as rest:
        await trio.sleep(60)
        # The same seed: its ids are used.
        for _ in range(10):
            rest.headend.dispatcher.new_id()
        rest.connect(0)
        made += [(await post(rest, asset_id=ASSETS[0]))[1]["dispatch_id"] for _ in range(2)]
        listed: list[object] = []
        before = ""
        while rows := await rest.get(f"/dispatch?limit=2{before}"):
            listed += [row["dispatch_id"] for row in rows]
            before = f"&before={listed[-1]}"
        assert listed == made[::-1]


@pytest.mark.parametrize("name", ["before", "site_id"])
async def test_unknown_places_and_sites_of_dispatches_are_not_found(
    autojump_clock: object, name: str
) -> None:
    async with open_rest() as rest:
        status, body = await rest.ask("GET", f"/dispatch?{name}={uuid_of(77)}")
        assert (status, uuid_of(77) in body["message"]) == (404, True)
