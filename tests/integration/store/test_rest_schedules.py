"""REST of schedules over PostgreSQL: what was created, skipped and cancelled is the same after a restart."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from tests.integration.store.senders import until_health
from tests.integration.store.servers import open_store_on
from tests.unit.api.rest import Rest, make_fleet, open_rest, uuid_of
from trioder.store.postgres.store import PostgresStore

DAILY: dict[str, Any] = {
    "asset_ids": [uuid_of(1001), uuid_of(1000)],
    "start": "2026-01-02T18:00:00",
    "timezone": "Europe/Berlin",
    "recurrence": "rrule:freq=daily;count=10",
    "steps": [{"duration_s": 900, "mw": 0.1}, {"duration_s": 900, "mw": -2.5}],
    "strategy": "equal",
}


@asynccontextmanager
async def open_headend(database_url: str) -> AsyncIterator[Rest]:
    fleet = make_fleet()
    with trio.fail_after(30):
        async with (
            open_store_on(database_url, fleet=fleet) as store,
            open_rest(fleet=fleet, store=store) as rest,
        ):
            await until_health(store, "ok")
            yield rest
            assert isinstance(store, PostgresStore)
            await store.wait_idle()


async def create(rest: Rest, body: object, *, key: str = "k") -> tuple[int, dict[str, Any]]:
    headers = {"content-type": "application/json", "Idempotency-Key": key}
    while True:
        answer = await rest.ask("POST", "/schedules", data=msgspec.json.encode(body), headers=headers)
        # The schedules from before are read first.
        if answer[0] != 503:
            return answer
        await trio.sleep(0.1)


async def test_a_repeated_request_makes_no_second_schedule_after_a_restart(database_url: str) -> None:
    async with open_headend(database_url) as rest:
        status, first = await create(rest, DAILY)
        assert status == 201
        second = first["next_occurrences"][1]["start"]
        status, _ = await rest.ask(
            "POST",
            f"/schedules/{first['schedule_id']}/skip",
            data=msgspec.json.encode({"start": second}),
            headers={"content-type": "application/json"},
        )
        assert status == 200
        shown = await rest.get(f"/schedules/{first['schedule_id']}")
    async with open_headend(database_url) as rest:
        status, again = await create(rest, DAILY)
        assert (status, again["schedule_id"]) == (201, first["schedule_id"])
        assert await rest.get(f"/schedules/{first['schedule_id']}") == shown
        assert len(await rest.get("/schedules")) == 1
        rows = await rest.get(f"/schedules/{first['schedule_id']}/occurrences")
        assert [row["state"] for row in rows] == ["pending", "skipped", *["pending"] * 8]
        path = f"/schedules/{first['schedule_id']}/occurrences"
        assert await rest.get(f"{path}?start=0001-01-01T00:00:00Z") == []
        assert await rest.get(f"{path}?start=9999-12-31T23:59:59Z") == []
        status, answer = await create(rest, DAILY | {"misfire_s": 61})
        assert (status, answer["error"]) == (409, "conflict")


async def test_a_cancelled_schedule_stays_cancelled_and_keeps_its_key(database_url: str) -> None:
    async with open_headend(database_url) as rest:
        _, first = await create(rest, DAILY)
        status, _ = await rest.ask("DELETE", f"/schedules/{first['schedule_id']}")
        assert status == 200
    async with open_headend(database_url) as rest:
        status, again = await create(rest, DAILY)
        assert (status, again["schedule_id"], again["active"]) == (201, first["schedule_id"], False)
        assert again["next_occurrences"] == []
