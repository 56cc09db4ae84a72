"""The downlink queue of a session: at most one setpoint an asset, one acknowledgement and one replay request.

A newer entry replaces an unsent older one, so the queue is bounded however slowly the agent reads.
"""

from dataclasses import dataclass

import trio

from trioder.domain.dispatch import Setpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingDownlink:
    """What is to be sent now.

    Attributes:
        setpoints: at most one an asset, in the order in which they were queued.
        committed_seq: acknowledges every batch up to this one; None without a new acknowledgement.
        replay_from_seq: requests the batches from this one on; None without a request.
    """

    setpoints: tuple[Setpoint, ...]
    committed_seq: int | None
    replay_from_seq: int | None


class DownlinkQueue:
    """Filled synchronously from anywhere; emptied by the session's one sending task."""

    def __init__(self) -> None:
        self._setpoints: dict[str, Setpoint] = {}
        self._committed_seq: int | None = None
        self._replay_from_seq: int | None = None
        self._filled = trio.Event()

    def put_setpoint(self, setpoint: Setpoint) -> None:
        """Queue a setpoint; it replaces an unsent one of the same asset."""
        self._setpoints.pop(setpoint.asset_id, None)
        self._setpoints[setpoint.asset_id] = setpoint
        self._filled.set()

    def put_ack(self, batch_seq: int) -> None:
        """Acknowledge every batch up to `batch_seq`."""
        self._committed_seq = batch_seq
        self._filled.set()

    def put_replay(self, from_batch_seq: int) -> None:
        """Request the batches from `from_batch_seq` on."""
        self._replay_from_seq = from_batch_seq
        self._filled.set()

    async def take(self) -> PendingDownlink:
        """Wait for something to send, and empty the queue."""
        await self._filled.wait()
        return self._take_nowait()

    def _take_nowait(self) -> PendingDownlink:
        pending = PendingDownlink(
            setpoints=tuple(self._setpoints.values()),
            committed_seq=self._committed_seq,
            replay_from_seq=self._replay_from_seq,
        )
        self._setpoints = {}
        self._committed_seq = self._replay_from_seq = None
        self._filled = trio.Event()
        return pending
