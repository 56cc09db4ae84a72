"""The store that forgets is bounded in what it does not forget."""

import pytest

from tests.unit.store.test_contract import samples
from trioder.store import none
from trioder.store.none import NoneStore


async def test_it_says_that_nothing_is_kept() -> None:
    assert NoneStore().health == "disabled"


async def test_the_outbox_not_heard_of_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(none, "MAX_OUTBOXES", 2)
    store = NoneStore()
    for seq, outbox_id in enumerate(["a", "b", "a", "c"], start=1):
        store.submit(outbox_id, seq, samples(1))
    assert [await store.committed_batch_seq(outbox_id) for outbox_id in "abc"] == [3, 0, 4]
