"""When the occurrences of a schedule start: a rule of RFC 5545 on the wall clock of a time zone.

dateutil decides which days (or, of years, months and weeks, which times) a rule has; what bounds its search,
the times of a day, and the changes of clocks are decided here. The work is proportional to the days from
`after_ms` to `before_ms`, or to the starts returned, never to the age of the schedule.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice, product
from math import gcd
from typing import Any, Final
from zoneinfo import ZoneInfo

from dateutil import rrule

from trioder.domain.recurrence_rule import RecurrenceRule, parse_recurrence, read_rule
from trioder.domain.text import preview
from trioder.domain.time_zones import earliest_ms, is_skipped, offset_of, unix_ms_of, wall_of, zone_of

__all__ = ["check_start", "occurrence_starts", "parse_recurrence"]

# Of starts. Nobody plans further ahead, and a rule that never applies is not searched for longer.
FIRST_START: Final = datetime(2000, 1, 1)  # noqa: DTZ001  # wall time
LAST_START: Final = datetime(2099, 12, 31, 23, 59, 59)  # noqa: DTZ001  # wall time

_DAY_MS = 86_400_000
_HOUR = timedelta(hours=1)
_UTC = ZoneInfo("UTC")
# For each n: the n-th weekday of the month or of the year.
_ALL_OF_MONTH, _ALL_OF_YEAR = range(1, 6), range(1, 54)

# Hours, minutes and seconds; each combination is a time of the day.
_TimeParts = tuple[Sequence[int], Sequence[int], Sequence[int]]
_AT_MIDNIGHT: Final[_TimeParts] = ((0,), (0,), (0,))
_NumberOf = Callable[[datetime, RecurrenceRule], int]
_FirstDayOf = Callable[[int, RecurrenceRule], datetime]


def occurrence_starts(
    start: datetime, timezone: str, recurrence: str | None, *, after_ms: int, before_ms: int, limit: int
) -> list[int]:
    """Return when occurrences start, within [after_ms, before_ms): Unix time, ascending and distinct.

    Args:
        start: of the first occurrence: naive, wall time in `timezone`.
        timezone: its IANA name.
        recurrence: the rule; None for one occurrence.
        after_ms: Unix time.
        before_ms: Unix time.
        limit: the greatest number of starts to return.

    Raises:
        ValueError: unknown time zone, or not a rule.
    """
    return list(islice(_calendar(start, timezone, recurrence).starts(after_ms, before_ms), limit))


def check_start(start: datetime, timezone: str, recurrence: str | None) -> None:
    """Check that a schedule can start at this wall time, and that its rule has it as an occurrence.

    Raises:
        ValueError: it cannot; the message names the value and the rule. Or as in `occurrence_starts`.
    """
    zone = zone_of(timezone)
    if start.microsecond:
        raise ValueError(f"start is {start.isoformat()}; it must be a whole second")
    if not FIRST_START <= start <= LAST_START:
        raise ValueError(
            f"start is {start.isoformat()}; it must be in the years {FIRST_START.year} to {LAST_START.year}"
        )
    if is_skipped(start, zone):
        raise ValueError(f"start is {start.isoformat()}; {timezone} has no such time: its clock skips it")
    calendar = _calendar(start, timezone, recurrence)
    first = next(calendar.starts(calendar.start_ms, calendar.end_ms), None)
    if first == calendar.start_ms:
        return
    if first is None:
        raise ValueError(
            f"recurrence is {preview(recurrence)}; it has no occurrence from start, {start.isoformat()}, "
            f"to the end of {LAST_START.year}"
        )
    raise ValueError(
        f"start is {start.isoformat()}, which recurrence {preview(recurrence)} does not have; "
        f"its first occurrence is {wall_of(first, zone).isoformat()}, which may be the start"
    )


# One has up to 200 kB; making it again takes 0.1 ms, and up to 20 ms for a COUNT of 1,000.
@lru_cache(maxsize=128)
def _calendar(start: datetime, timezone: str, recurrence: str | None) -> "_Calendar":
    return _Calendar(start, zone_of(timezone), None if recurrence is None else read_rule(recurrence))


class _Calendar:
    """The starts of one schedule; immutable.

    Attributes:
        start_ms: none is before this; Unix time.
        end_ms: all are before this; Unix time.
    """

    def __init__(self, start: datetime, zone: ZoneInfo, rule: RecurrenceRule | None) -> None:
        self._start = start.replace(fold=0)
        self._zone = zone
        self._rule = rule
        self.start_ms = unix_ms_of(self._start, zone)
        self.end_ms = unix_ms_of(LAST_START, zone) + 1
        self._last_wall = LAST_START
        if rule is None:
            return
        self._times = _day_times(rule, self._start)
        if rule.until is not None:
            self.end_ms = min(self.end_ms, unix_ms_of(rule.until, _UTC if rule.until_is_utc else zone) + 1)
        if rule.count is not None:
            # Once, so that no later call counts from the start.
            walls = _walls(rule, self._start, self._start, LAST_START, times=self._times)
            for self._last_wall in islice(walls, rule.count):
                pass

    def starts(self, after_ms: int, before_ms: int) -> Iterator[int]:
        """Yield the starts within [after_ms, before_ms), ascending and distinct."""
        after_ms, before_ms = max(after_ms, self.start_ms), min(before_ms, self.end_ms)
        if after_ms >= before_ms:
            return
        if self._rule is None:
            if after_ms == self.start_ms:
                yield self.start_ms
            return
        first = max(self._walls_near(after_ms)[0], self._start)
        last = min(self._walls_near(before_ms)[1], self._last_wall)
        # What a change of clocks skips is not in order with the wall times that follow it.
        waiting: set[int] = set()
        hour = first
        for wall in _walls(self._rule, self._start, first, last, times=self._times):
            if wall - hour >= _HOUR:
                hour = wall.replace(minute=0, second=0)
                due_ms = earliest_ms(hour, self._zone)
                due = sorted(start_ms for start_ms in waiting if start_ms < due_ms)
                waiting.difference_update(due)
                yield from due
            start_ms = unix_ms_of(wall, self._zone)
            if after_ms <= start_ms < before_ms:
                waiting.add(start_ms)
        yield from sorted(waiting)

    def _walls_near(self, unix_ms: int) -> tuple[datetime, datetime]:
        """Return the first and the last wall time that may be this instant, or one skipped next to it."""
        utc = wall_of(unix_ms, _UTC)
        offsets = [offset_of(unix_ms + shift_ms, self._zone) for shift_ms in (-2 * _DAY_MS, 0, 2 * _DAY_MS)]
        return utc + min(offsets), utc + max(offsets)


@dataclass(frozen=True, slots=True, kw_only=True)
class _DayTimes:
    """The times of each day that has some: by what is left of the first hour or minute that it could have.

    Attributes:
        by_rest: the times, ascending, by the rest of their number in the day; without rests that no day has.
        interval: what is divided by: hours or minutes; 1 for times that are the same every day.
        first: the number of the schedule's start, counted from day 0.
        numbers_a_day: hours or minutes of a day.
    """

    by_rest: Mapping[int, Sequence[time]]
    interval: int = 1
    first: int = 0
    numbers_a_day: int = 0

    def of(self, day: date) -> Sequence[time]:
        """Return the times of a day."""
        return self.by_rest.get((self.first - day.toordinal() * self.numbers_a_day) % self.interval, ())


def _day_times(rule: RecurrenceRule, start: datetime) -> _DayTimes:
    hours, minutes, [second] = _time_parts(rule, start)
    if rule.frequency not in {"HOURLY", "MINUTELY"}:
        times = [time(hour, minute, second) for hour, minute in product(hours, minutes)]
        if rule.by_position:
            # Of a day; those of longer periods are found by dateutil.
            numbers = {number - 1 if number > 0 else number + len(times) for number in rule.by_position}
            times = [each for number, each in enumerate(times) if number in numbers]
        return _DayTimes(by_rest={0: times} if times else {})
    hours = rule.by_hour or range(24)
    first = start.toordinal() * 24 + start.hour
    by_minute = rule.frequency == "MINUTELY"
    if by_minute:
        minutes, first = rule.by_minute or range(60), first * 60 + start.minute
    numbers_a_day = 1440 if by_minute else 24
    step = gcd(rule.interval, numbers_a_day)
    by_rest: dict[int, list[time]] = defaultdict(list)
    for hour, minute in product(hours, minutes):
        number = hour * 60 + minute if by_minute else hour
        if (number - first) % step == 0:
            by_rest[number % rule.interval].append(time(hour, minute, second))
    return _DayTimes(by_rest=dict(by_rest), interval=rule.interval, first=first, numbers_a_day=numbers_a_day)


def _walls(
    rule: RecurrenceRule, start: datetime, first: datetime, last: datetime, *, times: _DayTimes
) -> Iterator[datetime]:
    """Yield the wall times of a rule within [first, last], ascending; `first` is not before the start."""
    if rule.by_position and rule.frequency in _PERIODS:
        walls = _search_periods(rule, start, first, last, _time_parts(rule, start))
    elif times.by_rest:
        walls = (
            datetime.combine(day, time_of_day)
            for day in _days(rule, start, first, last)
            for time_of_day in times.of(day)
        )
    else:
        return
    for wall in walls:
        if wall > last:
            return
        if wall >= first:
            yield wall


def _search_periods(
    rule: RecurrenceRule, start: datetime, first: datetime, last: datetime, times: _TimeParts
) -> Iterator[datetime]:
    """Yield the wall times of the years, months or weeks from that of `first` to that of `last`."""
    # The search starts with the first day of a period, so that BYSETPOS counts the same whenever it is asked.
    frequency, number_of, first_day_of = _PERIODS[rule.frequency]
    begin = number_of(first, rule)
    begin -= (begin - number_of(start, rule)) % rule.interval
    steps = (number_of(last, rule) - begin) // rule.interval
    hours, minutes, seconds = times
    options = _day_options(rule, start) | {
        "byhour": hours,
        "byminute": minutes,
        "bysecond": seconds,
        "bysetpos": rule.by_position or None,
        "wkst": rule.week_start,
    }
    return _search(frequency, first_day_of(begin, rule), interval=rule.interval, steps=steps, options=options)


def _number_of_week(wall: datetime, rule: RecurrenceRule) -> int:
    # Day 1 is a Monday.
    return (wall.toordinal() - 1 - rule.week_start) // 7


# Of each frequency: dateutil's, the number of a period, and its first day.
_PERIODS: Final[dict[str, tuple[Any, _NumberOf, _FirstDayOf]]] = {
    "YEARLY": (rrule.YEARLY, lambda wall, _: wall.year, lambda year, _: _midnight(year, 1)),
    "MONTHLY": (
        rrule.MONTHLY,
        lambda wall, _: wall.year * 12 + wall.month - 1,
        lambda month, _: _midnight(month // 12, month % 12 + 1),
    ),
    "WEEKLY": (
        rrule.WEEKLY,
        _number_of_week,
        lambda week, rule: datetime.fromordinal(week * 7 + 1 + rule.week_start),
    ),
}


def _days(rule: RecurrenceRule, start: datetime, first: datetime, last: datetime) -> Iterator[date]:
    """Yield the days of a rule from that of `first` on, ascending."""
    first_day, start_day = first.toordinal(), start.toordinal()
    interval = rule.interval if rule.frequency == "DAILY" else 1
    if rule.frequency in _PERIODS:
        found = _search_periods(rule, start, first, last, _AT_MIDNIGHT)
    elif rule.selects_days or rule.by_month:
        found = _search(
            rrule.YEARLY,
            _midnight(first.year, 1),
            interval=1,
            steps=last.year - first.year,
            options=_day_options(rule, start),
        )
    else:
        begin = first_day + (start_day - first_day) % interval
        found = map(datetime.fromordinal, range(begin, last.toordinal() + 1, interval))
    for day in map(datetime.date, found):
        if day.toordinal() >= first_day and (day.toordinal() - start_day) % interval == 0:
            yield day


def _day_options(rule: RecurrenceRule, start: datetime) -> dict[str, Any]:
    """Return dateutil's options for the days of a rule; `start` decides what the rule does not say."""
    by_month, by_month_day, by_day = rule.by_month, rule.by_month_day, rule.by_day
    if not rule.selects_days:
        match rule.frequency:
            case "YEARLY":
                by_month, by_month_day = by_month or (start.month,), (start.day,)
            case "MONTHLY":
                by_month_day = (start.day,)
            case "WEEKLY":
                by_day = ((start.weekday(), 0),)
            case _:
                by_month_day = tuple(range(1, 32))
    if any(number for _, number in by_day):
        # dateutil requires a day to be in both kinds; it has to be in one.
        every = _ALL_OF_YEAR if rule.frequency == "YEARLY" and not by_month else _ALL_OF_MONTH
        by_day = tuple((day, each) for day, number in by_day for each in ((number,) if number else every))
    return {
        "bymonth": by_month or None,
        "byyearday": rule.by_year_day or None,
        "bymonthday": by_month_day or None,
        "byweekday": [rrule.weekday(day, number or None) for day, number in by_day] or None,
    }


def _midnight(year: int, month: int) -> datetime:
    return datetime(year, month, 1)  # noqa: DTZ001  # wall time


class _EndOfSearchError(Exception):
    """All periods were searched."""


class _CountedInterval(int):
    """An interval that can be added `steps` times.

    dateutil ends at `until` only if it finds a time after it. A rule that never applies is searched to the
    year 9999, which takes seconds; the one thing that dateutil does in every period is to add the interval.
    """

    steps: int

    def _count(self) -> None:
        if self.steps == 0:
            raise _EndOfSearchError
        self.steps -= 1

    def __radd__(self, other: int) -> int:
        self._count()
        return other + int(self)

    def __mul__(self, other: int) -> int:
        self._count()
        return int(self) * other


def _search(
    frequency: Any, dtstart: datetime, *, interval: int, steps: int, options: dict[str, Any]
) -> Iterator[datetime]:
    """Yield the wall times of the period of `dtstart`, and of `steps` further ones, ascending."""
    counted = _CountedInterval(interval)
    counted.steps = steps
    found = rrule.rrule(frequency, dtstart=dtstart, interval=counted, **options)
    try:
        yield from found
    except _EndOfSearchError:
        return


def _time_parts(rule: RecurrenceRule, start: datetime) -> _TimeParts:
    return rule.by_hour or (start.hour,), rule.by_minute or (start.minute,), rule.by_second or (start.second,)
