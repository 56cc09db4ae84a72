"""What an agent makes of a dispatch that arrives: whether it is obeyed, and what is said of it.

Pure; how the battery then obeys is in `trioder.agent.battery`.
"""

import math
from typing import Literal, NamedTuple

from trioder.domain.assets import Asset
from trioder.domain.dispatch import Setpoint


class Validation(NamedTuple):
    """The agent's word on a dispatch.

    Attributes:
        status: of these, `applied` and `clamped` are obeyed; the others change nothing.
        reason: with the numbers; None where there is nothing to explain.
    """

    status: Literal["applied", "clamped", "rejected", "expired"]
    reason: str | None = None

    @property
    def is_obeyed(self) -> bool:
        """Whether the dispatch takes the place of what was in force."""
        return self.status in {"applied", "clamped"}


def judge(dispatch: Setpoint, asset: Asset, now_unix_s: float) -> Validation:
    """Return what becomes of a dispatch to `asset` that is looked at `now_unix_s`."""
    if not math.isfinite(dispatch.mw):
        return Validation("rejected", f"mw is {dispatch.mw}; a setpoint must be a finite number")
    if not math.isfinite(dispatch.reversion_mw):
        return Validation("rejected", f"reversion_mw is {dispatch.reversion_mw}; it must be a finite number")
    until_ms = dispatch.valid_until_ms
    # The milliseconds are exact in a float until the year 287,396.
    if until_ms is not None and until_ms / 1000 <= now_unix_s:
        late_s = now_unix_s - until_ms / 1000
        return Validation("expired", f"valid until {until_ms} (Unix ms); that was {late_s:.3f} s ago")
    clamps = [
        f"{what}{mw:g} MW is outside of {asset.min_mw:g}..{asset.max_mw:g} MW; held at {held_mw:g} MW"
        for what, mw in (("", dispatch.mw), ("reversion ", dispatch.reversion_mw))
        if (held_mw := min(max(mw, asset.min_mw), asset.max_mw)) != mw
    ]
    return Validation("clamped", "; ".join(clamps)) if clamps else Validation("applied")
