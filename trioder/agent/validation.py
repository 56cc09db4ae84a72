"""Validation of a setpoint that arrives at its agent: accepted or not, and the acknowledgement's status.

Pure; `trioder.agent.battery` applies the setpoint.
"""

import math
from typing import Literal, NamedTuple

from trioder.domain.assets import Asset
from trioder.domain.dispatch import Setpoint


class Validation(NamedTuple):
    """The result for one setpoint.

    Attributes:
        status: `applied` and `clamped` setpoints are accepted; the others change nothing.
        reason: with the numbers; None where there is nothing to explain.
    """

    status: Literal["applied", "clamped", "rejected", "expired"]
    reason: str | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether the setpoint replaces the one in force."""
        return self.status in {"applied", "clamped"}


def validate(setpoint: Setpoint, asset: Asset, now_unix_s: float) -> Validation:
    """Validate a setpoint for `asset` at `now_unix_s`."""
    if not math.isfinite(setpoint.mw):
        return Validation("rejected", f"mw is {setpoint.mw}; a setpoint must be a finite number")
    if not math.isfinite(setpoint.reversion_mw):
        return Validation("rejected", f"reversion_mw is {setpoint.reversion_mw}; it must be a finite number")
    until_ms = setpoint.valid_until_ms
    # The milliseconds are exact in a float until the year 287,396.
    if until_ms is not None and until_ms / 1000 <= now_unix_s:
        late_s = now_unix_s - until_ms / 1000
        return Validation("expired", f"valid until {until_ms} (Unix ms); that was {late_s:.3f} s ago")
    clamps = [
        f"{what}{mw:g} MW is outside of {asset.min_mw:g}..{asset.max_mw:g} MW; held at {held_mw:g} MW"
        for what, mw in (("", setpoint.mw), ("reversion ", setpoint.reversion_mw))
        if (held_mw := min(max(mw, asset.min_mw), asset.max_mw)) != mw
    ]
    return Validation("clamped", "; ".join(clamps)) if clamps else Validation("applied")
