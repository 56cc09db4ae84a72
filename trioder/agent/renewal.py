"""A new outbox for an agent whose state was set back to an older copy: a restored image, a snapshot."""

import random
from uuid import UUID

import structlog

from trioder.agent.memory import AgentMemory
from trioder.agent.outbox import Outbox
from trioder.agent.send_queue import SendQueue
from trioder.process.wall_time import WallClock
from trioder.wire.records import AgentEvent

log = structlog.stdlib.get_logger(__name__)


def renew_outbox(
    committed_seq: int,
    *,
    memory: AgentMemory,
    outbox: Outbox,
    queue: SendQueue,
    agent_id: str,
    wall: WallClock,
    rng: random.Random,
) -> str:
    """Continue in a new outbox with what this process has made, and return the new outbox's id.

    In the old one the headend would take new samples for repetitions, and acknowledge them unwritten. What
    the copy held is committed already: it was made before the copy was.

    Args:
        committed_seq: the last batch that the headend has of the old outbox.
        memory: where both are saved.
        outbox: of the agent.
        queue: takes the event for the headend.
        agent_id: for people.
        wall: the wall time.
        rng: makes ids.
    """
    held = outbox.batches
    kept = outbox.restart()
    replaced = memory.outbox_id
    outbox_id = _new_id(rng)
    memory.renew_outbox(outbox_id)
    message = (
        f"state was set back to an older copy: the headend has batch {committed_seq} of outbox {replaced}; "
        f"{held - kept} batches of the copy are taken as committed, {kept} continue in outbox {outbox_id}"
    )
    log.warning(
        "agent state was set back",
        agent_id=agent_id,
        committed_batch_seq=committed_seq,
        replaced_outbox_id=replaced,
        outbox_id=outbox_id,
        batches_taken_as_committed=held - kept,
        batches_kept=kept,
    )
    queue.put(
        AgentEvent(
            event_id=_new_id(rng),
            asset_id="",
            site_id="",
            ts_unix_ms=wall.now_ms(),
            event_type="STATE_SET_BACK",
            severity="warning",
            message=message,
        )
    )
    return outbox_id


def _new_id(rng: random.Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))
