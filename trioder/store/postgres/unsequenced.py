"""Samples without an outbox, on their way into the queue. Synchronous.

They get an outbox of the headend's own, so that they, too, are kept once. A batch for each would cost several
times what the sample does, so they are gathered until the writer comes for them.
"""

from trioder.domain.telemetry import Samples
from trioder.store.postgres.database import PendingBatch
from trioder.store.postgres.queue import BatchQueue

# What the headend itself makes, and what nobody waits for, leaves room for what agents keep.
_SHARE = 0.25
# The database refuses a batch as a whole, if it does; a larger one would cost no less a row.
_BATCH_ROWS = 1_000
# With its share of its batch.
_ROW_BYTES = 60


class UnsequencedBuffer:
    """Gathers samples and puts them into the queue, a batch at a time.

    Args:
        queue: what else is in it has precedence.
        max_bytes: the queue's.
        started_ms: when the headend started; every start has an outbox of its own.

    Attributes:
        outbox_id: of the batches; no agent can name one like this, for a name is printable. Their sequence
            counts the samples.
        rows: how many are gathered.
    """

    def __init__(self, queue: BatchQueue, *, max_bytes: int, started_ms: int) -> None:
        self.outbox_id = f"\theadend {started_ms}"
        self.rows = 0
        self._queue = queue
        self._max_bytes = max_bytes * _SHARE
        self._parts: list[Samples] = []
        self._batch_seq = 0

    def put(self, samples: Samples) -> bool:
        """Take samples if there is room."""
        rows = self.rows + len(samples.asset_keys)
        if (self._queue or self._parts) and self._queue.size + rows * _ROW_BYTES > self._max_bytes:
            return False
        self._parts.append(samples)
        self.rows = rows
        if rows >= _BATCH_ROWS:
            self.seal()
        return True

    def seal(self) -> None:
        """Put what is gathered into the queue; what it has no room for stays gathered."""
        if not self._parts:
            return
        batch = PendingBatch.of(self.outbox_id, self._batch_seq + self.rows, *self._parts)
        if self._queue.put(batch, share=_SHARE):
            self._batch_seq = batch.batch_seq
            self._parts = []
            self.rows = 0
