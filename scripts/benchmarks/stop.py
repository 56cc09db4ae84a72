"""`scripts/bench stop`: an emergency stop of a fleet that runs a group dispatch, and its resume.

A real headend with its embedded server, and real agents. Acknowledged is by the headend's record.
"""

import json
from http.client import HTTPConnection
from typing import Any

import trio

from scripts.benchmarks.benchmark import BenchmarkError, Case, Report, benchmark, number, spread_rows
from scripts.benchmarks.http_client import HttpConnection, open_http
from scripts.benchmarks.processes import Program, RunningHeadend, invented_fleet, open_headend
from trioder.process.rfc3339 import parse_ms
from trioder.process.wall_time import WallClock

_WITHIN_S = 60.0
_POLLING = {"within_s": _WITHIN_S, "every_s": 0.1}
_DURATION_S = 3600
# Of the fleet's rating, for the dispatch that is stopped: small enough to be held by all.
_SHARE = 0.1
# What remains to be done of one (records, the agents' files) must not overlap the next.
_PAUSE_S = 1.0
_FLEET = {"fleet": True}


@benchmark(
    number("--assets", 1, 100_000, 10_000, "Of the fleet."),
    number("--agents", 1, 100, 10, "That they belong to."),
    number("--tick-s", 0.1, 60.0, 4.0, "Seconds from one pulse of every agent to the next."),
    number("--repeats", 1, 1000, 10, "Stops, each of which is resumed."),
)
async def stop(*, assets: int, agents: int, tick_s: float, repeats: int) -> Report:
    """From a POST of a stop to 0 MW at every asset, and from its resume to the dispatch in force again."""
    wall = WallClock.starting_now()
    async with (
        open_headend(invented_fleet(assets)) as headend,
        headend.open_launcher(shard_size=-(-assets // agents), tick_s=tick_s) as (launcher, _),
    ):
        case = await _measure(headend, launcher, repeats, wall)
    title = f"stop: a fleet of {assets:,} assets in {agents} agents, under a group dispatch"
    return Report(title=title, cases={f"{assets:,} assets": case})


async def _measure(headend: RunningHeadend, launcher: Program, repeats: int, wall: WallClock) -> Case:
    """Stop and resume in turn, each once all agents have acknowledged what was before."""
    assets = headend.fleet.assets
    mw = _SHARE * sum(min(asset.max_mw, -asset.min_mw) for asset in assets)
    answered_s: dict[str, list[float]] = {"/stop": [], "/resume": []}
    acknowledged_s: dict[str, list[float]] = {"/stop": [], "/resume": []}
    async with open_http(headend.http) as connection:
        await connection.ask_until("/fleet", lambda one: one["live_assets"] == len(assets), **_POLLING)
        body = {**_FLEET, "mw": mw, "duration_s": _DURATION_S}
        group = (await connection.ask("POST", "/dispatch?allocations=false", body))["dispatch_id"]
        await _acknowledged_ms(headend, connection, group)
        began = headend.usage(launcher)
        for path in ("/stop", "/resume") * repeats:
            await trio.sleep(_PAUSE_S)
            began_s = trio.current_time()
            response = await connection.ask("POST", path, _FLEET)
            answered_s[path].append(trio.current_time() - began_s)
            in_force = group if path == "/resume" else response["stops"][0]["dispatch_id"]
            last_ms = max(await _acknowledged_ms(headend, connection, in_force))
            acknowledged_s[path].append(last_ms / 1000 - wall.unix_s(began_s))
    rows: dict[str, float | None] = {**headend.usage(launcher).since(began).rows("the agents")}
    for path, durations_s in answered_s.items():
        rows |= spread_rows(f"POST {path} answered", durations_s)
        rows |= spread_rows(f"POST {path} to acknowledged by all", acknowledged_s[path])
    return rows


async def _acknowledged_ms(headend: RunningHeadend, http: HttpConnection, dispatch_id: str) -> list[int]:
    """Return when each asset's agent acknowledged its setpoint, once all have; Unix time in ms."""
    path, waiting = f"/dispatch/{dispatch_id}", {"deferred", "queued", "sent"}
    await http.ask_until(
        f"{path}?allocations=false", lambda one: not waiting & one["by_state"].keys(), **_POLLING
    )
    record = await trio.to_thread.run_sync(_read, headend, path, abandon_on_cancel=True)
    found = [parse_ms(each["answered_at"]) for each in record["allocations"] if each["answered_at"]]
    if len(found) != len(headend.fleet.assets):
        raise BenchmarkError(f"{len(found)} of {len(record['allocations'])} have acknowledged {dispatch_id}")
    return found


def _read(headend: RunningHeadend, path: str) -> Any:
    """GET a response in chunks, which the benchmarks' own client does not know."""
    connection = HTTPConnection(headend.http.host, headend.http.port, timeout=_WITHIN_S)
    connection.request("GET", path)
    return json.loads(connection.getresponse().read())
