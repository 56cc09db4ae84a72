"""Keeps one agent process alive per shard; a shard whose agent cannot be kept alive is quarantined.

A quarantined shard is tried again each minute while all others keep running. Only when every shard waits in
quarantine does the launcher give up.
"""

import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Never, NoReturn

import structlog
import trio

from trioder.launcher.outbox_recovery import Drainer, Orphans
from trioder.launcher.process import AgentEnd, AgentOutput, RunProcess, run_agent_process
from trioder.launcher.progress import FleetProgress
from trioder.launcher.restarts import RestartLimits, RestartPolicy
from trioder.launcher.shards import DEFAULT_OUTBOX_MAX_MB, Shard, shard_document
from trioder.launcher.status import AgentStatus, read_status

log = structlog.stdlib.get_logger(__name__)

AGENT_COMMAND = (sys.executable, "-m", "trioder.agent", "--stdin")
DRAIN_COMMAND = (sys.executable, "-m", "trioder.agent", "--drain")
_WRONG_CONFIGURATION = 2

# Starting a Python process is half a second of one core: with more at once, all are late.
_STARTS_AT_ONCE_PER_CORE = 2
# An agent counts as starting until it says something, and for no longer than this.
_START_S = 2.0
_START_JITTER_S = 0.05
_BAD_LINES_LOGGED = 5


class FleetFailedError(Exception):
    """Every shard is in quarantine, and none is being tried.

    Attributes:
        agent_id: the agent that ended last.
        reason: one sentence.
        last_lines: the last that the agent logged.
    """

    def __init__(self, agent_id: str, reason: str, last_lines: Sequence[str] = ()) -> None:
        super().__init__(f"{agent_id}: {reason}")
        self.agent_id = agent_id
        self.reason = reason
        self.last_lines = tuple(last_lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSettings:
    """What every agent of the fleet is started with.

    Attributes:
        headend: where the agents dial, as host:port.
        tick_s: seconds between two pulses.
        state_dir: where agents may keep what outlives them.
        outbox_max_mb: of telemetry that one agent keeps while the headend is away.
        orphans: what former agents left that no shard owns.
        comms_loss_hold_s: so long without a headend setpoints hold; for ever without.
        command: the agent program.
        drain_command: the program that empties the orphans.
        env: its environment.
        limits: the patience with one agent.
    """

    headend: str
    tick_s: float = 4.0
    state_dir: str = "var"
    outbox_max_mb: int = DEFAULT_OUTBOX_MAX_MB
    orphans: Orphans = field(default_factory=Orphans)
    comms_loss_hold_s: float | None = None
    command: Sequence[str] = AGENT_COMMAND
    drain_command: Sequence[str] = DRAIN_COMMAND
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    limits: RestartLimits = field(default_factory=RestartLimits)


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
        settings: what the agents are started with.
        progress: is told of every change.
        relay: takes each log line of each agent.
        rng: of jitter and back-off.
        run_process: runs one process once.

    Raises:
        FleetFailedError: no shard can run: all of them are in quarantine.
    """
    starts = trio.Semaphore(_STARTS_AT_ONCE_PER_CORE * (os.cpu_count() or 1))
    quarantine = _Quarantine(len(shards))
    drainer = Drainer(
        settings.drain_command,
        settings.orphans,
        headend=settings.headend,
        env=settings.env,
        limits=settings.limits,
        relay=relay,
        rng=rng,
        run_process=run_process,
    )
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

    async def note_adoption() -> None:
        for supervisor in supervisors:
            await supervisor.first_status.wait()
        drainer.all_adopted()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drainer.run)
        await drainer.wait_gathered()
        for supervisor in supervisors:
            nursery.start_soon(supervisor.run)
        nursery.start_soon(note_adoption)
        failure = await quarantine.wait_full()
        nursery.cancel_scope.cancel()
    raise failure


class _Quarantine:
    """Counts the shards that wait in quarantine for their next attempt.

    Args:
        shards: of the whole fleet.
    """

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self._waiting = 0
        self._full = trio.Event()
        self._failure = FleetFailedError("", "there is no shard")

    async def wait(self, failure: FleetFailedError, *, delay_s: float) -> None:
        """Wait for the shard's next attempt; `failure` is why it could not run."""
        self._waiting += 1
        if self._waiting == self._shards:
            self._failure = failure
            self._full.set()
        try:
            await trio.sleep(delay_s)
        finally:
            self._waiting -= 1

    async def wait_full(self) -> FleetFailedError:
        """Wait until every shard waits, and return why the last of them could not run."""
        await self._full.wait()
        return self._failure


class _Supervisor:
    """The life of one shard: its agent's runs, one after the other."""

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
        self._spoke = trio.Event()
        self._bad_lines = 0
        self._last_status: AgentStatus | None = None

    async def run(self) -> Never:
        """Start the agent again and again."""
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
        """Let the shard leave the quarantine once its agent reports a status and runs on for long enough."""
        await self._spoke.wait()
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
        self._spoke = trio.Event()
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
            # Its first status says that it has read them; its own file is newer from then on.
            former_states=None if self.first_status.is_set() else settings.orphans.states_path,
            comms_loss_hold_s=settings.comms_loss_hold_s,
        )
        output = AgentOutput(on_status=self._note_status, on_log=self._relay)
        try:
            return await self._run_process(
                settings.command, document, output, env=settings.env, on_start=self._note_start
            )
        except OSError as error:
            # Out of processes, files or memory: that may pass, so it counts as one more end.
            return AgentEnd(code=1, last_lines=(f"the agent could not be started: {error}",))

    async def _release_start(self) -> None:
        """Give the place for a starting agent to the next one, once this one speaks."""
        try:
            with trio.move_on_after(_START_S):
                await self._spoke.wait()
        finally:
            self._starts.release()

    def _note_start(self, pid: int) -> None:
        self._progress.agent_started(self._shard.agent_id, now_s=trio.current_time())
        self._log.debug("agent started", pid=pid, assets=len(self._shard.assets))

    def _note_status(self, line: str) -> None:
        try:
            status = read_status(line)
        except ValueError as error:
            self._bad_lines += 1
            if self._bad_lines <= _BAD_LINES_LOGGED:
                self._log.warning("status line of an agent ignored", reason=str(error))
            return
        self._spoke.set()
        self.first_status.set()
        self._progress.agent_said(self._shard.agent_id, status, now_s=trio.current_time())
        # An agent repeats itself while it tries again in vain.
        if status != self._last_status:
            self._last_status = status
            level = self._log.warning if status.state == "refused" else self._log.debug
            level(f"agent {status.state}", assets=status.assets, reason=status.reason)
