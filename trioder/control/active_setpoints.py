"""The setpoint that each asset is to obey, those that wait behind it, and the schedule of what is due.

What outranks what is decided in `registry`.
"""

import heapq
from collections.abc import Iterator, Sequence
from itertools import chain, count

from trioder.control.model import AssetSetpoint
from trioder.domain.lifecycle import IN_FORCE, TERMINAL

# A connected agent acknowledges within milliseconds.
ACK_TIMEOUT_MS = 30_000
# An agent reports the end itself; the headend ends it later.
END_GRACE_MS = 2_000
# A setpoint is scheduled about three times.
_MAX_SCHEDULED_EACH = 8
_MIN_SCHEDULED = 64


class ActiveSetpoints:
    """The newest setpoint of each asset, those deferred, and a schedule of what is due for all of them.

    Attributes:
        standing: the power, MW, of assets that were left at one when their setpoint was removed.
        version: changes whenever a setpoint changes, or another one is an asset's newest.
    """

    def __init__(self) -> None:
        self.standing: dict[int, float] = {}
        self.version = 0
        self._current: dict[int, AssetSetpoint] = {}
        self._deferred: dict[int, list[AssetSetpoint]] = {}
        self._due: list[tuple[int, int, AssetSetpoint]] = []
        self._number = count()

    def current(self, key: int) -> AssetSetpoint | None:
        """The newest setpoint of an asset; it may have ended."""
        return self._current.get(key)

    def current_open(self, key: int) -> AssetSetpoint | None:
        """The newest setpoint of an asset, unless it has ended."""
        setpoint = self._current.get(key)
        return setpoint if setpoint is not None and setpoint.is_open else None

    def model_setpoint_mw(self, key: int, reported_mw: float, now_ms: int) -> float:
        """Return the setpoint of an asset for the headend's model; `reported_mw` is its latest sample's."""
        setpoint = self._current.get(key)
        if setpoint is None:
            return self.standing.get(key, reported_mw)
        if not setpoint.is_open:
            # The model must not go on with a setpoint that has ended, unless its agent reports another one.
            return setpoint.reversion_mw if reported_mw == setpoint.mw else reported_mw
        if setpoint.holds_asset:
            return setpoint.mw
        if setpoint.sent_ms is not None and reported_mw != setpoint.mw:
            # The agent has ended the setpoint, or has never obeyed it.
            return reported_mw
        if setpoint.ends_ms is not None and now_ms >= setpoint.ends_ms:
            return setpoint.reversion_mw
        return setpoint.mw

    def put(self, setpoint: AssetSetpoint) -> None:
        """Make it the asset's newest; `schedule` it next."""
        self.version += 1
        self._current[setpoint.key] = setpoint
        if self.standing:
            self.standing.pop(setpoint.key, None)

    def rivals(self, key: int) -> tuple[AssetSetpoint | None, Sequence[AssetSetpoint]]:
        """The open setpoint of an asset, and those that are deferred."""
        # For each setpoint of a group.
        current, waiting = self._current.get(key), self._deferred.get(key)
        if current is not None and current.state in TERMINAL:
            current = None
        return current, () if waiting is None else tuple(waiting)

    def deferred(self, key: int) -> Sequence[AssetSetpoint]:
        """The setpoints that wait for the asset, in the order in which they take it over."""
        return tuple(self._deferred.get(key, ()))

    def defer(self, setpoint: AssetSetpoint) -> None:
        """It waits for its asset: behind those of the same priority, before those of a lower one."""
        waiting = self._deferred.setdefault(setpoint.key, [])
        waiting.append(setpoint)
        waiting.sort(key=lambda one: -one.dispatch.rank)

    def withdraw(self, setpoint: AssetSetpoint) -> None:
        """It no longer waits."""
        waiting = self._deferred.get(setpoint.key, [])
        if setpoint in waiting:
            waiting.remove(setpoint)
        if not waiting:
            self._deferred.pop(setpoint.key, None)

    def remove(self, key: int, *, standing_mw: float | None = None) -> None:
        """The asset has no setpoint of ours; it was left at a power, if that is known."""
        self.version += 1
        self._current.pop(key, None)
        self.standing.pop(key, None)
        if standing_mw is not None:
            self.standing[key] = standing_mw

    def schedule(self, setpoint: AssetSetpoint) -> None:
        """Schedule what is due in its present state, if anything."""
        due_ms = due_ms_of(setpoint)
        if due_ms is not None:
            heapq.heappush(self._due, (due_ms, next(self._number), setpoint))
            setpoints = len(self._current) + len(self._deferred)
            if len(self._due) > _MAX_SCHEDULED_EACH * setpoints + _MIN_SCHEDULED:
                # Entries of former states would stay until they are due, which may be never.
                self.reschedule_all()

    def pop_due(self, now_ms: int) -> Iterator[AssetSetpoint]:
        """The setpoints for which something is due now, earliest first."""
        while self._due and self._due[0][0] <= now_ms:
            _, _, setpoint = heapq.heappop(self._due)
            due_ms = due_ms_of(setpoint)
            # An entry of a former state is skipped: the present state has its own.
            if due_ms is not None and due_ms <= now_ms:
                yield setpoint

    def reschedule_all(self) -> None:
        """Schedule all setpoints anew: their times have changed."""
        setpoints = chain(self._current.values(), chain.from_iterable(self._deferred.values()))
        due = [(due_ms_of(setpoint), setpoint) for setpoint in setpoints]
        self._due = [(due_ms, next(self._number), one) for due_ms, one in due if due_ms is not None]
        heapq.heapify(self._due)


def due_ms_of(setpoint: AssetSetpoint) -> int | None:
    """When something is due in its present state: its expiry, a missing acknowledgement or its end.

    A stop does not expire: it is due to be sent again.
    """
    if setpoint.state == "deferred":
        return setpoint.ends_ms
    if setpoint.state == "queued":
        until_ms = setpoint.queue_until_ms
        return until_ms if setpoint.ends_ms is None else min(until_ms, setpoint.ends_ms)
    if setpoint.state == "sent":
        sent_ms = setpoint.sent_ms if setpoint.sent_ms is not None else setpoint.dispatch.dispatched_ms
        return sent_ms + ACK_TIMEOUT_MS
    if setpoint.state in IN_FORCE and setpoint.ends_ms is not None:
        return setpoint.ends_ms + END_GRACE_MS
    return None
