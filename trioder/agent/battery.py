"""One battery of the agent: its state in time, its setpoint, when that ends and in what. Synchronous.

The task that drives it is in `trioder.agent.asset`, the checks of a setpoint in `trioder.agent.validation`.
"""

import math
from collections.abc import Callable
from uuid import UUID, uuid5

from trioder.agent.memory import SavedBattery
from trioder.agent.validation import judge
from trioder.agent.wakeup import Wakeup
from trioder.domain.assets import Asset
from trioder.domain.dispatch import Setpoint
from trioder.domain.quality import Quality
from trioder.domain.telemetry import BessState
from trioder.process.wall_time import WallClock
from trioder.sim.bess import initial_state, tick_asset, with_setpoint
from trioder.wire.records import Acknowledgement, AgentEvent

Tick = Callable[[Asset, BessState, float], BessState]
AgentMessage = Acknowledgement | AgentEvent

COMMS_LOSS_REVERSION = "comms_loss_reversion"


class Battery:
    """A battery, its state at the instant `at_s`, and the dispatch that waits for its task.

    A tick that raises leaves the last good state as it was; the next one covers the time since.

    Attributes:
        position: of its row in the agent's batches.
        quality: what the device says of its own values; set by whoever drives it, sent with each row.
        wakeup: wakes its task.
        frame_number: of the last frame that it gave a row to, or was left out of.
        resting: its task has crashed and waits before it goes on.
        crashes: how often it did.
        called: its task is to `obey`, for there is more than a pulse.
        lease_end_s: when the setpoint ends, on Trio's clock; infinity when it holds. The earlier of two: the
            end of its duration, which counts steady time, and an instant of the wall time.
        reversion_mw: the setpoint that follows then, or when the headend is away for too long.
        dispatch_id: of the dispatch whose setpoint is in force; empty once it has ended, or without an id.
    """

    __slots__ = (
        "_at_s",
        "_away_s",
        "_began_s",
        "_duration_end_s",
        "_ended",
        "_tick",
        "_until_unix_s",
        "_untold",
        "_waiting",
        "_wall",
        "asset",
        "called",
        "crashes",
        "dispatch_id",
        "frame_number",
        "lease_end_s",
        "position",
        "quality",
        "resting",
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
        self.resting = False
        self.crashes = 0
        self.called = False
        self.lease_end_s = math.inf
        self.reversion_mw = 0.0
        self.dispatch_id = ""
        # The two ends of the setpoint; infinity without one.
        self._duration_end_s = math.inf
        self._until_unix_s = math.inf
        self._at_s = now_s
        self._tick = tick
        self._wall = wall
        self._waiting: Setpoint | None = None
        # When the setpoint began; None when that was before this boot.
        self._began_s: float | None = None
        # The setpoint is to end because there was no headend for so long; 0 when it ends by itself.
        self._away_s = 0.0
        # The last word on the dispatch that ended last, should it be given again.
        self._ended: Acknowledgement | None = None
        # A tuple, for almost always it is empty, and then all batteries share it.
        self._untold: tuple[AgentMessage, ...] = ()

    def resume(self, saved: SavedBattery, *, now_s: float) -> None:
        """Go on, at `now_s`, from what was saved; the time since has not passed for the cells.

        A setpoint that has ended meanwhile has reverted, which is told. It ends at the earlier of two
        readings: the wall time of its end, and what remained of it at the save, counted from `now_s`; so no
        clock that was wrong before, or is wrong now, prolongs it. What the nameplate does not allow is
        brought within it.

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
        at_rest = initial_state(self.asset)._replace(
            soc_mwhr=min(max(saved.soc_mwhr, 0.0), self.asset.capacity_mwhr),
            current_mw=saved.current_mw,
            setpoint_mw=saved.setpoint_mw,
        )
        # No time, no energy: this brings the powers within what the battery can do.
        self.state = tick_asset(self.asset, at_rest, 0.0)
        self.reversion_mw = saved.reversion_mw
        self.dispatch_id = saved.dispatch_id
        self._at_s = now_s
        self._duration_end_s = now_s + saved.lease_remaining_s
        self._until_unix_s = saved.lease_end_unix_s
        self.lease_end_s = self._lease_end()
        if self.lease_end_s <= now_s:
            self._end("its time was over while the agent was away")
            self.call()

    def advance(self, now_s: float) -> None:
        """Bring the state to `now_s`; a setpoint that ends before reverts at its own instant."""
        if self.lease_end_s <= now_s:
            self._step(self.lease_end_s)
            self._end()
        self._step(now_s)

    def clock_stepped(self, now_s: float, passed_s: float) -> bool:
        """The wall time has jumped: an end that is an instant of it is now another.

        The battery's task, which the caller wakes, ends what has ended by this.

        Args:
            now_s: on Trio's clock.
            passed_s: so much of the jump is time that has passed while the machine was suspended.

        Returns:
            Whether the setpoint's end has changed.
        """
        self._duration_end_s -= passed_s
        if self._away_s:
            # It ends now, for want of a headend.
            return False
        before_s = self.lease_end_s
        if before_s > now_s:
            # An end that turns out to be in the past could not be kept any more.
            self.lease_end_s = max(now_s, self._lease_end())
        return self.lease_end_s != before_s

    def offer(self, dispatch: Setpoint) -> Setpoint | None:
        """Let the battery's task find a dispatch; return the one that it takes the place of, if any."""
        superseded, self._waiting = self._waiting, dispatch
        self.call()
        return superseded

    def lose_headend(self, at_s: float, away_s: float) -> bool:
        """There was no headend for `away_s` at `at_s`: the setpoint ends then, whatever its lease says.

        The battery's task, which the caller wakes, does the rest. A dispatch that still waits for it, having
        come before, is not applied any more.

        Returns:
            Whether there is something for the task to do.
        """
        waiting, self._waiting = self._waiting, None
        if self.lease_end_s > at_s and self.state.setpoint_mw != self.reversion_mw:
            self.lease_end_s, self._away_s = at_s, away_s
        elif waiting is None:
            return False
        if waiting is not None:
            reason = f"no headend for {_number(away_s)} s before it was applied"
            self._tell(self.answer(waiting.dispatch_id, "reverted", at_s, reason))
        self.called = True
        return True

    def call(self) -> None:
        """Wake the battery's task to `obey`."""
        self.called = True
        self.wakeup.wake()

    def obey(self, now_s: float) -> bool:
        """Apply the dispatch that waits, at `now_s`, and end the setpoint if its time has come.

        If the battery cannot be brought to `now_s` (its tick raises), the dispatch goes on waiting.

        Returns:
            Whether a dispatch waited: then the setpoint's end may be another.
        """
        dispatch = self._waiting
        if dispatch is not None or self.lease_end_s <= now_s:
            self.advance(now_s)
        if dispatch is not None:
            self._waiting = None
            self._take(dispatch, now_s)
        self.called = False
        return dispatch is not None

    def take_tellings(self) -> tuple[AgentMessage, ...]:
        """Return what the headend is to be told, in order; each once."""
        untold, self._untold = self._untold, ()
        return untold

    def answer(
        self, dispatch_id: str, status: str, at_s: float, reason: str | None = None
    ) -> Acknowledgement:
        """Return what is told of a dispatch at `at_s`, together with what is in force."""
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

    def _take(self, dispatch: Setpoint, now_s: float) -> None:
        dispatch_id, ended = dispatch.dispatch_id, self._ended
        # Without an id every dispatch is a new one.
        if dispatch_id and ended is not None and ended.dispatch_id == dispatch_id:
            self._tell(self.answer(dispatch_id, ended.status, now_s, ended.reason))
            return
        judgement = judge(dispatch, self.asset, self._wall.unix_s(now_s))
        is_repeated = bool(dispatch_id) and dispatch_id == self.dispatch_id
        if judgement.is_obeyed and not is_repeated:
            self.state = with_setpoint(self.state, dispatch.mw)
            self.reversion_mw = dispatch.reversion_mw
            self.dispatch_id = dispatch_id
            self._duration_end_s = math.inf if dispatch.duration_s is None else now_s + dispatch.duration_s
            until_ms = dispatch.valid_until_ms
            self._until_unix_s = math.inf if until_ms is None else until_ms / 1000
            self.lease_end_s = self._lease_end()
            self._began_s = now_s
        self._tell(self.answer(dispatch_id, judgement.status, now_s, judgement.reason))
        if self.lease_end_s <= now_s:
            self._end()

    def _lease_end(self) -> float:
        return min(self._duration_end_s, self._wall.trio_s(self._until_unix_s))

    def _end(self, why: str = "its time was over") -> None:
        """Let the reversion take the place of the setpoint, whose end the state was brought to."""
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
            self._tell(self._reverted_event(message, end_s))
        if dispatch_id:
            status = "reverted" if away_s else "completed"
            self._ended = self.answer(dispatch_id, status, end_s, f"{why}; now {self.reversion_mw:g} MW")
            self._tell(self._ended)

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

    def _tell(self, telling: AgentMessage) -> None:
        self._untold += (telling,)
        self.called = True

    def _step(self, now_s: float) -> None:
        # A pulse is of an instant before the tasks run; a dispatch may have been applied in between.
        dt_secs = now_s - self._at_s
        if dt_secs > 0.0:
            self.state = self._tick(self.asset, self.state, dt_secs)
            self._at_s = now_s


def _number(seconds: float) -> str:
    # To the millisecond; finer, it would show how floats end.
    return f"{round(seconds, 3):.15g}"
