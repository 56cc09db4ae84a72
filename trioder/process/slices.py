"""Long computations in slices, so that other tasks of the event loop run in between.

A computation is written once, as a generator that yields how long its last part took, estimated. It may be
run at once (`run_at_once`) or in slices (`run_in_slices`): the result is the same.
"""

from collections.abc import Generator, Iterator, Sequence
from typing import TypeVar

import trio

T = TypeVar("T")

# What a generator yields is microseconds of one core, estimated from the number of items: a measured time
# would make the order of tasks depend on the machine, in virtual time too.
Steps = Generator[float, None, T]

# A checkpoint costs about 20 us. On a loaded machine estimates are short by a factor of 3.
_SLICE_US = 2_000.0
_PART_ITEMS = 250


def parts_of(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut a sequence into parts of at most 250 items, for which a computation may pause."""
    for start in range(0, len(items), _PART_ITEMS):
        yield items[start : start + _PART_ITEMS]


def run_at_once(steps: Steps[T]) -> T:
    """Run a computation without a pause; for what is small, or must not be interrupted."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            # mypy: a StopIteration's value is Any.
            result: T = end.value
            return result


async def run_in_slices(steps: Steps[T]) -> T:
    """Run a computation with a checkpoint after every 2 ms of it; none if it is shorter.

    *Cancellation*: closes the generator between two of its steps; what it has changed by then stays changed.
    """
    spent_us = 0.0
    try:
        while True:
            try:
                spent_us += next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
            if spent_us >= _SLICE_US:
                spent_us = 0.0
                await trio.lowlevel.checkpoint()
    finally:
        steps.close()
