"""The REST routes of a real headend over real sockets."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import httpx2
import trio
import trio.testing
from structlog.testing import capture_logs

from tests.unit.api.rest import make_fleet, uuid_of
from trioder.api import create_app, serve_rest
from trioder.domain.fleet import Fleet
from trioder.headend.service import open_headend
from trioder.process.wall_time import WallClock
from trioder.store.none import NoneStore


@asynccontextmanager
async def open_client(fleet: Fleet) -> AsyncIterator[httpx2.AsyncClient]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    with trio.fail_after(20):
        async with (
            open_headend(
                fleet=fleet,
                store=NoneStore(),
                wall=WallClock.starting_now(),
                rng=random.Random(1),
                tick_s=0.1,
            ) as headend,
            trio.open_nursery() as nursery,
        ):
            app = create_app(headend)
            await nursery.start(partial(serve_rest, app, listeners, shutdown=headend.closing))
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                yield client
            headend.closing.set()


async def test_a_user_reads_dispatches_and_reads_again() -> None:
    async with open_client(make_fleet()) as client:
        assert (await client.get("/health")).json()["status"] == "ok"
        asset = (await client.get("/assets", params={"limit": 1})).json()[0]
        response = await client.post("/dispatch", json={"asset_id": asset["id"], "mw": 5, "duration_s": 60})
        assert response.json()["delivery"] == "queued"
        setpoint_mw = None
        while setpoint_mw != 5:
            latest = await client.get(f"/telemetry/{asset['id']}")
            if latest.status_code == 200:
                setpoint_mw = latest.json()["setpoint_mw"]
            await trio.sleep(0.02)
        assert "trioder_dispatches_queued_total 1.0" in (await client.get("/metrics")).text


async def test_a_schedule_dispatches_by_the_clock() -> None:
    async with open_client(make_fleet()) as client:
        asset_id = (await client.get("/assets", params={"limit": 1})).json()[0]["id"]
        start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
        body = {
            "asset_id": asset_id,
            "start": start.isoformat(),
            "steps": [{"duration_s": 1, "mw": 5}, {"duration_s": 60, "mw": -3}],
        }
        response = await client.post("/schedules", json=body)
        assert response.status_code == 201
        setpoints_mw: list[float] = []
        while -3 not in setpoints_mw:
            latest = await client.get(f"/telemetry/{asset_id}")
            if latest.status_code == 200:
                setpoints_mw.append(latest.json()["setpoint_mw"])
            await trio.sleep(0.02)
        assert [mw for mw, before in zip(setpoints_mw, [0, *setpoints_mw], strict=False) if mw != before] == [
            5,
            -3,
        ]
        [occurrence] = (await client.get(f"/schedules/{response.json()['schedule_id']}/occurrences")).json()
        assert [step["number"] for step in occurrence["steps"]] == [0, 1]


async def test_a_large_fleet_is_sent_in_chunks() -> None:
    fleet = make_fleet(sites=1, assets_a_site=20_000)
    async with open_client(fleet) as client:
        response = await client.get("/assets")
        assert response.headers["transfer-encoding"] == "chunked"
        assert [row["id"] for row in response.json()] == [asset.id for asset in fleet.assets]


async def test_hundreds_of_ids_fit_into_one_request() -> None:
    async with open_client(make_fleet(sites=1, assets_a_site=1000)) as client:
        ids = [uuid_of(1000 + number) for number in range(1000)]
        while len(rows := (await client.get("/telemetry", params={"asset_id": ids})).json()) < len(ids):
            await trio.sleep(0.05)
        assert [row["asset_id"] for row in rows] == ids


async def test_a_large_body_is_refused_with_and_without_content_length() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 50_000

    async with open_client(make_fleet()) as client:
        for content in (b" " * 1_000_001, chunks()):
            response = await client.post(
                "/dispatch", content=content, headers={"content-type": "application/json"}
            )
            assert (response.status_code, response.json()["error"]) == (413, "payload_too_large")


async def test_the_log_has_the_raw_path_and_the_peer() -> None:
    async with open_client(make_fleet()) as client:
        with capture_logs() as lines:
            await client.get("/assets/%0d%0aforged=line?limit=1")
            await trio.testing.wait_all_tasks_blocked(0.05)
        [line] = [line for line in lines if line["event"] == "request"]
        assert line["path"] == "/assets/%0d%0aforged=line"
        assert line["status"] == 400
        assert line["peer"].startswith("127.0.0.1:")


async def test_many_concurrent_requests_all_get_a_response() -> None:
    async with open_client(make_fleet()) as client, trio.open_nursery() as nursery:
        responses: list[bool] = []

        async def ask(number: int) -> None:
            path, status = [("/assets", 200), (f"/assets/{number}", 404), ("/assets?limit=x", 400)][
                number % 3
            ]
            responses.append((await client.get(path)).status_code == status)

        for number in range(60):
            nursery.start_soon(ask, number)
    assert responses == [True] * 60


async def test_a_client_that_does_not_read_does_not_delay_others() -> None:
    async with (
        open_client(make_fleet(sites=1, assets_a_site=20_000)) as client,
        await trio.open_tcp_stream("127.0.0.1", client.base_url.port or 0) as stuck,
    ):
        await stuck.send_all(b"GET /assets HTTP/1.1\r\nhost: localhost\r\n\r\n")
        with trio.fail_after(5):
            assert (await client.get("/health")).json()["status"] == "ok"
