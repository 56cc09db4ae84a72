"""What the tests of the store send, and how they wait for its commit."""

import re
from array import array

import trio

from trioder.domain.telemetry import Samples
from trioder.store.postgres.store import PostgresStore
from trioder.store.records import Watermark


def samples(
    ts_unix_ms: int, *, keys: range = range(1), soc_mwhr: float = 20.0, source: str = "agent"
) -> Samples:
    rows = len(keys)
    return Samples(
        ts_unix_ms=ts_unix_ms,
        source=source,
        asset_keys=array("i", keys),
        soc_mwhr=[soc_mwhr] * rows,
        current_mw=[1.0 / 3.0] * rows,
        setpoint_mw=[-2.5] * rows,
        available_discharge_mw=[10.0] * rows,
        available_charge_mw=[9.0] * rows,
    )


class Sender:
    """Outboxes with a go-back-N cursor each; every batch has its own number as its energy."""

    def __init__(self, store: PostgresStore, outboxes: int = 1) -> None:
        self.store = store
        self.next = {f"box-{number}": 1 for number in range(outboxes)}
        self.committed = dict.fromkeys(self.next, 0)
        self.held_back: set[str] = set()
        self._news = trio.Event()
        store.listen(self)

    def batches_committed(self, outbox_id: str, watermark: Watermark) -> None:
        self.committed[outbox_id] = max(self.committed[outbox_id], watermark.batch_seq)
        self.next[outbox_id] = max(self.next[outbox_id], watermark.batch_seq + 1)
        self._news.set()
        self._news = trio.Event()

    def capacity_available(self) -> None:
        self.held_back.clear()

    def send(self, outbox_id: str = "box-0", *, keys: range = range(1)) -> None:
        seq = self.next[outbox_id]
        batch = samples(1_800_000_000_000 + seq, keys=keys, soc_mwhr=float(seq))
        if outbox_id not in self.held_back and self.store.submit(outbox_id, seq, batch):
            self.next[outbox_id] = seq + 1
        else:
            self.held_back.add(outbox_id)

    async def until_all_committed(self, seq: int, *, within_s: float = 30) -> None:
        with trio.fail_after(within_s):
            while min(self.committed.values()) < seq:
                await self._news.wait()


async def until_health(store: PostgresStore, pattern: str, *, within_s: float = 30) -> None:
    with trio.fail_after(within_s):
        while not re.search(pattern, f"{store.health} {store.health_reason}"):
            await trio.sleep(0.01)


async def keep(store: PostgresStore, *batches: Samples) -> None:
    sender = Sender(store)
    for seq, batch in enumerate(batches, start=1):
        assert store.submit("box-0", seq, batch)
    await sender.until_all_committed(len(batches))
