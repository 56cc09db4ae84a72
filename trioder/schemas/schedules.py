"""The bodies and parameters of `/schedules`."""

from typing import Annotated

from msgspec import Meta, Struct

from trioder.domain.dispatch import Strategy
from trioder.domain.recurrence_rule import MAX_COUNT, MAX_RULE_LENGTH
from trioder.domain.schedules import (
    MAX_MISFIRE_S,
    MAX_OCCURRENCE_S,
    MAX_STEPS,
    MISFIRE_S,
    OccurrenceState,
)
from trioder.schemas.dispatch import TargetRow
from trioder.schemas.resources import Id, Time

MAX_SCHEDULE_ROWS = 1_000
DEFAULT_SCHEDULE_ROWS = 100
MAX_OCCURRENCE_ROWS = 1_000
DEFAULT_OCCURRENCE_ROWS = 100
MAX_RANGE_DAYS = 366

# The limits of these are checked by the schedules, whose errors name the value.
StepDuration = Annotated[
    int,
    Meta(
        description=f"How long it is held; all steps together last {MAX_OCCURRENCE_S} s at most.",
        extra_json_schema={"minimum": 1, "maximum": MAX_OCCURRENCE_S},
    ),
]
StepMw = Annotated[float, Meta(description="+ discharges. For several assets, their total.")]
Start = Annotated[
    str,
    Meta(
        description="Of the first occurrence: wall time in `timezone` without an offset, or with one.",
        examples=["2026-03-28T18:00:00", "2026-03-28T18:00:00+01:00"],
    ),
]
TimeZone = Annotated[
    str,
    Meta(
        description="The IANA name of the zone whose clock `start` and `recurrence` follow; UTC by default, "
        "if `start` has an offset.",
        examples=["Europe/Berlin"],
    ),
]
Recurrence = Annotated[
    str,
    Meta(
        description=f"An RRULE of RFC 5545, of which `start` must be an occurrence; COUNT is {MAX_COUNT} at "
        "most. Without one there is one occurrence.",
        extra_json_schema={"maxLength": MAX_RULE_LENGTH},
        examples=["FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"],
    ),
]
Misfire = Annotated[
    int,
    Meta(
        description=f"How much later than planned an occurrence may begin; {MISFIRE_S} s by default.",
        extra_json_schema={"minimum": 0, "maximum": MAX_MISFIRE_S},
    ),
]
Steps = Annotated[
    "list[StepBody]",
    Meta(
        description="One after the other, without a pause.",
        extra_json_schema={"minItems": 1, "maxItems": MAX_STEPS},
        examples=[[{"duration_s": 900, "mw": 5.0}, {"duration_s": 900, "mw": 2.5}]],
    ),
]


class StepBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """A power, held for a time."""

    duration_s: StepDuration
    mw: StepMw


class ScheduleBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """Dispatches that begin by the clock: `steps`, or one `mw` for `duration_s`.

    Exactly one of asset_id, asset_ids, site_id and fleet is the target, as in a dispatch.
    """

    asset_id: Id | None = None
    asset_ids: list[Id] | None = None
    site_id: Id | None = None
    fleet: bool | None = None
    start: Start
    steps: Steps | None = None
    mw: Annotated[float, Meta(description="One step: its power, instead of `steps`.")] | None = None
    duration_s: Annotated[int, Meta(description="One step: how long.")] | None = None
    recurrence: Recurrence | None = None
    timezone: TimeZone | None = None
    misfire_s: Misfire | None = None
    strategy: Strategy | None = None
    dry_run: Annotated[bool, Meta(description="Validate and find overlaps only; nothing is created.")] = False


class SkipBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which occurrence is skipped."""

    start: Annotated[Time, Meta(description="When it starts, as the list of occurrences shows it.")]


class StartRow(Struct, kw_only=True):
    """When an occurrence starts: in UTC, and on the clock of the schedule's time zone."""

    start: Time
    local_start: Time


class ScheduleSummary(Struct, kw_only=True):
    """A schedule. `start` is wall time in `timezone`; all other times are UTC.

    `assets` counts those of a list, and is null for other targets. `duration_s` is that of all steps.
    `next_start` is the next occurrence that is not skipped; null without one, within ten years. `tenant` is
    that of its assets, `*` for several tenants' together.
    """

    schedule_id: Id | None
    target: TargetRow
    assets: int | None
    start: str
    timezone: str
    recurrence: str | None
    step_count: int
    duration_s: int
    misfire_s: int
    strategy: Strategy | None
    active: bool
    next_start: Time | None
    created_at: Time
    cancelled_at: Time | None
    cancelled_by: str | None
    tenant: str
    requested_by: str


class StepRow(Struct, kw_only=True):
    """A power, held for a time."""

    duration_s: int
    mw: float


class ScheduleRow(ScheduleSummary, kw_only=True):
    """A schedule with its steps, and its next occurrences.

    `skipped` are the starts of those that do not begin.
    """

    steps: list[StepRow]
    asset_ids: list[Id]
    skipped: list[Time]
    next_occurrences: list[StartRow]


class OverlapRow(Struct, kw_only=True):
    """The first time that two schedules share assets; the occurrence that started later has them then.

    schedule_id is the other schedule's: its own if its occurrences overlap each other; null for one that the
    caller does not see.
    """

    schedule_id: Id | None
    start: Time
    end: Time
    assets: int


class ScheduleResponse(ScheduleRow, kw_only=True):
    """A schedule as it was created, with its overlaps within a month. A dry run has no schedule_id."""

    overlaps: list[OverlapRow]
    dry_run: bool


class OccurrenceStepRow(Struct, kw_only=True):
    """A step that was begun, with its dispatch; or refused, and why."""

    number: int
    dispatch_id: Id | None
    refusal: str | None


class OccurrenceRow(StartRow, kw_only=True):
    """An occurrence, past or to come. `reason` says why it is in its state, where the state does not."""

    schedule_id: Id
    end: Time
    state: OccurrenceState
    reason: str | None
    begun_at: Time | None
    steps: list[OccurrenceStepRow]


class SchedulesQuery(Struct, kw_only=True):
    """Which schedules, newest first."""

    active: Annotated[bool, Meta(description="Only those that were, or were not, cancelled.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_SCHEDULE_ROWS, description="Maximum number of rows.")] = (
        DEFAULT_SCHEDULE_ROWS
    )


class OccurrencesQuery(Struct, kw_only=True):
    """Which occurrences, oldest first."""

    start: (
        Annotated[Time, Meta(description="Only those that start from then on; by default a day ago.")] | None
    ) = None
    end: (
        Annotated[
            Time,
            Meta(
                description=f"Only those that start before; by default 31 days, at most {MAX_RANGE_DAYS}, "
                "after start."
            ),
        ]
        | None
    ) = None
    limit: Annotated[int, Meta(ge=1, le=MAX_OCCURRENCE_ROWS, description="Maximum number of rows.")] = (
        DEFAULT_OCCURRENCE_ROWS
    )
