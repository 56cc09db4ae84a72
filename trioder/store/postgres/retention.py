"""Decides which days of telemetry may be dropped, safely even if a clock is wrong. Synchronous.

Age is measured from the newest telemetry received, not by the clock alone; a jump in that is not trusted; the
newest 24 h of each asset are kept; and one run drops little more than the one before. What exceeds this waits
for an operator (`python -m trioder.store confirm-retention`). See docs/decisions/retention.md.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import date, timedelta

_DAY = timedelta(days=1)
# Up to this many days without telemetry are no jump: a weekend.
_GAP_DAYS = 2
# A run may drop this many more days than the last one did.
_MORE_DAYS = 2
# Earlier dates come from a clock that was never set, and are ignored.
EARLIEST = date(2000, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionState:
    """The state kept between runs, in the table `telemetry_retention`.

    Attributes:
        newest_day: the newest day of telemetry that was trusted.
        approved_before: days before this may be dropped: within a run's limit, or confirmed.
        confirmed_before: days before this may be dropped even if they hold an asset's newest telemetry.
        run_day: `newest_day` of the last run that dropped something, ...
        run_days: ... and the number of days it dropped.
    """

    newest_day: date | None = None
    approved_before: date | None = None
    confirmed_before: date | None = None
    run_day: date | None = None
    run_days: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """The days in the database.

    Attributes:
        days: the days (UTC) with telemetry, in any partition.
        pinned: those that hold the newest 24 h of an asset of the fleet.
    """

    days: AbstractSet[date]
    pinned: AbstractSet[date]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Expired days that are kept until an operator confirms.

    Attributes:
        days: oldest first.
        before: a confirmation approves everything dated before this day.
        newest_day: the newest day of telemetry, which a confirmation trusts.
        reason: why they are held, for an operator.
    """

    days: tuple[date, ...]
    before: date
    newest_day: date
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPlan:
    """What to do.

    Attributes:
        state: to be saved before anything is dropped.
        drop_before: days before this are dropped unless in `keep`; None drops nothing.
        keep: older days that are kept.
        held: days that wait for an operator.
    """

    state: RetentionState
    drop_before: date | None = None
    keep: AbstractSet[date] = frozenset()
    held: Held | None = None

    def drops(self, day: date) -> bool:
        """Return whether this day is dropped."""
        return self.drop_before is not None and day < self.drop_before and day not in self.keep


def newest_day_of(holdings: Holdings, today: date) -> date | None:
    """Return the newest day of telemetry that is not ahead of the clock."""
    return max((day for day in holdings.days if EARLIEST <= day <= today), default=None)


def plan_retention(
    state: RetentionState, holdings: Holdings, *, today: date, retention_days: int
) -> RetentionPlan:
    """Decide what is dropped now.

    Args:
        state: of the last run.
        holdings: the days in the database.
        today: by the headend's clock.
        retention_days: 0 keeps all; the newest day is recorded nevertheless.
    """
    newest = newest_day_of(holdings, today)
    if newest is None:
        return RetentionPlan(state=state)
    gap_days, trusted = _check_gap(state, holdings, newest, retention_days)
    if trusted:
        state = replace(state, newest_day=max(newest, state.newest_day or newest))
    if not retention_days:
        return RetentionPlan(state=state)

    cutoff = newest - timedelta(days=retention_days)
    confirmed_before = min(state.confirmed_before or date.min, cutoff)
    approved_before = max(min(state.approved_before or date.min, cutoff), confirmed_before)
    keep = {day for day in holdings.pinned if day >= confirmed_before}
    due = sorted(day for day in holdings.days if max(approved_before, EARLIEST) <= day < cutoff)
    due = [day for day in due if day not in keep]
    held = None
    if not trusted:
        if due:
            held = Held(
                days=tuple(due),
                before=cutoff,
                newest_day=newest,
                reason=f"telemetry went on from {state.newest_day} to {newest}, and {gap_days} days in "
                "between have none: a clock may be wrong",
            )
        return RetentionPlan(state=state, drop_before=approved_before, keep=keep, held=held)

    # Trusted: an approval given under another clock ends here.
    state = replace(state, confirmed_before=None if state.confirmed_before is None else confirmed_before)
    if due:
        allowance = state.run_days + _MORE_DAYS
        # One run per newest day, however often this is called.
        dropped = due[:allowance] if state.run_day is None or newest > state.run_day else []
        rest = due[len(dropped) :]
        approved_before = rest[0] if rest else cutoff
        if dropped:
            state = replace(state, run_day=newest, run_days=len(dropped))
        if rest:
            held = Held(
                days=tuple(rest),
                before=cutoff,
                newest_day=newest,
                reason=f"a run drops at most {_MORE_DAYS} days more than the one before",
            )
    else:
        approved_before = cutoff
    state = replace(state, approved_before=approved_before)
    return RetentionPlan(state=state, drop_before=approved_before, keep=keep, held=held)


def _check_gap(
    state: RetentionState, holdings: Holdings, newest: date, retention_days: int
) -> tuple[int, bool]:
    """Return the days without telemetry between the last newest day and this, and whether to trust them.

    A longer gap is trusted once as many days of telemetry follow it: a clock that is wrong for a while makes
    one or two. With a short retention fewer are trusted, so that no run drops the last one's newest day.
    """
    if state.newest_day is None or newest <= state.newest_day:
        return 0, True
    between = sum(1 for day in holdings.days if state.newest_day < day < newest)
    gap_days = (newest - state.newest_day).days - 1 - between
    tolerated = min(_GAP_DAYS, retention_days - 1) if retention_days else _GAP_DAYS
    return gap_days, gap_days <= max(tolerated, between)
