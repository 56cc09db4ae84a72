"""`/sites/{id}/limits`: what is set, by whom, until when, and what is refused."""

from typing import Any

import msgspec
import pytest

from tests.unit.api.tenants import Tenants, asset_ids, open_tenants, secret_of, site_id
from trioder.store.none import NoneStore

OPERATOR = secret_of("operator", "alpha")
PATH = f"/sites/{site_id('alpha')}/limits"


async def put(tenants: Tenants, body: object, path: str = PATH) -> tuple[int, dict[str, Any]]:
    return await tenants.ask(
        "PUT",
        path,
        secret=OPERATOR,
        data=msgspec.json.encode(body),
        headers={"content-type": "application/json"},
    )


async def test_limits_are_set_shown_and_removed(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        status, row = await put(tenants, {"export_limit_mw": 2.5, "duration_s": 60})
        assert (status, row["export_limit_mw"], row["import_limit_mw"]) == (200, 2.5, None)
        assert (row["until"], row["set_by"]) == ("2026-01-01T00:01:00.000Z", "alpha-operator")
        [site, _] = await tenants.get("/sites", secret=OPERATOR)
        assert (site["export_limit_mw"], site["limits_until"]) == (2.5, row["until"])
        for _ in range(2):
            status, row = await tenants.ask("DELETE", PATH, secret=OPERATOR)
            assert (status, row["export_limit_mw"], row["set_by"]) == (200, None, None)
        audit = await tenants.get("/audit?limit=3", secret=secret_of("admin", "alpha"))
        assert [one["action"] for one in audit] == ["site.limits.remove"] * 2 + ["site.limits.set"]


async def test_a_dispatch_beyond_the_limit_is_400_with_what_is_left(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        await put(tenants, {"export_limit_mw": 2.5})
        status, answer = await tenants.dispatch(secret=OPERATOR, asset_id=asset_ids("alpha")[0], mw=9.0)
        assert (status, answer["error"]) == (400, "out_of_bounds")
        assert "2 MW are left" in answer["message"]


async def test_a_lower_limit_shows_in_the_record_of_the_dispatch(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        _, made = await tenants.dispatch(secret=OPERATOR, site_id=site_id("alpha"), mw=6.0)
        _, row = await put(tenants, {"export_limit_mw": 4.0})
        assert row["export_mw"] == pytest.approx(4.0, abs=1e-9)
        record = await tenants.get(f"/dispatch/{made['dispatch_id']}", secret=OPERATOR)
        assert record["shortfall_mw"] == pytest.approx(2.0, abs=1e-9)
        assert {one["code"] for one in record["allocations"]} == {"limited_by_site"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "neither export_limit_mw nor import_limit_mw"),
        ({"duration_s": 60}, "neither export_limit_mw nor import_limit_mw"),
        ({"export_limit_mw": -0.5}, "export_limit_mw is -0.5; it must be a finite number of at least 0"),
        ({"import_limit_mw": "1"}, "the body does not fit"),
        ({"export_limit_mw": 1, "duration_s": 0}, "duration_s is 0; it must be 1 to"),
        ({"export_limit_mw": 1, "duration_s": 10**9}, "duration_s is 1000000000; it must be 1 to"),
        ({"export_limit_mw": 1, "until": "2025-01-01T00:00:00Z"}, "it must be after now"),
        ({"export_limit_mw": 1, "until": "noon"}, "RFC 3339"),
        ({"export_limit_mw": 1, "until": "2027-01-01T00:00:00Z", "duration_s": 1}, "limits have one end"),
        ({"export_limit_mw": 1, "limit": 1}, "unknown field"),
    ],
)
async def test_what_is_refused(autojump_clock: object, body: object, message: str) -> None:
    async with open_tenants() as tenants:
        status, answer = await put(tenants, body)
        assert (status, message in answer["message"]) == (400, True), answer


@pytest.mark.parametrize("number", ["1e999", "NaN", "Infinity"])
async def test_numbers_that_are_not_finite_are_refused(autojump_clock: object, number: str) -> None:
    async with open_tenants() as tenants:
        status, _ = await tenants.ask(
            "PUT",
            PATH,
            secret=OPERATOR,
            data=f'{{"export_limit_mw": {number}}}'.encode(),
            headers={"content-type": "application/json"},
        )
        assert status == 400


async def test_the_store_without_a_database_has_no_limits(autojump_clock: object) -> None:
    assert await NoneStore().site_limits() == ()
