"""Starts dispatches that were built: each setpoint claims its asset and is sent, and all is recorded."""

import structlog

from trioder.control.delivery import Assignment, Delivery
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.priorities import Priorities
from trioder.control.registry import DispatchRegistry
from trioder.control.site_power import SitePower
from trioder.domain.dispatch import DispatchRecord
from trioder.domain.fleet import Fleet
from trioder.events.counters import Counters
from trioder.gateway.sessions import SessionRegistry
from trioder.process.slices import Steps, parts_of

log = structlog.stdlib.get_logger(__name__)

# The cost of activating and assigning a setpoint, and of queueing it for its session.
_START_US = 8.0
_PUT_US = 0.5


class Starter:
    """Starts dispatches."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        sessions: SessionRegistry,
        registry: DispatchRegistry,
        delivery: Delivery,
        priorities: Priorities,
        site_power: SitePower,
        counters: Counters,
    ) -> None:
        self._fleet = fleet
        self._asset_ids = fleet.asset_ids
        self._sessions = sessions
        self._registry = registry
        self._delivery = delivery
        self._priorities = priorities
        self._site_power = site_power
        self._counters = counters

    def start_steps(self, dispatch: Dispatch) -> Steps[DispatchRecord]:
        """Start a built dispatch, in steps; returns its record."""
        self._registry.start(dispatch)
        try:
            record = yield from self._send_steps(dispatch)
        finally:
            # Even if it failed: while a dispatch is starting, no group is reallocated.
            dispatch.is_starting = False
            self._priorities.take_over()
        # Now, not with the next `maintain`: what was answered must be on record.
        yield from self._registry.record_steps(dispatch)
        return record

    def _send_steps(self, dispatch: Dispatch) -> Steps[DispatchRecord]:
        assignments: list[Assignment] = []
        for part in parts_of(tuple(dispatch.setpoints.values())):
            for setpoint in part:
                if self._registry.activate(setpoint):
                    assignment = self._delivery.assign(setpoint)
                    if assignment is None:
                        self._registry.active.schedule(setpoint)
                    else:
                        assignments.append(assignment)
            yield _START_US * len(part)
        # What was dispatched since a group was allocated may have taken the room at its sites.
        self._site_power.enforce()
        dispatch.set_if_answered()
        self._log_started(dispatch)
        record = yield from dispatch.record_steps(self._asset_ids)
        # Last, as they make work for others: agents acknowledge the setpoints, and the store writes them.
        for assigned in parts_of(assignments):
            for assignment in assigned:
                self._delivery.put(assignment)
            yield _PUT_US * len(assigned)
        return record

    def _log_started(self, dispatch: Dispatch) -> None:
        if dispatch.is_group:
            self._counters.dispatches_group += 1
            log.info(
                "group dispatch",
                dispatch_id=dispatch.dispatch_id,
                target=dispatch.target.kind,
                site_id=dispatch.target.id or None,
                mw=dispatch.mw,
                allocated_mw=dispatch.allocated_mw,
                shortfall_mw=dispatch.shortfall_mw,
                duration_s=dispatch.duration_s,
                strategy=dispatch.strategy,
                assets=len(dispatch.setpoints),
                left_out=len(dispatch.excluded),
            )
        else:
            [setpoint] = dispatch.setpoints.values()
            self._log_single(dispatch, setpoint)

    def _log_single(self, dispatch: Dispatch, setpoint: AssetSetpoint) -> None:
        asset = self._fleet.assets[setpoint.key]
        session = self._sessions.session_of(setpoint.key)
        self._counters.dispatches_queued += setpoint.state == "queued"
        log.info(
            "dispatch",
            dispatch_id=dispatch.dispatch_id,
            asset_id=asset.id,
            asset=asset.name,
            site=asset.site_name,
            mw=dispatch.mw,
            min_mw=asset.min_mw,
            max_mw=asset.max_mw,
            duration_s=dispatch.duration_s,
            connected=session is not None,
            agent_id=None if session is None else session.agent_id,
        )
