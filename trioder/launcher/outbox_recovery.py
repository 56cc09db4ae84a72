"""The process that sends the outboxes of agents whose shards no longer exist, and deletes their files.

First it collects their battery states in one file, which the new agents read: so each file is opened by one
process, not by every agent of the fleet.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio

from trioder.launcher.process import AgentEnd, AgentOutput, RunProcess
from trioder.launcher.restarts import RestartLimits, RestartPolicy

log = structlog.stdlib.get_logger(__name__)

_GATHERED = "gathered"
# 10,000 files take about ten seconds; a disk that hangs must not prevent the fleet from starting.
_GATHER_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetiredAgents:
    """The state files of retired agents.

    Attributes:
        files: without a shard.
        states_path: the file for their battery states; it may exist from an earlier start.
    """

    files: Sequence[str] = ()
    states_path: str | None = None


class OutboxRecovery:
    """Runs the recovery process until all files are deleted; its failures do not affect the fleet.

    Args:
        command: the program and its arguments.
        retired: without any files there is nothing to do.
        headend: receives the batches; host:port.
        env: its environment.
        limits: of its restarts.
        relay: receives each line that it logs.
        rng: of the back-off.
        run_process: runs it once.
    """

    def __init__(
        self,
        command: Sequence[str],
        retired: RetiredAgents,
        *,
        headend: str,
        env: Mapping[str, str],
        limits: RestartLimits,
        relay: Callable[[str], None],
        rng: random.Random,
        run_process: RunProcess,
    ) -> None:
        self._command = command
        self._retired = retired
        self._headend = headend
        self._env = env
        self._relay = relay
        self._policy = RestartPolicy(limits, rng)
        self._run_process = run_process
        self._gathered = not retired.files
        self._settled = trio.Event()
        self._states_adopted = False
        if self._gathered:
            self._settled.set()

    async def run(self) -> None:
        """Return once the files are deleted; the process is restarted until then."""
        if not self._retired.files:
            return
        log.info("recovering the outboxes of retired agents", files=len(self._retired.files))
        while (end := await self._run_once()).code != 0:
            now_s = trio.current_time()
            delay_s = self._policy.delay_after(ran_for_s=now_s - self._started_s, now_s=now_s)
            if self._policy.quarantined:
                self._settled.set()
            log.warning("outbox recovery failed; starting it again", reason=str(end), delay_s=delay_s)
            await trio.sleep(delay_s)
        self._settled.set()

    async def wait_gathered(self) -> None:
        """Wait until the battery states are collected, or the recovery fails for too long."""
        with trio.move_on_after(_GATHER_WITHIN_S):
            await self._settled.wait()
        if not self._gathered:
            log.error("battery states of retired agents are not gathered; their batteries start afresh")

    def all_adopted(self) -> None:
        """Delete the collected states, which every agent has read; they are not collected again."""
        if self._gathered and self._retired.states_path is not None:
            self._states_adopted = True
            try:
                Path(self._retired.states_path).unlink(missing_ok=True)
            except OSError as error:
                log.warning("gathered states cannot be deleted", reason=str(error))

    async def _run_once(self) -> AgentEnd:
        self._started_s = trio.current_time()
        document = {
            "headend": self._headend,
            "files": list(self._retired.files),
            "former_states": None if self._states_adopted else self._retired.states_path,
        }
        output = AgentOutput(on_status=self._handle_status, on_log=self._relay)
        try:
            return await self._run_process(
                self._command,
                [json.dumps(document).encode() + b"\n"],
                output,
                env=self._env,
                on_start=lambda _: None,
            )
        except OSError as error:
            return AgentEnd(code=1, last_lines=(f"it could not be started: {error}",))

    def _handle_status(self, line: str) -> None:
        try:
            status = json.loads(line)
        except (ValueError, RecursionError):
            status = None
        if isinstance(status, dict) and status.get("state") == _GATHERED:
            self._gathered = True
            self._settled.set()
        else:
            self._relay(line)
