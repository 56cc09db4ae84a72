"""The quality of a sample, as SCADA knows it. The codes are those of the wire and of the `samples` table.

`stale` is not among them: it depends on a sample's age, and is decided when the sample is read.
"""

from enum import IntEnum
from typing import Literal

QualityName = Literal["good", "suspect", "bad", "synthesized", "wrong_time"]
# Of the latest sample, as readers get it.
LatestQuality = Literal["good", "stale", "suspect", "bad", "synthesized"]


class Quality(IntEnum):
    """One code a sample; only good and synthesized samples enter totals, allocation and dispatch tracking.

    Attributes:
        GOOD: reported by an agent, and plausible.
        SUSPECT: implausible: beyond the nameplate, outside 0..100 % state of charge, not finite, or a change
            faster than the nameplate's ramp rate.
        BAD: flagged by the device itself.
        SYNTHESIZED: computed by the headend's own model.
        WRONG_TIME: its timestamp is more than 60 s in the future, or before the year 2000.
    """

    GOOD = 0
    SUSPECT = 1
    BAD = 2
    SYNTHESIZED = 3
    WRONG_TIME = 4


QUALITY_NAMES: dict[Quality, QualityName] = {
    Quality.GOOD: "good",
    Quality.SUSPECT: "suspect",
    Quality.BAD: "bad",
    Quality.SYNTHESIZED: "synthesized",
    Quality.WRONG_TIME: "wrong_time",
}
