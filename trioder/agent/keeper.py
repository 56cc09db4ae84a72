"""When the agent's memory is saved: with each pulse, and at once when a setpoint was applied between two."""

from collections.abc import Callable, Sequence
from typing import Never

from trioder.agent.memory import AgentMemory, SavedBattery
from trioder.agent.wakeup import Wakeup
from trioder.process.wall_time import WallClock
from trioder.wire.records import Acknowledgement


class Keeper:
    """Holds the answers to dispatches back until what they tell of is saved, or could not be.

    Saving blocks: a commit is a few milliseconds of the disk, and the batteries wait for no one else.

    Args:
        memory: where to.
        look: returns the batteries as they stand.
        release: takes the answers that may be sent.
        wall: the wall time.
    """

    def __init__(
        self,
        memory: AgentMemory,
        *,
        look: Callable[[], Sequence[SavedBattery]],
        release: Callable[[Acknowledgement], None],
        wall: WallClock,
    ) -> None:
        self._memory = memory
        self._look = look
        self._release = release
        self._wall = wall
        self._held: list[Acknowledgement] = []
        self._wakeup = Wakeup()

    def hold(self, acknowledgement: Acknowledgement) -> None:
        """Release this answer after the next save, which comes at once; a rejection has nothing to save."""
        if acknowledgement.status == "rejected":
            self._release(acknowledgement)
            return
        self._held.append(acknowledgement)
        self._wakeup.wake()

    def save(self) -> None:
        """Save everything now."""
        self._memory.save(self._look(), now_ms=self._wall.now_ms())
        held, self._held = self._held, []
        for acknowledgement in held:
            self._release(acknowledgement)

    async def run(self) -> Never:
        """Save whenever an answer is held; those that come in one burst cost one save."""
        while True:
            await self._wakeup.wait()
            if self._held:
                self.save()
