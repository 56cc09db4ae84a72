"""`POST /schedules` with an Idempotency-Key: one schedule for each key of a tenant."""

from typing import Any

import trio

from tests.unit.api.schedules import DAILY, EVENING, SITE_OPERATOR, VIEWER, create, created
from tests.unit.api.tenants import asset_ids, open_tenants, secret_of


async def test_a_repeated_request_makes_no_second_schedule(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        first = await created(tenants, DAILY, key="evening")
        again = await created(tenants, DAILY, key="evening")
        assert again == first
        assert len(await tenants.get("/schedules", secret=VIEWER)) == 1
        status, answer = await create(tenants, EVENING, key="evening")
        assert (status, answer["error"]) == (409, "conflict")
        assert f"was used for another schedule, {first['schedule_id']}" in answer["message"]
        other = await created(tenants, DAILY, key="evening 2")
        assert other["schedule_id"] != first["schedule_id"]


async def test_of_different_requests_at_once_with_one_key_one_is_created(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        answers: list[tuple[int, dict[str, Any]]] = []

        async def post(misfire_s: int) -> None:
            answers.append(await create(tenants, DAILY | {"misfire_s": misfire_s}, key="k"))

        async with trio.open_nursery() as nursery:
            for misfire_s in (1, 2, 2, 1):
                nursery.start_soon(post, misfire_s)
        made = [answer for status, answer in answers if status == 201]
        assert sorted(status for status, _ in answers) == [201, 201, 409, 409]
        [row] = await tenants.get("/schedules", secret=VIEWER)
        assert {(one["schedule_id"], one["misfire_s"]) for one in made} == {
            (row["schedule_id"], row["misfire_s"])
        }


async def test_keys_are_a_tenants_own_and_do_not_show_what_the_caller_does_not_see(
    autojump_clock: object,
) -> None:
    async with open_tenants() as tenants:
        fleet = await created(tenants, EVENING | {"asset_id": None, "fleet": True}, key="k")
        beta = EVENING | {"asset_id": asset_ids("beta")[0]}
        await created(tenants, beta, secret=secret_of("operator", "beta"), key="k")
        # To a caller of one site, the fleet is another one.
        status, answer = await create(
            tenants, EVENING | {"asset_id": None, "fleet": True}, secret=SITE_OPERATOR, key="k"
        )
        assert (status, fleet["schedule_id"] in answer["message"]) == (409, False)


async def test_a_malformed_key_is_refused(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        status, answer = await create(tenants, DAILY, key="k" * 257)
        assert (status, "Idempotency-Key is" in answer["message"]) == (400, True)
