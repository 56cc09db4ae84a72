"""One battery of the agent: its state over time, its setpoint, the setpoint's end and reversion. Synchronous.

The task that drives it is in `trioder.agent.battery_pool`, the checks of a setpoint in
`trioder.agent.validation`.
"""

import math
from collections.abc import Callable
from uuid import UUID, uuid5

from trioder.agent.persistence.state_store import SavedBattery
from trioder.agent.validation import validate
from trioder.agent.wakeup import Wakeup
from trioder.domain.assets import Asset
from trioder.domain.dispatch import Setpoint
from trioder.domain.quality import Quality
from trioder.domain.telemetry import BessState
from trioder.process.wall_time import WallClock
from trioder.sim.bess import initial_state, restored_state, with_setpoint
from trioder.wire.records import Acknowledgement, AgentEvent, AgentMessage

Tick = Callable[[Asset, BessState, float], BessState]

COMMS_LOSS_REVERSION = "comms_loss_reversion"


class Battery:
    """A battery, its state at the instant `at_s`, and the setpoint that is pending for its task.

    A tick that raises leaves the last good state unchanged; the next one covers the time since.

    Attributes:
        position: of its row in the agent's batches.
        quality: the device's quality of its own values; set by its driver, sent with each row.
        wakeup: wakes its task.
        frame_number: of the last frame that it gave a row to, or was left out of.
        is_restarting: its task has crashed and waits for its restart.
        crashes: of its task.
        is_notified: its task is to call `apply_pending`; a pulse alone does not set it.
        lease_end_s: when the setpoint ends, on Trio's clock; infinity when it holds. The earlier of two: the
            end of its duration, in steady time, and of its validity, in wall time.
        reversion_mw: the setpoint that follows then, or when the headend is away for too long.
        dispatch_id: of the setpoint in force; empty once it has ended, or without an id.
    """

    __slots__ = (
        "_at_s",
        "_away_s",
        "_began_s",
        "_duration_end_s",
        "_ended",
        "_messages",
        "_pending",
        "_tick",
        "_until_unix_s",
        "_wall",
        "asset",
        "crashes",
        "dispatch_id",
        "frame_number",
        "is_notified",
        "is_restarting",
        "lease_end_s",
        "position",
        "quality",
        "reversion_mw",
        "state",
        "wakeup",
    )

    def __init__(self, asset: Asset, *, position: int, now_s: float, tick: Tick, wall: WallClock) -> None:
        self.asset = asset
        self.position = position
        self.state = initial_state(asset)
        self.quality = Quality.GOOD
        self.wakeup = Wakeup()
        self.frame_number = 0
        self.is_restarting = False
        self.crashes = 0
        self.is_notified = False
        self.lease_end_s = math.inf
        self.reversion_mw = 0.0
        self.dispatch_id = ""
        # The two ends of the setpoint; infinity without one.
        self._duration_end_s = math.inf
        self._until_unix_s = math.inf
        self._at_s = now_s
        self._tick = tick
        self._wall = wall
        self._pending: Setpoint | None = None
        # When the setpoint began; None if before this boot.
        self._began_s: float | None = None
        # How long the headend was away, if that ends the setpoint; else 0.
        self._away_s = 0.0
        # The final acknowledgement of the setpoint that ended last, in case it is sent again.
        self._ended: Acknowledgement | None = None
        # A tuple, as it is almost always the shared empty one.
        self._messages: tuple[AgentMessage, ...] = ()

    def resume(self, saved: SavedBattery, *, now_s: float) -> None:
        """Continue, at `now_s`, from a saved state; no time has passed for the cells.

        A setpoint that has ended meanwhile reverts, which is acknowledged. It ends at the earlier of two: the
        wall time of its end, and its remaining time at the save, counted from `now_s`; so no wrong clock,
        then or now, prolongs it. Values beyond the nameplate are clamped.

        Raises:
            ValueError: a saved value is not a number; nothing has changed.
        """
        numbers = saved.soc_mwhr, saved.current_mw, saved.setpoint_mw, saved.reversion_mw
        if not (
            all(map(math.isfinite, numbers))
            and saved.lease_end_unix_s >= 0.0
            and not math.isnan(saved.lease_remaining_s)
        ):
            raise ValueError(f"{saved} has values that are not finite numbers")
        self.state = restored_state(
            self.asset,
            soc_mwhr=saved.soc_mwhr,
            current_mw=saved.current_mw,
            setpoint_mw=saved.setpoint_mw,
        )
        self.reversion_mw = saved.reversion_mw
        self.dispatch_id = saved.dispatch_id
        self._at_s = now_s
        self._duration_end_s = now_s + saved.lease_remaining_s
        self._until_unix_s = saved.lease_end_unix_s
        self.lease_end_s = self._lease_end()
        if self.lease_end_s <= now_s:
            self._end("its time was over while the agent was away")
            self.notify()

    def advance(self, now_s: float) -> None:
        """Advance the state to `now_s`; a setpoint that ends before reverts at its own instant."""
        if self.lease_end_s <= now_s:
            self._step(self.lease_end_s)
            self._end()
        self._step(now_s)

    def clock_stepped(self, now_s: float, passed_s: float) -> bool:
        """Move the setpoint's end after a step of the wall time.

        The caller wakes the battery's task, which reverts a setpoint that has ended by this.

        Args:
            now_s: on Trio's clock.
            passed_s: the part of the step that is time during which the machine was suspended.

        Returns:
            Whether the setpoint's end has changed.
        """
        self._duration_end_s -= passed_s
        if self._away_s:
            # It ends now, by the loss of the headend.
            return False
        before_s = self.lease_end_s
        if before_s > now_s:
            # An end in the past could not be met any more.
            self.lease_end_s = max(now_s, self._lease_end())
        return self.lease_end_s != before_s

    def offer(self, setpoint: Setpoint) -> Setpoint | None:
        """Make a setpoint pending and notify the task; return the pending one that it replaces, if any."""
        superseded, self._pending = self._pending, setpoint
        self.notify()
        return superseded

    def headend_lost(self, at_s: float, away_s: float) -> bool:
        """End the setpoint at `at_s`, whatever its lease: there was no headend for `away_s`.

        The caller wakes the battery's task, which does the rest. A pending setpoint is dropped.

        Returns:
            Whether the task has something to do.
        """
        pending, self._pending = self._pending, None
        if self.lease_end_s > at_s and self.state.setpoint_mw != self.reversion_mw:
            self.lease_end_s, self._away_s = at_s, away_s
        elif pending is None:
            return False
        if pending is not None:
            reason = f"no headend for {_number(away_s)} s before it was applied"
            self._emit(self.acknowledge(pending.dispatch_id, "reverted", at_s, reason))
        self.is_notified = True
        return True

    def notify(self) -> None:
        """Wake the battery's task to `apply_pending`."""
        self.is_notified = True
        self.wakeup.wake()

    def apply_pending(self, now_s: float) -> bool:
        """Apply the pending setpoint at `now_s`, and end the present one if its time has come.

        If the battery cannot be advanced to `now_s` (its tick raises), the setpoint stays pending.

        Returns:
            Whether one was pending: then the setpoint's end may have changed.
        """
        setpoint = self._pending
        if setpoint is not None or self.lease_end_s <= now_s:
            self.advance(now_s)
        if setpoint is not None:
            self._pending = None
            self._apply(setpoint, now_s)
        self.is_notified = False
        return setpoint is not None

    def take_messages(self) -> tuple[AgentMessage, ...]:
        """Return the messages for the headend, in order; each once."""
        messages, self._messages = self._messages, ()
        return messages

    def acknowledge(
        self, dispatch_id: str, status: str, at_s: float, reason: str | None = None
    ) -> Acknowledgement:
        """Return an acknowledgement as of `at_s`, with the setpoint in force."""
        return Acknowledgement(
            dispatch_id=dispatch_id,
            asset_id=self.asset.id,
            status=status,
            ts_unix_ms=self._wall.unix_ms(at_s),
            reason=reason,
            setpoint_mw=self.state.setpoint_mw,
            remaining_s=None if self.lease_end_s == math.inf else max(0.0, self.lease_end_s - at_s),
            reversion_mw=self.reversion_mw,
        )

    def _apply(self, setpoint: Setpoint, now_s: float) -> None:
        dispatch_id, ended = setpoint.dispatch_id, self._ended
        # Without an id every setpoint is a new one.
        if dispatch_id and ended is not None and ended.dispatch_id == dispatch_id:
            self._emit(self.acknowledge(dispatch_id, ended.status, now_s, ended.reason))
            return
        validation = validate(setpoint, self.asset, self._wall.unix_s(now_s))
        is_repeated = bool(dispatch_id) and dispatch_id == self.dispatch_id
        if validation.is_accepted and not is_repeated:
            self.state = with_setpoint(self.state, setpoint.mw)
            self.reversion_mw = setpoint.reversion_mw
            self.dispatch_id = dispatch_id
            self._duration_end_s = math.inf if setpoint.duration_s is None else now_s + setpoint.duration_s
            until_ms = setpoint.valid_until_ms
            self._until_unix_s = math.inf if until_ms is None else until_ms / 1000
            self.lease_end_s = self._lease_end()
            self._began_s = now_s
        self._emit(self.acknowledge(dispatch_id, validation.status, now_s, validation.reason))
        if self.lease_end_s <= now_s:
            self._end()

    def _lease_end(self) -> float:
        return min(self._duration_end_s, self._wall.trio_s(self._until_unix_s))

    def _end(self, why: str = "its time was over") -> None:
        """Replace the setpoint by its reversion; the state is advanced to its end."""
        end_s, away_s, dispatch_id = self.lease_end_s, self._away_s, self.dispatch_id
        ended_mw = self.state.setpoint_mw
        if self._began_s is not None:
            why = f"{_number(end_s - self._began_s)} s were over"
        self.state = with_setpoint(self.state, self.reversion_mw)
        self.lease_end_s, self._away_s, self._began_s = math.inf, 0.0, None
        self._duration_end_s = self._until_unix_s = math.inf
        self.dispatch_id = ""
        if away_s:
            why = f"no headend for {_number(away_s)} s"
            message = f"{why}; {ended_mw:g} MW went to {self.reversion_mw:g} MW"
            self._emit(self._reverted_event(message, end_s))
        if dispatch_id:
            status = "reverted" if away_s else "completed"
            self._ended = self.acknowledge(dispatch_id, status, end_s, f"{why}; now {self.reversion_mw:g} MW")
            self._emit(self._ended)

    def _reverted_event(self, message: str, at_s: float) -> AgentEvent:
        ts_unix_ms = self._wall.unix_ms(at_s)
        return AgentEvent(
            # A battery reverts at most once at one instant.
            event_id=str(uuid5(UUID(self.asset.id), f"{COMMS_LOSS_REVERSION} {ts_unix_ms}")),
            asset_id=self.asset.id,
            site_id=self.asset.site_id,
            ts_unix_ms=ts_unix_ms,
            event_type=COMMS_LOSS_REVERSION,
            severity="warning",
            message=message,
        )

    def _emit(self, message: AgentMessage) -> None:
        self._messages += (message,)
        self.is_notified = True

    def _step(self, now_s: float) -> None:
        # A pulse's instant is before its tasks run; a setpoint may have been applied in between.
        dt_secs = now_s - self._at_s
        if dt_secs > 0.0:
            self.state = self._tick(self.asset, self.state, dt_secs)
            self._at_s = now_s


def _number(seconds: float) -> str:
    # To the millisecond, without a float's rounding digits.
    return f"{round(seconds, 3):.15g}"
