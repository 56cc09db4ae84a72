"""Recurrence rules (RFC 5545, 3.3.10): their text, checked part by part.

Only what has one meaning is accepted: parts that the RFC forbids together, and what implementations read
differently, are refused with the reason. Of the RFC, FREQ=SECONDLY, BYWEEKNO, several BYSECOND, and BYSETPOS
below a day are not supported.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args

from trioder.domain.text import preview

Frequency = Literal["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY"]
_FREQUENCIES: tuple[Frequency, ...] = get_args(Frequency)
WEEKDAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")

MAX_RULE_LENGTH: Final = 500
MAX_COUNT: Final = 1_000
MAX_INTERVAL: Final = 10_000

_CHARACTERS = re.compile(r"[A-Z0-9=;,:+\-]*", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}", re.ASCII)
_WEEKDAY = re.compile(rf"([+-]?[0-9]{{1,2}})?({'|'.join(WEEKDAYS)})", re.ASCII)
_UNTIL = re.compile(r"([0-9]{8}T[0-9]{6})(Z?)", re.ASCII)
# Part, lowest, highest, and whether it may be counted from the end.
_LISTS: Final = {
    "BYMONTH": (1, 12, False),
    "BYYEARDAY": (1, 366, True),
    "BYMONTHDAY": (1, 31, True),
    "BYHOUR": (0, 23, False),
    "BYMINUTE": (0, 59, False),
    "BYSECOND": (0, 59, False),
    "BYSETPOS": (1, 366, True),
}
_NAMES: Final = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", *_LISTS)
# RFC 5545 forbids them, except BYSETPOS.
_NOT_WITH: Final[dict[str, tuple[Frequency, ...]]] = {
    "BYYEARDAY": ("MONTHLY", "WEEKLY", "DAILY"),
    "BYMONTHDAY": ("WEEKLY",),
    "BYSETPOS": ("HOURLY", "MINUTELY"),
}
# Weekdays in a month and in a year.
_MAX_NTH_OF_MONTH = 5
_MAX_NTH_OF_YEAR = 53


class RecurrenceError(ValueError):
    """A rule that is refused; the message names the part, its value and the rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrenceRule:
    """A rule in parts; empty where the rule does not have the part.

    Attributes:
        count: how many occurrences it has; None for no limit.
        until: the last instant at which one may start: in UTC, or without an offset in the schedule's time
            zone.
        week_start: the first day of a week, 0 for Monday.
        by_day: the weekdays (0 for Monday), each with its number within the month or the year; 0 for all.
    """

    frequency: Frequency
    interval: int = 1
    count: int | None = None
    until: datetime | None = None
    until_is_utc: bool = False
    week_start: int = 0
    by_day: tuple[tuple[int, int], ...] = ()
    by_month: tuple[int, ...] = ()
    by_year_day: tuple[int, ...] = ()
    by_month_day: tuple[int, ...] = ()
    by_hour: tuple[int, ...] = ()
    by_minute: tuple[int, ...] = ()
    by_second: tuple[int, ...] = ()
    by_position: tuple[int, ...] = ()

    @property
    def selects_days(self) -> bool:
        """Whether it names days, rather than to take them from its start."""
        return bool(self.by_day or self.by_year_day or self.by_month_day)


def parse_recurrence(text: str) -> str:
    """Return a rule as it is kept: in upper case, without the property's name.

    Raises:
        RecurrenceError: it is not a rule, or one that is not supported.
    """
    rule = _normalized(text)
    read_rule(rule)
    return rule


def read_rule(text: str) -> RecurrenceRule:
    """Return a rule in parts.

    Raises:
        RecurrenceError: see `parse_recurrence`.
    """
    values = _split(_normalized(text))
    frequency = _frequency(values)
    if "COUNT" in values and "UNTIL" in values:
        raise RecurrenceError("recurrence has both COUNT and UNTIL; a rule has one end")
    lists = {name: _numbers(name, values[name]) for name in _LISTS if name in values}
    for name, frequencies in _NOT_WITH.items():
        if name in values and frequency in frequencies:
            raise RecurrenceError(
                f"recurrence has {name} with FREQ={frequency}; it is not for {' or '.join(frequencies)}"
            )
    if len(lists.get("BYSECOND", ())) > 1:
        raise RecurrenceError(f"BYSECOND is {preview(values['BYSECOND'])}; it must be one number")
    if "BYSETPOS" in values and not any(name.startswith("BY") and name != "BYSETPOS" for name in values):
        raise RecurrenceError("recurrence has BYSETPOS alone; it selects among what another BY part lists")
    until, is_utc = _until(values)
    return RecurrenceRule(
        frequency=frequency,
        interval=_number("INTERVAL", values.get("INTERVAL", "1"), lowest=1, highest=MAX_INTERVAL),
        count=_number("COUNT", values["COUNT"], lowest=1, highest=MAX_COUNT) if "COUNT" in values else None,
        until=until,
        until_is_utc=is_utc,
        week_start=_week_start(values),
        by_day=_weekdays(values, frequency),
        by_month=lists.get("BYMONTH", ()),
        by_year_day=lists.get("BYYEARDAY", ()),
        by_month_day=lists.get("BYMONTHDAY", ()),
        by_hour=lists.get("BYHOUR", ()),
        by_minute=lists.get("BYMINUTE", ()),
        by_second=lists.get("BYSECOND", ()),
        by_position=lists.get("BYSETPOS", ()),
    )


def _normalized(text: str) -> str:
    if len(text) > MAX_RULE_LENGTH:
        raise RecurrenceError(
            f"recurrence has {len(text)} characters; it must have at most {MAX_RULE_LENGTH}"
        )
    if len(text.splitlines()) > 1 or text != text.strip():
        raise RecurrenceError(
            f"recurrence is {preview(text)}; it must be one rule, on one line and without spaces around it"
        )
    rule = text.upper().removeprefix("RRULE:")
    if not rule:
        raise RecurrenceError("recurrence is empty; it must be a rule such as FREQ=DAILY, or be left out")
    if not text.isascii() or not _CHARACTERS.fullmatch(rule) or ":" in rule:
        raise RecurrenceError(
            f"recurrence is {preview(text)}; it must be an RRULE of RFC 5545 such as FREQ=WEEKLY;BYDAY=MO,FR"
        )
    return rule


def _split(rule: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for part in rule.split(";"):
        name, _, value = part.partition("=")
        if name not in _NAMES:
            raise RecurrenceError(
                f"recurrence has the part {preview(part)}; its parts are {', '.join(_NAMES)}"
            )
        if name in values:
            raise RecurrenceError(f"recurrence has {name} more than once")
        values[name] = value
    return values


def _frequency(values: dict[str, str]) -> Frequency:
    found = values.get("FREQ")
    if found is None:
        raise RecurrenceError(f"recurrence has no FREQ; it must be {', '.join(_FREQUENCIES)}")
    for frequency in _FREQUENCIES:
        if found == frequency:
            return frequency
    raise RecurrenceError(f"FREQ is {preview(found)}; it must be {', '.join(_FREQUENCIES)}")


def _number(name: str, text: str, *, lowest: int, highest: int) -> int:
    if not _NUMBER.fullmatch(text) or not lowest <= int(text) <= highest:
        raise RecurrenceError(f"{name} is {preview(text)}; it must be a whole number, {lowest} to {highest}")
    return int(text)


def _numbers(name: str, text: str) -> tuple[int, ...]:
    lowest, highest, from_end = _LISTS[name]
    found = set()
    for one in text.split(","):
        if not _NUMBER.fullmatch(one) or not lowest <= (abs(int(one)) if from_end else int(one)) <= highest:
            end = f", or -{highest} to -{lowest} from the end" if from_end else ""
            raise RecurrenceError(f"{name} has {preview(one)}; its numbers are {lowest} to {highest}{end}")
        found.add(int(one))
    return tuple(sorted(found))


def _weekdays(values: dict[str, str], frequency: Frequency) -> tuple[tuple[int, int], ...]:
    if "BYDAY" not in values:
        return ()
    of_year = frequency == "YEARLY" and "BYMONTH" not in values
    highest = _MAX_NTH_OF_YEAR if of_year else _MAX_NTH_OF_MONTH
    found = set()
    for one in values["BYDAY"].split(","):
        match = _WEEKDAY.fullmatch(one)
        if match is None:
            raise RecurrenceError(
                f"BYDAY has {preview(one)}; its days are {', '.join(WEEKDAYS)}, with a number where they are "
                "counted: 1MO is the first Monday, -1FR the last Friday"
            )
        number, day = match.groups()
        if number is not None:
            if frequency not in {"YEARLY", "MONTHLY"}:
                raise RecurrenceError(
                    f"BYDAY has {preview(one)}; numbered days are for FREQ=MONTHLY or YEARLY"
                )
            if not 1 <= abs(int(number)) <= highest:
                raise RecurrenceError(
                    f"BYDAY has {preview(one)}; its number must be 1 to {highest}, or negative"
                )
        found.add((WEEKDAYS.index(day), int(number or 0)))
    return tuple(sorted(found))


def _week_start(values: dict[str, str]) -> int:
    day = values.get("WKST", "MO")
    if day not in WEEKDAYS:
        raise RecurrenceError(f"WKST is {preview(day)}; it must be {', '.join(WEEKDAYS)}")
    return WEEKDAYS.index(day)


def _until(values: dict[str, str]) -> tuple[datetime | None, bool]:
    if "UNTIL" not in values:
        return None, False
    text = values["UNTIL"]
    match = _UNTIL.fullmatch(text)
    try:
        if match is not None:
            # Without an offset it is in the schedule's time zone.
            return datetime.strptime(match[1], "%Y%m%dT%H%M%S"), match[2] == "Z"  # noqa: DTZ007
    except ValueError:
        pass
    raise RecurrenceError(
        f"UNTIL is {preview(text)}; it must be a time such as 20261231T230000Z in UTC, or 20261231T235959 in "
        "the schedule's time zone"
    )
