"""A store whose database is as slow and as unreliable as a test wants it."""

from collections import defaultdict
from collections.abc import Collection

from trioder.domain.dispatch import AllocationOf, DispatchRecord, with_allocations
from trioder.domain.site_limits import SiteLimitsRecord
from trioder.domain.telemetry import Samples
from trioder.store.interface import StoreListener
from trioder.store.none import NoneStore
from trioder.store.records import NOTHING_COMMITTED, Watermark


class SlowStore(NoneStore):
    """Takes up to `room` batches; commits and makes room only on request."""

    def __init__(self, room: int = 1_000_000) -> None:
        super().__init__()
        self.room = room
        self.taken: list[tuple[str, int]] = []
        self.rows: dict[str, list[int]] = defaultdict(list)
        self.times_ms: dict[tuple[str, int], int] = {}
        self.unsequenced: list[Samples] = []
        self.dispatches: list[DispatchRecord] = []
        self.recorded: dict[str, DispatchRecord] = {}
        self.changed: list[frozenset[int]] = []
        self.site_limits_set: dict[str, SiteLimitsRecord] = {}
        self._listener: StoreListener | None = None
        self._refused = False

    def listen(self, listener: StoreListener) -> None:
        self._listener = listener

    async def watermark(self, outbox_id: str) -> Watermark:
        return self.watermark_nowait(outbox_id)

    def watermark_nowait(self, outbox_id: str) -> Watermark:
        if not self.rows[outbox_id]:
            return NOTHING_COMMITTED
        batch_seq = self.rows[outbox_id][-1]
        return Watermark(batch_seq, self.times_ms.get((outbox_id, batch_seq)))

    def submit(self, outbox_id: str, batch_seq: int, samples: Samples) -> bool:
        if len(self.taken) >= self.room:
            self._refused = True
            return False
        self.taken.append((outbox_id, batch_seq))
        self.times_ms[outbox_id, batch_seq] = samples.ts_unix_ms
        return True

    def store_unsequenced(self, samples: Samples) -> None:
        self.unsequenced.append(samples)

    def record_dispatch(
        self, dispatch: DispatchRecord, *, changed: Collection[int], share_of: AllocationOf
    ) -> None:
        """Each record whole, as if it was written at once; `changed` only what was handed over."""
        former = self.recorded.get(dispatch.dispatch_id)
        shares = () if former is None else (*former.members, *former.left_out)
        record = with_allocations(dispatch, map(share_of, sorted(changed)), former=shares)
        self.recorded[dispatch.dispatch_id] = record
        self.dispatches.append(record)
        self.changed.append(frozenset(changed))

    def record_site_limits(self, site_id: str, record: SiteLimitsRecord | None) -> None:
        self.site_limits_set.pop(site_id, None)
        if record is not None:
            self.site_limits_set[site_id] = record

    def commit(self, count: int = 1_000_000) -> None:
        """One transaction over the oldest batches."""
        assert self._listener is not None
        done, self.taken = self.taken[:count], self.taken[count:]
        for outbox_id, batch_seq in done:
            self.rows[outbox_id].append(batch_seq)
        for outbox_id in dict.fromkeys(outbox_id for outbox_id, _ in done):
            self._listener.batches_committed(outbox_id, self.watermark_nowait(outbox_id))
        if self._refused and len(self.taken) < self.room:
            self._refused = False
            self._listener.capacity_available()
