"""What has changed, of which no change may be skipped: a bounded ring, for clients that resume or lag."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from trioder.api.stream.sse import Event
from trioder.api.stream.view import View

_MAX_CHANGES = 10_000
_MAX_BYTES = 8 * 1024 * 1024
# Of a change itself.
_OVERHEAD_BYTES = 300


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

    def since(self, tick: int) -> Iterator[Change]:
        """Yield the changes after a tick, oldest first."""
        first = len(self._changes)
        while first and self._changes[first - 1][0] > tick:
            first -= 1
        for number in range(first, len(self._changes)):
            yield self._changes[number][1]


def events_for(view: View, changes: Iterator[Change] | list[Change]) -> list[Event]:
    """Return the events of those of the changes that a view shows.

    Raises:
        ChangeForgottenError: that is not known any more.
    """
    events = []
    for change in changes:
        if change.topic in view.which.topics:
            data = change.data_for(view)
            if data is not None:
                events.append(Event(change.topic.encode(), data))
    return events
