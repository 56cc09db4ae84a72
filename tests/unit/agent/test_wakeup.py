"""A parked task is woken, once and by anybody, and can be cancelled."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trioder.agent.wakeup import Wakeup


async def count_wakes(wakeup: Wakeup, wakes: list[None]) -> None:
    while True:
        await wakeup.wait()
        wakes.append(None)


async def test_a_parked_task_goes_on_when_woken(nursery: trio.Nursery) -> None:
    wakeup, wakes = Wakeup(), []
    nursery.start_soon(count_wakes, wakeup, wakes)
    await wait_all_tasks_blocked()
    for expected in (1, 2, 3):
        wakeup.wake()
        await wait_all_tasks_blocked()
        assert len(wakes) == expected


async def test_wakes_before_the_task_runs_count_as_one(nursery: trio.Nursery) -> None:
    wakeup, wakes = Wakeup(), []
    nursery.start_soon(count_wakes, wakeup, wakes)
    await wait_all_tasks_blocked()
    wakeup.wake()
    wakeup.wake()
    await wait_all_tasks_blocked()
    assert len(wakes) == 1


async def test_a_wake_while_nobody_waits_is_remembered_once() -> None:
    wakeup = Wakeup()
    wakeup.wake()
    wakeup.wake()
    with trio.fail_after(1):
        await wakeup.wait()
    with trio.move_on_after(0.01) as patience:
        await wakeup.wait()
    assert patience.cancelled_caught


async def test_the_wait_is_a_checkpoint_even_with_a_remembered_wake() -> None:
    wakeup = Wakeup()
    wakeup.wake()
    with trio.CancelScope() as scope:
        scope.cancel()
        await wakeup.wait()
    assert scope.cancelled_caught


async def test_after_a_cancelled_wait_the_next_task_can_wait(nursery: trio.Nursery) -> None:
    wakeup, wakes = Wakeup(), []
    with trio.move_on_after(0.01):
        await wakeup.wait()
    nursery.start_soon(count_wakes, wakeup, wakes)
    await wait_all_tasks_blocked()
    wakeup.wake()
    await wait_all_tasks_blocked()
    assert len(wakes) == 1


async def test_a_wake_that_meets_a_cancellation_is_no_fault(nursery: trio.Nursery) -> None:
    wakeup = Wakeup()
    with trio.CancelScope() as scope:
        nursery.start_soon(wakeup_after_cancel, wakeup, scope)
        await wakeup.wait()
    wakeup.wake()
    with trio.fail_after(1):
        await wakeup.wait()


async def wakeup_after_cancel(wakeup: Wakeup, scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    wakeup.wake()
    scope.cancel()


async def test_a_second_waiter_is_refused(nursery: trio.Nursery) -> None:
    wakeup = Wakeup()
    nursery.start_soon(wakeup.wait)
    await wait_all_tasks_blocked()
    with pytest.raises(RuntimeError):
        await wakeup.wait()
    wakeup.wake()
