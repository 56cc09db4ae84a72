"""What waits to be sent to one agent: at most one setpoint an asset, one acknowledgement, one replay request.

Newer news replaces older, so that it stays so, however slowly the agent reads.
"""

from dataclasses import dataclass

import trio

from trioder.domain.dispatch import Setpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """What is to be sent now.

    Attributes:
        dispatches: at most one an asset, in the order they were given.
        kept_seq: every batch up to this one is kept.
        replay_from_seq: send again from this batch on.
    """

    dispatches: tuple[Setpoint, ...]
    kept_seq: int | None
    replay_from_seq: int | None


class DownlinkQueue:
    """Filled from anywhere, synchronously; emptied by the session's one sending task."""

    def __init__(self) -> None:
        self._dispatches: dict[str, Setpoint] = {}
        self._kept_seq: int | None = None
        self._replay_from_seq: int | None = None
        self._news = trio.Event()

    def put_dispatch(self, dispatch: Setpoint) -> None:
        """Add a dispatch; an unsent one of the same asset is never sent."""
        self._dispatches.pop(dispatch.asset_id, None)
        self._dispatches[dispatch.asset_id] = dispatch
        self._news.set()

    def put_ack(self, batch_seq: int) -> None:
        """Every batch up to `batch_seq` is kept."""
        self._kept_seq = batch_seq
        self._news.set()

    def put_replay(self, from_batch_seq: int) -> None:
        """The agent is to send again from `from_batch_seq` on."""
        self._replay_from_seq = from_batch_seq
        self._news.set()

    async def take(self) -> Mail:
        """Wait for something to send."""
        await self._news.wait()
        return self._take_nowait()

    def _take_nowait(self) -> Mail:
        mail = Mail(
            dispatches=tuple(self._dispatches.values()),
            kept_seq=self._kept_seq,
            replay_from_seq=self._replay_from_seq,
        )
        self._dispatches = {}
        self._kept_seq = self._replay_from_seq = None
        self._news = trio.Event()
        return mail
