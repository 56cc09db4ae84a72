"""Clients with equal filters: what each tick changes is encoded once, and all of them send the same bytes."""

from collections import deque
from collections.abc import Sequence
from math import inf
from typing import Protocol

import trio

from trioder.api.stream.changes import Change
from trioder.api.stream.sse import Event, with_ids
from trioder.api.stream.view import StreamFilter, View

# Longer than any of them waits for something to be sent.
HEARTBEAT_S = 2.0
# A client that lags further is sent the rows of all sites.
_SITE_TURNS = 60


class Reader(Protocol):
    """A client that is being written to.

    Attributes:
        sending_s: since when it has taken nothing of what is being written; infinity while nothing is.
    """

    sending_s: float

    def drop(self) -> None:
        """Disconnect it: it does not read."""


class Group:
    """What the clients of one filter are sent.

    Attributes:
        view: the filter, resolved.
        users: its clients.
        left_s: when the last one left.
        changed: the clients wait here for the next chunk.
        chunk: the events of the last tick that had any.
        chunk_events: how many.
        tick: the tick of the chunk.
        former_tick: that of the chunk before: a client that has this needs no more than the chunk.
        number: counts the chunks.
        reset_tick: what a client has from before this tick cannot be continued.
        reset_reason: why.
        sums: the last event of the topic `fleet`; None before the first.
        sums_s: when that was made.
        site_turns: of the last events of the topic `sites`: their tick, and the version of the rows in them.
        sites_s: when the last of these was made.
        written_s: when the chunk was made.
        held_keys: the assets that have changed since then.
        held_changes: the other changes since then.
    """

    def __init__(self, which: StreamFilter, view: View, *, tick: int) -> None:
        self.which = which
        self.view = view
        self.users = 0
        self.left_s = 0.0
        self.changed = trio.lowlevel.ParkingLot()
        self.chunk = b""
        self.chunk_events = 0
        self.tick = self.former_tick = tick
        self.number = 0
        self.reset_tick = tick
        self.reset_reason = ""
        self.sums: Event | None = None
        self.sums_s = -1.0
        self.site_turns: deque[tuple[int, int]] = deque(maxlen=_SITE_TURNS)
        self.sites_s = -inf
        self.written_s = 0.0
        self.held_keys: set[int] = set()
        self.held_changes: list[Change] = []
        self._has_rows = "telemetry" in which.topics

    @property
    def row_keys(self) -> Sequence[int]:
        """The assets whose rows are shown."""
        return self.view.keys if self._has_rows else ()

    def sites_version(self, tick: int) -> int:
        """Return up to which version a client has the rows of sites that has everything up to a tick."""
        return next((version for at, version in reversed(self.site_turns) if at <= tick), 0)

    def hold(self, keys: set[int], changes: list[Change]) -> None:
        """These changes are to be published."""
        if keys and self._has_rows:
            self.held_keys |= self.view.key_set & keys
        if changes:
            self.held_changes += changes

    def release(self) -> None:
        """What is held was published, or is part of a snapshot."""
        self.held_keys.clear()
        self.held_changes.clear()

    def reset(self, tick: int, reason: str) -> None:
        """What its clients have cannot be continued after this tick: they are sent a new snapshot."""
        self.reset_tick, self.reset_reason = tick, reason
        self.release()
        self.changed.unpark_all()

    def publish(self, events: list[Event], *, epoch: str, tick: int) -> None:
        """These are the events of a tick, at least one."""
        self.chunk = with_ids(events, epoch, tick)
        self.chunk_events = len(events)
        self.former_tick, self.tick = self.tick, tick
        self.number += 1
        self.written_s = trio.current_time()
        self.release()
        self.changed.unpark_all()
