"""Where the outbox keeps its batches: an ordered run of sequence numbers, each with its message's bytes.

Which of them are sent, and when they may go, is decided in `trioder.agent.outbox`.
"""

from typing import Protocol

from trioder.agent.losses import Losses


class KeptBatches(Protocol):
    """A gapless run of batches, in the order of their sequence numbers.

    Attributes:
        first_seq: of the oldest that is kept; last_seq + 1 when none is.
        last_seq: of the newest that was ever appended; 0 before.
        saved_seq: of the newest that no crash can take away any more.
        size_bytes: of all that are kept.
        losses: those that were dropped unacknowledged, until the headend is past them.
    """

    first_seq: int
    last_seq: int
    size_bytes: int
    losses: Losses

    @property
    def saved_seq(self) -> int:
        """See above."""
        ...

    def append(self, payload: bytes) -> None:
        """Keep one more, as last_seq + 1."""

    def read(self, batch_seq: int) -> bytes | None:
        """Return one that is kept (KeyError otherwise); None when it cannot be read back."""
        ...

    def drop_first(self) -> None:
        """Let go of the oldest (KeyError without one)."""


class BatchesInMemory:
    """Keeps batches for as long as the object lives."""

    def __init__(self) -> None:
        self.first_seq = 1
        self.last_seq = 0
        self.size_bytes = 0
        self.losses = Losses()
        self._payloads: dict[int, bytes] = {}

    @property
    def saved_seq(self) -> int:
        """Whatever is here is as safe as it gets."""
        return self.last_seq

    def append(self, payload: bytes) -> None:
        """See `KeptBatches`."""
        self.last_seq += 1
        self._payloads[self.last_seq] = payload
        self.size_bytes += len(payload)

    def read(self, batch_seq: int) -> bytes:
        """See `KeptBatches`."""
        return self._payloads[batch_seq]

    def drop_first(self) -> None:
        """See `KeptBatches`."""
        self.size_bytes -= len(self._payloads.pop(self.first_seq))
        self.first_seq += 1
