"""Whether a battery does what it was asked: its samples against its target, from one dispatch to the next.

Synchronous and pure but for its own state; what follows from a finding is in `follower` and `resplit`.
"""

from dataclasses import dataclass
from enum import Enum
from math import inf

from trioder.domain.assets import Asset
from trioder.domain.telemetry import IDLE_BAND_MW

# Of the power that the asset can swing from its middle, and at least what counts as no power at all.
TRACKING_SHARE = 0.02
# Between the arrival by the nameplate's ramp and the first judgement: a sample's power is the mean over a
# pulse, mostly of 4 s, and the order takes a moment to get there.
ARRIVAL_SLACK_MS = 5_000
# A battery that was on target is given so long to be there again.
DEVIATES_AFTER_MS = 10_000


class Finding(Enum):
    """What a sample says."""

    NOTHING = "nothing that is not known already"
    ON_TARGET = "the power is what was asked"
    OFF_TARGET = "the power should be what was asked, and is not"
    LIMITED = "the power falls short because the battery reports that it can do no more"


@dataclass(slots=True, eq=False, kw_only=True)
class Watch:
    """One setpoint of one battery, from when it was sent until it ends. Times are of receipt, Unix ms.

    Attributes:
        setpoint_mw: what was asked, as the battery is to echo it.
        target_mw: what its power is to be.
        tolerance_mw: how near to it counts as there, MW.
        arrives_ms: when the power should be there by the nameplate's ramp; None until that is known.
        is_on_target: whether the samples of late were within tolerance.
        off_since_ms: since when they are not.
        last_ms: of the last sample.
        last_mw: its power.
        limited_mw: what the battery reports that it can do, signed as setpoints are, while that is less than
            the target and the power falls short.
        suspect_since_ms: since when its samples are not good ones.
        samples: how many are in the mean.
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
    _counts: bool = False
    _was_on_target: bool = False

    def aim(self, target_mw: float) -> None:
        """The agent holds another power than was asked."""
        self.target_mw = target_mw
        if self.is_on_target:
            self._narrow()

    def begin(self, asset: Asset, now_ms: int, from_mw: float | None, *, moving_for_s: float = 0.0) -> None:
        """The setpoint is in force as of `now_ms`: its power is expected after the ramp.

        Args:
            asset: whose ramp it is.
            now_ms: now.
            from_mw: the power that it starts from; None when that is not known, and may be the farthest.
            moving_for_s: for how long the battery may have moved away from `from_mw` since that was measured.
        """
        distance_mw = asset.max_mw - asset.min_mw if from_mw is None else abs(self.target_mw - from_mw)
        ramp_s = distance_mw / asset.ramp_rate_mw_per_min * 60.0
        self.arrives_ms = now_ms + round((ramp_s + moving_for_s) * 1000)

    @property
    def mean_mw(self) -> float | None:
        """The mean of the samples since it arrived or should have; before that, of all. None without any."""
        return self._sum_mw / self.samples if self.samples else None

    def add_steady(self, mw: float, now_ms: int) -> None:
        """Take a sample within `low_mw`..`high_mw`, which says nothing new."""
        self._sum_mw += mw
        self.samples += 1
        self.last_ms, self.last_mw, self.suspect_since_ms = now_ms, mw, None

    def add(self, mw: float, *, available_mw: float, now_ms: int, echoes: bool) -> Finding:
        """Take a good sample of a setpoint that is in force, and say what it means.

        Args:
            mw: the power.
            available_mw: what the battery reports that it can do in the target's direction; a magnitude.
            now_ms: when it was received.
            echoes: whether the sample names the setpoint as its own.
        """
        off_mw = abs(mw - self.target_mw)
        inside = off_mw <= self.tolerance_mw
        has_arrived = self.arrives_ms is not None and now_ms >= self.arrives_ms
        before_ms = self.last_ms
        if not self._counts and (has_arrived or (inside and echoes)):
            # What it did on its way is not what it did.
            self._counts, self._sum_mw, self.samples = True, 0.0, 0
        self.add_steady(mw, now_ms)
        if inside:
            return self._inside(echoes=echoes, now_ms=now_ms)
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

    def _inside(self, *, echoes: bool, now_ms: int) -> Finding:
        self.limited_mw = None
        was_off, self.off_since_ms = self.off_since_ms is not None, None
        if not (echoes or self._is_late(now_ms)):
            # The power that it had before may be the same by chance.
            return Finding.NOTHING
        if self._was_on_target and was_off and not self.is_on_target:
            # One sample within tolerance may be a crossing; the next one confirms it.
            return Finding.NOTHING
        self._was_on_target = True
        self._narrow()
        return Finding.ON_TARGET

    def _is_late(self, now_ms: int) -> bool:
        return self.arrives_ms is not None and now_ms >= self.arrives_ms + ARRIVAL_SLACK_MS

    def _limited(self, mw: float, available_mw: float) -> float | None:
        size_mw = abs(self.target_mw)
        if available_mw >= size_mw - self.tolerance_mw:
            return None
        sign = -1.0 if self.target_mw < 0.0 else 1.0
        # It does what it says that it can; one that does less, or the opposite, is not excused.
        does_it = sign * mw >= min(available_mw, size_mw) - self.tolerance_mw
        return sign * available_mw + 0.0 if does_it and sign * mw <= size_mw else None

    def _narrow(self) -> None:
        self.is_on_target = True
        self.low_mw, self.high_mw = self.target_mw - self.tolerance_mw, self.target_mw + self.tolerance_mw


def tolerance_mw(asset: Asset) -> float:
    """How near to its setpoint an asset's power must be to track it, MW."""
    return max(IDLE_BAND_MW, TRACKING_SHARE * (asset.max_mw - asset.min_mw) / 2)
