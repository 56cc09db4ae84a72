"""What a battery does while a device action of a scenario lasts: its physics, its report, its refusals.

Each fault wraps the physics or the report that lie below it, so that several at once compose. Synchronous;
the time is passed in.
"""

import math
from collections.abc import Callable, Mapping

from trioder.domain.assets import Asset
from trioder.domain.quality import Quality
from trioder.domain.scenario import DeviceActionName
from trioder.domain.telemetry import BessState

Tick = Callable[[Asset, BessState, float], BessState]
Row = tuple[BessState, Quality]


class Fault:
    """A fault of one battery; as such it changes nothing.

    Attributes:
        changes_physics: `tick` is to be called.
        changes_report: `report` is to be called.
        refusal: why setpoints are rejected; None when they are not.
    """

    changes_physics = False
    changes_report = False
    refusal: str | None = None

    def tick(self, below: Tick, asset: Asset, state: BessState, dt_secs: float) -> BessState:
        """Return the state after a step of `dt_secs`.

        Args:
            below: the physics without this fault.
            asset: the battery.
            state: before the step.
            dt_secs: the step.
        """
        return below(asset, state, dt_secs)

    def report(self, asset: Asset, row: Row) -> Row:  # noqa: ARG002 - the base changes nothing
        """Return what the battery reports instead of `row`."""
        return row


class Trip(Fault):
    """The inverter is off: no power, no setpoint, nothing available. It stays at 0 MW when it is back."""

    changes_physics = True
    refusal = "the inverter has tripped"

    def tick(self, below: Tick, asset: Asset, state: BessState, dt_secs: float) -> BessState:
        """Open the breaker at once, whatever the ramp."""
        off = below(asset, state._replace(current_mw=0.0, setpoint_mw=0.0), dt_secs)
        return off._replace(available_discharge_mw=0.0, available_charge_mw=0.0)


class Derate(Fault):
    """The limits are a part of the nameplate's; a setpoint beyond them is kept, and obeyed as far as they go.

    Args:
        factor: returns the part of the nameplate, 0..1, at present.
    """

    changes_physics = True

    def __init__(self, factor: Callable[[], float]) -> None:
        self._factor = factor

    def tick(self, below: Tick, asset: Asset, state: BessState, dt_secs: float) -> BessState:
        """Hold the power within the derated limits; the battery's ramp applies."""
        factor = self._factor()
        high_mw, low_mw = asset.max_mw * factor, asset.min_mw * factor
        held_mw = min(max(state.setpoint_mw, low_mw), high_mw)
        after = below(asset, state._replace(setpoint_mw=held_mw), dt_secs)
        return after._replace(
            # A trip below has taken it to 0 MW.
            setpoint_mw=state.setpoint_mw if after.setpoint_mw == held_mw else after.setpoint_mw,
            available_discharge_mw=min(after.available_discharge_mw, high_mw),
            available_charge_mw=min(after.available_charge_mw, -low_mw),
        )


class Reject(Fault):
    """Setpoints are rejected; the one in force stays."""

    refusal = "the battery is in local control"


class Ignore(Fault):
    """Setpoints are accepted and reported as in force, and the one before the fault goes on being obeyed."""

    changes_physics = True

    def __init__(self) -> None:
        self._obeyed_mw: float | None = None

    def tick(self, below: Tick, asset: Asset, state: BessState, dt_secs: float) -> BessState:
        """Obey the setpoint of the first step."""
        if self._obeyed_mw is None:
            self._obeyed_mw = state.setpoint_mw
        after = below(asset, state._replace(setpoint_mw=self._obeyed_mw), dt_secs)
        if after.setpoint_mw != self._obeyed_mw:
            # A trip below has taken it to 0 MW, where it stays.
            self._obeyed_mw = after.setpoint_mw
            return after
        return after._replace(setpoint_mw=state.setpoint_mw)


class Freeze(Fault):
    """The first row is reported again and again, with new timestamps; the battery itself goes on."""

    changes_report = True

    def __init__(self) -> None:
        self._first: Row | None = None

    def report(self, asset: Asset, row: Row) -> Row:  # noqa: ARG002 - of one battery
        """Return the first row."""
        if self._first is None:
            self._first = row
        return self._first


class ReportNaN(Fault):
    """The measurements are NaN: the power and the stored energy."""

    changes_report = True

    def report(self, asset: Asset, row: Row) -> Row:  # noqa: ARG002 - of any battery
        """Replace the measurements."""
        state, quality = row
        return state._replace(current_mw=math.nan, soc_mwhr=math.nan), quality


class WrongSign(Fault):
    """The power has the opposite sign, as with a current transformer that is the wrong way round."""

    changes_report = True

    def report(self, asset: Asset, row: Row) -> Row:  # noqa: ARG002 - of any battery
        """Negate the power."""
        state, quality = row
        return state._replace(current_mw=0.0 - state.current_mw), quality


class BeyondNameplate(Fault):
    """The power is reported as `factor` times the nameplate's limit, and so are the available powers.

    Args:
        factor: above 1.
    """

    changes_report = True

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def report(self, asset: Asset, row: Row) -> Row:
        """Report a power in the direction of the real one; at rest, of discharge."""
        state, quality = row
        limit_mw = asset.min_mw if state.current_mw < 0.0 else asset.max_mw
        report = state._replace(
            current_mw=self._factor * limit_mw,
            available_discharge_mw=self._factor * asset.max_mw,
            available_charge_mw=self._factor * -asset.min_mw,
        )
        return report, quality


class FlagBad(Fault):
    """The device flags its own values as bad, which are right."""

    changes_report = True

    def report(self, asset: Asset, row: Row) -> Row:  # noqa: ARG002 - of any battery
        """Flag the row."""
        return row[0], Quality.BAD


def ramp_factor(
    factor: float, *, since_s: float, left_s: float, over_s: float = 0.0, back_s: float = 0.0
) -> float:
    """Return a derate's part of the nameplate: from 1 down to `factor`, and after the end back to 1.

    Args:
        factor: the lowest part.
        since_s: the time since the beginning.
        left_s: the time to the end; negative after it, infinity without one.
        over_s: the time of the way down; 0 is at once.
        back_s: the time of the way back.
    """
    depth = min(since_s / over_s, 1.0) if over_s else 1.0
    if left_s < 0.0:
        depth *= max(0.0, 1.0 + left_s / back_s) if back_s else 0.0
    return 1.0 - depth * (1.0 - factor)


def make_fault(
    name: DeviceActionName, parameters: Mapping[str, float], *, factor: Callable[[], float]
) -> Fault:
    """Return the fault of a device action for one battery.

    Args:
        name: of the action.
        parameters: of the action.
        factor: of a derate, at present.
    """
    match name:
        case "derate":
            return Derate(factor)
        case "beyond_nameplate":
            return BeyondNameplate(parameters["factor"])
        case _:
            return _PLAIN[name]()


_PLAIN: Mapping[DeviceActionName, Callable[[], Fault]] = {
    "trip": Trip,
    "reject": Reject,
    "ignore": Ignore,
    "freeze": Freeze,
    "report_nan": ReportNaN,
    "wrong_sign": WrongSign,
    "flag_bad": FlagBad,
}


def compose_ticks(tick: Tick, faults: list[Fault]) -> Tick:
    """Return the physics with these faults; a later one wraps the earlier ones."""
    for fault in faults:
        if fault.changes_physics:
            tick = _wrapped(tick, fault)
    return tick


def _wrapped(below: Tick, fault: Fault) -> Tick:
    return lambda asset, state, dt_secs: fault.tick(below, asset, state, dt_secs)
