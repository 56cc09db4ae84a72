"""The store without a database keeps nothing."""

from tests.unit.store.test_contract import samples
from trioder.store.none import NoneStore
from trioder.store.records import NOTHING_COMMITTED


async def test_it_reports_that_nothing_is_stored() -> None:
    assert NoneStore().health == "disabled"


async def test_no_number_of_outboxes_takes_memory() -> None:
    store = NoneStore()
    store.submit("a", 3, samples(1))
    assert await store.watermark("a") == NOTHING_COMMITTED
