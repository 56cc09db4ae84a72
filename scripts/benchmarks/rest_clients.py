"""REST clients on kept connections that ask as fast as they are answered, and what that takes of both ends.

What is asked, and what is made of it, is in `rest`.
"""

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import psutil
import trio

from scripts.benchmarks.command import BenchmarkError
from scripts.benchmarks.http_client import HttpConnection, open_http
from trioder.process.addresses import Address

# The system counts no finer.
_CPU_RESOLUTION_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is asked: the paths in turn, of a server with this process id."""

    name: str
    address: Address
    pid: int
    paths: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One target in one round; shares of CPU are of one core, in percent."""

    requests_per_s: float
    requests_per_cpu_s: float
    body_bytes: float
    server_cpu_pct: float
    client_cpu_pct: float


async def run_turn(target: Target, *, clients: int, seconds: float) -> Turn:
    """Ask for so long on kept connections, each request as soon as the answer before it has come."""
    failed: list[BenchmarkError] = []
    counts: list[int] = []
    sizes: list[int] = []

    async def ask(connection: HttpConnection, requests: Sequence[bytes], until_s: float) -> None:
        count = size = 0
        try:
            while trio.current_time() < until_s:
                status, body = await connection.exchange(requests[count % len(requests)])
                if status != 200:
                    raise BenchmarkError(f"{target.name}: {status}: {body.decode(errors='replace')}")
                count += 1
                size += len(body)
        except BenchmarkError as error:
            failed.append(error)
        counts.append(count)
        sizes.append(size)

    server = psutil.Process(target.pid)
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(open_http(target.address)) for _ in range(clients)]
        shares = [
            [connection.request_bytes("GET", path) for path in target.paths[number::clients] or target.paths]
            for number, connection in enumerate(connections)
        ]
        began_s, server_s, client_s = trio.current_time(), _cpu_s(server), time.process_time()
        async with trio.open_nursery() as nursery:
            for connection, requests in zip(connections, shares, strict=True):
                nursery.start_soon(ask, connection, requests, began_s + seconds)
        took_s = trio.current_time() - began_s
        used_s = _cpu_s(server) - server_s
        turn = Turn(
            requests_per_s=sum(counts) / took_s,
            requests_per_cpu_s=sum(counts) / max(_CPU_RESOLUTION_S, used_s),
            body_bytes=sum(sizes) / max(1, sum(counts)),
            server_cpu_pct=100 * used_s / took_s,
            client_cpu_pct=100 * (time.process_time() - client_s) / took_s,
        )
    if failed:
        raise failed[0]
    return turn


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
