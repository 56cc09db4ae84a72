"""When setpoints end: one timer for all assets of the agent, not one each."""

import heapq
import math

import trio

from trioder.agent.wakeup import Wakeup


class LeaseTimer:
    """Tells which assets' setpoints end, when they do. An asset has at most one end, the newest set."""

    def __init__(self) -> None:
        self._ends: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []
        self._earlier = Wakeup()

    def set(self, position: int, end_s: float) -> None:
        """Let the setpoint of the asset at `position` end at `end_s`; infinity is never."""
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
