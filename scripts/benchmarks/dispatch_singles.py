"""Dispatches to one asset each, at a steady rate: when each was answered, applied, and acknowledged.

Applied is by the agent's own clock, which the headend's log tells.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from scripts.benchmarks.command import BenchmarkError
from scripts.benchmarks.http_client import HttpPool, open_pool
from scripts.benchmarks.spread import Spread, spread_of
from trioder.domain.assets import Asset
from trioder.process.addresses import Address
from trioder.process.rfc3339 import parse_ms
from trioder.process.wall_time import WallClock

_START_DELAY_S = 0.2
_ANSWER_WITHIN_S = 30
_LOGGED_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.1
_DURATION_S = 60
_CONNECTIONS = 4
# The agent tells whole ms, and its clock and ours were set within so much of each other.
_CLOCK_SLACK_S = 0.003


@dataclass(slots=True, kw_only=True)
class Sent:
    """One dispatch, on Trio's clock.

    Attributes:
        waited: it was to be answered when the agent has acknowledged it.
    """

    dispatch_id: str
    sent_s: float
    answered_s: float
    waited: bool


@dataclass(slots=True, kw_only=True)
class Singles:
    """All dispatches of one case, and how late after its instant the latest was sent."""

    sent: list[Sent] = field(default_factory=list)
    latest_s: float = 0.0
    failed: list[BenchmarkError] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleFigures:
    """From the first byte of a POST on."""

    answered: Spread
    applied: Spread
    acknowledged: Spread
    sent_late_max_ms: float


async def send_singles(
    address: Address, assets: Sequence[Asset], *, count: int, per_s: float, rng: random.Random
) -> Singles:
    """Dispatch to the assets in turn, one each 1 / `per_s` seconds, whatever has become of those before.

    Every other one asks to be answered only when its agent has acknowledged it.

    Raises:
        BenchmarkError: one was not taken.
    """
    singles = Singles()
    async with open_pool(address, at_first=_CONNECTIONS) as pool, trio.open_nursery() as nursery:
        start_s = trio.current_time() + _START_DELAY_S
        for number in range(count):
            due_s = start_s + number / per_s
            await trio.sleep_until(due_s)
            asset = assets[number % len(assets)]
            body = {
                "asset_id": asset.id,
                "mw": round(rng.uniform(asset.min_mw, asset.max_mw), 3),
                "duration_s": _DURATION_S,
            }
            nursery.start_soon(_send, pool, body, due_s, number % 2 == 1, singles)
            if singles.failed:
                break
    if singles.failed:
        raise singles.failed[0]
    return singles


async def _send(pool: HttpPool, body: dict[str, Any], due_s: float, waited: bool, singles: Singles) -> None:
    path = f"/dispatch?wait=ack&wait_s={_ANSWER_WITHIN_S}" if waited else "/dispatch"
    try:
        connection = await pool.take()
        sent_s = trio.current_time()
        answer = await connection.ask("POST", path, body)
        answered_s = trio.current_time()
    except BenchmarkError as error:
        singles.failed.append(error)
        return
    pool.give_back(connection)
    singles.latest_s = max(singles.latest_s, sent_s - due_s)
    singles.sent.append(
        Sent(dispatch_id=answer["dispatch_id"], sent_s=sent_s, answered_s=answered_s, waited=waited)
    )


async def figures_of(singles: Singles, log: Path, *, wall: WallClock) -> SingleFigures:
    """Return the figures, once the headend's log tells of all.

    Args:
        singles: what was sent.
        log: of the headend.
        wall: set when the agent was started, so that it runs with the agent's.

    Raises:
        BenchmarkError: one was never answered by its agent, or was applied before it was sent, or after it
            was acknowledged, by more than the clocks may differ.
    """
    applied_ms = await _until_logged(log, [sent.dispatch_id for sent in singles.sent])
    applied_s: list[float] = []
    for sent in singles.sent:
        took_s = applied_ms[sent.dispatch_id] / 1000 - wall.unix_s(sent.sent_s)
        latest_s = sent.answered_s - sent.sent_s if sent.waited else float("inf")
        if not -_CLOCK_SLACK_S <= took_s <= latest_s + _CLOCK_SLACK_S:
            raise BenchmarkError(
                f"dispatch {sent.dispatch_id} was applied {1000 * took_s:.1f} ms after it was sent, and "
                f"acknowledged after {1000 * latest_s:.1f} ms: the clocks do not agree"
            )
        applied_s.append(took_s)
    plain, waited = ([sent for sent in singles.sent if sent.waited is which] for which in (False, True))
    return SingleFigures(
        answered=spread_of([sent.answered_s - sent.sent_s for sent in plain]),
        applied=spread_of(applied_s),
        acknowledged=spread_of([sent.answered_s - sent.sent_s for sent in waited]),
        sent_late_max_ms=1000 * singles.latest_s,
    )


async def _until_logged(log: Path, dispatch_ids: Sequence[str]) -> dict[str, int]:
    missing: set[str] = set()
    with trio.move_on_after(_LOGGED_WITHIN_S):
        while True:
            applied_ms = _applied_by_id(log)
            missing = set(dispatch_ids) - applied_ms.keys()
            if not missing:
                return applied_ms
            await trio.sleep(_LOOK_EVERY_S)
    raise BenchmarkError(
        f"{len(missing)} of {len(dispatch_ids)} dispatches were not answered by their agent within "
        f"{_LOGGED_WITHIN_S:g} s, or others took their place before: one is {min(missing)}"
    )


def _applied_by_id(log: Path) -> dict[str, int]:
    """Return when each dispatch was applied, Unix time in ms by the agent's clock."""
    entries = (
        json.loads(line)
        for line in log.read_text(errors="replace").splitlines()
        if '"dispatch answered"' in line and line.endswith("}")
    )
    return {entry["dispatch_id"]: parse_ms(entry["agent_time"]) for entry in entries}
