"""When dispatches were applied: read from the headend's log, and checked against POST and response."""

import json
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from scripts.benchmarks.benchmark import BenchmarkError
from scripts.benchmarks.dispatch import Sent, figures_of
from trioder.process.rfc3339 import format_ms
from trioder.process.wall_time import WallClock


def log_of(folder: Path, **applied_ms: int) -> Path:
    """A headend's log of when dispatches were applied, Unix time in ms."""
    entries = [
        {"event": "dispatch answered", "dispatch_id": dispatch_id, "agent_time": format_ms(at_ms)}
        for dispatch_id, at_ms in applied_ms.items()
    ]
    log = folder / "headend.log"
    lines = ['{"event": "request"}', *map(json.dumps, entries), '{"event": "dispatch answered", "cut']
    log.write_text("\n".join(lines))
    return log


def sent_of(*sent: tuple[str, float, float, bool]) -> list[Sent]:
    return [
        Sent(dispatch_id=dispatch_id, due_s=sent_s, sent_s=sent_s, answered_s=answered_s, waited=waited)
        for dispatch_id, sent_s, answered_s, waited in sent
    ]


async def test_each_column_is_of_the_dispatches_that_have_it(tmp_path: Path) -> None:
    wall = WallClock(start_unix_s=1000.0, start_trio_s=0.0)
    log = log_of(tmp_path, plain=1001_020, waited=1002_030)
    sent = sent_of(("plain", 1.0, 1.010, False), ("waited", 2.0, 2.040, True))
    figures = await figures_of(sent, log, wall=wall)
    counts = [figures[name]["count"] for name in ("answered", "applied", "acknowledged")]
    assert counts == [1, 2, 1]
    latest_ms = [round(figures[name]["max_ms"]) for name in ("answered", "applied", "acknowledged")]
    assert latest_ms == [10, 30, 40]


@pytest.mark.parametrize("applied_ms", [999_980, 1000_060])
async def test_clocks_that_contradict_the_order_of_events_yield_no_durations(
    applied_ms: int, tmp_path: Path
) -> None:
    wall = WallClock(start_unix_s=1000.0, start_trio_s=0.0)
    with pytest.raises(BenchmarkError, match="the clocks do not agree"):
        await figures_of(sent_of(("one", 0.0, 0.040, True)), log_of(tmp_path, one=applied_ms), wall=wall)


async def test_a_dispatch_that_no_agent_acknowledges_makes_no_figures(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    wall = WallClock(start_unix_s=1000.0, start_trio_s=trio.current_time())
    sent = sent_of(("one", 0.0, 0.010, False), ("two", 0.0, 0.010, False))
    with pytest.raises(BenchmarkError, match=r"1 of 2 dispatches were not acknowledged .* one is two"):
        await figures_of(sent, log_of(tmp_path, one=1000_005), wall=wall)
