"""One battery of the agent: its state in time, its setpoint and when that ends. Synchronous.

The task that drives it is in `trioder.agent.asset`.
"""

import math
from collections.abc import Callable

from trioder.agent.memory import SavedBattery
from trioder.agent.wakeup import Wakeup
from trioder.sim.bess import initial_state, tick_asset, with_setpoint
from trioder.sim.model import Asset, BessState, Dispatch
from trioder.wire.records import Acknowledgement

Tick = Callable[[Asset, BessState, float], BessState]


class Battery:
    """A battery, its state at the instant `at_s`, and the dispatch that waits for its task.

    A tick that raises leaves the last good state as it was; the next one covers the time since.

    Attributes:
        position: of its row in the agent's batches.
        wakeup: wakes its task.
        frame_number: of the last frame that it gave a row to, or was left out of.
        resting: its task has crashed and waits before it goes on.
        crashes: how often it did.
        lease_end_s: when the setpoint ends, on Trio's clock; infinity when it holds.
    """

    __slots__ = (
        "_at_s",
        "_last_answer",
        "_tick",
        "_waiting",
        "asset",
        "crashes",
        "frame_number",
        "lease_end_s",
        "position",
        "resting",
        "state",
        "wakeup",
    )

    def __init__(self, asset: Asset, *, position: int, now_s: float, tick: Tick) -> None:
        self.asset = asset
        self.position = position
        self.state = initial_state(asset)
        self.wakeup = Wakeup()
        self.frame_number = 0
        self.resting = False
        self.crashes = 0
        self.lease_end_s = math.inf
        self._at_s = now_s
        self._tick = tick
        self._waiting: Dispatch | None = None
        # To the last dispatch that was taken, so that it can be given again.
        self._last_answer: Acknowledgement | None = None

    def resume(self, saved: SavedBattery, *, now_s: float, now_unix_s: float) -> None:
        """Go on, at `now_s`, from what was saved; the time since has not passed for the cells.

        A setpoint that has ended meanwhile is one of 0 MW. What the nameplate does not allow is brought
        within it.

        Raises:
            ValueError: a saved value is not a number; nothing has changed.
        """
        if not all(map(math.isfinite, saved[:3])) or math.isnan(saved.lease_end_unix_s):
            raise ValueError(f"{saved} has values that are not finite numbers")
        has_ended = saved.lease_end_unix_s <= now_unix_s
        soc_mwhr = min(max(saved.soc_mwhr, 0.0), self.asset.capacity_mwhr)
        setpoint_mw = 0.0 if has_ended else saved.setpoint_mw
        at_rest = initial_state(self.asset)._replace(
            soc_mwhr=soc_mwhr, current_mw=saved.current_mw, setpoint_mw=setpoint_mw
        )
        # No time, no energy: this brings the powers within what the battery can do.
        self.state = tick_asset(self.asset, at_rest, 0.0)
        self.lease_end_s = math.inf if has_ended else now_s + (saved.lease_end_unix_s - now_unix_s)
        self._at_s = now_s

    def advance(self, now_s: float) -> None:
        """Bring the state to `now_s`; a setpoint that ends before ends in 0 MW at its own instant."""
        if self.lease_end_s <= now_s:
            self._step(self.lease_end_s)
            self.state = with_setpoint(self.state, 0.0)
            self.lease_end_s = math.inf
        self._step(now_s)

    def offer(self, dispatch: Dispatch) -> Dispatch | None:
        """Let the battery's task find a dispatch; return the one that it takes the place of, if any."""
        superseded, self._waiting = self._waiting, dispatch
        self.wakeup.wake()
        return superseded

    @property
    def is_called(self) -> bool:
        """Whether a dispatch waits, or the setpoint has an end."""
        return self._waiting is not None or self.lease_end_s != math.inf

    def answer_waiting(self, now_s: float, ts_unix_ms: int) -> Acknowledgement | None:
        """Apply the dispatch that waits, at `now_s`, and return what became of it; None without one.

        If the battery cannot be brought to `now_s` (its tick raises), the dispatch goes on waiting.
        """
        dispatch = self._waiting
        if dispatch is None:
            return None
        self.advance(now_s)
        self._waiting = None
        last = self._last_answer
        if last is not None and last.dispatch_id == dispatch.dispatch_id:
            return last
        try:
            self.state = with_setpoint(self.state, dispatch.mw)
        except ValueError as error:
            return answer_to(dispatch, "rejected", ts_unix_ms, str(error))
        self.lease_end_s = math.inf if dispatch.duration_s is None else now_s + dispatch.duration_s
        answer = self._consent(dispatch, ts_unix_ms)
        # Without an id every dispatch is a new one.
        self._last_answer = answer if dispatch.dispatch_id else None
        return answer

    def _consent(self, dispatch: Dispatch, ts_unix_ms: int) -> Acknowledgement:
        asset = self.asset
        if asset.min_mw <= dispatch.mw <= asset.max_mw:
            return answer_to(dispatch, "applied", ts_unix_ms)
        held_mw = min(max(dispatch.mw, asset.min_mw), asset.max_mw)
        return answer_to(
            dispatch,
            "clamped",
            ts_unix_ms,
            f"{dispatch.mw:g} MW is outside of {asset.min_mw:g}..{asset.max_mw:g} MW; held at {held_mw:g} MW",
        )

    def _step(self, now_s: float) -> None:
        # A pulse is of an instant before the tasks run; a dispatch may have been applied in between.
        dt_secs = now_s - self._at_s
        if dt_secs > 0.0:
            self.state = self._tick(self.asset, self.state, dt_secs)
            self._at_s = now_s


def answer_to(dispatch: Dispatch, status: str, ts_unix_ms: int, reason: str | None = None) -> Acknowledgement:
    """Return what is told of a dispatch."""
    return Acknowledgement(
        dispatch_id=dispatch.dispatch_id,
        asset_id=dispatch.asset_id,
        status=status,
        ts_unix_ms=ts_unix_ms,
        reason=reason,
    )
