"""History over REST from a real database: as lines, in pages, at a resolution, and when it goes away."""

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import httpx2
import pytest
import trio

from tests.integration.store.senders import until_health
from tests.integration.store.servers import FLEET, open_store_on, run_sql
from trioder.api import create_app, serve_rest
from trioder.headend.service import open_headend
from trioder.process.wall_time import WallClock

PATH = f"/telemetry/{FLEET.assets[0].id}/history"
LINES = {"accept": "application/x-ndjson"}
# 2026-01-01T00:00:00Z and a second apart, two of each second.
FILL = """
    INSERT INTO samples
    SELECT to_timestamp(1767225600 + n / 2), n, 1, 1, 1, 1, asset_key, 0, 0
    FROM asset_versions, generate_series(0, %s - 1) AS n WHERE asset_id = %s
"""


@asynccontextmanager
async def open_client(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(60):
        async with open_store_on(url) as store:
            await until_health(store, "ok")
            async with (
                open_headend(
                    fleet=FLEET,
                    store=store,
                    wall=WallClock.starting_now(),
                    rng=random.Random(1),
                    tick_s=0,
                ) as headend,
                trio.open_nursery() as nursery,
            ):
                serve = partial(serve_rest, create_app(headend), listeners, shutdown=headend.closing)
                await nursery.start(serve)
                port = listeners[0].socket.getsockname()[1]
                async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                    yield client
                headend.closing.set()


async def test_lines_are_every_sample_and_periods_their_statistics(database_url: str) -> None:
    async with open_client(database_url) as client:
        run_sql(database_url, FILL, 3_001, FLEET.assets[0].id)
        lines = (await client.get(PATH, headers=LINES)).text.splitlines()
        rows = [json.loads(line) for line in lines]
        assert sorted(row["soc_mwhr"] for row in rows) == [float(n) for n in range(3_001)]
        times = [row["timestamp"] for row in rows]
        assert times == sorted(times, reverse=True)
        assert rows[:100] == (await client.get(PATH)).json()
        query = "?resolution=5m&start=2026-01-01T00:00:00Z&end=2026-01-02T00:00:00Z"
        periods = (await client.get(PATH + query)).json()
        assert [period["samples"] for period in periods] == [1, 600, 600, 600, 600, 600]
        assert periods[-1]["soc_mwhr"] == {"mean": 299.5, "min": 0.0, "max": 599.0, "last": 599.0}
        lines = (await client.get(PATH + query, headers=LINES)).text.splitlines()
        assert [json.loads(line) for line in lines] == periods


async def test_a_response_is_cut_off_when_the_database_goes_away(database_url: str) -> None:
    name = run_sql(database_url, "SELECT current_database()")[0][0]
    async with open_client(database_url) as client:
        run_sql(database_url, FILL, 100_000, FLEET.assets[0].id)
        received = ""

        async def read() -> None:
            nonlocal received
            async with client.stream("GET", PATH, headers=LINES) as response:
                async for part in response.aiter_text():
                    if not received:
                        other = database_url.replace(f"/{name}?", "/postgres?")
                        run_sql(other, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
                        run_sql(
                            other,
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                            name,
                        )
                    received += part

        with pytest.raises(httpx2.RemoteProtocolError, match="incomplete chunked read"):
            await read()
        rows = [json.loads(line) for line in received.splitlines(keepends=True) if line.endswith("\n")]
        assert 0 < len(rows) < 100_000
        assert (await client.get("/assets")).status_code == 200
        assert (await client.get(PATH, headers=LINES)).status_code == 503
