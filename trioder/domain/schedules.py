"""Schedules: dispatches that begin by the clock, once or by a rule, and the records of their occurrences.

When the occurrences of a schedule start is computed by `trioder.domain.recurrence`, which has no state:

    parse_recurrence(text: str) -> str
        Return the RRULE as it is kept; raise ValueError, whose text names the part and the rule.

    occurrence_starts(
        start: datetime, timezone: str, recurrence: str | None, *, after_ms: int, before_ms: int, limit: int
    ) -> list[int]
        Return the starts within [after_ms, before_ms), Unix ms, ascending and distinct, at most `limit`.
        `start` is naive: local wall time in `timezone`, and the first occurrence (RFC 5545's DTSTART).
        Without a recurrence it is the only one. Raise ValueError for an unknown time zone or a bad rule.
        It runs on the event loop: its cost must not grow with the time since `start`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, get_args
from uuid import UUID, uuid5

from trioder.domain.access import DEFAULT_TENANT
from trioder.domain.dispatch import DispatchTarget, Strategy

ScheduleRefusalCode = Literal["bad_request", "not_found"]
OccurrenceState = Literal["pending", "running", "completed", "failed", "missed", "skipped", "cancelled"]
ScheduleTransition = Literal["created", "cancelled", "skipped"]
OCCURRENCE_STATES: Final[tuple[OccurrenceState, ...]] = get_args(OccurrenceState)
# Its state may still change.
OPEN_STATES: Final[frozenset[OccurrenceState]] = frozenset({"pending", "running"})

MISFIRE_S: Final = 60
MAX_MISFIRE_S: Final = 7 * 86_400
MAX_STEPS: Final = 1_000
# Of all steps together.
MAX_OCCURRENCE_S: Final = 31 * 86_400


class ScheduleRefusedError(Exception):
    """A schedule, or a change of one, that was refused; the message names the value and the rule."""

    def __init__(self, code: ScheduleRefusalCode, message: str) -> None:
        super().__init__(message)
        self.code: ScheduleRefusalCode = code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleStep:
    """A part of every occurrence: a power, held for a time.

    Attributes:
        duration_s: how long; at least 1.
        mw: of the asset, or of all assets of the target together.
    """

    duration_s: int
    mw: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRequest:
    """What a user asks for.

    Attributes:
        target: one asset, a list of assets, a site or the fleet.
        asset_ids: of a target of the kind `assets`, distinct; empty for the others.
        site_ids: the sites that it lies within; None for the whole fleet of its tenant. For a fleet, those
            of the caller that sees no others: its assets are then these sites'.
        start: of the first occurrence, without an offset: local wall time in `timezone`.
        timezone: by its IANA name.
        steps: one after the other, without a pause.
        recurrence: an RRULE of RFC 5545, without the name; None for one occurrence.
        misfire_s: how much later than planned an occurrence may begin; it is missed otherwise. Up to 5 s
            are always allowed.
        strategy: how a total is split; None for one asset.
        tenant: whose assets; `ALL_TENANTS` for several tenants' together.
        requested_by: the principal's name.
    """

    target: DispatchTarget
    asset_ids: Sequence[str] = ()
    site_ids: Sequence[str] | None = ()
    start: datetime
    timezone: str = "UTC"
    steps: Sequence[ScheduleStep]
    recurrence: str | None = None
    misfire_s: int = MISFIRE_S
    strategy: Strategy | None = None
    tenant: str = DEFAULT_TENANT
    requested_by: str = ""

    @property
    def duration_s(self) -> int:
        """How long an occurrence lasts: all steps together."""
        return sum(step.duration_s for step in self.steps)

    def end_ms(self, start_ms: int) -> int:
        """When the occurrence with this start ends; Unix time."""
        return start_ms + self.duration_s * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule(ScheduleRequest):
    """A schedule as it is kept; times are Unix time.

    Attributes:
        schedule_id: a UUID.
        created_ms: occurrences that started more than `misfire_s` before are not due.
        cancelled_ms: no occurrence begins after this; None while it is active.
        cancelled_by: the principal's name; empty while it is active.
        skipped: the starts of the occurrences that are not to begin.
    """

    schedule_id: str
    created_ms: int
    cancelled_ms: int | None = None
    cancelled_by: str = ""
    skipped: Sequence[int] = ()

    @property
    def is_active(self) -> bool:
        """Whether it has not been cancelled; all its occurrences may be over."""
        return self.cancelled_ms is None

    @property
    def first_due_ms(self) -> int:
        """Occurrences that start before this are not due."""
        return self.created_ms - self.misfire_s * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class OccurrenceStep:
    """A step of an occurrence that was begun, or refused.

    Attributes:
        number: of the step, from 0.
        dispatch_id: of its dispatch; the same one is never used for another step.
        refusal: why there is no dispatch; empty if there is one.
    """

    number: int
    dispatch_id: str
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """One occurrence of a schedule; times are Unix time.

    Attributes:
        start_ms: when it is planned to begin: with the schedule's id it identifies the occurrence.
        end_ms: when its last step ends.
        state: `running` from when it is due; then `completed` if any step was begun, else `failed`. `missed`
            if that was more than `misfire_s` late.
        reason: why it is in this state, in words; empty where the state says all.
        steps: those that were begun or refused, in order; others were not begun at all.
        begun_ms: when the first of them was begun; None before.
        changed_ms: when it entered its state.
        tenant: the schedule's.
        site_ids: the schedule's.
    """

    schedule_id: str
    start_ms: int
    end_ms: int
    state: OccurrenceState = "pending"
    reason: str = ""
    steps: Sequence[OccurrenceStep] = ()
    begun_ms: int | None = None
    changed_ms: int | None = None
    tenant: str = DEFAULT_TENANT
    site_ids: Sequence[str] | None = ()

    @property
    def is_open(self) -> bool:
        """Whether its state may still change."""
        return self.state in OPEN_STATES

    @property
    def dispatch_ids(self) -> Sequence[str]:
        """The dispatches of its steps, in order."""
        return tuple(step.dispatch_id for step in self.steps if not step.refusal)

    @property
    def last_step(self) -> int:
        """The number of the last step that was begun or refused; -1 before the first."""
        return self.steps[-1].number if self.steps else -1

    def with_step(self, step: OccurrenceStep) -> "Occurrence":
        """Return it with one step more, or with one replaced."""
        steps = {one.number: one for one in (*self.steps, step)}
        return replace(self, steps=tuple(steps[number] for number in sorted(steps)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Occurrences of two schedules that share assets and time.

    Attributes:
        schedule_id: the other schedule; the schedule's own id when its occurrences overlap each other.
        start_ms: when the overlap begins; Unix time.
        end_ms: when it ends.
        assets: how many assets they share, at present.
    """

    schedule_id: str
    start_ms: int
    end_ms: int
    assets: int


def occurrence_of(schedule: Schedule, start_ms: int) -> Occurrence:
    """Return the pending occurrence of a schedule with this start."""
    return Occurrence(
        schedule_id=schedule.schedule_id,
        start_ms=start_ms,
        end_ms=schedule.end_ms(start_ms),
        tenant=schedule.tenant,
        site_ids=schedule.site_ids,
    )


def step_dispatch_id(schedule_id: str, start_ms: int, number: int) -> str:
    """Return the id of a step's dispatch, always the same: whatever begins the step again finds it begun."""
    return str(uuid5(UUID(schedule_id), f"{start_ms}/{number}"))


def step_at(schedule: ScheduleRequest, start_ms: int, now_ms: int) -> tuple[int, int, int] | None:
    """Return the step that applies at `now_ms` in the occurrence with this start: number, start, end.

    None before the start and from the end on. Times are Unix time in ms.
    """
    begins_ms = start_ms
    for number, step in enumerate(schedule.steps):
        ends_ms = begins_ms + step.duration_s * 1000
        if begins_ms <= now_ms < ends_ms:
            return number, begins_ms, ends_ms
        begins_ms = ends_ms
    return None
