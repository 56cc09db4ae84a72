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
