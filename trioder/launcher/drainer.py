"""The process that empties the files of agents that the present cut of the fleet no longer has."""

import json
import random
from collections.abc import Callable, Mapping, Sequence

import structlog
import trio

from trioder.launcher.process import AgentEnd, AgentOutput, run_agent_process
from trioder.launcher.restarts import RestartLimits, RestartPolicy

log = structlog.stdlib.get_logger(__name__)


async def run_drainer(
    command: Sequence[str],
    orphans: Sequence[str],
    *,
    headend: str,
    env: Mapping[str, str],
    limits: RestartLimits,
    relay: Callable[[str], None],
    rng: random.Random,
) -> None:
    """Return once the orphans are dealt with, or cannot be; the fleet does not suffer from that.

    Args:
        command: the program and its arguments.
        orphans: files; without any there is nothing to do.
        headend: where their batches go, as host:port.
        env: its environment.
        limits: the patience with it.
        relay: takes each line that it logs.
        rng: of the back-off.
    """
    if not orphans:
        return
    log.info("files of former agents are emptied", files=len(orphans))
    document = json.dumps({"headend": headend, "files": list(orphans)}).encode() + b"\n"
    policy = RestartPolicy(limits, rng)
    while True:
        started_s = trio.current_time()
        output = AgentOutput(on_status=relay, on_log=relay)
        try:
            end = await run_agent_process(command, [document], output, env=env, on_start=lambda _: None)
        except OSError as error:
            end = AgentEnd(code=1, last_lines=(f"it could not be started: {error}",))
        if end.code == 0:
            return
        now_s = trio.current_time()
        delay_s = policy.delay_after(ran_for_s=now_s - started_s, now_s=now_s)
        if delay_s is None:
            log.error("files of former agents stay as they are until the next start", reason=str(end))
            return
        log.warning("emptying the files of former agents is tried again", reason=str(end), delay_s=delay_s)
        await trio.sleep(delay_s)
