"""Empties the files of agents that are no more: what they kept goes to the headend, then the file goes.

No battery lives here; what the files say of batteries is gathered first, by `trioder.agent.retired_state`.
"""

import random
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog
import trio

from trioder.agent.config import DrainConfig
from trioder.agent.disk import MemoryOnDisk
from trioder.agent.disk_file import (
    BrokenFileError,
    MemoryInUseError,
    MemoryUnusableError,
    delete_file,
    locked,
    open_existing,
    put_aside,
)
from trioder.agent.headend_client import Dial, HeadendClient, Identity
from trioder.agent.outbox import Outbox
from trioder.agent.renewal import renew_outbox
from trioder.agent.retired_state import gather_states
from trioder.agent.send_queue import SendQueue
from trioder.process.wall_time import WallClock
from trioder.wire.service import PROTOCOL
from trioder.wire.uplink import write_backlog_registration

log = structlog.stdlib.get_logger(__name__)

# The state that the drainer reports once new agents may read what former ones said of their batteries.
GATHERED = "gathered"
_FILES_AT_ONCE = 4
_LOOK_EVERY_S = 0.2
_CLOSE_WITHIN_S = 3.0


async def drain_files(
    config: DrainConfig,
    *,
    dial: Dial,
    wall: WallClock,
    rng: random.Random,
    gathered: Callable[[], None] = lambda: None,
) -> None:
    """Return when each file is gone, or was left or put aside with a warning.

    Each is opened twice at most: once for its batteries' states, once for its batches.

    Args:
        config: which files, and where to.
        dial: connects to the headend; raises OSError when it cannot.
        wall: gives each handing-over its epoch.
        rng: for the jitter of retries.
        gathered: called once the batteries' states of all files are safe in `config.former_states`.

    Raises:
        MemoryUnusableError: the states cannot be gathered; no file was touched.
    """
    if config.former_states is not None:
        # Blocking: nothing else happens in this process yet.
        gather_states(config.former_states, config.files)
    gathered()
    places = trio.Semaphore(_FILES_AT_ONCE)

    async def _drain_in_turn(path: Path) -> None:
        async with places:
            await _drain_file(path, config, dial=dial, wall=wall, rng=rng)

    async with trio.open_nursery() as nursery:
        for path in config.files:
            nursery.start_soon(_drain_in_turn, path)


async def _drain_file(
    path: Path, config: DrainConfig, *, dial: Dial, wall: WallClock, rng: random.Random
) -> None:
    try:
        with locked(path):
            connection = _open(path)
            if connection is None:
                return
            try:
                await _hand_over(MemoryOnDisk(connection), config, dial=dial, wall=wall, rng=rng)
            finally:
                connection.close()
            delete_file(path)
            log.info("file of a former agent is empty and deleted", path=str(path))
    except (MemoryInUseError, MemoryUnusableError, OSError, sqlite3.Error) as error:
        log.warning("file of a former agent is left as it is", path=str(path), reason=str(error))


def _open(path: Path) -> sqlite3.Connection | None:
    if not path.exists():
        delete_file(path)  # the lock, that is
        return None
    try:
        return open_existing(path)
    except BrokenFileError as error:
        aside = put_aside(path)
        log.warning(
            "file of a former agent cannot be used; it is put aside",
            path=str(path),
            aside=str(aside),
            reason=str(error),
        )
        return None


async def _hand_over(
    memory: MemoryOnDisk, config: DrainConfig, *, dial: Dial, wall: WallClock, rng: random.Random
) -> None:
    # Nothing is dropped here, however much there is.
    outbox = Outbox(memory.batches, max_bytes=memory.batches.size_bytes)
    if outbox.is_settled():
        return
    queue = SendQueue(outbox)
    log.info("handing over what a former agent has left", agent_id=memory.agent_id, batches=outbox.batches)
    identity = Identity(
        agent_id=memory.agent_id,
        assets=len(memory.asset_ids),
        headend=str(config.headend),
        registration=write_backlog_registration(
            agent_id=memory.agent_id,
            epoch=memory.begin_boot(wall.now_ms()),
            protocol=PROTOCOL,
            outbox_id=memory.outbox_id,
            asset_ids=memory.asset_ids,
        ),
    )
    link = HeadendClient(
        identity,
        dial=dial,
        outbox=outbox,
        queue=queue,
        deliver=lambda _: None,
        report=lambda _: None,
        renew_outbox=partial(
            renew_outbox,
            memory=memory,
            outbox=outbox,
            queue=queue,
            agent_id=memory.agent_id,
            wall=wall,
            rng=rng,
        ),
        wall=wall,
        rng=rng,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        while not outbox.is_settled():  # noqa: ASYNC110  # the outbox is synchronous, and tells nobody
            await trio.sleep(_LOOK_EVERY_S)
        link.finish()
        with trio.move_on_after(_CLOSE_WITHIN_S):
            await link.ended.wait()
        nursery.cancel_scope.cancel()
