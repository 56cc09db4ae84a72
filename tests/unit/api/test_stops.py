"""`/stop`, `/resume` and `DELETE /dispatch/{id}`: who stops what, the answers, and what is recorded."""

from typing import Any

import msgspec
import pytest

from tests.unit.api.rest import uuid_of
from tests.unit.api.tenants import Tenants, asset_ids, open_tenants, secret_of, site_id, stored_id

OPERATOR = secret_of("operator", "alpha")
JSON = {"content-type": "application/json"}


async def post(
    tenants: Tenants, path: str, body: object, *, secret: str = OPERATOR
) -> tuple[int, dict[str, Any]]:
    return await tenants.ask("POST", path, secret=secret, data=msgspec.json.encode(body), headers=JSON)


async def newest_audit(tenants: Tenants) -> dict[str, Any]:
    row: dict[str, Any] = (await tenants.get("/audit?limit=1", secret=secret_of("admin", "*")))[0]
    return row


async def test_a_stop_shows_what_it_stopped_and_can_be_repeated(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        status, first = await post(tenants, "/stop", {"site_id": site_id("alpha")})
        assert status == 200
        [stop] = first["stops"]
        assert (first["assets"], stop["by_state"], stop["requested_by"]) == (2, {"sent": 2}, "alpha-operator")
        assert await post(tenants, "/stop", {"site_id": site_id("alpha")}) == (200, first)
        record = await tenants.get(f"/dispatch/{stop['dispatch_id']}", secret=OPERATOR)
        assert (record["priority"], record["strategy"], record["mw"]) == ("emergency", None, 0.0)
        row = await newest_audit(tenants)
        assert (row["action"], row["target"], row["tenant"]) == ("stop", f"site {site_id('alpha')}", "alpha")


async def test_a_dispatch_to_a_stopped_asset_is_deferred_until_the_resume(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        target = {"asset_id": asset_ids("alpha")[0]}
        await post(tenants, "/stop", target)
        _, dispatch = await tenants.dispatch(secret=OPERATOR, **target)
        assert (dispatch["delivery"], dispatch["state"]) == ("deferred", "deferred")
        _, answer = await post(tenants, "/resume", target)
        assert {name: answer[name] for name in ("assets", "still_stopped", "dispatched")} == {
            "assets": 1,
            "still_stopped": 0,
            "dispatched": 1,
        }
        record = await tenants.get(f"/dispatch/{dispatch['dispatch_id']}", secret=OPERATOR)
        assert record["state"] == "sent"
        row = await newest_audit(tenants)
        assert (row["action"], row["outcome"]) == ("resume", "ok")


async def test_each_resume_ends_the_stop_of_its_own_target(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        await post(tenants, "/stop", {"site_id": site_id("alpha")})
        await post(tenants, "/stop", {"fleet": True})
        _, answer = await post(tenants, "/resume", {"fleet": True})
        assert (answer["assets"], answer["still_stopped"]) == (4, 2)
        _, answer = await post(tenants, "/resume", {"fleet": True})
        assert (answer["resumed"], answer["assets"]) == ([], 0)


async def test_the_fleet_is_that_of_the_tenant(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        _, answer = await post(tenants, "/stop", {"fleet": True})
        assert answer["assets"] == 4
        _, answer = await post(tenants, "/resume", {"fleet": True}, secret=secret_of("operator", "beta"))
        assert answer["resumed"] == []
        _, answer = await post(tenants, "/resume", {"fleet": True}, secret=secret_of("operator", "*"))
        assert answer["resumed"] == []


async def test_to_a_caller_of_one_site_the_fleet_is_that_site(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        _, answer = await post(tenants, "/stop", {"fleet": True}, secret=secret_of("site", "alpha"))
        assert [stop["target"] for stop in answer["stops"]] == [{"kind": "site", "id": site_id("alpha")}]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "the body must name exactly one of `asset_id`, `site_id`, `fleet`; it names none"),
        ({"fleet": True, "site_id": uuid_of(0)}, "it names 2: site_id, fleet"),
        ({"fleet": False}, "fleet is false"),
        ({"asset_id": "x"}, "asset_id"),
        ({"asset_id": ["x"]}, "the body does not fit"),
        ({"fleet": True, "priority": "schedule"}, "unknown field"),
    ],
)
@pytest.mark.parametrize("path", ["/stop", "/resume"])
async def test_what_is_refused(
    autojump_clock: object, path: str, body: dict[str, object], message: str
) -> None:
    async with open_tenants() as tenants:
        status, answer = await post(tenants, path, body)
        assert (status, message in answer["message"]) == (400, True), answer
        row = await newest_audit(tenants)
        assert (row["action"], row["outcome"]) == (path[1:], "failed")


async def test_a_priority_cannot_be_asked_for(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        status, _ = await tenants.dispatch(
            secret=OPERATOR, asset_id=asset_ids("alpha")[0], priority="emergency"
        )
        assert status == 400


async def test_a_dispatch_is_cancelled_once_and_again(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        path = f"/dispatch/{tenants.dispatch_ids['alpha']}"
        status, record = await tenants.ask("DELETE", path, secret=OPERATOR)
        assert (status, record["state"], record["by_state"]) == (200, "cancelled", {"cancelled": 2})
        assert record["allocations"][0]["reason"] == "cancelled by alpha-operator"
        assert (await tenants.ask("DELETE", path, secret=OPERATOR))[0] == 200
        row = await newest_audit(tenants)
        assert (row["action"], row["target"]) == ("cancel", tenants.dispatch_ids["alpha"])


async def test_what_has_ended_or_is_a_stop_is_not_cancelled(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        status, answer = await tenants.ask("DELETE", f"/dispatch/{stored_id('alpha')}", secret=OPERATOR)
        assert (status, answer["message"]) == (409, "the dispatch has ended: it is completed")
        _, stopped = await post(tenants, "/stop", {"fleet": True})
        stop_id = stopped["stops"][0]["dispatch_id"]
        status, answer = await tenants.ask("DELETE", f"/dispatch/{stop_id}", secret=OPERATOR)
        assert (status, "POST /resume" in answer["message"]) == (409, True)


@pytest.mark.parametrize("dispatch_id", ["x", uuid_of(1), "..%2Fx", "%00"])
async def test_an_unknown_dispatch_is_404(autojump_clock: object, dispatch_id: str) -> None:
    async with open_tenants() as tenants:
        status, _ = await tenants.ask("DELETE", f"/dispatch/{dispatch_id}", secret=OPERATOR)
        assert status == 404


async def test_a_dispatch_of_other_sites_too_is_not_cancelled(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        _, made = await tenants.dispatch(secret=OPERATOR, fleet=True)
        path = f"/dispatch/{made['dispatch_id']}"
        assert (await tenants.ask("DELETE", path, secret=secret_of("site", "alpha")))[0] == 404
        assert (await tenants.ask("DELETE", path, secret=OPERATOR))[0] == 200


async def test_the_stops_in_force_are_listed_newest_first(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        assert await tenants.get("/stops", secret=OPERATOR) == []
        await post(tenants, "/stop", {"site_id": site_id("alpha")})
        await post(tenants, "/stop", {"asset_id": asset_ids("alpha")[3]})
        rows = await tenants.get("/stops", secret=secret_of("viewer", "alpha"))
        assert [(row["target"]["kind"], row["assets"], row["can_resume"]) for row in rows] == [
            ("asset", 1, True),
            ("site", 2, True),
        ]
        assert (rows[1]["requested_by"], rows[1]["by_state"]) == ("alpha-operator", {"sent": 2})
        await post(tenants, "/resume", {"site_id": site_id("alpha")})
        assert [row["target"]["kind"] for row in await tenants.get("/stops", secret=OPERATOR)] == ["asset"]


async def test_a_stop_of_all_tenants_is_shown_to_each_with_its_own_assets_alone(
    autojump_clock: object,
) -> None:
    async with open_tenants() as tenants:
        everywhere = secret_of("operator", "*")
        await post(tenants, "/stop", {"fleet": True}, secret=everywhere)
        [row] = await tenants.get("/stops", secret=everywhere)
        assert (row["assets"], row["can_resume"], row["requested_by"]) == (8, True, "all-operator")
        [row] = await tenants.get("/stops", secret=OPERATOR)
        assert (row["assets"], row["can_resume"], row["requested_by"]) == (4, False, None)
        [row] = await tenants.get("/stops", secret=secret_of("site", "alpha"))
        assert (row["assets"], row["can_resume"]) == (2, False)


async def test_a_stop_is_not_shown_to_those_whose_assets_it_does_not_hold(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        await post(tenants, "/stop", {"asset_id": asset_ids("alpha")[3]})
        assert await tenants.get("/stops", secret=secret_of("operator", "beta")) == []
        assert await tenants.get("/stops", secret=secret_of("site", "alpha")) == []
        # To one for all tenants, the stop of a tenant's fleet is not that of its own.
        await post(tenants, "/stop", {"fleet": True})
        rows = await tenants.get("/stops", secret=secret_of("operator", "*"))
        assert [(row["target"]["kind"], row["can_resume"]) for row in rows] == [
            ("fleet", False),
            ("asset", True),
        ]


async def test_stopped_assets_are_counted_and_marked(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        await post(tenants, "/stop", {"asset_id": asset_ids("alpha")[0]})
        first, second = await tenants.get("/sites", secret=OPERATOR)
        assert [site["stopped_assets"] for site in (first, second)] == [1, 0]
        # The other asset has a share of the dispatch to the site.
        assert (first["dispatched_assets"], second["dispatched_assets"]) == (2, 0)
        assert (first["requested_mw"], second["requested_mw"]) == (0.5, None)
        fleet = await tenants.get("/fleet", secret=OPERATOR)
        assert (fleet["stopped_assets"], fleet["dispatched_assets"], fleet["requested_mw"]) == (1, 2, 0.5)
        rows = await tenants.get("/telemetry", secret=OPERATOR)
        assert [row["priority"] for row in rows] == ["emergency", "operator", None, None]
