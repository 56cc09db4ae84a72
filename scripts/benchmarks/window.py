"""The sending half of go-back-N for batches that can be made again from their number and time. No I/O.

The agent's own (`trioder.agent.persistence`) keeps payloads and sends the newest early; a load needs neither.
"""

from dataclasses import dataclass

from trioder.agent.persistence.outbox import WINDOW_BATCHES


@dataclass(frozen=True, slots=True)
class SentBatch:
    """A batch under way; `sent_s` is when it was handed to the transport for the first time."""

    batch_seq: int
    ts_unix_ms: int
    sent_s: float


class Window:
    """Which batch goes next: a new one while the window has room, or one that was asked for again.

    Attributes:
        acknowledged_batches: how many the headend has for good.
        replays: how often it asked for batches again.
    """

    def __init__(self) -> None:
        self.acknowledged_batches = 0
        self.replays = 0
        self._under_way: list[SentBatch] = []
        # The position under way of the batch to be sent next; behind the last one, a new batch is next.
        self._next = 0
        self._newest_ms = 0

    @property
    def begun_batches(self) -> int:
        """How many have been sent at least once."""
        return self.acknowledged_batches + len(self._under_way)

    @property
    def is_empty(self) -> bool:
        """Whether everything that was sent is acknowledged."""
        return not self._under_way

    def take_next(self, *, now_s: float, now_ms: int, new: bool) -> SentBatch | None:
        """Return the batch to be sent now; None while there is nothing to send.

        Args:
            now_s: on the clock that latencies are told by.
            now_ms: the wall time; two batches never have the same.
            new: whether a batch may be begun.
        """
        if self._next < len(self._under_way):
            self._next += 1
            return self._under_way[self._next - 1]
        if not new or len(self._under_way) == WINDOW_BATCHES:
            return None
        self._newest_ms = max(self._newest_ms + 1, now_ms)
        batch_seq = self.begun_batches + 1
        batch = SentBatch(batch_seq, self._newest_ms, now_s)
        self._under_way.append(batch)
        self._next += 1
        return batch

    def acknowledged(self, batch_seq: int) -> list[SentBatch]:
        """Return the batches that are now acknowledged for the first time.

        Raises:
            ValueError: the batch was never sent.
        """
        count = max(0, batch_seq - self.acknowledged_batches)
        if count > len(self._under_way):
            raise ValueError(f"batch {batch_seq} was acknowledged, which was never sent")
        done, self._under_way = self._under_way[:count], self._under_way[count:]
        self.acknowledged_batches += count
        self._next = max(0, self._next - count)
        return done

    def replay_from(self, batch_seq: int) -> None:
        """Go back to a batch.

        Raises:
            ValueError: it is acknowledged already, or was never sent.
        """
        position = batch_seq - self.acknowledged_batches - 1
        if not 0 <= position <= len(self._under_way):
            raise ValueError(f"batch {batch_seq} was asked for again, which is not under way")
        self.replays += 1
        self._next = position
