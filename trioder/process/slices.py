"""Runs long computations in slices, so that other tasks of the event loop run in between.

A computation is a generator that yields the estimated duration of its last part. It may be run at once
(`run_at_once`) or in slices (`run_in_slices`), with the same result.
"""

from collections.abc import Generator, Iterator, Sequence
from typing import TypeVar

import trio

T = TypeVar("T")

# Yields microseconds of one core, estimated from the number of items: measured times would make the order of
# tasks depend on the machine, even in virtual time.
Steps = Generator[float, None, T]

# A checkpoint costs about 20 us. On a loaded machine estimates are too low by a factor of 3.
_SLICE_US = 2_000.0
_PART_ITEMS = 250


def parts_of(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut a sequence into parts of at most 250 items, between which a computation may pause."""
    for start in range(0, len(items), _PART_ITEMS):
        yield items[start : start + _PART_ITEMS]


def run_at_once(steps: Steps[T]) -> T:
    """Run a computation without a pause; for small ones, or those that must not be interrupted."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            # mypy: a StopIteration's value is Any.
            result: T = end.value
            return result


async def run_in_slices(steps: Steps[T], *, slice_us: float = _SLICE_US) -> T:
    """Run a computation with a checkpoint every 2 ms, or `slice_us`; none if it is shorter.

    *Cancellation*: closes the generator between two steps; changes made by then remain.
    """
    spent_us = 0.0
    try:
        while True:
            try:
                spent_us += next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
            if spent_us >= slice_us:
                spent_us = 0.0
                await trio.lowlevel.checkpoint()
    finally:
        steps.close()
