"""When an agent's state is saved: with each pulse, and at once when a setpoint changes between two."""

from collections.abc import Callable, Sequence
from typing import Never

from trioder.agent.persistence.state_store import SavedBattery, StateStore
from trioder.agent.wakeup import Wakeup
from trioder.process.wall_time import WallClock
from trioder.wire.records import Acknowledgement, AgentMessage

# Acknowledgements of dispatches that changed nothing.
_NOTHING_TO_SAVE = frozenset({"rejected", "expired", "superseded"})


class StateSaver:
    """Holds battery messages until their state is saved, or saving has failed.

    Saving blocks: a commit takes a few milliseconds, and the batteries wait for nothing else.

    Args:
        store: what is saved to.
        snapshot: returns the batteries' present state.
        release: receives the messages that may be sent.
        wall: the wall time.
    """

    def __init__(
        self,
        store: StateStore,
        *,
        snapshot: Callable[[], Sequence[SavedBattery]],
        release: Callable[[AgentMessage], None],
        wall: WallClock,
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._release = release
        self._wall = wall
        self._held: list[AgentMessage] = []
        self._wakeup = Wakeup()

    def hold(self, message: AgentMessage) -> None:
        """Release a message after the next save, which follows at once; without a change to save, now."""
        if isinstance(message, Acknowledgement) and message.status in _NOTHING_TO_SAVE:
            self._release(message)
            return
        self._held.append(message)
        self._wakeup.wake()

    def save(self) -> None:
        """Save everything now."""
        self._store.save(self._snapshot(), now_ms=self._wall.now_ms())
        held, self._held = self._held, []
        for message in held:
            self._release(message)

    def save_held(self) -> None:
        """Save everything now, if a message is held."""
        if self._held:
            self.save()

    async def run(self) -> Never:
        """Save whenever a message is held; a burst of messages costs one save."""
        while True:
            await self._wakeup.wait()
            self.save_held()
