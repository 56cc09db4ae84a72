"""Sends the unacknowledged batches of retired agents to the headend, then deletes their files.

No battery runs; their states are collected first, by `trioder.agent.persistence.retired_state`.
"""

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import structlog
import trio

from trioder.access.agent_tls import AgentTlsError
from trioder.agent.config import RecoveryConfig
from trioder.agent.headend_client import Dial, HeadendClient, Identity
from trioder.agent.persistence.outbox import Outbox
from trioder.agent.persistence.retired_state import gather_states
from trioder.agent.persistence.sqlite_store import SqliteStateStore
from trioder.agent.persistence.state_file import (
    StateFileInUseError,
    StateFileInvalidError,
    StateFileUnusableError,
    delete_file,
    locked,
    move_aside,
    open_existing,
)
from trioder.agent.send_queue import SendQueue
from trioder.process.wall_time import WallClock
from trioder.wire.service import PROTOCOL
from trioder.wire.uplink import write_backlog_registration

log = structlog.stdlib.get_logger(__name__)

# The status that the process reports once new agents may read the collected battery states.
GATHERED = "gathered"
_FILES_AT_ONCE = 4
_POLL_EVERY_S = 0.2
_CLOSE_WITHIN_S = 3.0


async def recover_outboxes(
    config: RecoveryConfig,
    *,
    dial_for: Callable[[str], Dial],
    wall: WallClock,
    rng: random.Random,
    gathered: Callable[[], None] = lambda: None,
) -> None:
    """Return when each file is deleted, or was left or moved aside with a warning.

    Each is opened at most twice: once for its batteries' states, once for its batches.

    Args:
        config: the files, and the headend.
        dial_for: returns how the agent of this id connects to the headend; raises AgentTlsError when it has
            no usable certificate.
        wall: gives each session its epoch.
        rng: for the jitter of retries.
        gathered: called once the battery states of all files are durable in `config.former_states`.

    Raises:
        StateFileUnusableError: the states cannot be collected; no file was changed.
    """
    if config.former_states is not None:
        # Blocking: nothing else runs in this process yet.
        gather_states(config.former_states, config.files)
    gathered()
    limit = trio.Semaphore(_FILES_AT_ONCE)

    async def _recover(path: Path) -> None:
        async with limit:
            await _recover_file(path, config, dial_for=dial_for, wall=wall, rng=rng)

    async with trio.open_nursery() as nursery:
        for path in config.files:
            nursery.start_soon(_recover, path)


async def _recover_file(
    path: Path,
    config: RecoveryConfig,
    *,
    dial_for: Callable[[str], Dial],
    wall: WallClock,
    rng: random.Random,
) -> None:
    try:
        with locked(path):
            connection = _open(path)
            if connection is None:
                return
            try:
                store = SqliteStateStore(connection)
                await _send_batches(store, config, dial_for=dial_for, wall=wall, rng=rng)
            finally:
                connection.close()
            delete_file(path)
            log.info("file of a retired agent is empty and deleted", path=str(path))
    except AgentTlsError as error:
        log.warning(
            "file of a retired agent is left as it is: the agent has no usable certificate; its batches are "
            "sent at a later start, once it has one",
            path=str(path),
            reason="; ".join(error.faults),
        )
    except (StateFileInUseError, StateFileUnusableError, OSError, sqlite3.Error) as error:
        log.warning("file of a retired agent is left as it is", path=str(path), reason=str(error))


def _open(path: Path) -> sqlite3.Connection | None:
    if not path.exists():
        delete_file(path)  # its lock
        return None
    try:
        return open_existing(path)
    except StateFileInvalidError as error:
        aside = move_aside(path)
        log.warning(
            "file of a retired agent cannot be used; it is put aside",
            path=str(path),
            aside=str(aside),
            reason=str(error),
        )
        return None


async def _send_batches(
    store: SqliteStateStore,
    config: RecoveryConfig,
    *,
    dial_for: Callable[[str], Dial],
    wall: WallClock,
    rng: random.Random,
) -> None:
    # The bound is the present size: nothing is dropped.
    outbox = Outbox(store.batches, max_bytes=store.batches.size_bytes)
    if outbox.is_settled():
        return
    dial = dial_for(store.agent_id)
    queue = SendQueue(outbox)
    log.info("sending the batches of a retired agent", agent_id=store.agent_id, batches=outbox.batches)
    client = HeadendClient(
        Identity(
            agent_id=store.agent_id,
            assets=len(store.asset_ids),
            headend=config.headend.authority,
            registration=write_backlog_registration(
                agent_id=store.agent_id,
                epoch=store.begin_boot(wall.now_ms()),
                protocol=PROTOCOL,
                outbox_id=store.outbox_id,
                asset_ids=store.asset_ids,
            ),
        ),
        dial=dial,
        store=store,
        outbox=outbox,
        queue=queue,
        deliver=lambda _: None,
        report=lambda _: None,
        wall=wall,
        rng=rng,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        while not outbox.is_settled():  # noqa: ASYNC110  # the outbox is synchronous, and has no event
            await trio.sleep(_POLL_EVERY_S)
        client.finish()
        with trio.move_on_after(_CLOSE_WITHIN_S):
            await client.ended.wait()
        nursery.cancel_scope.cancel()
