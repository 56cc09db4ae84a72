"""Keeps one agent process alive per shard; a shard whose agent cannot be kept alive is quarantined.

A quarantined shard is retried each minute while all others keep running. The launcher gives up only when
every shard is in quarantine.
"""

import os
import random
from collections.abc import Callable, Sequence
from typing import Never, NoReturn

import structlog
import trio

from trioder.launcher.outbox_recovery import OutboxRecovery
from trioder.launcher.process import AgentEnd, AgentOutput, RunProcess, run_agent_process
from trioder.launcher.progress import AgentStatus, FleetProgress, read_status
from trioder.launcher.restarts import RestartPolicy
from trioder.launcher.shards import LaunchSettings, Shard, shard_document

log = structlog.stdlib.get_logger(__name__)

_WRONG_CONFIGURATION = 2

# Starting a Python process takes half a second of a core.
_STARTS_AT_ONCE_PER_CORE = 2
# An agent counts as starting until its first status, or for this long.
_START_S = 2.0
_START_JITTER_S = 0.05
_BAD_LINES_LOGGED = 5


class FleetFailedError(Exception):
    """Every shard is in quarantine.

    Attributes:
        agent_id: the agent that ended last.
        reason: one sentence.
        last_lines: of its log.
    """

    def __init__(self, agent_id: str, reason: str, last_lines: Sequence[str] = ()) -> None:
        super().__init__(f"{agent_id}: {reason}")
        self.agent_id = agent_id
        self.reason = reason
        self.last_lines = tuple(last_lines)


async def run_fleet(
    shards: Sequence[Shard],
    settings: LaunchSettings,
    *,
    progress: FleetProgress,
    relay: Callable[[str], None],
    rng: random.Random,
    run_process: RunProcess = run_agent_process,
) -> NoReturn:
    """Run one agent per shard until cancelled.

    *Resource handling*: no agent is left when this raises.

    Args:
        shards: the fleet.
        settings: of the agents.
        progress: records every change.
        relay: receives each log line of each agent.
        rng: for jitter.
        run_process: runs one process once.

    Raises:
        FleetFailedError: no shard can run: all of them are in quarantine.
    """
    starts = trio.Semaphore(_STARTS_AT_ONCE_PER_CORE * (os.cpu_count() or 1))
    quarantine = _Quarantine(len(shards))
    recovery = OutboxRecovery(settings, relay=relay, rng=rng, run_process=run_process)
    supervisors = [
        _Supervisor(
            shard,
            settings,
            progress=progress,
            relay=relay,
            rng=rng,
            starts=starts,
            quarantine=quarantine,
            run_process=run_process,
        )
        for shard in shards
    ]

    async def await_adoption() -> None:
        for supervisor in supervisors:
            await supervisor.first_status.wait()
        recovery.all_adopted()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(recovery.run)
        await recovery.wait_gathered()
        for supervisor in supervisors:
            nursery.start_soon(supervisor.run)
        nursery.start_soon(await_adoption)
        failure = await quarantine.wait_full()
        nursery.cancel_scope.cancel()
    raise failure


class _Quarantine:
    """Counts the shards that wait in quarantine for their next attempt, of all `shards`."""

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self._waiting = 0
        self._full = trio.Event()
        self._failure = FleetFailedError("", "there is no shard")

    async def wait(self, failure: FleetFailedError, *, delay_s: float) -> None:
        """Wait for the shard's next attempt; `failure` is its reason."""
        self._waiting += 1
        if self._waiting == self._shards:
            self._failure = failure
            self._full.set()
        try:
            await trio.sleep(delay_s)
        finally:
            self._waiting -= 1

    async def wait_full(self) -> FleetFailedError:
        """Wait until every shard waits, and return the last one's failure."""
        await self._full.wait()
        return self._failure


class _Supervisor:
    """Runs one shard's agent, again and again."""

    def __init__(
        self,
        shard: Shard,
        settings: LaunchSettings,
        *,
        progress: FleetProgress,
        relay: Callable[[str], None],
        rng: random.Random,
        starts: trio.Semaphore,
        quarantine: _Quarantine,
        run_process: RunProcess,
    ) -> None:
        self._shard = shard
        self._settings = settings
        self._progress = progress
        self._relay = relay
        self._rng = rng
        self._starts = starts
        self._quarantine = quarantine
        self._run_process = run_process
        self._policy = RestartPolicy(settings.limits, rng)
        self._log = log.bind(agent_id=shard.agent_id)
        self.first_status = trio.Event()
        self._reported = trio.Event()
        self._bad_lines = 0
        self._last_status: AgentStatus | None = None

    async def run(self) -> Never:
        """Run the agent until cancelled."""
        while True:
            end, ran_for_s = await self._run_once()
            was_quarantined = self._policy.quarantined
            delay_s = self._policy.delay_after(
                ran_for_s=ran_for_s,
                now_s=trio.current_time(),
                refused=end.code == _WRONG_CONFIGURATION,
            )
            if not self._policy.quarantined:
                self._log.warning(
                    "agent ended; starting it again",
                    reason=str(end),
                    ran_s=round(ran_for_s, 1),
                    delay_s=delay_s,
                )
                await trio.sleep(delay_s)
                continue
            reason = self._reason(end, was_quarantined=was_quarantined)
            self._progress.agent_quarantined(self._shard.agent_id)
            self._log.error(
                "shard stays in quarantine"
                if was_quarantined
                else "shard is quarantined; all others keep running",
                assets=len(self._shard.assets),
                reason=reason,
                retry_s=delay_s,
            )
            failure = FleetFailedError(self._shard.agent_id, reason, end.last_lines)
            await self._quarantine.wait(failure, delay_s=delay_s)

    def _reason(self, end: AgentEnd, *, was_quarantined: bool) -> str:
        if end.code == _WRONG_CONFIGURATION:
            return "the agent refuses its configuration (exit code 2)"
        if was_quarantined:
            return f"the agent ended again: {end}"
        limits = self._settings.limits
        rule = f"more than {limits.most_restarts} restarts within {limits.within_s:g} s"
        return f"the agent keeps ending, {rule}; last: {end}"

    async def _watch_health(self) -> None:
        """End the quarantine once the agent has reported a status and then run for long enough."""
        await self._reported.wait()
        await trio.sleep(self._settings.limits.healthy_after_s)
        if self._policy.quarantined:
            self._policy.recover()
            self._progress.agent_recovered(self._shard.agent_id)
            self._log.info(
                "shard has left quarantine",
                assets=len(self._shard.assets),
                ran_s=self._settings.limits.healthy_after_s,
            )

    async def _run_once(self) -> tuple[AgentEnd, float]:
        self._reported = trio.Event()
        self._bad_lines = 0
        self._last_status = None
        await self._starts.acquire()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._release_start)
            nursery.start_soon(self._watch_health)
            try:
                await trio.sleep(self._rng.uniform(0.0, _START_JITTER_S))
                end = await self._run_agent()
            finally:
                ran_for_s = self._progress.agent_ended(self._shard.agent_id, now_s=trio.current_time())
            nursery.cancel_scope.cancel()
        if self._bad_lines:
            self._log.warning("agent wrote status lines that could not be read", lines=self._bad_lines)
        return end, ran_for_s

    async def _run_agent(self) -> AgentEnd:
        settings = self._settings
        document = shard_document(
            self._shard,
            headend=settings.headend,
            tick_s=settings.tick_s,
            state_dir=settings.state_dir,
            outbox_max_mb=settings.outbox_max_mb,
            # By its first status it has read them, and its own file is newer.
            former_states=None if self.first_status.is_set() else settings.retired.states_path,
            comms_loss_hold_s=settings.comms_loss_hold_s,
            tls=settings.tls,
        )
        output = AgentOutput(on_status=self._handle_status, on_log=self._relay)
        try:
            return await self._run_process(
                settings.command, document, output, env=settings.env, on_start=self._handle_start
            )
        except OSError as error:
            # Out of processes, files or memory, which may be temporary: counts as a failed run.
            return AgentEnd(code=1, last_lines=(f"the agent could not be started: {error}",))

    async def _release_start(self) -> None:
        """Let the next agent start once this one has reported."""
        try:
            with trio.move_on_after(_START_S):
                await self._reported.wait()
        finally:
            self._starts.release()

    def _handle_start(self, pid: int) -> None:
        self._progress.agent_started(self._shard.agent_id, now_s=trio.current_time())
        self._log.debug("agent started", pid=pid, assets=len(self._shard.assets))

    def _handle_status(self, line: str) -> None:
        try:
            status = read_status(line)
        except ValueError as error:
            self._bad_lines += 1
            if self._bad_lines <= _BAD_LINES_LOGGED:
                self._log.warning("status line of an agent ignored", reason=str(error))
            return
        self._reported.set()
        self.first_status.set()
        self._progress.agent_reported(self._shard.agent_id, status, now_s=trio.current_time())
        # An agent repeats its status at each failed attempt.
        if status != self._last_status:
            self._last_status = status
            level = self._log.warning if status.state == "refused" else self._log.debug
            level(f"agent {status.state}", assets=status.assets, reason=status.reason)
