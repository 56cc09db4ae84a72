"""Lists as lines over real sockets: whole, in slices, no faster than they are read, and cut off visibly."""

import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import httpx2
import pytest
import trio
from structlog.testing import capture_logs

from tests.integration.api.ports import leave
from tests.unit.api.rest import make_fleet, uuid_of
from trioder.api import create_app, serve_rest
from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet
from trioder.domain.telemetry import PastSample, Telemetry
from trioder.headend.service import open_headend
from trioder.process.wall_time import WallClock
from trioder.store.interface import StoreUnavailableError
from trioder.store.none import NoneStore

LINES = {"accept": "application/x-ndjson"}
HISTORY = f"/telemetry/{uuid_of(1000)}/history"
START_MS = 1_767_225_600_000


class LongStore(NoneStore):
    """Has a sample every second, of each of `at_once` kinds, and counts what it is asked for."""

    def __init__(self, samples: int, *, at_once: int = 1, away_after: int = 1_000_000) -> None:
        super().__init__()
        self.reads: list[int] = []
        self._samples = samples
        self._at_once = at_once
        self._away_after = away_after

    async def history(  # type: ignore[override]  # the query that is asked
        self, asset: Asset, *, limit: int, start_ms: int | None = None, end_ms: int | None = None, **_: Any
    ) -> Sequence[PastSample]:
        self.reads.append(limit)
        if len(self.reads) > self._away_after:
            raise StoreUnavailableError("it is away")
        await trio.lowlevel.checkpoint()
        newest = self._samples - 1 if end_ms is None else self._of_before(end_ms)
        oldest = 0 if start_ms is None else self._of_before(start_ms) + 1
        return [_sample(asset, number, self._at_once) for number in range(newest, oldest - 1, -1)[:limit]]

    def _of_before(self, ts_ms: int) -> int:
        """The number of the newest sample before a time."""
        return min(self._samples, max(0, -(-(ts_ms - START_MS) // 1000)) * self._at_once) - 1


def _sample(asset: Asset, number: int, at_once: int) -> PastSample:
    telemetry = Telemetry(
        asset_id=asset.id,
        site_id=asset.site_id,
        site_name=asset.site_name,
        ts_unix_ms=START_MS + number // at_once * 1000,
        soc_mwhr=float(number),
        soc_pct=1.0,
        capacity_mwhr=asset.capacity_mwhr,
        current_mw=1.0,
        setpoint_mw=1.0,
        max_mw=asset.max_mw,
        min_mw=asset.min_mw,
        available_discharge_mw=0.0,
        available_charge_mw=0.0,
        status="idle",
    )
    return PastSample(telemetry=telemetry, source="agent", quality="good")


@asynccontextmanager
async def open_port(store: NoneStore, fleet: Fleet | None = None) -> AsyncIterator[tuple[str, int]]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(40):
        async with (
            open_headend(
                fleet=fleet or make_fleet(),
                store=store,
                wall=WallClock.starting_now(),
                rng=random.Random(1),
                tick_s=0.1,
            ) as headend,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(partial(serve_rest, create_app(headend), listeners, shutdown=headend.closing))
            yield listeners[0].socket.getsockname()
            headend.closing.set()


async def get(address: tuple[str, int], path: str, accept: str = LINES["accept"]) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{address[1]}") as client:
        return await client.get(path, headers={"accept": accept})


def rows_of(response: httpx2.Response) -> list[Any]:
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.text.endswith("\n") or not response.text
    return [json.loads(line) for line in response.text.splitlines()]


@pytest.mark.parametrize("path", ["/assets", "/telemetry", "/assets?limit=3", "/assets?limit=3000", HISTORY])
async def test_lines_are_the_rows_of_the_list(path: str) -> None:
    store = LongStore(100)
    async with open_port(store, make_fleet(sites=1, assets_a_site=4000)) as address:
        if path == "/telemetry":
            # All have a sample by then, and it is the last for a while.
            await trio.sleep(0.5)
        lines = rows_of(await get(address, path))
        whole = (await get(address, path, "application/json")).json()
    # A sample may have been replaced in between.
    names = ("id", "asset_id", "timestamp") if path == HISTORY else ("id", "asset_id")
    assert [[row.get(name) for name in names] for row in lines] == [
        [row.get(name) for name in names] for row in whole
    ]
    assert lines[0].keys() == whole[0].keys()


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/x-ndjson, */*;q=0.1", "application/x-ndjson"),
        ("application/json;q=0.5, APPLICATION/X-NDJSON", "application/x-ndjson"),
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/json, application/x-ndjson", "application/json"),
        ("application/x-ndjson;q=0", "application/json"),
        ("application/x-ndjson;q=0.1, application/json", "application/json"),
        ("text/html, ,;;q=x,\u00e4", "application/json"),
    ],
)
async def test_json_unless_lines_are_preferred(accept: str, kind: str) -> None:
    async with open_port(NoneStore()) as address, await trio.open_tcp_stream(*address) as stream:
        request = f"GET /assets HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\naccept: {accept}\r\n\r\n"
        await stream.send_all(request.encode("latin-1"))
        received = b"".join([part async for part in stream])
    assert f"content-type: {kind}\r\n".encode() in received.lower()


@pytest.mark.parametrize("at_once", [1, 3, 700])
async def test_history_as_lines_is_whole_and_in_pages(at_once: int) -> None:
    store = LongStore(2 * 700 + 499, at_once=at_once)
    async with open_port(store) as address:
        rows = rows_of(await get(address, HISTORY))
    if at_once == 700:
        # More than a page at one instant, which no battery has: some are missing, none is there twice.
        assert len({row["soc_mwhr"] for row in rows}) == len(rows)
    else:
        assert [row["soc_mwhr"] for row in rows] == [float(n) for n in range(2 * 700 + 498, -1, -1)]
    assert max(store.reads) == 500


@pytest.mark.parametrize(
    ("limit", "reads"), [(1, [1]), (500, [500]), (501, [500, 2]), (1200, [500, 500, 202])]
)
async def test_a_limit_of_lines_is_kept(limit: int, reads: list[int]) -> None:
    store = LongStore(5000)
    async with open_port(store) as address:
        rows = rows_of(await get(address, f"{HISTORY}?limit={limit}"))
    assert [row["soc_mwhr"] for row in rows] == [float(n) for n in range(4999, 4999 - limit, -1)]
    assert store.reads == reads


async def test_lines_are_between_start_and_end() -> None:
    async with open_port(LongStore(5000)) as address:
        times = "start=2026-01-01T00:00:10Z&end=2026-01-01T00:20:00Z"
        rows = rows_of(await get(address, f"{HISTORY}?{times}"))
    assert [row["soc_mwhr"] for row in rows] == [float(n) for n in range(1199, 9, -1)]


async def test_a_database_that_is_away_from_the_beginning_is_503() -> None:
    async with open_port(LongStore(5000, away_after=0)) as address:
        response = await get(address, HISTORY)
    assert (response.status_code, response.json()["error"]) == (503, "unavailable")


async def test_a_database_that_goes_away_cuts_the_response_off(caplog: pytest.LogCaptureFixture) -> None:
    with capture_logs() as logs:
        async with open_port(LongStore(50_000, away_after=20)) as address:
            with pytest.raises(httpx2.RemoteProtocolError, match="incomplete chunked read"):
                await get(address, HISTORY)
            # Nobody else is concerned.
            assert (await get(address, "/assets")).status_code == 200
    [warning] = [line for line in logs if line["event"].startswith("response cut off")]
    assert (warning["path"], warning["reason"]) == (HISTORY, "it is away")
    assert [line for line in logs if line["log_level"] in ("error", "critical")] == []
    assert caplog.records == []


async def test_no_more_is_read_than_the_client_takes() -> None:
    store = LongStore(10_000_000)
    async with open_port(store) as address, await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(
            f"GET {HISTORY} HTTP/1.1\r\nhost: localhost\r\naccept: {LINES['accept']}\r\n\r\n".encode()
        )
        reads = -1
        while reads != len(store.reads):
            reads = len(store.reads)
            await trio.sleep(0.5)
        # What fits into the sockets' buffers.
        assert 0 < reads < 200
        await leave(stream, reset=True)
        await trio.sleep(0.2)
        assert len(store.reads) <= reads + 1


@pytest.mark.parametrize("reset", [True, False])
async def test_a_client_that_leaves_early_ends_the_reading(reset: bool) -> None:
    store = LongStore(10_000_000)
    with capture_logs() as logs:
        async with open_port(store) as address:
            stream = await trio.open_tcp_stream(*address)
            await stream.send_all(
                f"GET {HISTORY} HTTP/1.1\r\nhost: localhost\r\naccept: {LINES['accept']}\r\n\r\n".encode()
            )
            await stream.receive_some(10_000)
            await leave(stream, reset=reset)
            await trio.sleep(0.3)
            reads = len(store.reads)
            await trio.sleep(0.3)
            assert len(store.reads) == reads
    assert [line for line in logs if line["log_level"] in ("error", "critical")] == []


async def test_other_tasks_run_while_lines_are_encoded() -> None:
    gaps: list[float] = []
    async with open_port(LongStore(40_000)) as address, trio.open_nursery() as nursery:

        async def tick() -> None:
            times: list[float] = []
            while True:
                times.append(time.thread_time())
                gaps[:] = [later - earlier for earlier, later in pairwise(times)]
                await trio.lowlevel.checkpoint()

        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{address[1]}") as client:
            nursery.start_soon(tick)
            async with client.stream("GET", f"{HISTORY}?limit=5000", headers=LINES) as response:
                async for _ in response.aiter_raw():
                    pass
            nursery.cancel_scope.cancel()
    # CPU time of this thread, of which the client's and the store's is a part.
    assert sorted(gaps)[-3] < 0.05
