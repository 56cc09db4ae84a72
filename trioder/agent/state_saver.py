"""When the agent's memory is saved: with each pulse, and at once when a setpoint changed between two."""

from collections.abc import Callable, Sequence
from typing import Never

from trioder.agent.battery import AgentMessage
from trioder.agent.memory import AgentMemory, SavedBattery
from trioder.agent.wakeup import Wakeup
from trioder.process.wall_time import WallClock
from trioder.wire.records import Acknowledgement

# Answers to dispatches that have changed nothing.
_NOTHING_TO_SAVE = frozenset({"rejected", "expired", "superseded"})


class StateSaver:
    """Holds what batteries tell back until what it tells of is saved, or could not be.

    Saving blocks: a commit is a few milliseconds of the disk, and the batteries wait for no one else.

    Args:
        memory: where to.
        look: returns the batteries as they stand.
        release: takes what may be sent.
        wall: the wall time.
    """

    def __init__(
        self,
        memory: AgentMemory,
        *,
        look: Callable[[], Sequence[SavedBattery]],
        release: Callable[[AgentMessage], None],
        wall: WallClock,
    ) -> None:
        self._memory = memory
        self._look = look
        self._release = release
        self._wall = wall
        self._held: list[AgentMessage] = []
        self._wakeup = Wakeup()

    def hold(self, telling: AgentMessage) -> None:
        """Release this after the next save, which comes at once; what has nothing to save is released now."""
        if isinstance(telling, Acknowledgement) and telling.status in _NOTHING_TO_SAVE:
            self._release(telling)
            return
        self._held.append(telling)
        self._wakeup.wake()

    def save(self) -> None:
        """Save everything now."""
        self._memory.save(self._look(), now_ms=self._wall.now_ms())
        held, self._held = self._held, []
        for telling in held:
            self._release(telling)

    def save_held(self) -> None:
        """Save everything now, if anything waits for it."""
        if self._held:
            self.save()

    async def run(self) -> Never:
        """Save whenever something is held; what comes in one burst costs one save."""
        while True:
            await self._wakeup.wait()
            self.save_held()
