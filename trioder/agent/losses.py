"""Which batches of an outbox were dropped before any headend had acknowledged them, as ranges of numbers."""

from collections.abc import Iterable


class Losses:
    """Ordered, disjoint ranges; batches are dropped oldest first, so that there are few.

    Args:
        ranges: first and last number of each, ascending.
    """

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self.ranges: tuple[tuple[int, int], ...] = tuple(ranges)

    def copy(self) -> "Losses":
        """Return an independent copy."""
        return Losses(self.ranges)

    def add(self, batch_seq: int) -> None:
        """Add one batch, newer than those before or among them."""
        if self.count(batch_seq, batch_seq):
            return
        *before, last = self.ranges or ((batch_seq, batch_seq - 1),)
        if last[1] == batch_seq - 1:
            self.ranges = (*before, (last[0], batch_seq))
        else:
            self.ranges = tuple(sorted((*self.ranges, (batch_seq, batch_seq))))

    def count(self, first_seq: int, last_seq: int) -> int:
        """Return how many there are in first_seq..last_seq."""
        return sum(max(0, min(last, last_seq) - max(first, first_seq) + 1) for first, last in self.ranges)

    def forget(self, up_to_seq: int) -> None:
        """Forget those up to this batch: the headend is past them."""
        if self.ranges and self.ranges[0][0] <= up_to_seq:
            self.ranges = tuple(
                (max(first, up_to_seq + 1), last) for first, last in self.ranges if last > up_to_seq
            )
