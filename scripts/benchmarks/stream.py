"""`scripts/bench stream`: what clients of the live feed cost, and how soon they have a sample.

A real headend, and the generator as its agents; the clients are this process. Each follows one site.
"""

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from scripts.benchmarks.benchmark import Report, benchmark, number, spread_rows
from scripts.benchmarks.processes import Load, RunningHeadend, open_headend
from scripts.benchmarks.rest import fleet_of_sites
from trioder.process.rfc3339 import parse_ms

_SAMPLED_AT = re.compile(rb'"sampled_at":"([^"]+)"')
_READ_BYTES = 256 * 1024
_SETTLE_S = 3.0
_OPENED_WITHIN_S = 60.0
_CPU = "CPU of the server, % of a core"


class _Clients:
    """Clients that follow a site each, and what they have received.

    Attributes:
        complete: how many have their snapshot.
    """

    def __init__(self, headend: RunningHeadend) -> None:
        self._headend = headend
        self._site_ids = [site.id for site in headend.fleet.sites]
        self.complete = 0
        self.reset()

    def reset(self) -> None:
        """Begin to count."""
        self._began_s = trio.current_time()
        self._cpu_s = time.process_time()
        self._bytes = self._events = 0
        # By time when the samples were made, and of each the time until it was here, in seconds.
        self._delays_s: list[float] = []

    def rows(self) -> dict[str, float | None]:
        """Return what was received since `reset`."""
        took_s = trio.current_time() - self._began_s
        cpu_s = time.process_time() - self._cpu_s
        return {
            "events received/s": self._events / took_s,
            "samples received/s": len(self._delays_s) / took_s,
            "received, MB/s": self._bytes / took_s / 1e6,
            **spread_rows("made to received", self._delays_s),
            "CPU of the clients, % of a core": 100 * cpu_s / took_s,
        }

    async def follow(self, number: int) -> None:
        """Be one client, until cancelled."""
        async with await self._open(number) as stream:
            buffer = b""
            is_complete = False
            while data := bytes(await stream.receive_some(_READ_BYTES)):
                self._bytes += len(data)
                whole, found, buffer = (buffer + data).rpartition(b"\n\n")
                if found and not is_complete and b"event: complete" in whole:
                    is_complete = True
                    self.complete += 1
                self._note(whole)
        raise RuntimeError("the headend has ended a stream")

    async def hang(self) -> None:
        """Be a client that reads nothing, until cancelled."""
        async with await self._open(0):
            await trio.sleep_forever()

    async def _open(self, number: int) -> trio.SocketStream:
        address = self._headend.http
        stream = await trio.open_tcp_stream(address.host, address.port)
        # Of HTTP/1.0, so that the body is not in chunks.
        path = f"/stream?site_id={self._site_ids[number % len(self._site_ids)]}"
        await stream.send_all(f"GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n".encode())
        return stream

    def _note(self, events: bytes) -> None:
        now_s = time.time()
        self._events += events.count(b"\nevent: ")
        made_s: dict[bytes, float] = {}
        for text in _SAMPLED_AT.findall(events):
            if text not in made_s:
                made_s[text] = parse_ms(text.decode()) / 1000
            self._delays_s.append(now_s - made_s[text])


@benchmark(
    number("--assets", 1, 100_000, 10_000, "Of the headend."),
    number("--site-assets", 6, 500, 152, "Of each of its sites: what a client follows."),
    number("--shard-size", 1, 100_000, 500, "Assets of an agent."),
    number("--pulse-s", 0.1, 60.0, 1.0, "Seconds from one sample of an asset to the next."),
    number("--clients", 1, 450, 200, "That follow a site each, with all topics."),
    number("--seconds", 0.5, 600.0, 15.0, "Of each case."),
)
async def stream(
    *, assets: int, site_assets: int, shard_size: int, pulse_s: float, clients: int, seconds: float
) -> Report:
    """The live feed: CPU time and latency with many clients, and with one that does not read."""
    cases: dict[str, dict[str, float | str | None]] = {}
    async with open_headend(fleet_of_sites(assets, site_assets)) as headend:
        measure = partial(_measure, headend, seconds=seconds)
        async with headend.open_load(shard_size=shard_size, pulse_s=pulse_s) as load:
            await load.registered()
            await trio.sleep(min(_SETTLE_S, seconds))
            cases["no client"] = alone = await measure(load, None)
            async with _open_clients(headend, clients) as (following, nursery):
                await trio.sleep(min(_SETTLE_S, seconds))
                cases[f"{clients} clients"] = await measure(load, following)
                nursery.start_soon(following.hang)
                cases["and one that does not read"] = await measure(load, following)
                nursery.cancel_scope.cancel()
            await load.finish()
    for case in cases.values():
        case["the same, beyond no client"] = float(case[_CPU] or 0) - float(alone[_CPU] or 0)
    title = (
        f"stream: {assets:,} assets every {pulse_s:g} s, {clients} clients with {site_assets} each, "
        f"{seconds:g} s a case"
    )
    return Report(title=title, cases=cases)


@asynccontextmanager
async def _open_clients(
    headend: RunningHeadend, clients: int
) -> AsyncIterator[tuple[_Clients, trio.Nursery]]:
    """Run clients; yield them once all have their snapshots."""
    following = _Clients(headend)
    async with trio.open_nursery() as nursery:
        for number in range(clients):
            nursery.start_soon(following.follow, number)
        with trio.fail_after(_OPENED_WITHIN_S):
            while following.complete < clients:  # noqa: ASYNC110  # in real time
                await trio.sleep(0.05)
        yield following, nursery


async def _measure(
    headend: RunningHeadend, load: Load, following: _Clients | None, *, seconds: float
) -> dict[str, float | str | None]:
    began = headend.usage(load.program)
    if following is not None:
        following.reset()
    await trio.sleep(seconds)
    received = {} if following is None else following.rows()
    used = headend.usage(load.program).since(began)
    return {
        **used.rows("the generator"),
        **received,
        "peak memory of the server, MiB": headend.program.peak_rss_mib(),
    }
