"""When dispatches were applied: read from the headend's log, and checked against what else is known."""

import json
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from scripts.benchmarks.command import BenchmarkError
from scripts.benchmarks.dispatch_singles import Sent, Singles, figures_of
from trioder.process.rfc3339 import format_ms
from trioder.process.wall_time import WallClock


def log_of(folder: Path, **applied_ms: int) -> Path:
    """A headend's log that tells when dispatches were applied, Unix time in ms."""
    entries = [
        {"event": "dispatch answered", "dispatch_id": dispatch_id, "agent_time": format_ms(at_ms)}
        for dispatch_id, at_ms in applied_ms.items()
    ]
    log = folder / "headend.log"
    lines = ['{"event": "request"}', *map(json.dumps, entries), '{"event": "dispatch answered", "cut']
    log.write_text("\n".join(lines))
    return log


def singles_of(*sent: tuple[str, float, float, bool]) -> Singles:
    return Singles(
        sent=[
            Sent(dispatch_id=dispatch_id, sent_s=sent_s, answered_s=answered_s, waited=waited)
            for dispatch_id, sent_s, answered_s, waited in sent
        ]
    )


async def test_each_column_is_of_the_dispatches_that_tell_it(tmp_path: Path) -> None:
    wall = WallClock(start_unix_s=1000.0, start_trio_s=0.0)
    log = log_of(tmp_path, plain=1001_020, waited=1002_030)
    singles = singles_of(("plain", 1.0, 1.010, False), ("waited", 2.0, 2.040, True))
    figures = await figures_of(singles, log, wall=wall)
    assert (figures.answered.count, round(figures.answered.max_ms)) == (1, 10)
    assert (figures.applied.count, round(figures.applied.p50_ms), round(figures.applied.max_ms)) == (
        2,
        20,
        30,
    )
    assert (figures.acknowledged.count, round(figures.acknowledged.max_ms)) == (1, 40)


@pytest.mark.parametrize("applied_ms", [999_980, 1000_060])
async def test_clocks_that_contradict_the_order_of_things_make_no_figures(
    applied_ms: int, tmp_path: Path
) -> None:
    wall = WallClock(start_unix_s=1000.0, start_trio_s=0.0)
    with pytest.raises(BenchmarkError, match="the clocks do not agree"):
        await figures_of(singles_of(("one", 0.0, 0.040, True)), log_of(tmp_path, one=applied_ms), wall=wall)


async def test_a_dispatch_that_no_agent_answers_makes_no_figures(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    wall = WallClock(start_unix_s=1000.0, start_trio_s=trio.current_time())
    singles = singles_of(("one", 0.0, 0.010, False), ("two", 0.0, 0.010, False))
    with pytest.raises(BenchmarkError, match=r"1 of 2 dispatches were not answered .* one is two"):
        await figures_of(singles, log_of(tmp_path, one=1000_005), wall=wall)
