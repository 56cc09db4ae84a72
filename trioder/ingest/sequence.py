"""The sequence of an outbox's batches: the receiving half of go-back-N, and how far commits are behind.

Synchronous, without I/O and of constant size.
"""

from enum import Enum
from typing import Final

from trioder.store.records import Watermark
from trioder.wire.records import MAX_BATCH_SEQ

# Twice as many as at an agent's shortest pulse, 0.05 s.
MADE_A_SECOND: Final = 40
# Those of a minute: a registration may take half as long to arrive.
MADE_AT_ONCE: Final = 60 * MADE_A_SECOND
# 34 years of the default pulse, 4 s; 155 days of the shortest.
MAX_UNREPORTED: Final = 2**28


class SequenceCheck(Enum):
    """What to do with a batch, as far as the store is concerned."""

    NEXT = "submit it to the store"
    REPEATED = "drop it: it was submitted before"
    OUT_OF_ORDER = "drop it: a predecessor is missing"
    STORE_FULL = "drop it: the store has no capacity"


class BatchCursor:
    """The position in one outbox: batches below `next_seq` are submitted, up to `committed_seq` committed.

    Attributes:
        watermark: the last committed batch and its time.
        next_seq: the next batch to submit.
    """

    def __init__(self, watermark: Watermark) -> None:
        self.watermark = watermark
        self.next_seq = watermark.batch_seq + 1
        self._store_full = False
        # One replay is requested per episode, which ends with the next batch that is submitted.
        self._replay_requested = False

    @property
    def committed_seq(self) -> int:
        """The last committed batch."""
        return self.watermark.batch_seq

    @property
    def settled(self) -> bool:
        """Whether every submitted batch is committed."""
        return self.next_seq == self.committed_seq + 1

    def check(self, batch_seq: int, gap_from_seq: int | None) -> SequenceCheck:
        """Place a batch in the sequence; changes nothing."""
        if batch_seq < self.next_seq:
            return SequenceCheck.REPEATED
        if self._store_full:
            return SequenceCheck.STORE_FULL
        fits = batch_seq == self.next_seq or (gap_from_seq is not None and gap_from_seq <= self.next_seq)
        return SequenceCheck.NEXT if fits else SequenceCheck.OUT_OF_ORDER

    def submitted(self, batch_seq: int) -> None:
        """The store has accepted the batch."""
        self.next_seq = batch_seq + 1
        self._replay_requested = False

    def refused(self) -> None:
        """The store had no capacity for the next batch: submit nothing until it has."""
        self._store_full = True
        # If that batch was requested, it has arrived; it will have to be requested again.
        self._replay_requested = False

    def committed(self, watermark: Watermark) -> None:
        """The store has committed every batch up to this one."""
        if watermark.batch_seq > self.watermark.batch_seq:
            self.watermark = watermark
        self.next_seq = max(self.next_seq, watermark.batch_seq + 1)

    def capacity_available(self) -> bool:
        """The store accepts batches again; True if it refused any."""
        refused, self._store_full = self._store_full, False
        return refused

    def session_opened(self) -> None:
        """A new session begins, with the batch after the committed one: nothing is requested yet."""
        self._replay_requested = False

    def request_replay(self) -> int | None:
        """The batch to request; None when it is requested already, or could not be submitted."""
        if self._replay_requested or self._store_full:
            return None
        self._replay_requested = True
        return self.next_seq


class SequenceLimit:
    """The highest batch that an outbox can have during one session.

    That is the newest one that the agent reports when it registers, and those made since. An agent that
    reports none (of an earlier version) may be `MAX_UNREPORTED` ahead of what is submitted: it was away for
    as long; and as far ahead as `MAX_BATCH_SEQ` where nothing of its outbox is recorded.

    Args:
        reported_seq: the newest batch that the agent reports; None if it reports none.
        next_seq: the next batch to submit.
        now_ms: when the agent registered.
    """

    __slots__ = ("_base_seq", "_since_ms")

    def __init__(self, *, reported_seq: int | None, next_seq: int, now_ms: int) -> None:
        if reported_seq is not None:
            self._base_seq = max(reported_seq, next_seq - 1)
        elif next_seq > 1:
            self._base_seq = next_seq - 1 + MAX_UNREPORTED
        else:
            self._base_seq = MAX_BATCH_SEQ
        self._since_ms = now_ms

    def at(self, now_ms: int) -> int:
        """Return the highest batch possible now."""
        passed_ms = max(0, now_ms - self._since_ms)
        return self._base_seq + MADE_AT_ONCE + passed_ms * MADE_A_SECOND // 1000

    def clock_stepped(self, by_ms: int) -> None:
        """The headend's clock was stepped by this."""
        self._since_ms += by_ms


class CommitLag:
    """Tracks the time of the newest committed batch, by watching one submitted batch at a time.

    Attributes:
        newest_ms: when the newest batch known to be committed was made, by the headend's clock; it lags by up
            to one transaction. While none is committed, the time of the first that was received in sequence;
            None before that.
    """

    def __init__(self) -> None:
        self.newest_ms: int | None = None
        self._watched: tuple[int, int] | None = None

    def received(self, batch_seq: int, made_ms: int) -> None:
        """A batch was received in sequence, whether the store has capacity for it or not."""
        if self.newest_ms is None:
            self.newest_ms = made_ms
        if self._watched is None:
            self._watched = (batch_seq, made_ms)

    def committed(self, batch_seq: int) -> None:
        """Every batch up to this one is committed."""
        if self._watched is not None and batch_seq >= self._watched[0]:
            self.newest_ms = self._watched[1]
            self._watched = None

    def clock_stepped(self, by_ms: int) -> None:
        """The headend's clock was stepped by this."""
        if self.newest_ms is not None:
            self.newest_ms += by_ms
        if self._watched is not None:
            self._watched = (self._watched[0], self._watched[1] + by_ms)
