"""`GET /dispatch`, waiting for acknowledgements, and Idempotency-Keys."""

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.unit.api.rest import START_S, Rest, open_rest, uuid_of
from tests.unit.store.model_database import ModelDatabase
from trioder.gateway.sessions import Session
from trioder.process.wall_time import WallClock
from trioder.store.postgres.open import open_store_over
from trioder.store.postgres.store import PostgresStore
from trioder.wire.records import Acknowledgement

ASSETS = [uuid_of(1000 + key) for key in range(4)]


def body(**fields: object) -> bytes:
    return json.dumps({"mw": 5.0, **fields}).encode()


async def post(
    rest: Rest, query: str = "", *, key: str | None = None, **fields: object
) -> tuple[int, dict[str, object]]:
    headers = {"content-type": "application/json"} | ({} if key is None else {"Idempotency-Key": key})
    return await rest.ask("POST", f"/dispatch{query}", data=body(**fields), headers=headers)


def acknowledge(
    rest: Rest, session: Session, dispatch_id: object, asset: int, status: str = "applied"
) -> None:
    acknowledgement = Acknowledgement(
        dispatch_id=str(dispatch_id), asset_id=ASSETS[asset], status=status, ts_unix_ms=1, reason="because"
    )
    rest.headend.dispatcher.acknowledged(acknowledgement, session=session)


@asynccontextmanager
async def open_over(database: ModelDatabase) -> AsyncIterator[Rest]:
    store = PostgresStore(database, wall=WallClock(START_S, trio.current_time()))
    async with open_store_over(store), open_rest(store=store) as rest:
        yield rest


async def test_a_dispatch_has_its_state(autojump_clock: object) -> None:
    async with open_rest() as rest:
        session = rest.connect(0)
        _, accepted = await post(rest, asset_id=ASSETS[0], duration_s=60, reversion_mw=1.0)
        acknowledge(rest, session, accepted["dispatch_id"], 0, "clamped")
        found = await rest.get(f"/dispatch/{accepted['dispatch_id']}".upper().replace("DISPATCH", "dispatch"))
        assert (found["state"], found["duration_s"], found["reversion_mw"]) == ("clamped", 60, 1.0)
        [row] = found["allocations"]
        assert (row["asset_id"], row["answer"], row["reason"]) == (ASSETS[0], "clamped", "because")
        assert (row["sent_at"], row["ends_at"]) == ("2026-01-01T00:00:00.000Z", "2026-01-01T00:01:00.000Z")
        assert row["ended_at"] is None


async def test_telemetry_has_the_dispatch_and_its_remaining_time(autojump_clock: object) -> None:
    async with open_rest() as rest:
        session = rest.connect(0)
        _, accepted = await post(rest, asset_id=ASSETS[0], duration_s=60)
        acknowledge(rest, session, accepted["dispatch_id"], 0)
        rest.report(0)
        await trio.sleep(20)
        row = await rest.get(f"/telemetry/{ASSETS[0]}")
        assert (row["dispatch_id"], row["remaining_s"]) == (accepted["dispatch_id"], 40.0)
        await trio.sleep(50)
        row = await rest.get(f"/telemetry/{ASSETS[0]}")
        assert (row["dispatch_id"], row["remaining_s"]) == (None, None)


async def test_dispatches_are_listed_newest_first_by_asset_and_state(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0, 1)
        rest.report(0, 1)
        made = []
        for fields in ({"asset_id": ASSETS[0]}, {"asset_id": ASSETS[1]}, {"asset_ids": ASSETS[:2]}):
            made.append((await post(rest, **fields))[1]["dispatch_id"])
            await trio.sleep(0.01)

        async def listed(query: str) -> list[object]:
            return [row["dispatch_id"] for row in await rest.get(f"/dispatch{query}")]

        assert await listed("") == made[::-1]
        assert await listed("?limit=1") == made[:1:-1]
        assert await listed(f"?asset_id={ASSETS[1]}") == [made[2], made[1]]
        assert await listed("?state=superseded") == [made[1], made[0]]
        assert await listed(f"?state=superseded&asset_id={ASSETS[0]}") == [made[0]]
        assert (await rest.get("/dispatch"))[0]["allocations"] is None
        assert len((await rest.get("/dispatch?allocations=true"))[0]["allocations"]) == 2


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/dispatch/nope", 404, "'nope'"),
        (f"/dispatch/{uuid_of(5)}", 404, uuid_of(5)),
        ("/dispatch?state=lost", 400, "state is 'lost'; it must be deferred or queued or sent"),
        ("/dispatch?limit=0", 400, "limit is '0'"),
        ("/dispatch?limit=21&allocations=true", 400, "limit is '21'; it must be a whole number from 1 to 20"),
        (f"/dispatch?asset_id={uuid_of(5)}", 404, uuid_of(5)),
        ("/dispatch?asset_id=x", 400, "'x'"),
        (
            f"/dispatch/{uuid_of(5)}?allocations=maybe",
            400,
            "allocations is 'maybe'; it must be true or false",
        ),
    ],
)
async def test_an_unknown_dispatch_or_a_bad_query_is_refused(
    autojump_clock: object, path: str, status: int, reason: str
) -> None:
    async with open_rest() as rest:
        got, error = await rest.ask("GET", path)
        assert got == status
        assert reason in error["message"]


async def test_a_wait_ends_when_every_agent_has_acknowledged(autojump_clock: object) -> None:
    async with open_rest() as rest:
        session = rest.connect(0, 1)
        rest.report(0, 1)
        responses: list[tuple[int, dict[str, object]]] = []

        async def ask() -> None:
            responses.append(await post(rest, "?wait=ack", asset_ids=ASSETS[:2], resplit=False))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            [accepted] = await rest.get("/dispatch")
            acknowledge(rest, session, accepted["dispatch_id"], 0)
            await trio.sleep(1)
            assert responses == []
            acknowledge(rest, session, accepted["dispatch_id"], 1, "rejected")
            await trio.testing.wait_all_tasks_blocked()
            [(status, response)] = responses
        assert (status, response["by_state"]) == (200, {"accepted": 1, "rejected": 1})


async def test_waiting_is_bounded_and_returns_the_current_state(autojump_clock: object) -> None:
    async with open_rest() as rest:
        began_s = trio.current_time()
        status, response = await post(rest, "?wait=ack&wait_s=2", asset_id=ASSETS[0])
        assert trio.current_time() - began_s == pytest.approx(2.0)
        assert (status, response["status"], response["state"], response["delivery"]) == (
            202,
            "ok",
            "queued",
            "queued",
        )
        assert (await rest.get(f"/dispatch/{response['dispatch_id']}"))["state"] == "queued"


async def test_a_group_without_all_acknowledgements_in_time_is_accepted(
    autojump_clock: object,
) -> None:
    async with open_rest() as rest:
        session = rest.connect(0, 1)
        rest.report(0, 1)

        async def acknowledge_one() -> None:
            await trio.sleep(0.5)
            [accepted] = await rest.get("/dispatch")
            acknowledge(rest, session, accepted["dispatch_id"], 0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(acknowledge_one)
            status, response = await post(rest, "?wait=ack&wait_s=1", asset_ids=ASSETS[:2])
        assert (status, response["state"], response["by_state"]) == (202, "sent", {"accepted": 1, "sent": 1})


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("?wait=done", "wait is 'done'; it must be ack"),
        ("?wait=ack&wait_s=31", "wait_s is '31'; it must be a whole number from 1 to 30"),
        ("?wait=ack&wait_s=0", "wait_s is '0'"),
        ("?wait_s=x", "wait_s is 'x'"),
    ],
)
async def test_a_bad_wait_is_refused_and_nothing_is_dispatched(
    autojump_clock: object, query: str, reason: str
) -> None:
    async with open_rest() as rest:
        status, error = await post(rest, query, asset_id=ASSETS[0])
        assert status == 400
        assert reason in str(error["message"])
        assert await rest.get("/dispatch") == []


async def test_a_repeated_key_and_body_get_the_same_response_and_one_dispatch(autojump_clock: object) -> None:
    async with open_rest() as rest:
        session = rest.connect(0)
        first = await post(rest, key="k-1", asset_id=ASSETS[0], duration_s=60)
        acknowledge(rest, session, first[1]["dispatch_id"], 0)
        await trio.sleep(5)
        assert await post(rest, key="k-1", duration_s=60, asset_id=ASSETS[0]) == first
        assert len(await rest.get("/dispatch")) == 1


async def test_the_same_key_with_another_body_is_a_conflict(autojump_clock: object) -> None:
    async with open_rest() as rest:
        _, first = await post(rest, key="k-1", asset_id=ASSETS[0])
        status, error = await post(rest, key="k-1", asset_id=ASSETS[1])
        assert (status, error["error"]) == (409, "conflict")
        assert str(first["dispatch_id"]) in str(error["message"])
        assert len(await rest.get("/dispatch")) == 1


async def test_a_refused_dispatch_does_not_use_its_key(autojump_clock: object) -> None:
    async with open_rest() as rest:
        assert (await post(rest, key="k-1", asset_id=ASSETS[0], duration_s=0))[0] == 400
        assert (await post(rest, key="k-1", asset_id=ASSETS[0], duration_s=1))[0] == 200


async def test_a_repeated_key_with_wait_gets_the_current_record(autojump_clock: object) -> None:
    async with open_rest() as rest:
        session = rest.connect(0)
        status, _ = await post(rest, "?wait=ack&wait_s=1", key="k-1", asset_id=ASSETS[0])
        assert status == 202
        [accepted] = await rest.get("/dispatch")
        acknowledge(rest, session, accepted["dispatch_id"], 0)
        status, response = await post(rest, "?wait=ack&wait_s=1", key="k-1", asset_id=ASSETS[0])
        assert (status, response["state"]) == (200, "accepted")


@pytest.mark.parametrize("key", ["", "x" * 257, "caf\u00e9"])
async def test_a_malformed_key_is_refused(autojump_clock: object, key: str) -> None:
    async with open_rest() as rest:
        status, error = await post(rest, key=key, asset_id=ASSETS[0])
        assert status == 400
        assert "Idempotency-Key" in str(error["message"])
        assert await rest.get("/dispatch") == []


async def test_a_dry_run_does_not_use_its_key(autojump_clock: object) -> None:
    async with open_rest() as rest:
        await post(rest, key="k-1", asset_id=ASSETS[0], dry_run=True)
        status, response = await post(rest, key="k-1", asset_id=ASSETS[0])
        assert (status, response["dry_run"]) == (200, False)


async def test_after_a_restart_dispatches_and_keys_are_read_from_the_database(
    autojump_clock: object,
) -> None:
    database = ModelDatabase(random.Random(1))
    async with open_over(database) as rest:
        session = rest.connect(0)
        _, ended = await post(rest, asset_id=ASSETS[0])
        acknowledge(rest, session, ended["dispatch_id"], 0, "rejected")
        _, open_one = await post(rest, key="k-1", asset_id=ASSETS[1], expires_in_s=3600)
        await trio.sleep(2)
    async with open_over(database) as rest:
        assert (await rest.get(f"/dispatch/{ended['dispatch_id']}"))["state"] == "rejected"
        assert {row["dispatch_id"] for row in await rest.get("/dispatch")} == {
            ended["dispatch_id"],
            open_one["dispatch_id"],
        }
        status, again = await post(rest, key="k-1", asset_id=ASSETS[1], expires_in_s=3600)
        assert (status, again["dispatch_id"]) == (200, open_one["dispatch_id"])
        assert (await post(rest, key="k-1", asset_id=ASSETS[2]))[0] == 409
        queued = await rest.get("/dispatch?state=queued")
        assert [row["dispatch_id"] for row in queued] == [open_one["dispatch_id"]]


async def test_without_a_database_the_dispatches_in_memory_are_listed(autojump_clock: object) -> None:
    database = ModelDatabase(random.Random(1))
    async with open_over(database) as rest:
        database.away = "gone for lunch"
        await trio.sleep(10)
        status, accepted = await post(rest, asset_id=ASSETS[0])
        assert status == 200
        assert (await rest.get(f"/dispatch/{accepted['dispatch_id']}"))["state"] == "queued"
        assert len(await rest.get("/dispatch")) == 1
        status, error = await rest.ask("GET", f"/dispatch/{uuid_of(5)}")
        assert status == 503
        assert "gone for lunch" in error["message"]


async def test_nothing_is_dispatched_while_a_key_cannot_be_looked_up(
    autojump_clock: object,
) -> None:
    database = ModelDatabase(random.Random(1))
    async with open_over(database) as rest:
        _, known = await post(rest, key="known", asset_id=ASSETS[0])
        database.away = "gone for lunch"
        await trio.sleep(10)
        response = await rest.raw(
            "POST",
            "/dispatch",
            json={"asset_id": ASSETS[1], "mw": 5.0},
            headers={"Idempotency-Key": "unknown"},
        )
        error = await response.get_json()
        assert (response.status_code, error["error"]) == (503, "unavailable")
        assert "gone for lunch" in error["message"]
        assert int(response.headers["Retry-After"]) > 0
        assert len(await rest.get("/dispatch")) == 1
        # A key used since the start is found without the database.
        assert (await post(rest, key="known", asset_id=ASSETS[0]))[1]["dispatch_id"] == known["dispatch_id"]
        database.away = ""
        await trio.sleep(30)
        assert (await post(rest, key="unknown", asset_id=ASSETS[1]))[0] == 200
