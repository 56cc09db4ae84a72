"""Deferred setpoints take over their assets when the dispatches with higher priorities have ended.

Which setpoint is deferred is decided in `registry`.
"""

import structlog

from trioder.control.delivery import Delivery
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.registry import DispatchRegistry
from trioder.control.site_power import SitePower, SiteSums
from trioder.process.wall_time import WallClock

log = structlog.stdlib.get_logger(__name__)

OVER_WHILE_DEFERRED = "its time was over while it was deferred"


class Priorities:
    """Sends deferred setpoints once their assets are vacated."""

    def __init__(
        self, *, registry: DispatchRegistry, delivery: Delivery, site_power: SitePower, wall: WallClock
    ) -> None:
        self._registry = registry
        self._delivery = delivery
        self._site_power = site_power
        self._wall = wall

    def take_over(self) -> None:
        """Let the vacated assets be taken over; to be called after whatever ends setpoints."""
        vacated = self._registry.vacated
        wire_ids: dict[Dispatch, str] = {}
        sums: SiteSums = {}
        while vacated:
            key = vacated.pop()
            current = self._registry.active.current_open(key)
            for setpoint in self._registry.active.deferred(key):
                # The record of before a kill may have one in force that a stop had displaced.
                if current is not None and current.dispatch.rank >= setpoint.dispatch.rank:
                    break
                if self._expire(setpoint):
                    continue
                self._resume(setpoint, wire_ids, sums)
                break
        for dispatch in wire_ids:
            log.info(
                "deferred dispatch takes over",
                dispatch_id=dispatch.dispatch_id,
                priority=dispatch.priority,
                deferred=dispatch.count_by_state["deferred"],
            )

    def _expire(self, setpoint: AssetSetpoint) -> bool:
        if setpoint.ends_ms is None or self._wall.now_ms() < setpoint.ends_ms:
            return False
        end_deferred(self._registry, setpoint)
        return True

    def _resume(self, setpoint: AssetSetpoint, wire_ids: dict[Dispatch, str], sums: SiteSums) -> None:
        dispatch = setpoint.dispatch
        if dispatch not in wire_ids:
            # An agent that has had the setpoint before does not apply one with the same id again.
            wire_ids[dispatch] = self._delivery.new_wire_id(dispatch)
        self._registry.active.withdraw(setpoint)
        self._site_power.fit(setpoint, sums)
        setpoint.requeue(
            wire_id=wire_ids[dispatch],
            queue_until_ms=self._wall.now_ms() + round(dispatch.expires_in_s * 1000),
        )
        self._registry.mark_changed(dispatch, keys=(setpoint.key,), state="queued")
        if self._registry.make_current(setpoint, is_next=True):
            self._delivery.send(setpoint)


def end_deferred(registry: DispatchRegistry, setpoint: AssetSetpoint) -> None:
    """End a deferred setpoint whose time is over: it has been tracking before, or it expires."""
    if setpoint.tracking_ms is None:
        registry.transition(setpoint, "expired", reason=OVER_WHILE_DEFERRED)
    else:
        registry.end(setpoint, OVER_WHILE_DEFERRED)
