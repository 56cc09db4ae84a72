"""A fleet under attack, in virtual time, from its first task to its last; a seed decides everything."""

import gc
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import structlog
import trio
import trio.testing

from tests.simulation.attacks import attack
from tests.simulation.world import CALM_WITHIN_S, Report, Storm, World

# Of the database's own absence.
_EXPECTED_ERRORS = frozenset({"database unavailable"})


async def calm_down(world: World) -> None:
    """All faults end, and everything is stopped in good order once it is well again."""
    server = world.server
    server.are_restored()
    server.failure, server.delay_s = 0.0, 0.01
    await world.start_headend()
    for agent in world.agents:
        agent.memory.full = False
        if agent.wire is not None:
            agent.wire.speak_again()
            agent.wire.delay_s = 0.0
    headend, assets = world.headend, len(world.storm.fleet.assets)
    assert headend is not None
    await world.until(lambda: headend.sessions.assets_connected == assets, "every asset has a live session")
    await world.until(lambda: all(map(world.keeps_up, world.agents)), "the backlogs are worked off")
    await world.until(
        lambda: server.open_sessions == {session.session_id for session in headend.sessions},
        "the sessions that the database has open are the live ones",
    )
    for agent in world.agents:
        agent.stopping.set()
    await world.until(lambda: len(headend.sessions) == 0, "sessions end with their agents", within_s=30)
    await world.until(
        lambda: all(world.waiting(agent) == 0 for agent in world.agents),
        "the last batches are committed",
        within_s=30,
    )
    await world.until(lambda: not server.open_sessions, "no session is left open", within_s=30)
    assert world.store is not None
    world.report.refused = world.store.stats.batches_refused
    with trio.fail_after(30):
        await world.stop_headend()


async def weather(storm: Storm, seed: int, report: Report, check: Callable[[World], None]) -> None:
    """Run a storm from its first task to its last; nothing is cancelled at the end."""
    rng = random.Random(seed)
    with trio.fail_after(storm.lasts_s + 3 * CALM_WITHIN_S):
        async with trio.open_nursery() as nursery:
            world = World(storm, rng=rng, nursery=nursery, report=report)
            await world.start()
            await attack(world)
            await calm_down(world)
            with suppress(trio.TooSlowError), trio.fail_after(60):
                while nursery.child_tasks:
                    await trio.sleep(0.1)
            assert not nursery.child_tasks, f"tasks are left: {sorted(map(str, nursery.child_tasks))}"
    report.commits_unheard, report.late_commits = world.server.commits_unheard, world.server.late_commits
    check(world)


def run_storm(storm: Storm, seed: int, *, check: Callable[[World], None]) -> Report:
    """Run a storm in virtual time; the same seed runs the same way, to the last switch between tasks."""
    report = Report()
    with _replayable(seed), _errors_into(report.errors), _rare_collections():
        trio.run(weather, storm, seed, report, check, clock=trio.testing.MockClock(autojump_threshold=0))
    return report


@contextmanager
def _replayable(seed: int) -> Iterator[None]:
    # What hypothesis does through trio's own plugin: the order of tasks is drawn from trio's generator alone.
    scheduler: Any = trio._core._run
    before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate()
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduler._r.seed(seed)
    try:
        yield
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
        scheduler._r.setstate(before[1])


@contextmanager
def _errors_into(errors: list[str]) -> Iterator[None]:
    """Log nothing; keep what would have been an error."""

    def keep(_logger: object, _method: str, entry: dict[str, Any]) -> dict[str, Any]:
        if entry["event"] not in _EXPECTED_ERRORS:
            errors.append(f"{entry}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.format_exc_info, keep],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
    )
    try:
        yield
    finally:
        structlog.configure(**before)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Collect garbage less often: it takes a sixth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
