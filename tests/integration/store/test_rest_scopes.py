"""REST over PostgreSQL: a tenant's token gets the rows of its tenant, and commands are recorded with it."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio

from tests.integration.store import tenants
from tests.integration.store.senders import until_health
from tests.integration.store.servers import open_store_on
from tests.integration.store.tenants import ASSETS, FLEET, SITES, name_of, record_id, session_id
from tests.unit.access.documents import document_of, token_entry
from tests.unit.api.rest import Rest, open_rest
from trioder.access.table import AccessTable, token_sha256

TABLE = AccessTable(
    document_of(
        *(
            token_entry(name=f"{tenant}-admin", sha256=token_sha256(tenant), role="admin", tenant=tenant)
            for tenant in ("north", "south", "*")
        ),
        token_entry(
            name="north-at-a",
            sha256=token_sha256("north at a"),
            role="admin",
            tenant="north",
            site_ids=(SITES["a"].id,),
        ),
    )
)


@pytest.fixture
async def rest(database_url: str) -> AsyncIterator[Rest]:
    await tenants.fill(database_url)
    async with (
        open_store_on(database_url, fleet=FLEET) as store,
        open_rest(fleet=FLEET.copy(), store=store, access=TABLE) as opened,
    ):
        await until_health(store, "ok")
        yield opened


async def get(rest: Rest, path: str, *, secret: str) -> Any:
    status, body = await rest.ask("GET", path, headers={"Authorization": f"Bearer {secret}"})
    return body if status == 200 else status


async def dispatch(rest: Rest, body: bytes, *, secret: str, key: str) -> tuple[int, Any]:
    headers = {
        "Authorization": f"Bearer {secret}",
        "Idempotency-Key": key,
        "content-type": "application/json",
    }
    return await rest.ask("POST", "/dispatch", data=body, headers=headers)


@pytest.mark.parametrize(
    ("secret", "sessions", "records", "history"),
    [
        ("north", {"a", "ab"}, {"a", "ab"}, {1, 2, 4}),
        ("south", {"c"}, {"c"}, {3, 5}),
        ("north at a", {"a"}, {"a"}, {1, 4}),
        ("*", {"a", "ab", "c", "ac"}, {"a", "ab", "c", "ac"}, {1, 2, 3, 4, 5}),
    ],
)
async def test_stored_rows_are_those_of_the_token(
    rest: Rest, secret: str, sessions: set[str], records: set[str], history: set[int]
) -> None:
    ask = partial(get, rest, secret=secret)
    assert {name_of(row["session_id"]) for row in await ask("/agents/sessions")} == sessions
    assert {name_of(row["dispatch_id"]) for row in await ask("/dispatch")} == records
    for name in tenants.RECORDS:
        shown = await ask(f"/dispatch/{record_id(name)}")
        assert (shown != 404) == (name in records)
        page = await ask(f"/dispatch/{record_id(name)}/allocations")
        assert (page != 404) == (name in records)
        for path in ("/dispatch", "/agents/sessions"):
            before = record_id(name) if path == "/dispatch" else session_id(name)
            assert (await ask(f"{path}?before={before}") != 404) == (name in records)
    # At 2027-01-15T08:00:00Z each asset has a sample, those that left the fleet included.
    times = "resolution=1h&start=2027-01-15T08:00:00Z&end=2027-01-15T09:00:00Z"
    assert [row["assets"] for row in await ask(f"/fleet/history?{times}")] == [len(history)]
    for site in SITES.values():
        at_site = sum(asset.site_id == site.id for asset in ASSETS)
        is_seen = any(ASSETS[number - 1].site_id == site.id for number in history)
        rows = await ask(f"/sites/{site.id}/history?{times}")
        assert (404 if rows == 404 else [row["assets"] for row in rows]) == ([at_site] if is_seen else 404)
    for number, asset in enumerate(ASSETS, start=1):
        rows = await ask(f"/telemetry/{asset.id}/history")
        assert (rows != 404) == (number in history)
    audit = {row["tenant"] for row in await ask("/audit")}
    assert audit == ({"north", "south", "*", ""} if secret == "*" else {secret.partition(" ")[0]})


async def test_a_command_and_its_audit_are_recorded_and_its_key_is_the_tenants(rest: Rest) -> None:
    status, north = await dispatch(rest, b'{"fleet": true, "mw": 1}', secret="north", key="k")
    assert status == 200
    status, south = await dispatch(rest, b'{"fleet": true, "mw": 1}', secret="south", key="k")
    assert status == 200
    assert north["dispatch_id"] != south["dispatch_id"]
    store = rest.headend.store
    with trio.fail_after(10):
        while not (await get(rest, "/audit?principal=south-admin", secret="*")):
            await trio.sleep(0.05)
    [row] = await get(rest, "/audit?principal=south-admin", secret="south")
    assert (row["action"], row["target"], row["outcome"]) == ("dispatch", south["dispatch_id"], "ok")
    record = await store.find_dispatch(dispatch_id=south["dispatch_id"])
    assert record is not None
    assert (record.tenant, record.requested_by, record.idempotency_key) == ("south", "south-admin", "k")
