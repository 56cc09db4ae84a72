"""The process that empties the files of agents that the present cut of the fleet no longer has.

First it gathers what they say of their batteries into one file, which the new agents read: so each file is
opened by one process, not by every agent of the fleet.
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
# 10,000 files take some ten seconds; a disk that hangs must not keep the fleet from starting.
_GATHER_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphans:
    """What former agents left.

    Attributes:
        files: that no shard owns.
        states_path: where the states of their batteries are gathered; it may be there from an earlier start.
    """

    files: Sequence[str] = ()
    states_path: str | None = None


class Drainer:
    """Keeps the drainer running until the files are emptied; the fleet does not suffer from its failures.

    Args:
        command: the program and its arguments.
        orphans: without any files there is nothing to do.
        headend: where their batches go, as host:port.
        env: its environment.
        limits: the patience with it.
        relay: takes each line that it logs.
        rng: of the back-off.
        run_process: runs it once.
    """

    def __init__(
        self,
        command: Sequence[str],
        orphans: Orphans,
        *,
        headend: str,
        env: Mapping[str, str],
        limits: RestartLimits,
        relay: Callable[[str], None],
        rng: random.Random,
        run_process: RunProcess,
    ) -> None:
        self._command = command
        self._orphans = orphans
        self._headend = headend
        self._env = env
        self._relay = relay
        self._policy = RestartPolicy(limits, rng)
        self._run_process = run_process
        self._gathered = not orphans.files
        self._settled = trio.Event()
        self._states_adopted = False
        if self._gathered:
            self._settled.set()

    async def run(self) -> None:
        """Return once the files are emptied; until then it is tried again."""
        if not self._orphans.files:
            return
        log.info("files of former agents are emptied", files=len(self._orphans.files))
        while (end := await self._run_once()).code != 0:
            now_s = trio.current_time()
            delay_s = self._policy.delay_after(ran_for_s=now_s - self._started_s, now_s=now_s)
            if self._policy.quarantined:
                self._settled.set()
            log.warning(
                "emptying the files of former agents is tried again", reason=str(end), delay_s=delay_s
            )
            await trio.sleep(delay_s)
        self._settled.set()

    async def wait_gathered(self) -> None:
        """Wait until the batteries' states are gathered, or for as long as there is hope of that."""
        with trio.move_on_after(_GATHER_WITHIN_S):
            await self._settled.wait()
        if not self._gathered:
            log.error("what former agents left of their batteries' states is not gathered; they start afresh")

    def all_adopted(self) -> None:
        """Record that every agent has read the gathered states: their file is deleted, and not made again."""
        if self._gathered and self._orphans.states_path is not None:
            self._states_adopted = True
            try:
                Path(self._orphans.states_path).unlink(missing_ok=True)
            except OSError as error:
                log.warning("gathered states cannot be deleted", reason=str(error))

    async def _run_once(self) -> AgentEnd:
        self._started_s = trio.current_time()
        document = {
            "headend": self._headend,
            "files": list(self._orphans.files),
            "former_states": None if self._states_adopted else self._orphans.states_path,
        }
        output = AgentOutput(on_status=self._take_status, on_log=self._relay)
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

    def _take_status(self, line: str) -> None:
        try:
            status = json.loads(line)
        except (ValueError, RecursionError):
            status = None
        if isinstance(status, dict) and status.get("state") == _GATHERED:
            self._gathered = True
            self._settled.set()
        else:
            self._relay(line)
