"""The process that sends the outboxes of agents whose shards no longer exist, and deletes their files.

First it collects their battery states in one file, which the new agents read: so each file is opened by one
process, not by every agent of the fleet.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path

import structlog
import trio

from trioder.launcher.process import AgentEnd, AgentOutput, RunProcess
from trioder.launcher.restarts import RestartPolicy
from trioder.launcher.shards import LaunchSettings, tls_document

log = structlog.stdlib.get_logger(__name__)

_GATHERED = "gathered"
# 10,000 files take about ten seconds; a disk that hangs must not prevent the fleet from starting.
_GATHER_WITHIN_S = 120.0


class OutboxRecovery:
    """Runs the recovery process until all files are deleted; its failures do not affect the fleet.

    Args:
        settings: without files of retired agents there is nothing to do.
        relay: receives each line that it logs.
        rng: for jitter.
        run_process: runs it once.
    """

    def __init__(
        self,
        settings: LaunchSettings,
        *,
        relay: Callable[[str], None],
        rng: random.Random,
        run_process: RunProcess,
    ) -> None:
        self._settings = settings
        self._retired = settings.retired
        self._relay = relay
        self._policy = RestartPolicy(settings.limits, rng)
        self._run_process = run_process
        self._gathered = not self._retired.files
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
            "headend": self._settings.headend,
            "files": list(self._retired.files),
            "former_states": None if self._states_adopted else self._retired.states_path,
            # Whose files they are is known to the process that opens them.
            **tls_document(self._settings.tls),
        }
        output = AgentOutput(on_status=self._handle_status, on_log=self._relay)
        try:
            return await self._run_process(
                self._settings.recovery_command,
                [json.dumps(document).encode() + b"\n"],
                output,
                env=self._settings.env,
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
