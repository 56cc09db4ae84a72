"""The headend's garbage collector: young cycles soon, old ones once enough objects have been added."""

import gc
import sys
import weakref
from collections.abc import Callable

import trio
import trio.testing

from trioder.process.garbage_collector import open_garbage_collector


class _Node:
    """Refers to itself, so that only the garbage collector frees it."""

    def __init__(self) -> None:
        self.itself = self


def _add_objects(count: int) -> list[list[None]]:
    return [[None] for _ in range(count)]


def _dropped_cycle() -> Callable[[], _Node | None]:
    return weakref.ref(_Node())


async def test_a_cycle_that_is_dropped_young_is_freed_without_a_full_collection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_garbage_collector():
        await trio.testing.wait_all_tasks_blocked()
        find = _dropped_cycle()
        assert find() is not None
        _add_objects(20_000)
        assert find() is None


async def test_what_survives_is_not_visited_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_garbage_collector():
        await trio.testing.wait_all_tasks_blocked()
        kept = _add_objects(20_000)
        frozen = gc.get_freeze_count()
        kept.extend(_add_objects(20_000))
        assert gc.get_freeze_count() >= frozen + 15_000


async def test_a_cycle_that_was_frozen_is_freed_once_many_objects_have_been_added(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_garbage_collector():
        await trio.testing.wait_all_tasks_blocked()
        node = _Node()
        find = weakref.ref(node)
        kept = _add_objects(20_000)
        del node
        kept.extend(_add_objects(100_000))
        await trio.sleep(10)
        assert find() is not None, "it was not frozen, so this test shows nothing"
        kept.extend(_add_objects(sys.getallocatedblocks() // 2 + 1_000_000))
        await trio.sleep(10)
        assert find() is None


async def test_pythons_own_settings_are_restored_at_the_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    thresholds, callbacks = gc.get_threshold(), list(gc.callbacks)
    async with open_garbage_collector():
        await trio.testing.wait_all_tasks_blocked()
        assert gc.get_threshold() != thresholds
    assert gc.get_threshold() == thresholds
    assert gc.callbacks == callbacks
    assert gc.get_freeze_count() == 0
