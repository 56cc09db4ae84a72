"""What a caller sees and commands: its tenant, its sites, and nothing of others in sums, keys or metrics."""

from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.api.rest import START_S
from tests.unit.api.tenants import (
    NO_LIMITS,
    UNKNOWN,
    Tenants,
    asset_ids,
    keys_of,
    open_tenants,
    retired_id,
    secret_of,
    site_id,
    stored_id,
)
from trioder.api import RestOptions
from trioder.domain.fleet import Fleet
from trioder.wire.records import Acknowledgement

VIEWER = secret_of("viewer", "alpha")
OPERATOR = secret_of("operator", "alpha")
AT_SITE = secret_of("site", "alpha")


async def ids(tenants: Tenants, path: str, secret: str, field: str = "asset_id") -> list[str]:
    return [row[field] for row in await tenants.get(path, secret=secret)]


@pytest.mark.parametrize(
    ("path", "field"), [("/assets", "id"), ("/telemetry", "asset_id"), ("/agents", "asset_id")]
)
async def test_lists_have_the_assets_within_the_scope_in_fleet_order(
    autojump_clock: object, path: str, field: str
) -> None:
    async with open_tenants() as tenants:
        assert await ids(tenants, path, VIEWER, field) == asset_ids("alpha")
        assert await ids(tenants, path, AT_SITE, field) == asset_ids("alpha")[:2]
        assert await ids(tenants, path, secret_of("viewer", "beta"), field) == asset_ids("beta")
        both = asset_ids("alpha") + asset_ids("beta")
        assert await ids(tenants, path, secret_of("viewer", "*"), field) == both


async def test_pages_continue_within_the_scope(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        own = asset_ids("beta")
        secret = secret_of("viewer", "beta")
        assert await ids(tenants, "/assets?limit=3", secret, "id") == own[:3]
        assert await ids(tenants, f"/assets?after={own[2]}", secret, "id") == own[3:]


async def test_sums_are_of_the_scope(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        for secret, assets in {VIEWER: 4, AT_SITE: 2, secret_of("viewer", "*"): 8}.items():
            fleet = await tenants.get("/fleet", secret=secret)
            found = (fleet["assets"], fleet["connected_assets"], fleet["live_assets"], fleet["capacity_mwhr"])
            assert found == (assets, assets, assets, 40.0 * assets)
        assert await ids(tenants, "/sites", VIEWER, "id") == [site_id("alpha", 0), site_id("alpha", 1)]
        assert await ids(tenants, "/sites", AT_SITE, "id") == [site_id("alpha", 0)]


async def test_fleet_is_the_callers_assets(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        for secret, keys in {OPERATOR: keys_of("alpha"), AT_SITE: keys_of("alpha")[:2]}.items():
            status, made = await tenants.dispatch(secret=secret, fleet=True)
            assert status == 200
            named = {row["asset_id"] for row in made["allocations"]}
            assert named == {asset_ids("alpha")[key] for key in keys}
        [setpoint] = {tenants.rest.headend.dispatcher.in_force(key) for key in keys_of("beta")[2:]}
        assert setpoint is None


async def test_a_dispatch_names_its_tenant_and_who_requested_it(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        every = secret_of("operator", "*")
        for secret, fields, tenant, name in [
            (OPERATOR, {"fleet": True}, "alpha", "alpha-operator"),
            (every, {"asset_id": asset_ids("beta")[0]}, "beta", "all-operator"),
            (every, {"site_id": site_id("beta")}, "beta", "all-operator"),
            (every, {"asset_ids": asset_ids("alpha")}, "alpha", "all-operator"),
            (every, {"asset_ids": [asset_ids("alpha")[0], asset_ids("beta")[0]]}, "*", "all-operator"),
            (every, {"fleet": True}, "*", "all-operator"),
        ]:
            _, made = await tenants.dispatch(secret=secret, **fields)
            assert (made["tenant"], made["requested_by"]) == (tenant, name)
            shown = await tenants.get(f"/dispatch/{made['dispatch_id']}", secret=secret)
            assert (shown["tenant"], shown["requested_by"]) == (tenant, name)


async def test_a_dispatch_to_several_tenants_is_seen_by_those_who_see_all(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        _, made = await tenants.dispatch(secret=secret_of("operator", "*"), fleet=True)
        path = f"/dispatch/{made['dispatch_id']}"
        assert (await tenants.ask("GET", path, secret=VIEWER))[0] == 404
        assert (await tenants.ask("GET", path, secret=secret_of("viewer", "*")))[0] == 200


async def test_at_some_sites_only_dispatches_that_lie_within_are_seen(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        _, within = await tenants.dispatch(secret=OPERATOR, asset_ids=asset_ids("alpha")[:2])
        _, beyond = await tenants.dispatch(secret=OPERATOR, asset_ids=asset_ids("alpha")[1:3])
        seen = await ids(tenants, "/dispatch?limit=10", AT_SITE, "dispatch_id")
        # The store's answer is its own.
        assert [one for one in seen if one != stored_id("alpha")] == [
            within["dispatch_id"],
            tenants.dispatch_ids["alpha"],
        ]
        for made, status in ((within, 200), (beyond, 404)):
            path = f"/dispatch/{made['dispatch_id']}"
            assert (await tenants.ask("GET", path, secret=AT_SITE))[0] == status


def report_active(tenants: Tenants, dispatch_id: str, *, tenant: str) -> None:
    """An agent of this tenant reports a dispatch, of which there is no record in memory, as in force."""
    dispatcher, sessions = tenants.rest.headend.dispatcher, tenants.rest.headend.sessions
    session = sessions.session_of(keys_of(tenant)[3])
    assert session is not None
    reported = Acknowledgement(
        dispatch_id=dispatch_id,
        asset_id=asset_ids(tenant)[3],
        status="active",
        reason="",
        setpoint_mw=2.0,
        remaining_s=100.0,
        reversion_mw=0.0,
        ts_unix_ms=0,
    )
    dispatcher.acknowledged(reported, session=session)


async def test_an_adopted_dispatch_is_of_the_tenant_of_its_asset(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        report_active(tenants, UNKNOWN, tenant="beta")
        assert (await tenants.ask("GET", f"/dispatch/{UNKNOWN}", secret=VIEWER))[0] == 404
        shown = await tenants.get(f"/dispatch/{UNKNOWN}", secret=secret_of("viewer", "beta"))
        assert shown["tenant"] == "beta"


async def test_another_tenants_agent_does_not_hide_a_dispatch_on_record(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        before = await tenants.get("/dispatch?limit=10", secret=VIEWER)
        assert stored_id("alpha") in [row["dispatch_id"] for row in before]
        report_active(tenants, stored_id("alpha"), tenant="beta")
        assert await tenants.get("/dispatch?limit=10", secret=VIEWER) == before


async def test_another_tenants_agent_neither_joins_nor_hides_an_adopted_dispatch(
    autojump_clock: object,
) -> None:
    async with open_tenants() as tenants:
        report_active(tenants, UNKNOWN, tenant="alpha")
        before = await tenants.get(f"/dispatch/{UNKNOWN}", secret=VIEWER)
        report_active(tenants, UNKNOWN, tenant="beta")
        assert await tenants.get(f"/dispatch/{UNKNOWN}", secret=VIEWER) == before
        assert before["tenant"] == "alpha"
        # To the other tenant it is one of its own, whose setpoint is followed.
        beta = secret_of("viewer", "beta")
        assert (await tenants.ask("GET", f"/dispatch/{UNKNOWN}", secret=beta))[0] == 404
        in_force = tenants.rest.headend.dispatcher.in_force(keys_of("beta")[3])
        assert in_force is not None
        assert (in_force.mw, in_force.dispatch.tenant) == (2.0, "beta")
        own = await tenants.get(f"/dispatch/{in_force.dispatch.dispatch_id}", secret=beta)
        assert own["tenant"] == "beta"
        assert list(in_force.dispatch.setpoints) == [keys_of("beta")[3]]


async def test_an_idempotency_key_is_its_tenants(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        _, first = await tenants.dispatch(secret=OPERATOR, key="k", fleet=True)
        status, other = await tenants.dispatch(secret=secret_of("operator", "beta"), key="k", fleet=True)
        assert (status, other["tenant"]) == (200, "beta")
        assert other["dispatch_id"] != first["dispatch_id"]
        # Of another caller of the tenant it is the same key.
        _, again = await tenants.dispatch(secret=secret_of("admin", "alpha"), key="k", fleet=True)
        assert again["dispatch_id"] == first["dispatch_id"]


async def test_a_key_does_not_show_what_was_commanded_at_other_sites(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        _, first = await tenants.dispatch(secret=OPERATOR, key="k", fleet=True)
        status, body = await tenants.dispatch(secret=AT_SITE, key="k", fleet=True)
        assert status == 409
        assert first["dispatch_id"] not in body["message"]


async def test_the_history_of_a_retired_asset_is_its_tenants(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        own = f"/telemetry/{retired_id('alpha')}/history"
        assert {row["asset_id"] for row in await tenants.get(own, secret=VIEWER)} == {asset_ids("alpha")[0]}
        foreign = await tenants.ask("GET", f"/telemetry/{retired_id('beta')}/history", secret=VIEWER)
        unknown = await tenants.ask("GET", f"/telemetry/{UNKNOWN}/history", secret=VIEWER)
        assert foreign[0] == 404
        assert foreign[1]["message"].replace(retired_id("beta"), UNKNOWN) == unknown[1]["message"]


def with_a_site_moved(fleet: Fleet) -> Fleet:
    """The fleet in the opposite order, with alpha's second site given to beta."""
    moved = {site_id("alpha", 1): "beta"}
    return Fleet(
        sites=[
            replace(site, tenant=moved.get(site.id, site.tenant), lat=None, lon=None)
            for site in reversed(fleet.sites)
        ],
        assets=reversed(fleet.assets),
    )


async def test_a_reload_moves_sites_between_tenants(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        fleet = tenants.rest.headend.fleet
        assert await ids(tenants, "/assets", VIEWER, "id") == asset_ids("alpha")
        fleet.reload(with_a_site_moved(fleet))
        beta = secret_of("viewer", "beta")
        assert await ids(tenants, "/assets", VIEWER, "id") == asset_ids("alpha")[1::-1]
        assert await ids(tenants, "/assets", beta, "id") == [
            *asset_ids("beta")[::-1],
            *asset_ids("alpha")[:1:-1],
        ]
        after = f"/assets?limit=2&after={asset_ids('beta')[1]}"
        assert await ids(tenants, after, beta, "id") == [asset_ids("beta")[0], asset_ids("alpha")[3]]


async def test_the_fleet_is_reloaded_by_those_who_see_all_of_it(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        status, body = await tenants.ask("POST", "/fleet/reload", secret=secret_of("admin", "alpha"))
        assert (status, body["message"]) == (
            403,
            "this needs a token for all tenants and sites; 'alpha-admin' is for tenant alpha",
        )
        assert (await tenants.ask("POST", "/fleet/reload", secret=secret_of("admin", "*")))[0] == 200
        assert tenants.rest.headend.counters.fleet_reloads == 1


async def test_health_has_the_numbers_of_the_scope(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        state = {"status": "ok", "db": "disabled"}
        assert await tenants.get("/health", secret=None) == state
        numbers = {"agents": 1, "assets_connected": 4, "assets": 4}
        assert await tenants.get("/health", secret=VIEWER) == state | numbers
        numbers = {"agents": 1, "assets_connected": 2, "assets": 2}
        assert await tenants.get("/health", secret=AT_SITE) == state | numbers
        numbers = {"agents": 2, "assets_connected": 8, "assets": 8, "db_backlog_rows": 0}
        everything = await tenants.get("/health", secret=secret_of("viewer", "*"))
        assert everything == state | numbers | {"db_reason": ""}


async def series(tenants: Tenants, secret: str | None) -> dict[tuple[str, ...], float]:
    text = await (await tenants.raw("GET", "/metrics", secret=secret)).get_data(as_text=True)
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels, reverse=True))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def without_kinds(found: dict[Any, float]) -> dict[Any, float]:
    """Without the open alarms by kind and severity, of which there are many."""
    return {key: value for key, value in found.items() if key[0] != "trioder_alarms_open"}


async def test_metrics_of_a_tenant_are_its_own_alone(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        await tenants.dispatch(secret=VIEWER, fleet=True)
        await tenants.ask("GET", "/assets", secret=None)
        own = await series(tenants, VIEWER)
        own = without_kinds(own)
        assert own == {
            ("trioder_tenant_alarms_open", "alpha"): 1,
            ("trioder_tenant_assets", "alpha"): 4,
            ("trioder_tenant_assets_connected", "alpha"): 4,
            ("trioder_tenant_dispatches_requested_total", "alpha"): 1,
            ("trioder_tenant_requests_refused_total", "alpha", "403"): 1,
        }
        assert without_kinds(await series(tenants, AT_SITE)) == {
            ("trioder_tenant_alarms_open", "alpha"): 1,
            ("trioder_tenant_assets", "alpha"): 2,
            ("trioder_tenant_assets_connected", "alpha"): 2,
        }
        everything = await series(tenants, secret_of("viewer", "*"))
        assert everything.items() >= own.items()
        assert everything["trioder_tenant_assets", "beta"] == 4
        assert everything["trioder_tenant_requests_refused_total", "", "401"] == 1
        assert everything["trioder_assets",] == 8
        assert everything["trioder_start_time_seconds",] == START_S


async def test_metrics_that_are_open_show_everything(autojump_clock: object) -> None:
    options = RestOptions(limits=NO_LIMITS, metrics_open=True)
    async with open_tenants(options=options) as tenants:
        found = await series(tenants, None)
        assert (found["trioder_assets",], found["trioder_tenant_assets", "beta"]) == (8, 4)
        document: dict[str, Any] = await tenants.get("/openapi.json", secret=None)
        assert document["paths"]["/metrics"]["get"]["security"] == [{}, {"bearer": []}]


async def test_a_site_that_is_moved_while_a_key_is_looked_up_is_not_commanded(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_tenants() as tenants:
        headend = tenants.rest.headend

        async def find_dispatch(**_query: object) -> None:
            headend.fleet.reload(with_a_site_moved(headend.fleet))

        monkeypatch.setattr(headend.store, "find_dispatch", find_dispatch)
        status, _ = await tenants.dispatch(secret=OPERATOR, key="k", asset_id=asset_ids("alpha")[2])
        assert status == 404


async def test_a_repeated_command_is_answered_after_its_asset_has_left(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        fleet = tenants.rest.headend.fleet
        asset_id = asset_ids("alpha")[0]
        _, first = await tenants.dispatch(secret=OPERATOR, key="k", asset_id=asset_id)
        fleet.reload(Fleet(sites=fleet.sites, assets=fleet.assets[1:]))
        status, again = await tenants.dispatch(secret=OPERATOR, key="k", asset_id=asset_id)
        assert (status, again["dispatch_id"]) == (200, first["dispatch_id"])
