"""What an agent keeps across restarts: its unacknowledged batches and its batteries' state.

The interfaces, and an implementation in memory. The one on disk is `trioder.agent.persistence.sqlite_store`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol


class SavedBattery(NamedTuple):
    """A battery as it was at its last save; units as in the names.

    Attributes:
        lease_end_unix_s: when the setpoint ends; infinity when it holds.
        reversion_mw: the setpoint that follows.
        dispatch_id: of the dispatch in force; empty without one.
        lease_remaining_s: until the setpoint's end, at the save and in steady time; infinity when it holds.
    """

    soc_mwhr: float
    current_mw: float
    setpoint_mw: float
    lease_end_unix_s: float
    reversion_mw: float = 0.0
    dispatch_id: str = ""
    lease_remaining_s: float = math.inf


class Losses:
    """The batches that were dropped unacknowledged: ordered, disjoint ranges of sequence numbers.

    Batches are dropped oldest first, so there are few ranges.

    Args:
        ranges: first and last number of each, ascending.
    """

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self.ranges: tuple[tuple[int, int], ...] = tuple(ranges)

    def add(self, batch_seq: int) -> None:
        """Add one batch, newer than the others or among them."""
        if self.count(batch_seq, batch_seq):
            return
        *before, last = self.ranges or ((batch_seq, batch_seq - 1),)
        if last[1] == batch_seq - 1:
            self.ranges = (*before, (last[0], batch_seq))
        else:
            self.ranges = tuple(sorted((*self.ranges, (batch_seq, batch_seq))))

    def count(self, first_seq: int, last_seq: int) -> int:
        """Return how many there are in first_seq..last_seq."""
        return sum(max(0, min(last, last_seq) - max(first, first_seq) + 1) for first, last in self.ranges)

    def forget(self, up_to_seq: int) -> None:
        """Forget those up to this batch, which the headend has committed or passed over."""
        if self.ranges and self.ranges[0][0] <= up_to_seq:
            self.ranges = tuple(
                (max(first, up_to_seq + 1), last) for first, last in self.ranges if last > up_to_seq
            )


class BatchLog(Protocol):
    """A gapless run of serialized batches, in the order of their sequence numbers.

    Attributes:
        first_seq: of the oldest batch; last_seq + 1 if there is none.
        last_seq: of the newest that was ever appended; 0 before.
        durable_seq: of the newest that survives a crash.
        size_bytes: of all batches.
        losses: batches dropped unacknowledged, until the headend has committed a later one.
    """

    first_seq: int
    last_seq: int
    size_bytes: int
    losses: Losses

    @property
    def durable_seq(self) -> int:
        """See above."""
        ...

    def append(self, payload: bytes) -> None:
        """Append a batch, as last_seq + 1."""

    def read(self, batch_seq: int) -> bytes | None:
        """Return a batch of the log (KeyError otherwise); None when it cannot be read back."""
        ...

    def drop_first(self) -> None:
        """Drop the oldest batch (KeyError without one)."""


class StateStore(Protocol):
    """The persisted state of one agent; what changed since the last `save` may be lost in a crash.

    Attributes:
        outbox_id: identifies the sequence of the batches; created with the store.
        failures: saves that failed; their content is saved with the next.
    """

    outbox_id: str
    failures: int

    @property
    def batches(self) -> BatchLog:
        """The outbox's batches."""
        ...

    def begin_boot(self, now_ms: int) -> int:
        """Return this boot's epoch, greater than that of every earlier boot, whatever the clock says."""
        ...

    def renew_outbox(self, outbox_id: str) -> None:
        """Assign the batches to another outbox; saved at once, together with them."""
        ...

    def batteries(self) -> Mapping[str, SavedBattery]:
        """Return the batteries as they were last saved, by asset id; those never saved are absent."""
        ...

    def save(self, batteries: Sequence[SavedBattery], *, now_ms: int) -> None:
        """Save all batches and these batteries, in the order of the agent's assets; fails without raising."""


class InMemoryBatchLog:
    """A `BatchLog` that lasts as long as the object."""

    def __init__(self) -> None:
        self.first_seq = 1
        self.last_seq = 0
        self.size_bytes = 0
        self.losses = Losses()
        self._payloads: dict[int, bytes] = {}

    @property
    def durable_seq(self) -> int:
        """All batches count as durable."""
        return self.last_seq

    def append(self, payload: bytes) -> None:
        """See `BatchLog`."""
        self.last_seq += 1
        self._payloads[self.last_seq] = payload
        self.size_bytes += len(payload)

    def read(self, batch_seq: int) -> bytes:
        """See `BatchLog`."""
        return self._payloads[batch_seq]

    def drop_first(self) -> None:
        """See `BatchLog`."""
        self.size_bytes -= len(self._payloads.pop(self.first_seq))
        self.first_seq += 1


class InMemoryStateStore:
    """A `StateStore` that lasts as long as the object, so that a simulated agent can crash and restart.

    Args:
        outbox_id: a new one.
        asset_ids: in the order of the batteries.
    """

    def __init__(self, outbox_id: str, asset_ids: Sequence[str]) -> None:
        self.outbox_id = outbox_id
        self.failures = 0
        self.batches = InMemoryBatchLog()
        self._asset_ids = tuple(asset_ids)
        self._epoch = 0
        self._batteries: dict[str, SavedBattery] = {}

    def begin_boot(self, now_ms: int) -> int:
        """See `StateStore`."""
        self._epoch = max(now_ms, self._epoch + 1)
        return self._epoch

    def renew_outbox(self, outbox_id: str) -> None:
        """See `StateStore`."""
        self.outbox_id = outbox_id

    def batteries(self) -> Mapping[str, SavedBattery]:
        """See `StateStore`."""
        return dict(self._batteries)

    def save(self, batteries: Sequence[SavedBattery], *, now_ms: int) -> None:  # noqa: ARG002  # the interface's
        """See `StateStore`; never fails."""
        self._batteries = dict(zip(self._asset_ids, batteries, strict=True))
