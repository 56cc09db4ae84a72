"""When occurrences start, and what becomes of one that is due. No state, no I/O."""

from collections.abc import Sequence
from dataclasses import replace

from trioder.domain.recurrence import occurrence_starts
from trioder.domain.schedules import MAX_MISFIRE_S, Occurrence, Schedule, occurrence_of

# How far ahead the next occurrence may be.
LOOK_AHEAD_MS = 10 * 366 * 86_400_000
# What was due before is not recorded as missed: it could not begin any more in any case.
LOOK_BACK_MS = MAX_MISFIRE_S * 1000
# What begins within this is in time: the headend itself may wait for its database, or be busy.
PUNCTUAL_MS = 5_000


def starts_of(schedule: Schedule, *, after_ms: int, before_ms: int, limit: int) -> Sequence[int]:
    """Return the starts of a schedule that are due in [after_ms, before_ms), at most `limit`; Unix time.

    Raises:
        ValueError: its time zone is unknown, or its recurrence is not a rule.
    """
    return occurrence_starts(
        schedule.start,
        schedule.timezone,
        schedule.recurrence,
        after_ms=max(after_ms, schedule.first_due_ms),
        before_ms=before_ms,
        limit=limit,
    )


def due_occurrence(schedule: Schedule, start_ms: int, now_ms: int) -> Occurrence:
    """Return an occurrence whose start has come: it runs, or was missed or skipped."""
    occurrence = replace(occurrence_of(schedule, start_ms), changed_ms=now_ms)
    late_ms = now_ms - start_ms
    if start_ms in schedule.skipped:
        return replace(occurrence, state="skipped")
    if now_ms >= occurrence.end_ms:
        return replace(
            occurrence, state="missed", reason=f"its {schedule.duration_s} s were over before it could begin"
        )
    if late_ms > max(PUNCTUAL_MS, schedule.misfire_s * 1000):
        return replace(
            occurrence,
            state="missed",
            reason=f"it could begin {late_ms / 1000:.1f} s late; misfire_s is {schedule.misfire_s}",
        )
    return replace(occurrence, state="running")
