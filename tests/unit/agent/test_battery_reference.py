"""For any events in any order, the battery's setpoint equals a simple reference's."""

import math
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.agent.parts import START_UNIX_S, make_battery
from trioder.agent.persistence.state_store import SavedBattery
from trioder.domain.dispatch import Setpoint
from trioder.wire.records import Acknowledgement

HOLD_S = 30.0
POWERS = st.sampled_from([-60.0, -5.0, 0.0, 5.0, 20.0, 70.0])
DURATIONS_S = st.none() | st.integers(0, 40)


@dataclass(frozen=True)
class Delivered:
    """A dispatch, so many seconds after the event before."""

    after_s: float
    mw: float
    duration_s: int | None
    valid_for_s: float | None
    reversion_mw: float


@dataclass(frozen=True)
class Lost:
    """There was no headend for so long."""

    after_s: float


@dataclass(frozen=True)
class Pulse:
    """The state is brought to this instant."""

    after_s: float


@dataclass(frozen=True)
class Restart:
    """The agent crashes after a save, and another goes on."""

    after_s: float


# Ends are whole seconds after their dispatch; no other event falls on that very instant.
AFTER_S = st.integers(1, 30).map(lambda seconds: seconds + 0.03)
EVENTS = st.lists(
    st.builds(Delivered, AFTER_S, POWERS, DURATIONS_S, st.none() | st.integers(-5, 40).map(float), POWERS)
    | st.builds(Lost, AFTER_S)
    | st.builds(Pulse, AFTER_S)
    | st.builds(Restart, AFTER_S),
    max_size=12,
)


class Reference:
    """The setpoint of the battery, as a list of instants and what holds from each on."""

    def __init__(self) -> None:
        self.mw = self.reversion_mw = 0.0
        self.end_s = math.inf
        self.running = ""
        self.reported: list[tuple[str, str]] = []

    def reach(self, now_s: float) -> None:
        if self.end_s <= now_s:
            self.end("completed")

    def end(self, status: str) -> None:
        self.reported.append((self.running, status))
        self.mw, self.end_s, self.running = self.reversion_mw, math.inf, ""

    def deliver(self, event: Delivered, dispatch_id: str, now_s: float) -> None:
        self.reach(now_s)
        if event.valid_for_s is not None and event.valid_for_s <= 0:
            self.reported.append((dispatch_id, "expired"))
            return
        powers = event.mw, event.reversion_mw
        self.reported.append(
            (dispatch_id, "clamped" if any(not -40 <= mw <= 50 for mw in powers) else "applied")
        )
        self.mw, self.reversion_mw = powers
        ends = [after_s for after_s in (event.duration_s, event.valid_for_s) if after_s is not None]
        self.end_s = now_s + min(ends, default=math.inf)
        self.running = dispatch_id
        self.reach(now_s)

    def lose(self, now_s: float) -> None:
        self.reach(now_s)
        if self.mw != self.reversion_mw:
            self.end("reverted")


@given(EVENTS)
def test_dispatches_ends_losses_and_restarts_in_any_order(
    events: list[Delivered | Lost | Pulse | Restart],
) -> None:
    battery, reference, now_s = make_battery(), Reference(), 0.0
    reported: list[tuple[str, str]] = []
    for number, event in enumerate(events):
        now_s += event.after_s
        match event:
            case Delivered():
                reference.deliver(event, str(number), now_s)
                battery.offer(
                    Setpoint(
                        dispatch_id=str(number),
                        asset_id=battery.asset.id,
                        mw=event.mw,
                        duration_s=event.duration_s,
                        valid_until_ms=None
                        if event.valid_for_s is None
                        else round((START_UNIX_S + now_s + event.valid_for_s) * 1000),
                        reversion_mw=event.reversion_mw,
                    )
                )
            case Lost():
                reference.lose(now_s)
                battery.headend_lost(now_s, HOLD_S)
            case Pulse():
                reference.reach(now_s)
                battery.advance(now_s)
            case Restart():
                reference.reach(now_s)
                saved = SavedBattery(
                    battery.state.soc_mwhr,
                    battery.state.current_mw,
                    battery.state.setpoint_mw,
                    START_UNIX_S + battery.lease_end_s,
                    battery.reversion_mw,
                    battery.dispatch_id,
                )
                battery = make_battery()
                battery.resume(saved, now_s=now_s)
        battery.apply_pending(now_s)
        reported += [
            (answer.dispatch_id, answer.status)
            for answer in battery.take_messages()
            if isinstance(answer, Acknowledgement)
        ]
        assert (battery.state.setpoint_mw, battery.reversion_mw, battery.dispatch_id) == (
            reference.mw,
            reference.reversion_mw,
            reference.running,
        )
        assert battery.lease_end_s == reference.end_s or math.isclose(
            battery.lease_end_s, reference.end_s, abs_tol=1e-5
        )
    assert reported == reference.reported
