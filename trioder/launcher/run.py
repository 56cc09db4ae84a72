"""The launcher as a whole: the supervised fleet, its display, and the signals that stop it."""

import random
import sys
from collections.abc import Sequence
from functools import partial

import structlog
import trio

from trioder.launcher.display import LiveLine, log_summary, show_progress, write_line
from trioder.launcher.progress import FleetProgress
from trioder.launcher.shards import LaunchSettings, Shard
from trioder.launcher.supervisor import FleetFailedError, run_fleet
from trioder.process.logs import LogStream
from trioder.process.signals import StopSignal, open_stop_signal

log = structlog.stdlib.get_logger(__name__)


async def run_launcher(
    shards: Sequence[Shard], settings: LaunchSettings, *, live: LiveLine | None = None
) -> int:
    """Run the fleet until SIGTERM or SIGINT, or until no shard can run any more.

    Args:
        shards: the fleet, at least one shard.
        settings: of the agents.
        live: displays the progress; without it, it is logged.

    Returns:
        The exit code: 0 stopped by a signal, 1 given up.
    """
    output: LogStream = live or sys.stderr
    failure: FleetFailedError | None = None
    async with open_stop_signal() as stop:
        started_s = trio.current_time()
        progress = FleetProgress(shards, now_s=started_s)
        log.info("launcher starts the fleet", agents=len(shards), headend=settings.headend)
        _warn_of_scenario(shards)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_signal, stop, nursery.cancel_scope)
            nursery.start_soon(partial(show_progress, progress, live=live))
            try:
                await run_fleet(
                    shards,
                    settings,
                    progress=progress,
                    relay=lambda line: write_line(output, line + "\n"),
                    rng=random.Random(),  # noqa: S311 - jitter, not secrets
                )
            except FleetFailedError as error:
                failure = error
            nursery.cancel_scope.cancel()
        log_summary(progress, ran_for_s=trio.current_time() - started_s)
    if failure is None:
        return 0
    for line in failure.last_lines:
        log.error("the agent's last lines", agent_id=failure.agent_id, line=line)
    log.error(
        "launcher gives up: every shard is quarantined, no agent runs",
        shards=len(shards),
        agent_id=failure.agent_id,
        reason=failure.reason,
    )
    return 1


def _warn_of_scenario(shards: Sequence[Shard]) -> None:
    """Log that what the fleet reports is not to be believed."""
    affected = [shard.scenario for shard in shards if shard.scenario is not None]
    if affected:
        log.warning("a scenario lets assets misbehave", scenario=affected[0].name, agents=len(affected))


async def _cancel_on_signal(stop: StopSignal, scope: trio.CancelScope) -> None:
    await stop.requested.wait()
    scope.cancel()
