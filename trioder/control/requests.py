"""What users may ask: the values of a command, and the rules that they must keep to.

Whom it is given to is looked up by the caller; what becomes of it is in `dispatcher`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trioder.control.allocation import Strategy
from trioder.domain.assets import Asset
from trioder.domain.dispatch import DispatchRequest, DispatchTarget
from trioder.process.rfc3339 import format_ms

RefusalCode = Literal["bad_request", "not_found", "out_of_bounds"]

# A year: longer is a setpoint without an end, or a mistake.
MAX_DURATION_S = 366 * 86_400
# An agent that comes back later than this has long settled; a setpoint out of the past would surprise it.
EXPIRES_IN_S = 60.0
MAX_EXPIRES_IN_S = 86_400.0


class DispatchRefusedError(Exception):
    """A request that must not be obeyed, and was not; the message names the value and the rule."""

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.code: RefusalCode = code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRequest:
    """What a user asks of many assets together; the rest is as in `DispatchRequest`.

    Attributes:
        keys: the assets, distinct, by their position in the fleet.
        mw: in all.
        reversion_mw: in all, likewise.
        resplit: whether the share of a member that drops out goes to the others.
    """

    target: DispatchTarget
    keys: Sequence[int]
    mw: float
    duration_s: int | None = None
    valid_until_ms: int | None = None
    reversion_mw: float = 0.0
    expires_in_s: float | None = None
    strategy: Strategy = "headroom"
    resplit: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """From when until when a command is of use; Unix time in ms.

    Attributes:
        queue_until_ms: who was not told by then never is.
        ends_ms: of the setpoint, as far as can be said before an agent has answered; None when it holds.
    """

    queue_until_ms: int
    ends_ms: int | None


def checked_term(request: DispatchRequest | GroupRequest, now_ms: int) -> Term:
    """Return when the request ends.

    Raises:
        DispatchRefusedError: it asks for two ends, or for one that cannot be.
    """
    duration_s, valid_until_ms = request.duration_s, request.valid_until_ms
    if duration_s is not None and valid_until_ms is not None:
        raise DispatchRefusedError(
            "bad_request", "duration_s and valid_until are both given; a setpoint has one end"
        )
    if duration_s is not None and not 1 <= duration_s <= MAX_DURATION_S:
        raise DispatchRefusedError(
            "bad_request", f"duration_s is {duration_s}; it must be 1 to {MAX_DURATION_S} s"
        )
    if valid_until_ms is not None and not now_ms < valid_until_ms <= now_ms + MAX_DURATION_S * 1000:
        raise DispatchRefusedError(
            "bad_request",
            f"valid_until is {format_ms(valid_until_ms)}; it must be after now, {format_ms(now_ms)}, "
            f"by {MAX_DURATION_S} s at most",
        )
    expires_in_s = EXPIRES_IN_S if request.expires_in_s is None else request.expires_in_s
    # Written so that NaN is refused.
    if not 0 < expires_in_s <= MAX_EXPIRES_IN_S:
        raise DispatchRefusedError(
            "bad_request",
            f"expires_in_s is {expires_in_s}; it must be more than 0 and at most {MAX_EXPIRES_IN_S:g} s",
        )
    ends_ms = now_ms + duration_s * 1000 if duration_s is not None else valid_until_ms
    return Term(queue_until_ms=now_ms + round(expires_in_s * 1000), ends_ms=ends_ms)


def check_power(asset: Asset, name: str, mw: float) -> None:
    """Check what is asked of one asset.

    Raises:
        DispatchRefusedError: it is no number, or outside of the asset's limits.
    """
    check_finite(name, mw)
    if not asset.min_mw <= mw <= asset.max_mw:
        raise DispatchRefusedError(
            "out_of_bounds",
            f"{name} is {mw}; asset {asset.id} takes {asset.min_mw} to {asset.max_mw} MW",
        )


def check_finite(name: str, mw: float) -> None:
    """Check that a power is a number.

    Raises:
        DispatchRefusedError: it is NaN or infinite.
    """
    if not math.isfinite(mw):
        raise DispatchRefusedError("bad_request", f"{name} is {mw}; it must be a finite number")
