"""Telemetry batches waiting to be committed, and the buffer of samples that have no outbox. Synchronous.

A batch stays in the queue until it is committed; a failed transaction is simply retried.
"""

from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter

from trioder.domain.quality import Quality
from trioder.domain.telemetry import Samples, Source
from trioder.store.records import Watermark

# A batch's own objects, apart from its columns.
_BATCH_BYTES = 1_200
_MIN_GROUP_ROWS = 1_000
# Unsequenced samples use at most this share of the queue: nobody waits for them, agents wait for the rest.
_UNSEQUENCED_SHARE = 0.25
# The database refuses a batch as a whole, if it does; larger batches would not be cheaper per row.
_UNSEQUENCED_BATCH_ROWS = 1_000
# Including its share of the batch's overhead.
_UNSEQUENCED_ROW_BYTES = 60

# As in the column `source`.
SOURCE_CODES: Mapping[Source, int] = {"agent": 0, "synthesized": 1}


# Never changed once made, but not frozen: that would double the cost of making one.
@dataclass(slots=True, kw_only=True)
class PendingBatch:
    """A batch waiting to be committed, its columns packed (44 bytes a row, 14 a run).

    `quality` is empty when every row is good, or synthesized by its source; else one code per row.

    Attributes:
        run_ts_unix_ms: consecutive rows with the same timestamp form a run; the timestamp of each run, ...
        run_sources: ... its source (see `SOURCE_CODES`), ...
        run_rows: ... and its number of rows.
    """

    outbox_id: str
    batch_seq: int
    run_ts_unix_ms: "array[int]"
    run_sources: "array[int]"
    run_rows: "array[int]"
    asset_keys: "array[int] | range"
    soc_mwhr: "array[float]"
    current_mw: "array[float]"
    setpoint_mw: "array[float]"
    available_discharge_mw: "array[float]"
    available_charge_mw: "array[float]"
    quality: bytes = b""

    @classmethod
    def of(cls, outbox_id: str, batch_seq: int, *parts: Samples) -> "PendingBatch":
        """Pack the columns of one or more parts, in order."""
        return cls(
            outbox_id=outbox_id,
            batch_seq=batch_seq,
            run_ts_unix_ms=array("q", [part.ts_unix_ms for part in parts]),
            run_sources=array("h", [SOURCE_CODES[part.source] for part in parts]),
            run_rows=array("i", [len(part.asset_keys) for part in parts]),
            asset_keys=_joined_keys(parts),
            soc_mwhr=_joined(parts, "soc_mwhr"),
            current_mw=_joined(parts, "current_mw"),
            setpoint_mw=_joined(parts, "setpoint_mw"),
            available_discharge_mw=_joined(parts, "available_discharge_mw"),
            available_charge_mw=_joined(parts, "available_charge_mw"),
            quality=_joined_qualities(parts),
        )

    @property
    def watermark(self) -> Watermark:
        """The outbox's watermark once this batch is committed; an agent's batch has one timestamp."""
        return Watermark(self.batch_seq, self.run_ts_unix_ms[-1])

    @property
    def rows(self) -> int:
        """The number of samples."""
        return len(self.asset_keys)

    @property
    def size(self) -> int:
        """Memory used, in bytes."""
        return _BATCH_BYTES + 44 * len(self.asset_keys) + 14 * len(self.run_rows) + len(self.quality)


def _joined_qualities(parts: Sequence[Samples]) -> bytes:
    if len(parts) == 1:
        return parts[0].quality
    return b"".join(map(_qualities, parts)) if any(part.quality for part in parts) else b""


def _qualities(part: Samples) -> bytes:
    default = Quality.GOOD if part.source == "agent" else Quality.SYNTHESIZED
    return part.quality or bytes([default]) * len(part.asset_keys)


def _joined_keys(parts: Sequence[Samples]) -> "array[int] | range":
    # The contiguous keys of a shard stay a range: their database keys are then one slice.
    if len(parts) == 1 and isinstance(keys := parts[0].asset_keys, range) and keys.step == 1:
        return keys
    return array("i", chain.from_iterable(part.asset_keys for part in parts))


def _joined(parts: Sequence[Samples], name: str) -> "array[float]":
    """One column of all parts; that of a single part is used as it is if it is packed."""
    if len(parts) == 1 and isinstance(column := getattr(parts[0], name), array):
        return column
    return array("d", chain.from_iterable(map(attrgetter(name), parts)))


class BatchQueue:
    """First in, first out, bounded by memory; refuses batches while full.

    Args:
        max_bytes: the bound; a single larger batch is accepted when the queue is empty.
        group_rows: samples in a full transaction.
    """

    def __init__(self, *, max_bytes: int, group_rows: int) -> None:
        self._max_bytes = max_bytes
        self._full_group_rows = self._group_rows = group_rows
        self._batches: deque[PendingBatch] = deque()
        self._refused = False
        self.rows = 0
        self.size = 0

    def __len__(self) -> int:
        """The number of batches waiting."""
        return len(self._batches)

    @property
    def has_full_group(self) -> bool:
        """Whether the next transaction would not get larger by waiting."""
        return self.rows >= self._group_rows

    def put(self, batch: PendingBatch, *, share: float = 1.0) -> bool:
        """Append a batch; return False if there is no room.

        Args:
            batch: the one that follows the outbox's last.
            share: of the memory that may be used; a refusal at less than 1 is not remembered.
        """
        if self._batches and self.size + batch.size > self._max_bytes * share:
            self._refused = self._refused or share == 1.0
            return False
        self._batches.append(batch)
        self.rows += batch.rows
        self.size += batch.size
        return True

    def first_group(self) -> list[PendingBatch]:
        """Return the oldest batches, enough for one transaction, without removing them."""
        group: list[PendingBatch] = []
        rows = 0
        for batch in self._batches:
            if group and rows + batch.rows > self._group_rows:
                break
            group.append(batch)
            rows += batch.rows
        return group

    def group_failed(self) -> None:
        """Halve the next group: the last one timed out or was lost, and the database may be slow."""
        self._group_rows = max(min(_MIN_GROUP_ROWS, self._full_group_rows), self._group_rows // 2)

    def remove_first(self, count: int) -> None:
        """Remove the oldest `count` batches; groups may grow again."""
        self._group_rows = min(self._full_group_rows, self._group_rows * 2)
        for _ in range(count):
            batch = self._batches.popleft()
            self.rows -= batch.rows
            self.size -= batch.size

    def take_capacity_available(self) -> bool:
        """Return True once after a refusal, when half of the memory is free: not for every single batch."""
        if not self._refused or self.size > self._max_bytes / 2:
            return False
        self._refused = False
        return True


class UnsequencedBuffer:
    """Gathers samples without an outbox into batches, for a batch each would cost several times the sample.

    The batches have an outbox of the headend's own, so that these samples, too, are written exactly once.

    Args:
        queue: receives the batches.
        max_bytes: the queue's.
        started_ms: when the headend started; every start has its own outbox.

    Attributes:
        outbox_id: no agent can use this one, for an agent's is printable. `batch_seq` counts samples.
        rows: samples gathered and not yet queued.
    """

    def __init__(self, queue: BatchQueue, *, max_bytes: int, started_ms: int) -> None:
        self.outbox_id = f"\theadend {started_ms}"
        self.rows = 0
        self._queue = queue
        self._max_bytes = max_bytes * _UNSEQUENCED_SHARE
        self._parts: list[Samples] = []
        self._batch_seq = 0

    def put(self, samples: Samples) -> bool:
        """Append samples; return False if there is no room."""
        rows = self.rows + len(samples.asset_keys)
        if (
            self._queue or self._parts
        ) and self._queue.size + rows * _UNSEQUENCED_ROW_BYTES > self._max_bytes:
            return False
        self._parts.append(samples)
        self.rows = rows
        if rows >= _UNSEQUENCED_BATCH_ROWS:
            self.seal()
        return True

    def seal(self) -> None:
        """Queue the gathered samples as one batch; they stay gathered while the queue has no room."""
        if not self._parts:
            return
        batch = PendingBatch.of(self.outbox_id, self._batch_seq + self.rows, *self._parts)
        if self._queue.put(batch, share=_UNSEQUENCED_SHARE):
            self._batch_seq = batch.batch_seq
            self._parts = []
            self.rows = 0
