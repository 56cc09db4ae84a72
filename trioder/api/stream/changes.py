"""What has changed, of which no change may be skipped: a bounded ring, for clients that resume or lag."""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import NamedTuple

from trioder.api.stream.sse import Event
from trioder.api.stream.view import View
from trioder.process.slices import Steps, parts_of

_MAX_CHANGES = 10_000
_MAX_BYTES = 8 * 1024 * 1024
# Of a change itself.
_OVERHEAD_BYTES = 300
# The cost of finding whether a view shows a change.
_CHANGE_US = 3.0


class ChangeForgottenError(Exception):
    """It is not known any more whether a view shows a change: only a snapshot can follow."""


class Change(NamedTuple):
    """One change.

    Attributes:
        topic: that it belongs to, also the name of its event.
        size: bytes, about what it takes in memory.
        data_for: returns the JSON of its event for a view; None if it is not shown there. Raises
            ChangeForgottenError.
    """

    topic: str
    size: int
    data_for: Callable[[View], bytes | None]


class ChangeRing:
    """The last changes by tick.

    Attributes:
        start_tick: all changes after this tick are here.
    """

    def __init__(self, *, max_changes: int = _MAX_CHANGES, max_bytes: int = _MAX_BYTES) -> None:
        self._max_changes = max_changes
        self._max_bytes = max_bytes
        self._changes: deque[tuple[int, Change]] = deque()
        self._bytes = 0
        self.start_tick = 0

    def append(self, tick: int, change: Change) -> None:
        """Add a change of the present tick; the oldest are dropped beyond the bounds."""
        self._changes.append((tick, change))
        self._bytes += change.size + _OVERHEAD_BYTES
        while len(self._changes) > self._max_changes or self._bytes > self._max_bytes:
            self.start_tick, dropped = self._changes.popleft()
            self._bytes -= dropped.size + _OVERHEAD_BYTES

    def clear(self, tick: int) -> None:
        """Forget everything up to a tick."""
        self._changes.clear()
        self._bytes = 0
        self.start_tick = tick

    def since(self, tick: int) -> list[Change]:
        """Return the changes after a tick, oldest first."""
        newer = takewhile(lambda entry: entry[0] > tick, reversed(self._changes))
        return [change for _, change in newer][::-1]


def event_steps(view: View, changes: Sequence[Change]) -> Steps[list[Event]]:
    """Return the events of those of the changes that a view shows, in steps.

    Raises:
        ChangeForgottenError: that is not known any more.
    """
    events: list[Event] = []
    for part in parts_of(changes):
        events += [
            Event(change.topic.encode(), data)
            for change in part
            if change.topic in view.which.topics and (data := change.data_for(view)) is not None
        ]
        yield _CHANGE_US * len(part)
    return events
