"""Compares a battery's power with its setpoint: whether it tracks it, deviates from it or is limited.

Synchronous and pure but for its own state; the headend acts on its findings.
"""

from dataclasses import dataclass
from enum import Enum
from math import inf

from trioder.domain.assets import Asset
from trioder.domain.telemetry import IDLE_BAND_MW

# The tolerance as a part of half the asset's range; it is at least the idle band.
TRACKING_SHARE = 0.02
# Between the end of the ramp by the nameplate and the first comparison: a sample's power is the mean over a
# tick, mostly of 4 s, and the setpoint takes a moment to reach the battery.
ARRIVAL_SLACK_MS = 5_000
# A battery that was on target deviates when it is off for longer.
DEVIATES_AFTER_MS = 10_000
NO_SAMPLE = "no sample came while it was in force"


class Finding(Enum):
    """What a sample shows."""

    NOTHING = "nothing new"
    ON_TARGET = "the power is within tolerance"
    OFF_TARGET = "the power should be within tolerance, and is not"
    LIMITED = "the power falls short because the battery reports that it can do no more"


@dataclass(slots=True, eq=False, kw_only=True)
class PowerTracker:
    """Follows one setpoint of one battery from when it is sent. Times are of receipt, Unix time in ms.

    Attributes:
        setpoint_mw: the setpoint that the battery's samples name when they are its answer to it.
        target_mw: the power that it is to reach.
        tolerance_mw: how far from it counts as on target, MW.
        arrives_ms: when the power should be there by the nameplate's ramp; None until that is known.
        is_on_target: whether the latest samples were within tolerance.
        off_since_ms: since when they are not.
        last_ms: of the last sample.
        last_mw: its power.
        limited_mw: the power that the battery reports as available, signed as setpoints are, while that is
            less than the target and the power falls short.
        suspect_since_ms: since when its samples are not good.
        samples: how many are in the mean.
        low_mw: the power that is known to be within tolerance is at least this, ...
        high_mw: ... and at most this, while `is_on_target`.
    """

    setpoint_mw: float
    target_mw: float
    tolerance_mw: float
    arrives_ms: int | None = None
    is_on_target: bool = False
    off_since_ms: int | None = None
    last_ms: int = 0
    last_mw: float | None = None
    limited_mw: float | None = None
    suspect_since_ms: int | None = None
    samples: int = 0
    low_mw: float = -inf
    high_mw: float = inf
    _sum_mw: float = 0.0
    _is_counting: bool = False
    _was_on_target: bool = False

    @property
    def mean_mw(self) -> float | None:
        """The mean of the samples since it arrived or should have; before that, of all. None without any."""
        return self._sum_mw / self.samples if self.samples else None

    @property
    def delivered_mw(self) -> float | None:
        """What it delivers of the target, as a magnitude; None for nothing, too much or the opposite."""
        if self.last_mw is None:
            return None
        delivered_mw = -self.last_mw if self.target_mw < 0.0 else self.last_mw
        return delivered_mw if self.tolerance_mw < delivered_mw < abs(self.target_mw) else None

    def set_target(self, target_mw: float) -> None:
        """The agent clamped the setpoint to another power."""
        self.target_mw = target_mw
        if self.is_on_target:
            self._mark_on_target()

    def expect_arrival(
        self, asset: Asset, now_ms: int, from_mw: float | None, *, moving_for_s: float = 0.0
    ) -> None:
        """The setpoint is in force as of `now_ms`: its power is expected after the ramp.

        Args:
            asset: whose ramp it is.
            now_ms: now.
            from_mw: the power that it starts from; None when unknown, and then the farthest is assumed.
            moving_for_s: for how long the battery may have moved away from `from_mw` since it was measured.
        """
        distance_mw = asset.max_mw - asset.min_mw if from_mw is None else abs(self.target_mw - from_mw)
        ramp_s = distance_mw / asset.ramp_rate_mw_per_min * 60.0
        self.arrives_ms = now_ms + round((ramp_s + moving_for_s) * 1000)

    def untracked_reason(self, ends_ms: int | None) -> str:
        """Why a setpoint that ended at `ends_ms` was never tracked."""
        mean_mw = self.mean_mw
        if mean_mw is None:
            return NO_SAMPLE
        if ends_ms is not None and self.arrives_ms is not None and ends_ms < self.arrives_ms:
            return f"it ended before its ramp could, with {mean_mw:g} MW on average"
        return (
            f"its power was never within {self.tolerance_mw:g} MW of {self.target_mw:g} MW, "
            f"and {mean_mw:g} MW on average"
        )

    def add_suspect(self, now_ms: int) -> None:
        """Note a sample whose value is not good."""
        if self.suspect_since_ms is None:
            self.suspect_since_ms = now_ms

    def add_on_target(self, mw: float, now_ms: int) -> None:
        """Add a sample within `low_mw`..`high_mw`, which shows nothing new."""
        self._sum_mw += mw
        self.samples += 1
        self.last_ms, self.last_mw, self.suspect_since_ms = now_ms, mw, None

    def add(self, mw: float, *, available_mw: float, now_ms: int, echoes: bool) -> Finding:
        """Add a good sample of a setpoint that is in force, and return what it shows.

        Args:
            mw: the power.
            available_mw: what the battery reports as available in the target's direction; a magnitude.
            now_ms: when it was received.
            echoes: whether the sample names the setpoint as its own.
        """
        off_mw = abs(mw - self.target_mw)
        inside = off_mw <= self.tolerance_mw
        has_arrived = self.arrives_ms is not None and now_ms >= self.arrives_ms
        before_ms = self.last_ms
        if not self._is_counting and (has_arrived or (inside and echoes)):
            # The mean has no samples of the ramp in it.
            self._is_counting, self._sum_mw, self.samples = True, 0.0, 0
        self.add_on_target(mw, now_ms)
        if inside:
            return self._add_inside(echoes=echoes, now_ms=now_ms)
        self.is_on_target = False
        self.limited_mw = self._limited(mw, available_mw)
        if self.limited_mw is not None:
            self.off_since_ms = None
            return Finding.LIMITED
        if self.off_since_ms is None:
            self.off_since_ms = now_ms
        if self.arrives_ms is None or now_ms < self.arrives_ms + ARRIVAL_SLACK_MS:
            return Finding.NOTHING
        if self._was_on_target:
            return Finding.OFF_TARGET if now_ms - self.off_since_ms > DEVIATES_AFTER_MS else Finding.NOTHING
        # The sample before was after the arrival too: the mean over this one's pulse has no ramp in it.
        return Finding.OFF_TARGET if before_ms >= self.arrives_ms else Finding.NOTHING

    def _add_inside(self, *, echoes: bool, now_ms: int) -> Finding:
        self.limited_mw = None
        was_off, self.off_since_ms = self.off_since_ms is not None, None
        if not (echoes or self._is_late(now_ms)):
            # The power before the setpoint may be the same by chance.
            return Finding.NOTHING
        if self._was_on_target and was_off and not self.is_on_target:
            # One sample within tolerance may be a crossing; the next one confirms it.
            return Finding.NOTHING
        self._was_on_target = True
        self._mark_on_target()
        return Finding.ON_TARGET

    def _is_late(self, now_ms: int) -> bool:
        return self.arrives_ms is not None and now_ms >= self.arrives_ms + ARRIVAL_SLACK_MS

    def _limited(self, mw: float, available_mw: float) -> float | None:
        size_mw = abs(self.target_mw)
        if available_mw >= size_mw - self.tolerance_mw:
            return None
        sign = -1.0 if self.target_mw < 0.0 else 1.0
        # It delivers what it reports as available; one that delivers less, or the opposite, deviates.
        is_delivered = sign * mw >= min(available_mw, size_mw) - self.tolerance_mw
        return sign * available_mw + 0.0 if is_delivered and sign * mw <= size_mw else None

    def _mark_on_target(self) -> None:
        self.is_on_target = True
        self.low_mw, self.high_mw = self.target_mw - self.tolerance_mw, self.target_mw + self.tolerance_mw


def tolerance_mw(asset: Asset) -> float:
    """How far from its setpoint an asset's power may be to track it, MW."""
    return max(IDLE_BAND_MW, TRACKING_SHARE * (asset.max_mw - asset.min_mw) / 2)
