"""Reloads the fleet file while the headend runs: all of it is applied at once, or nothing is.

What a part of the headend does about a change is its own: it handles `FleetChanged`.
"""

from collections.abc import Callable

import structlog
import trio

from trioder.domain.fleet import Fleet, FleetChange
from trioder.events.bus import EventBus
from trioder.events.counters import Counters
from trioder.events.facts import FleetChanged
from trioder.fleet.faults import FleetFileError

log = structlog.stdlib.get_logger(__name__)

_MAX_ERRORS_LOGGED = 10


class FleetReloader:
    """Reloads the fleet, one reload at a time.

    Args:
        fleet: the headend's; changed in place.
        read: reads the file; runs in a thread, since a large one takes seconds.
        events: where the change is published, before the next checkpoint.
        counters: of the headend.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        read: Callable[[], Fleet],
        events: EventBus,
        counters: Counters,
    ) -> None:
        self._fleet = fleet
        self._read = read
        self._events = events
        self._counters = counters
        self._lock = trio.Lock()

    async def reload(self) -> FleetChange:
        """Read the file and apply it.

        Raises:
            FleetFileError: it has errors; nothing has changed.
        """
        async with self._lock:
            try:
                newer = await trio.to_thread.run_sync(self._read, abandon_on_cancel=True)
            except FleetFileError as error:
                self._counters.fleet_reloads_refused += 1
                log.warning(
                    "fleet file not reloaded: it has errors, and nothing has changed",
                    errors=len(error.faults),
                    first=[str(fault) for fault in error.faults[:_MAX_ERRORS_LOGGED]],
                )
                raise
            change = self._fleet.reload(newer)
            self._events.publish(FleetChanged(change))
            self._counters.fleet_reloads += 1
            log.info(
                "fleet file reloaded",
                assets=len(self._fleet.keys),
                added=len(change.added),
                changed=len(change.changed),
                retired=len(change.retired),
            )
            return change
