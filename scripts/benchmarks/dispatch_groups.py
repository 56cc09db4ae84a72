"""Dispatches to a whole fleet at once: when each is answered, and when every member's agent has answered.

They are given one after the other, and none before all agents have answered the one before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import trio

from scripts.benchmarks.command import BenchmarkError
from scripts.benchmarks.http_client import HttpConnection, open_http
from scripts.benchmarks.spread import Spread, spread_of
from trioder.domain.assets import Asset
from trioder.process.addresses import Address

_WAIT_S = 30
_LIVE_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.2
# What is left of one (records, the agents' files) is not to fall into the next.
_REST_S = 1.0
_DURATION_S = 300
# Of the fleet's rating, in turn: small enough to be held by all, and each time another one.
_SHARES = (0.1, -0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFigures:
    """From the first byte of a POST on."""

    answered: Spread
    acknowledged: Spread


async def measure_groups(address: Address, assets: Sequence[Asset], *, repeats: int) -> GroupFigures:
    """Dispatch to the whole fleet, so often in either way: answered at once, and answered by all agents.

    Raises:
        BenchmarkError: an answer is not 200, or does not hold the whole fleet.
    """
    rating_mw = sum(min(asset.max_mw, -asset.min_mw) for asset in assets)
    answered_s: list[float] = []
    acknowledged_s: list[float] = []
    async with open_http(address) as connection:
        await _until_live(connection, len(assets))
        for number in range(2 * repeats):
            wait = f"&wait=ack&wait_s={_WAIT_S}" if number % 2 else ""
            body = {"fleet": True, "mw": rating_mw * _SHARES[number // 2 % 2], "duration_s": _DURATION_S}
            began_s = trio.current_time()
            answer = await connection.ask("POST", f"/dispatch?allocations=false{wait}", body)
            took_s = trio.current_time() - began_s
            (acknowledged_s if wait else answered_s).append(took_s)
            if answer["members"] != len(assets):
                raise BenchmarkError(f"{answer['members']} of {len(assets)} assets have a share")
            await _until_answered(connection, answer)
            await trio.sleep(_REST_S)
    return GroupFigures(answered=spread_of(answered_s), acknowledged=spread_of(acknowledged_s))


async def _until_live(connection: HttpConnection, assets: int) -> None:
    with trio.move_on_after(_LIVE_WITHIN_S):
        while (await connection.ask("GET", "/fleet"))["live_assets"] < assets:  # noqa: ASYNC110  # it is another process's
            await trio.sleep(_LOOK_EVERY_S)
        return
    raise BenchmarkError(f"not all of {assets} assets were live within {_LIVE_WITHIN_S:g} s")


async def _until_answered(connection: HttpConnection, answer: dict[str, Any]) -> None:
    path = f"/dispatch/{answer['dispatch_id']}?allocations=false"
    with trio.move_on_after(_WAIT_S):
        while answer["by_state"].keys() & {"queued", "sent"}:
            await trio.sleep(_LOOK_EVERY_S)
            answer = await connection.ask("GET", path)
        return
    raise BenchmarkError(f"dispatch {answer['dispatch_id']} was not answered by all within {_WAIT_S} s")
