"""Validates requests: the values that a dispatch may have.

The caller looks up the assets; `build` makes the dispatch.
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

# A year: a longer duration is a mistake, or no end was meant.
MAX_DURATION_S = 366 * 86_400
# An agent that reconnects later has settled; an old setpoint would surprise its operator.
EXPIRES_IN_S = 60.0
MAX_EXPIRES_IN_S = 86_400.0


class DispatchRefusedError(Exception):
    """A request that was refused; the message names the value and the rule."""

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.code: RefusalCode = code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRequest:
    """A request to many assets together; the other fields are as in `DispatchRequest`.

    Attributes:
        keys: the assets, distinct, by their position in the fleet.
        mw: the total.
        reversion_mw: the total after the end.
        resplit: whether the power of an asset that drops out is reallocated to the others.
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
    """Until when a dispatch is valid; Unix time in ms.

    Attributes:
        queue_until_ms: a setpoint that was not sent by then expires.
        ends_ms: of the setpoint, before an agent has acknowledged it; None when it holds.
    """

    queue_until_ms: int
    ends_ms: int | None


def checked_term(request: DispatchRequest | GroupRequest, now_ms: int) -> Term:
    """Return when the request ends.

    Raises:
        DispatchRefusedError: it has two ends, or an invalid one.
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
    # In this order, so that NaN is refused.
    if not 0 < expires_in_s <= MAX_EXPIRES_IN_S:
        raise DispatchRefusedError(
            "bad_request",
            f"expires_in_s is {expires_in_s}; it must be more than 0 and at most {MAX_EXPIRES_IN_S:g} s",
        )
    ends_ms = now_ms + duration_s * 1000 if duration_s is not None else valid_until_ms
    return Term(queue_until_ms=now_ms + round(expires_in_s * 1000), ends_ms=ends_ms)


def check_power(asset: Asset, name: str, mw: float) -> None:
    """Check the power asked of one asset.

    Raises:
        DispatchRefusedError: it is not finite, or outside of the asset's limits.
    """
    check_finite(name, mw)
    if not asset.min_mw <= mw <= asset.max_mw:
        raise DispatchRefusedError(
            "out_of_bounds",
            f"{name} is {mw}; asset {asset.id} takes {asset.min_mw} to {asset.max_mw} MW",
        )


def check_finite(name: str, mw: float) -> None:
    """Check that a power is finite.

    Raises:
        DispatchRefusedError: it is NaN or infinite.
    """
    if not math.isfinite(mw):
        raise DispatchRefusedError("bad_request", f"{name} is {mw}; it must be a finite number")
