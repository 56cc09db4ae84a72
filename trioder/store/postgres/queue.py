"""The batches that wait to be committed, oldest first: bounded by memory. Synchronous.

A batch stays in the queue until it is committed; a transaction that failed is simply tried again.
"""

from collections import deque

from trioder.store.postgres.database import PendingBatch

_LEAST_GROUP_ROWS = 1_000


class BatchQueue:
    """First in, first out; refuses what has no room, and tells once there is room again.

    Args:
        max_bytes: what the batches may take; a single one that is larger is taken when it is alone.
        group_rows: how many samples make a full transaction.
    """

    def __init__(self, *, max_bytes: int, group_rows: int) -> None:
        self._max_bytes = max_bytes
        self._full_group_rows = self._group_rows = group_rows
        self._batches: deque[PendingBatch] = deque()
        self._refused = False
        self.rows = 0
        self.size = 0

    def __len__(self) -> int:
        """How many batches wait."""
        return len(self._batches)

    @property
    def has_full_group(self) -> bool:
        """Whether waiting longer would not make the next transaction larger."""
        return self.rows >= self._group_rows

    def put(self, batch: PendingBatch, *, share: float = 1.0) -> bool:
        """Take a batch if there is room.

        Args:
            batch: the one that follows the outbox's last.
            share: of the room; less than 1 for what others have precedence over, which is refused quietly.
        """
        if self._batches and self.size + batch.size > self._max_bytes * share:
            self._refused = self._refused or share == 1.0
            return False
        self._batches.append(batch)
        self.rows += batch.rows
        self.size += batch.size
        return True

    def first_group(self) -> list[PendingBatch]:
        """The oldest batches, enough for one transaction; they stay."""
        group: list[PendingBatch] = []
        rows = 0
        for batch in self._batches:
            if group and rows + batch.rows > self._group_rows:
                break
            group.append(batch)
            rows += batch.rows
        return group

    def group_failed(self) -> None:
        """The group took too long, or was lost: the next is half as large, for a slow database's sake."""
        self._group_rows = max(min(_LEAST_GROUP_ROWS, self._full_group_rows), self._group_rows // 2)

    def remove_first(self, count: int) -> None:
        """The oldest `count` batches are dealt with; groups may be larger again."""
        self._group_rows = min(self._full_group_rows, self._group_rows * 2)
        for _ in range(count):
            batch = self._batches.popleft()
            self.rows -= batch.rows
            self.size -= batch.size

    def take_room_again(self) -> bool:
        """True once after a refusal, when half of the room is free: not for every single batch."""
        if not self._refused or self.size > self._max_bytes / 2:
            return False
        self._refused = False
        return True
