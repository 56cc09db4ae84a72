"""The store that forgets is bounded in what it does not forget."""

import pytest

from tests.unit.store.test_contract import samples
from trioder.store import none
from trioder.store.none import NoneStore
from trioder.store.records import NOTHING_COMMITTED, Watermark


async def test_it_says_that_nothing_is_kept() -> None:
    assert NoneStore().health == "disabled"


async def test_the_outbox_not_heard_of_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(none, "MAX_OUTBOXES", 2)
    store = NoneStore()
    for seq, outbox_id in enumerate(["a", "b", "a", "c"], start=1):
        store.submit(outbox_id, seq, samples(1))
    watermarks = [await store.watermark(outbox_id) for outbox_id in "abc"]
    assert watermarks == [Watermark(3, 1), NOTHING_COMMITTED, Watermark(4, 1)]
