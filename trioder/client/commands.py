"""What can be commanded over REST: the request that each command takes, and what it returns.

The clients have a method for each, with the same name and parameters. + MW discharges to the grid, - MW
charges. Times are RFC 3339 text, or `datetime` with a time zone.
"""

from collections.abc import Iterable
from typing import Literal

from trioder.client.operation import Operation, Time, Value, new_key, operation, reader, time_text
from trioder.domain.dispatch import Strategy
from trioder.schemas.alarms import AcknowledgeBody, AlarmResponse
from trioder.schemas.dispatch import DispatchBody, DispatchResponse, DispatchRow
from trioder.schemas.resources import (
    FleetReloadResponse,
)
from trioder.schemas.schedules import (
    OccurrenceRow,
    ScheduleBody,
    ScheduleResponse,
    ScheduleRow,
    SkipBody,
    StepBody,
)
from trioder.schemas.site_limits import SiteLimitsBody, SiteLimitsRow
from trioder.schemas.stops import ResumeResponse, StopBody, StopResponse

Resolution = Literal["1m", "5m", "15m", "30m", "1h", "6h", "1d"]


def reload_fleet() -> Operation[FleetReloadResponse]:
    """Reload the fleet file; if it has errors, nothing changes (`Conflict`)."""
    return operation("POST", "/fleet/reload", reader(FleetReloadResponse))


def set_site_limits(
    site_id: str,
    *,
    export_limit_mw: float | None = None,
    import_limit_mw: float | None = None,
    until: Time | None = None,
    duration_s: int | None = None,
) -> Operation[SiteLimitsRow]:
    """Limit a site, by magnitudes: at least one; without `until` and `duration_s`, until they are removed."""
    return operation(
        "PUT",
        "/sites/{site_id}/limits",
        reader(SiteLimitsRow),
        ids={"site_id": site_id},
        body=SiteLimitsBody(
            export_limit_mw=export_limit_mw,
            import_limit_mw=import_limit_mw,
            until=time_text("until", until),
            duration_s=duration_s,
        ),
    )


def remove_site_limits(site_id: str) -> Operation[SiteLimitsRow]:
    """Apply the fleet file's limits of a site again."""
    return operation("DELETE", "/sites/{site_id}/limits", reader(SiteLimitsRow), ids={"site_id": site_id})


def dispatch(
    *,
    mw: float,
    asset_id: str | None = None,
    asset_ids: Iterable[str] | None = None,
    site_id: str | None = None,
    fleet: bool | None = None,
    duration_s: int | None = None,
    valid_until: Time | None = None,
    reversion_mw: float = 0.0,
    expires_in_s: float | None = None,
    strategy: Strategy | None = None,
    resplit: bool | None = None,
    dry_run: bool = False,
    wait_ack_s: int | None = None,
    allocations: bool = True,
    idempotency_key: str | None = None,
) -> Operation[DispatchResponse]:
    """Dispatch one asset, or many together; exactly one target is given. It is carried out once.

    Args:
        mw: of one asset; of many, their total.
        asset_id: the target: one asset,
        asset_ids: several,
        site_id: all of a site,
        fleet: or, if true, all that the caller sees.
        duration_s: when it ends; without an end it holds until the next dispatch.
        valid_until: when it ends, instead.
        reversion_mw: the setpoint that follows the end.
        expires_in_s: how long it may be queued for an asset that is not connected; 60 s by default.
        strategy: how the total is split.
        resplit: whether the share of an asset that drops out is reallocated; true by default.
        dry_run: validate and allocate only.
        wait_ack_s: respond when every agent has acknowledged, or after this time, 1 to 30 s.
        allocations: whether the response has each asset's share.
        idempotency_key: a new one by default. The same key and command are one dispatch, whoever sends it.
    """
    wait: dict[str, Value] = {} if wait_ack_s is None else {"wait": "ack", "wait_s": wait_ack_s}
    return operation(
        "POST",
        "/dispatch",
        reader(DispatchResponse),
        query={**wait, "allocations": allocations},
        body=DispatchBody(
            asset_id=asset_id,
            asset_ids=None if asset_ids is None else list(asset_ids),
            site_id=site_id,
            fleet=fleet,
            mw=mw,
            duration_s=duration_s,
            valid_until=time_text("valid_until", valid_until),
            reversion_mw=reversion_mw,
            expires_in_s=expires_in_s,
            strategy=strategy,
            resplit=resplit,
            dry_run=dry_run,
        ),
        key=idempotency_key or new_key(),
        statuses=(200, 202),
    )


def cancel_dispatch(dispatch_id: str | None, *, allocations: bool = True) -> Operation[DispatchRow]:
    """End an open dispatch: each asset goes to its reversion."""
    query = {"allocations": allocations}
    ids = {"dispatch_id": dispatch_id}
    return operation("DELETE", "/dispatch/{dispatch_id}", reader(DispatchRow), ids=ids, query=query)


def stop(
    *, asset_id: str | None = None, site_id: str | None = None, fleet: bool | None = None
) -> Operation[StopResponse]:
    """Set one target to 0 MW at once, and hold it there until `resume`. Stopping again does no harm."""
    body = StopBody(asset_id=asset_id, site_id=site_id, fleet=fleet)
    return operation("POST", "/stop", reader(StopResponse), body=body)


def resume(
    *, asset_id: str | None = None, site_id: str | None = None, fleet: bool | None = None
) -> Operation[ResumeResponse]:
    """End the stop of a target."""
    body = StopBody(asset_id=asset_id, site_id=site_id, fleet=fleet)
    return operation("POST", "/resume", reader(ResumeResponse), body=body)


def create_schedule(
    *,
    start: str,
    steps: Iterable[StepBody] | None = None,
    mw: float | None = None,
    duration_s: int | None = None,
    asset_id: str | None = None,
    asset_ids: Iterable[str] | None = None,
    site_id: str | None = None,
    fleet: bool | None = None,
    recurrence: str | None = None,
    timezone: str | None = None,
    misfire_s: int | None = None,
    strategy: Strategy | None = None,
    dry_run: bool = False,
    idempotency_key: str | None = None,
) -> Operation[ScheduleResponse]:
    """Dispatch by the clock, once or by a rule; the target is given as in `dispatch`. It is created once.

    Args:
        start: of the first occurrence: wall time in `timezone` without an offset, or with one.
        steps: one after the other; or one step:
        mw: its power, and
        duration_s: how long.
        asset_id: as in `dispatch`.
        asset_ids: as in `dispatch`.
        site_id: as in `dispatch`.
        fleet: as in `dispatch`.
        recurrence: an RRULE of RFC 5545; without one there is one occurrence.
        timezone: the IANA name of the zone whose clock `start` and `recurrence` follow.
        misfire_s: how much later than planned an occurrence may begin; 60 s by default.
        strategy: how a total is split.
        dry_run: validate and find overlaps only.
        idempotency_key: a new one by default.
    """
    return operation(
        "POST",
        "/schedules",
        reader(ScheduleResponse),
        body=ScheduleBody(
            asset_id=asset_id,
            asset_ids=None if asset_ids is None else list(asset_ids),
            site_id=site_id,
            fleet=fleet,
            start=start,
            steps=None if steps is None else list(steps),
            mw=mw,
            duration_s=duration_s,
            recurrence=recurrence,
            timezone=timezone,
            misfire_s=misfire_s,
            strategy=strategy,
            dry_run=dry_run,
        ),
        key=idempotency_key or new_key(),
        statuses=(201,),
    )


def cancel_schedule(schedule_id: str | None) -> Operation[ScheduleRow]:
    """Cancel a schedule; an occurrence that runs ends at 0 MW."""
    return operation(
        "DELETE", "/schedules/{schedule_id}", reader(ScheduleRow), ids={"schedule_id": schedule_id}
    )


def skip_occurrence(schedule_id: str | None, *, start: Time) -> Operation[OccurrenceRow]:
    """Skip the occurrence that starts at this time and has not begun."""
    return operation(
        "POST",
        "/schedules/{schedule_id}/skip",
        reader(OccurrenceRow),
        ids={"schedule_id": schedule_id},
        body=SkipBody(start=time_text("start", start) or ""),
    )


def acknowledge_alarm(alarm_id: str, *, comment: str | None = None) -> Operation[AlarmResponse]:
    """Acknowledge an alarm, open or cleared; the first time and name stay."""
    return operation(
        "POST",
        "/alarms/{alarm_id}/acknowledge",
        reader(AlarmResponse),
        ids={"alarm_id": alarm_id},
        body=AcknowledgeBody(comment=comment),
    )
