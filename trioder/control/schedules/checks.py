"""What a schedule must be like to be created; all but its target's assets, which `service` finds."""

import math

from trioder.domain.assets import Asset
from trioder.domain.schedules import (
    MAX_MISFIRE_S,
    MAX_OCCURRENCE_S,
    MAX_STEPS,
    ScheduleRefusedError,
    ScheduleRequest,
)


def check_request(request: ScheduleRequest) -> None:
    """Check the values that need neither the fleet nor the time.

    Raises:
        ScheduleRefusedError: a value breaks a rule.
    """
    if not 1 <= len(request.steps) <= MAX_STEPS:
        raise _refused(f"steps has {len(request.steps)} entries; it must have 1 to {MAX_STEPS}")
    for number, step in enumerate(request.steps):
        if step.duration_s < 1:
            raise _refused(f"steps[{number}].duration_s is {step.duration_s}; it must be at least 1 s")
        if not math.isfinite(step.mw):
            raise _refused(f"steps[{number}].mw is {step.mw}; it must be a finite number")
    if request.duration_s > MAX_OCCURRENCE_S:
        raise _refused(
            f"the steps last {request.duration_s} s together; they must last {MAX_OCCURRENCE_S} s at most"
        )
    if not 0 <= request.misfire_s <= MAX_MISFIRE_S:
        raise _refused(f"misfire_s is {request.misfire_s}; it must be 0 to {MAX_MISFIRE_S} s")
    if request.start.tzinfo is not None:
        raise _refused(
            f"start is {request.start.isoformat()}; it must have no offset, as timezone names the zone"
        )
    if request.strategy is not None and request.target.kind == "asset":
        raise _refused("strategy is given with asset_id; it is for schedules of many assets")


def check_powers(request: ScheduleRequest, asset: Asset) -> None:
    """Check the powers of a schedule of one asset against its nameplate.

    Raises:
        ScheduleRefusedError: the asset does not take one of them.
    """
    for number, step in enumerate(request.steps):
        if not asset.min_mw <= step.mw <= asset.max_mw:
            raise _refused(
                f"steps[{number}].mw is {step.mw}; asset {asset.id} takes {asset.min_mw} to {asset.max_mw} MW"
            )


def _refused(message: str) -> ScheduleRefusedError:
    return ScheduleRefusedError("bad_request", message)
