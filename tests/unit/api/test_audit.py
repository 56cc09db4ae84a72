"""`/audit`: commands, reloads, refusals and changes of the access file, and who reads them."""

from pathlib import Path
from typing import Any

import pytest
import trio

from tests.unit.access.documents import document_of, token_entry, write
from tests.unit.api.rest import open_rest
from tests.unit.api.tenants import (
    WRONG,
    Tenants,
    asset_ids,
    bearer,
    open_tenants,
    secret_of,
    site_id,
)
from trioder.access.audit import MAX_RECORDS_A_CALLER, WINDOW_S
from trioder.access.table import AccessTable, token_sha256
from trioder.domain.fleet import Fleet
from trioder.fleet import FleetFileError
from trioder.store.none import NoneStore

OPERATOR = secret_of("operator", "alpha")
ADMIN = secret_of("admin", "alpha")
EVERY_ADMIN = secret_of("admin", "*")


async def newest(tenants: Tenants, query: str = "limit=1", secret: str = EVERY_ADMIN) -> dict[str, Any]:
    row: dict[str, Any] = (await tenants.get(f"/audit?{query}", secret=secret))[0]
    return row


async def test_a_dispatch_is_recorded_with_who_when_and_where_from(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        _, made = await tenants.dispatch(secret=OPERATOR, asset_id=asset_ids("alpha")[0])
        row = await newest(tenants, secret=ADMIN)
        assert row.pop("number") > 0
        assert len(row.pop("request_id")) == 32
        assert row.pop("peer").startswith("10.")
        assert row == {
            "time": "2026-01-01T00:00:00.000Z",
            "principal": "alpha-operator",
            "kind": "token",
            "tenant": "alpha",
            "action": "dispatch",
            "target": made["dispatch_id"],
            "outcome": "ok",
            "reason": "",
        }


async def test_a_dispatch_is_recorded_for_the_tenant_of_its_assets(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        _, made = await tenants.dispatch(secret=secret_of("operator", "*"), site_id=site_id("alpha"))
        row = await newest(tenants, secret=ADMIN)
        assert (row["principal"], row["target"]) == ("all-operator", made["dispatch_id"])


@pytest.mark.parametrize(
    ("fields", "target", "reason"),
    [
        ({"asset_id": asset_ids("beta")[0]}, "asset '", "there is no asset"),
        ({"site_id": site_id("beta")}, "site '", "there is no site"),
        ({"asset_id": asset_ids("alpha")[0], "mw": 1e9}, "asset '", "mw is 1000000000.0"),
        ({"asset_ids": []}, "0 assets", "asset_ids is empty"),
        ({"fleet": "yes"}, "", "the body does not fit"),
    ],
)
async def test_a_dispatch_that_fails_is_recorded_with_the_reason(
    autojump_clock: object, fields: dict[str, Any], target: str, reason: str
) -> None:
    async with open_tenants() as tenants:
        await tenants.dispatch(secret=OPERATOR, **fields)
        row = await newest(tenants, secret=ADMIN)
        assert (row["action"], row["outcome"], row["tenant"]) == ("dispatch", "failed", "alpha")
        assert row["target"].startswith(target)
        assert row["reason"].startswith(reason)


async def test_dry_runs_are_not_recorded(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        before = await newest(tenants)
        await tenants.dispatch(secret=OPERATOR, fleet=True, dry_run=True)
        await tenants.dispatch(secret=OPERATOR, site_id=site_id("beta"), dry_run=True)
        assert await newest(tenants) == before


async def test_reloads_of_the_fleet_are_recorded(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_tenants() as tenants:
        await tenants.ask("POST", "/fleet/reload", secret=EVERY_ADMIN)
        row = await newest(tenants)
        assert (row["action"], row["outcome"], row["principal"]) == ("fleet.reload", "ok", "all-admin")
        await tenants.ask("POST", "/fleet/reload", secret=ADMIN)
        row = await newest(tenants)
        assert (row["action"], row["outcome"], row["principal"]) == ("fleet.reload", "refused", "alpha-admin")

        def faulty() -> Fleet:
            raise FleetFileError(())

        monkeypatch.setattr(tenants.rest.headend.reloader, "_read", faulty)
        await tenants.ask("POST", "/fleet/reload", secret=EVERY_ADMIN)
        row = await newest(tenants)
        assert (row["action"], row["outcome"]) == ("fleet.reload", "failed")


async def test_refusals_are_recorded(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        await tenants.raw("GET", "/assets?x=1", secret=WRONG)
        row = await newest(tenants)
        found = {name: row[name] for name in ("action", "target", "outcome", "principal", "tenant", "reason")}
        assert found == {
            "action": "authenticate",
            "target": "GET /assets",
            "outcome": "refused",
            "principal": "",
            "tenant": "",
            "reason": "the token is unknown; a valid one is needed",
        }
        await tenants.dispatch(secret=secret_of("viewer", "alpha"), fleet=True)
        row = await newest(tenants, secret=ADMIN)
        assert (row["action"], row["target"], row["principal"]) == (
            "authorize",
            "POST /dispatch",
            "alpha-viewer",
        )
        assert row["reason"].startswith("this needs the role operator")


async def test_a_flood_of_refusals_cannot_fill_the_audit(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        before = (await newest(tenants))["number"]
        for port in range(200):
            client = {"client": ("10.9.9.9", port)}
            await tenants.rest.raw("GET", "/assets", headers=bearer(WRONG), scope_base=client)
        await trio.sleep(WINDOW_S + 1)
        row = await newest(tenants)
        assert row["number"] == before + MAX_RECORDS_A_CALLER + 1
        assert row["reason"].startswith(f"{200 - MAX_RECORDS_A_CALLER} more refusals within 60 s")


async def test_an_admin_reads_the_records_of_its_tenant(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        await tenants.raw("GET", "/assets", secret=WRONG)
        for tenant in ("alpha", "beta"):
            rows = await tenants.get("/audit", secret=secret_of("admin", tenant))
            assert {row["tenant"] for row in rows} == {tenant}
        assert {row["tenant"] for row in await tenants.get("/audit", secret=EVERY_ADMIN)} == {
            "",
            "alpha",
            "beta",
        }


async def test_the_audit_is_read_in_pages_and_by_principal(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        rows = await tenants.get("/audit", secret=EVERY_ADMIN)
        numbers = [row["number"] for row in rows]
        assert numbers == sorted(numbers, reverse=True)
        assert await tenants.get(f"/audit?before={numbers[1]}", secret=EVERY_ADMIN) == rows[2:]
        found = await tenants.get("/audit?principal=beta-operator", secret=EVERY_ADMIN)
        assert [row["principal"] for row in found] == ["beta-operator"]


@pytest.mark.parametrize(
    "query", ["before=0", "before=x", "limit=0", "principal=", "principal=%00", "colour=1"]
)
async def test_a_bad_query_is_refused(autojump_clock: object, query: str) -> None:
    async with open_tenants() as tenants:
        assert (await tenants.ask("GET", f"/audit?{query}", secret=EVERY_ADMIN))[0] == 400


async def test_changes_of_the_access_file_are_recorded(tmp_path: Path) -> None:
    path, store = tmp_path / "access.json", NoneStore()
    document = document_of(token_entry(sha256=token_sha256(ADMIN)))
    write(path, document)
    with trio.fail_after(10):
        async with open_rest(store=store, access=AccessTable(document), access_path=path):
            changed = tmp_path / "new"
            write(changed, document_of(*document.tokens, token_entry(name="more", sha256="0" * 64)))
            changed.rename(path)
            while not (found := await store.audit(limit=1)):
                await trio.sleep(0.05)
    record = found[0].record
    assert (record.action, record.target, record.tenant) == ("token.create", "more", "alpha")
    assert (record.principal, record.kind, record.outcome) == ("ann", "access_file", "ok")
