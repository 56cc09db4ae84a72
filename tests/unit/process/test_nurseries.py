"""Background nurseries hide their exception groups; leaves of groups are found."""

import pytest
import trio
import trio.testing

from trioder.process.nurseries import leaf_exceptions, open_background_nursery


async def test_tasks_are_cancelled_at_the_end_of_the_block() -> None:
    cancelled = trio.Event()

    async def background() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with open_background_nursery() as nursery:
        nursery.start_soon(background)
        await trio.testing.wait_all_tasks_blocked()
    assert cancelled.is_set()


async def test_an_exception_of_the_block_is_raised_unwrapped_after_the_last_work() -> None:
    finished: list[str] = []

    async def finish() -> None:
        finished.append("flushed")
        await trio.lowlevel.checkpoint()

    async def fail() -> None:
        async with open_background_nursery(before_cancel=finish) as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise ValueError("from the block")

    with pytest.raises(ValueError, match="from the block"):
        await fail()
    assert finished == ["flushed"]


async def test_a_failed_task_ends_the_block() -> None:
    async def fail() -> None:
        raise KeyError("background")

    async def run() -> None:
        async with open_background_nursery() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()

    with pytest.RaisesGroup(KeyError):
        await run()


def test_leaves_are_in_order_and_a_plain_error_is_its_own() -> None:
    first, second, third = ValueError("1"), KeyError("2"), OSError("3")
    nested = ExceptionGroup("outer", [ExceptionGroup("inner", [first, second]), third])
    assert leaf_exceptions(nested) == [first, second, third]
    assert leaf_exceptions(first) == [first]
