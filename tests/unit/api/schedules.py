"""Bodies of `/schedules`, and a client that posts them as an operator of one tenant."""

from typing import Any

import msgspec

from tests.unit.api.tenants import Tenants, asset_ids, secret_of

OPERATOR, VIEWER = secret_of("operator", "alpha"), secret_of("viewer", "alpha")
SITE_OPERATOR = secret_of("site", "alpha")
JSON = {"content-type": "application/json"}
ASSET = asset_ids("alpha")[0]
# The headend starts at 2026-01-01T00:00:00Z, a Thursday.
EVENING: dict[str, Any] = {
    "asset_id": ASSET,
    "start": "2026-01-01T18:00:00",
    "timezone": "Europe/Berlin",
    "steps": [{"duration_s": 900, "mw": 5.0}, {"duration_s": 900, "mw": -2.5}],
}
DAILY = EVENING | {"recurrence": "FREQ=DAILY"}


async def create(
    tenants: Tenants, body: object, *, secret: str = OPERATOR, key: str | None = None
) -> tuple[int, dict[str, Any]]:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    headers = JSON if key is None else JSON | {"Idempotency-Key": key}
    return await tenants.ask("POST", "/schedules", secret=secret, data=data, headers=headers)


async def created(tenants: Tenants, body: object, **options: Any) -> dict[str, Any]:
    status, made = await create(tenants, body, **options)
    assert status == 201, made
    return made


async def skip(tenants: Tenants, schedule_id: str, start: str, **options: Any) -> tuple[int, dict[str, Any]]:
    return await tenants.ask(
        "POST",
        f"/schedules/{schedule_id}/skip",
        secret=options.get("secret", OPERATOR),
        data=msgspec.json.encode({"start": start}),
        headers=JSON,
    )


async def audit(tenants: Tenants, n: int = 1) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = await tenants.get(f"/audit?limit={n}", secret=secret_of("admin", "*"))
    return rows
