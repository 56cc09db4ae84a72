"""What every store promises; each implementation is one more entry of `STORES`."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio

from tests.unit.store.model_database import dispatch_record
from tests.unit.store.model_dispatches import hand_over
from trioder.domain.assets import Asset
from trioder.domain.telemetry import Samples
from trioder.store.interface import Store
from trioder.store.none import NoneStore
from trioder.store.records import NOTHING_COMMITTED, SessionRecord, Watermark

OpenStore = Callable[[], AbstractAsyncContextManager[Store]]

ASSET = Asset(
    id="3f1d2c4b-0000-4000-8000-000000000001",
    name="Battery",
    site_id="3f1d2c4b-0000-4000-8000-000000000002",
    capacity_mwhr=40.0,
    max_mw=10.0,
    min_mw=-10.0,
    charge_efficiency=0.95,
    discharge_efficiency=0.95,
    ramp_rate_mw_per_min=10.0,
)


@asynccontextmanager
async def open_none_store() -> AsyncIterator[Store]:
    yield NoneStore()


STORES = {"none": open_none_store}


@pytest.fixture(params=STORES)
def open_store(request: pytest.FixtureRequest) -> OpenStore:
    opener: OpenStore = STORES[request.param]
    return opener


class Listener:
    """Records what the store reports, and lets a test wait for it."""

    def __init__(self) -> None:
        self.committed: dict[str, int] = {}
        self._news = trio.Event()

    def batches_committed(self, outbox_id: str, watermark: Watermark) -> None:
        self.committed[outbox_id] = watermark.batch_seq
        self._news.set()
        self._news = trio.Event()

    def capacity_available(self) -> None:
        raise AssertionError("nothing was refused")

    async def until_committed(self, outbox_id: str, batch_seq: int) -> None:
        with trio.fail_after(10):
            while self.committed.get(outbox_id) != batch_seq:
                await self._news.wait()


def samples(ts_unix_ms: int) -> Samples:
    return Samples(
        ts_unix_ms=ts_unix_ms,
        source="agent",
        asset_keys=(0,),
        soc_mwhr=(20.0,),
        current_mw=(1.0,),
        setpoint_mw=(1.0,),
        available_discharge_mw=(10.0,),
        available_charge_mw=(10.0,),
    )


def _kept(store: Store, watermark: Watermark) -> Watermark:
    """What is left of a watermark once it is committed: without a database nothing."""
    return NOTHING_COMMITTED if store.health == "disabled" else watermark


async def test_an_outbox_never_seen_has_nothing_committed(open_store: OpenStore) -> None:
    async with open_store() as store:
        assert await store.watermark("new") == NOTHING_COMMITTED


async def test_submitted_batches_are_committed_and_reported(open_store: OpenStore) -> None:
    async with open_store() as store:
        listener = Listener()
        store.listen(listener)
        for seq in (1, 2, 3):
            assert store.submit("box", seq, samples(1_800_000_000_000 + seq))
        await listener.until_committed("box", 3)
        assert await store.watermark("box") == _kept(store, Watermark(3, 1_800_000_000_003))


async def test_outboxes_do_not_disturb_each_other(open_store: OpenStore) -> None:
    async with open_store() as store:
        listener = Listener()
        store.listen(listener)
        store.submit("one", 1, samples(1_800_000_000_001))
        store.submit("two", 9, samples(1_800_000_000_002))
        await listener.until_committed("one", 1)
        await listener.until_committed("two", 9)
        assert await store.watermark("one") == _kept(store, Watermark(1, 1_800_000_000_001))


async def test_a_sequence_may_go_on_after_a_gap(open_store: OpenStore) -> None:
    async with open_store() as store:
        listener = Listener()
        store.listen(listener)
        store.submit("box", 1, samples(1_800_000_000_001))
        store.submit("box", 7, samples(1_800_000_000_007))
        await listener.until_committed("box", 7)


async def test_records_and_unsequenced_samples_are_accepted_without_waiting(
    open_store: OpenStore,
) -> None:
    async with open_store() as store:
        store.open_session(
            SessionRecord(
                session_id="3f1d2c4b-0000-4000-8000-000000000003",
                agent_id="agent",
                epoch=1,
                peer="127.0.0.1:1",
                asset_keys=(0,),
                connected_ms=1_800_000_000_000,
            )
        )
        hand_over(store.record_dispatch, dispatch_record("3f1d2c4b-0000-4000-8000-000000000004", "queued"))
        store.store_unsequenced(samples(1_800_000_000_000))
        store.close_session(
            "3f1d2c4b-0000-4000-8000-000000000003", disconnected_ms=1_800_000_000_001, reason="gone"
        )
        assert store.health in {"ok", "disabled"}


async def test_an_asset_without_samples_has_no_history(open_store: OpenStore) -> None:
    async with open_store() as store:
        assert list(await store.history(ASSET, limit=100)) == []
