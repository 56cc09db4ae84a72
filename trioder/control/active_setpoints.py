"""Which command each asset is under, and when something is due of it. Synchronous.

What is then done is decided in `dispatcher`.
"""

import heapq
from collections.abc import Iterator
from itertools import count

from trioder.control.lifecycle import IN_FORCE, TERMINAL
from trioder.control.model import AssetSetpoint

# An agent that is connected answers in milliseconds; by then it has had its chance.
ANSWERED_WITHIN_MS = 30_000
# An agent tells of the end itself, and is given the time to.
END_GRACE_MS = 2_000
# A member is pushed about three times in its life.
_STALE_SHARE = 8
_STALE_KEPT = 64


class ActiveSetpoints:
    """The newest member of each asset, and a clock for all of them."""

    def __init__(self) -> None:
        self._current: dict[int, AssetSetpoint] = {}
        self._due: list[tuple[int, int, AssetSetpoint]] = []
        self._number = count()

    def current(self, key: int) -> AssetSetpoint | None:
        """The newest command's member of an asset; it may have ended."""
        return self._current.get(key)

    def put(self, member: AssetSetpoint) -> AssetSetpoint | None:
        """Make it the asset's; return the one that it follows, if that still lives."""
        former = self._current.get(member.key)
        self._current[member.key] = member
        self.watch(member)
        return former if former is not None and former.state not in TERMINAL else None

    def forget(self, key: int) -> None:
        """The asset is under no command."""
        self._current.pop(key, None)

    def watch(self, member: AssetSetpoint) -> None:
        """Look at it when its present state makes something due."""
        due_ms = due_ms_of(member)
        if due_ms is not None:
            heapq.heappush(self._due, (due_ms, next(self._number), member))
            self._drop_stale()

    def pop_due(self, now_ms: int) -> Iterator[AssetSetpoint]:
        """The members of which something is due now, earliest first."""
        while self._due and self._due[0][0] <= now_ms:
            _, _, member = heapq.heappop(self._due)
            due_ms = due_ms_of(member)
            # What was pushed for a state that is over is passed over: the present one was pushed as well.
            if due_ms is not None and due_ms <= now_ms:
                yield member

    def reschedule(self) -> None:
        """Times of the members have changed: look at each when it is due now."""
        living = [(due_ms_of(member), member) for member in self._current.values()]
        self._due = [(due_ms, next(self._number), member) for due_ms, member in living if due_ms is not None]
        heapq.heapify(self._due)

    def _drop_stale(self) -> None:
        # What was pushed for a state that is over would stay until it is due, which may be never.
        if len(self._due) > _STALE_SHARE * len(self._current) + _STALE_KEPT:
            self.reschedule()


def due_ms_of(member: AssetSetpoint) -> int | None:
    """When the member has to be looked at, as it stands; None when nothing will be due by itself."""
    if member.state == "queued":
        until_ms = member.queue_until_ms
        return until_ms if member.ends_ms is None else min(until_ms, member.ends_ms)
    if member.state == "sent":
        sent_ms = member.sent_ms if member.sent_ms is not None else member.command.dispatched_ms
        return sent_ms + ANSWERED_WITHIN_MS
    if member.state in IN_FORCE and member.ends_ms is not None:
        return member.ends_ms + END_GRACE_MS
    return None
