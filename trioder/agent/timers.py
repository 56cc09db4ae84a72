"""The agent's two timers of setpoints: the end of each lease, and the loss of the headend."""

import heapq
import math
from collections.abc import Awaitable, Callable
from typing import Never

import trio

from trioder.agent.wakeup import Wakeup


class LeaseTimer:
    """One timer for the ends of all setpoints; an asset has at most one end, the newest set."""

    def __init__(self) -> None:
        self._ends: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []
        self._earlier = Wakeup()

    def set(self, position: int, end_s: float) -> None:
        """Set the end of the setpoint of the asset at `position`; infinity is never."""
        if end_s == math.inf:
            self._ends.pop(position, None)
            return
        self._ends[position] = end_s
        heapq.heappush(self._heap, (end_s, position))
        self._drop_stale()
        if self._heap[0] == (end_s, position):
            self._earlier.wake()

    async def wait_due(self) -> list[int]:
        """Wait until one or more setpoints end and return their assets' positions; for one task only."""
        while True:
            if due := self._pop_due(trio.current_time()):
                return due
            with trio.move_on_at(self._heap[0][0] if self._heap else math.inf):
                await self._earlier.wait()

    def _pop_due(self, now_s: float) -> list[int]:
        due = []
        while self._heap and self._heap[0][0] <= now_s:
            end_s, position = heapq.heappop(self._heap)
            if self._ends.get(position) == end_s:
                del self._ends[position]
                due.append(position)
        return due

    def _drop_stale(self) -> None:
        # Ends that were replaced stay in the heap until they are due, which may be never.
        if len(self._heap) > 2 * len(self._ends) + 64:
            self._heap = [(end_s, position) for position, end_s in self._ends.items()]
            heapq.heapify(self._heap)


class CommsLossTimer:
    """Calls `lost` once there was no session for `hold_s`, and again only after another session.

    The time counts from the end of a session, or from the timer's creation.

    Args:
        hold_s: how long setpoints hold without a headend; infinity for ever.
        lost: receives the instant, on Trio's clock, at which the time elapsed, and `hold_s`.
    """

    def __init__(self, *, hold_s: float, lost: Callable[[float, float], Awaitable[None]]) -> None:
        self._hold_s = hold_s
        self._lost = lost
        self._connected = False
        self._due_s = trio.current_time() + hold_s
        self._changed = Wakeup()

    def connected(self) -> None:
        """Stop the timer: there is a session."""
        self._connected = True
        self._due_s = math.inf
        self._changed.wake()

    def disconnected(self) -> None:
        """Start the timer, unless there was no session before."""
        if self._connected:
            self._connected = False
            self._due_s = trio.current_time() + self._hold_s
            self._changed.wake()

    def suspended(self, passed_s: float) -> None:
        """Count time for which the machine was suspended."""
        self._due_s -= passed_s
        self._changed.wake()

    async def run(self) -> Never:
        """Run the timer until cancelled."""
        while True:
            with trio.move_on_at(self._due_s):
                await self._changed.wait()
            due_s = self._due_s
            if due_s <= trio.current_time():
                self._due_s = math.inf
                await self._lost(due_s, self._hold_s)
