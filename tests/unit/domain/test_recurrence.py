"""When occurrences start: changes of clocks, agreement with dateutil, and bounded work."""

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from dateutil.rrule import rrulestr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trioder.domain.recurrence import check_start, occurrence_starts
from trioder.domain.time_zones import zone_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FOREVER_MS = 10**14


def ms(text: str) -> int:
    """The Unix time of a UTC time such as 2026-03-29 01:30."""
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)


def utc(unix_ms: int) -> str:
    return (EPOCH + timedelta(milliseconds=unix_ms)).strftime("%Y-%m-%d %H:%M")


def starts(
    start: str, timezone: str, recurrence: str | None, *, n: int = 5, after: str = "2000-01-01 00:00"
) -> list[str]:
    found = occurrence_starts(
        datetime.fromisoformat(start), timezone, recurrence, after_ms=ms(after), before_ms=FOREVER_MS, limit=n
    )
    return [utc(one) for one in found]


# Written by hand, from the published transitions.
@pytest.mark.parametrize(
    ("start", "timezone", "rule", "expected"),
    [
        # Clocks skip 02:00 to 03:00 on 2026-03-29: 02:30 is 03:30.
        (
            "2026-03-28 02:30",
            "Europe/Berlin",
            "FREQ=DAILY",
            ["2026-03-28 01:30", "2026-03-29 01:30", "2026-03-30 00:30"],
        ),
        # 02:30 occurs twice on 2026-10-25: the first one, once.
        (
            "2026-10-24 02:30",
            "Europe/Berlin",
            "FREQ=DAILY",
            ["2026-10-24 00:30", "2026-10-25 00:30", "2026-10-26 01:30"],
        ),
        # Every hour of the wall clock: 02:00 and 03:00 are one instant in spring,
        (
            "2026-03-29 01:00",
            "Europe/Berlin",
            "FREQ=HOURLY",
            ["2026-03-29 00:00", "2026-03-29 01:00", "2026-03-29 02:00"],
        ),
        # and the second 02:00 of autumn is not another one.
        (
            "2026-10-25 01:00",
            "Europe/Berlin",
            "FREQ=HOURLY",
            ["2026-10-24 23:00", "2026-10-25 00:00", "2026-10-25 02:00"],
        ),
        (
            "2026-03-07 02:30",
            "America/New_York",
            "FREQ=DAILY",
            ["2026-03-07 07:30", "2026-03-08 07:30", "2026-03-09 06:30"],
        ),
        (
            "2026-10-31 01:30",
            "America/New_York",
            "FREQ=DAILY",
            ["2026-10-31 05:30", "2026-11-01 05:30", "2026-11-02 06:30"],
        ),
        # By 30 minutes, from 02:00 to 02:30 on 2026-10-04, and from 02:00 back to 01:30 on 2026-04-05.
        (
            "2026-10-03 02:15",
            "Australia/Lord_Howe",
            "FREQ=DAILY",
            ["2026-10-02 15:45", "2026-10-03 15:45", "2026-10-04 15:15"],
        ),
        (
            "2026-04-04 01:45",
            "Australia/Lord_Howe",
            "FREQ=DAILY",
            ["2026-04-03 14:45", "2026-04-04 14:45", "2026-04-05 15:15"],
        ),
        # Standard time is +01:00, and +00:00 during Ramadan: 2026-02-15 to 2026-03-22.
        (
            "2026-02-14 02:30",
            "Africa/Casablanca",
            "FREQ=DAILY",
            ["2026-02-14 01:30", "2026-02-15 01:30", "2026-02-16 02:30"],
        ),
        (
            "2026-03-21 02:30",
            "Africa/Casablanca",
            "FREQ=DAILY",
            ["2026-03-21 02:30", "2026-03-22 02:30", "2026-03-23 01:30"],
        ),
        # At midnight.
        (
            "2026-04-23 00:15",
            "Africa/Cairo",
            "FREQ=DAILY",
            ["2026-04-22 22:15", "2026-04-23 22:15", "2026-04-24 21:15"],
        ),
    ],
)
def test_changes_of_clocks(start: str, timezone: str, rule: str, expected: list[str]) -> None:
    assert starts(start, timezone, rule, n=3) == expected


def test_minutes_that_are_skipped_come_in_order_and_once() -> None:
    found = starts("2026-03-29 01:00", "Europe/Berlin", "FREQ=MINUTELY;INTERVAL=20", n=10)
    assert found == [f"2026-03-29 {hour:02}:{minute:02}" for hour in range(4) for minute in (0, 20, 40)][:10]


def test_a_rule_in_utc_knows_no_change_of_clocks() -> None:
    found = starts("2026-03-29 00:00", "UTC", "FREQ=HOURLY", n=4)
    assert found == [f"2026-03-29 {hour:02}:00" for hour in range(4)]


@pytest.mark.parametrize(
    ("start", "rule", "expected"),
    [
        ("2024-02-29 12:00", "FREQ=YEARLY", ["2024-02-29 12:00", "2028-02-29 12:00"]),
        ("2026-01-31 12:00", "FREQ=MONTHLY", ["2026-01-31 12:00", "2026-03-31 12:00"]),
        ("2026-01-31 12:00", "FREQ=MONTHLY;BYMONTHDAY=-1", ["2026-01-31 12:00", "2026-02-28 12:00"]),
        ("2026-01-05 12:00", "FREQ=MONTHLY;BYDAY=1MO", ["2026-01-05 12:00", "2026-02-02 12:00"]),
        ("2026-01-01 12:00", "FREQ=MONTHLY;BYDAY=TH,1FR", ["2026-01-01 12:00", "2026-01-02 12:00"]),
        (
            "2026-01-30 12:00",
            "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
            ["2026-01-30 12:00", "2026-02-27 12:00"],
        ),
        ("2096-02-29 12:00", "FREQ=YEARLY", ["2096-02-29 12:00"]),
        ("2026-01-01 08:00", "FREQ=DAILY;BYHOUR=8,20;BYSETPOS=-1", ["2026-01-01 20:00", "2026-01-02 20:00"]),
        ("2026-01-01 12:00", "FREQ=DAILY;COUNT=1", ["2026-01-01 12:00"]),
        ("2026-01-01 12:00", None, ["2026-01-01 12:00"]),
        ("2026-01-01 12:00", "FREQ=DAILY;UNTIL=20260102T120000", ["2026-01-01 12:00", "2026-01-02 12:00"]),
        ("2026-01-01 12:00", "FREQ=DAILY;UNTIL=20260102T115959Z", ["2026-01-01 12:00"]),
    ],
)
def test_days_and_ends(start: str, rule: str | None, expected: list[str]) -> None:
    assert starts(start, "UTC", rule, n=2) == expected


def test_until_in_utc_and_in_local_time_are_different_instants() -> None:
    local = starts("2026-07-01 12:00", "America/New_York", "FREQ=HOURLY;UNTIL=20260701T140000")
    in_utc = starts("2026-07-01 12:00", "America/New_York", "FREQ=HOURLY;UNTIL=20260701T170000Z")
    assert (len(local), len(in_utc)) == (3, 2)


def test_the_range_includes_its_begin_and_excludes_its_end() -> None:
    start = datetime(2026, 1, 1)  # noqa: DTZ001
    begin_ms, end_ms = ms("2026-01-05 00:00"), ms("2026-01-07 00:00")
    found = occurrence_starts(start, "UTC", "FREQ=DAILY", after_ms=begin_ms, before_ms=end_ms, limit=99)
    assert found == [begin_ms, begin_ms + 86_400_000]


@pytest.mark.parametrize("rule", [None, "FREQ=DAILY;COUNT=1", "FREQ=YEARLY;UNTIL=20260101T000000"])
def test_one_occurrence_is_in_the_ranges_that_include_its_start(rule: str | None) -> None:
    start, start_ms = datetime(2026, 1, 1), ms("2026-01-01 00:00")  # noqa: DTZ001
    for after_ms, before_ms, expected in (
        (start_ms - 1, start_ms, []),
        (start_ms - 1, start_ms + 1, [start_ms]),
        (start_ms, start_ms + 1, [start_ms]),
        (start_ms + 1, FOREVER_MS, []),
    ):
        found = occurrence_starts(start, "UTC", rule, after_ms=after_ms, before_ms=before_ms, limit=9)
        assert found == expected


@pytest.mark.parametrize("after_ms", [-(10**18), 0, 10**18])
def test_a_range_of_any_time_is_accepted(after_ms: int) -> None:
    start = datetime(2026, 1, 1)  # noqa: DTZ001
    found = occurrence_starts(start, "UTC", "FREQ=DAILY", after_ms=after_ms, before_ms=10**19, limit=1)
    assert len(found) == (after_ms < FOREVER_MS)


WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca")


def some(lowest: int, highest: int) -> st.SearchStrategy[str]:
    numbers = st.lists(st.integers(lowest, highest).filter(bool), min_size=1, max_size=4, unique=True)
    return numbers.map(lambda found: ",".join(map(str, found)))


@st.composite
def rules(draw: st.DrawFn) -> str:
    frequency = draw(st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY"]))
    parts = [f"FREQ={frequency}", f"INTERVAL={draw(st.sampled_from([1, 1, 1, 2, 3, 5, 7, 25, 90]))}"]
    lists = {"BYMONTH": (1, 12), "BYHOUR": (1, 23), "BYMINUTE": (1, 59)}
    if frequency != "WEEKLY":
        lists["BYMONTHDAY"] = (-31, 31)
    if frequency in {"YEARLY", "HOURLY", "MINUTELY"}:
        lists["BYYEARDAY"] = (-366, 366)
    for name, (lowest, highest) in lists.items():
        if draw(st.integers(0, 3)) == 0:
            parts.append(f"{name}={draw(some(lowest, highest))}")
    if draw(st.integers(0, 3)) == 0:
        days = draw(st.lists(st.sampled_from(WEEKDAYS), min_size=1, max_size=4, unique=True))
        numbered = frequency in {"YEARLY", "MONTHLY"} and draw(st.booleans())
        parts.append("BYDAY=" + ",".join(f"{'-1' if numbered else ''}{day}" for day in days))
    if draw(st.integers(0, 3)) == 0:
        parts.append(f"WKST={draw(st.sampled_from(WEEKDAYS))}")
    lists_something = any(part.startswith("BY") for part in parts)
    if frequency in {"YEARLY", "MONTHLY"} and lists_something and draw(st.integers(0, 3)) == 0:
        parts.append(f"BYSETPOS={draw(some(-3, 3))}")
    return ";".join(parts)


walls = st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)).map(lambda one: one.replace(microsecond=0))  # noqa: DTZ001


def reference(start: datetime, timezone: str, rule: str, before_ms: int) -> list[int]:
    """By dateutil alone, from the start on; it must have an occurrence from `before_ms` on."""
    found = set()
    zone = zone_of(timezone)
    for wall in rrulestr(rule, dtstart=start):
        start_ms = (wall.replace(tzinfo=zone) - EPOCH) // timedelta(milliseconds=1)
        # What a change of clocks skips is later than what follows it.
        if start_ms >= before_ms + 4 * 3_600_000:
            break
        found.add(start_ms)
    return sorted(one for one in found if one < before_ms)


@given(start=walls, timezone=st.sampled_from(ZONES), rule=rules(), skip=st.integers(0, 300))
@settings(max_examples=100, deadline=None)
def test_starts_are_those_of_dateutil_and_do_not_depend_on_where_the_range_begins(
    start: datetime, timezone: str, rule: str, skip: int
) -> None:
    every = occurrence_starts(start, timezone, rule, after_ms=0, before_ms=FOREVER_MS, limit=200)
    # What never applies, or not within this century, is searched by dateutil for seconds.
    assume(len(every) > 2)
    assert all(earlier < later for earlier, later in pairwise(every))
    *before, last, _ = every
    assert before == reference(start, timezone, rule, last)
    position = skip % len(before)
    rest = occurrence_starts(start, timezone, rule, after_ms=before[position], before_ms=last, limit=200)
    assert rest == before[position:]


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=YEARLY;INTERVAL=4;BYMONTH=2;BYMONTHDAY=29",
        "FREQ=YEARLY;BYYEARDAY=1;BYMONTH=12",
        "FREQ=YEARLY;BYDAY=53MO;BYMONTHDAY=1",
        "FREQ=MONTHLY;BYDAY=1MO;BYMONTHDAY=31",
        "FREQ=MONTHLY;BYSETPOS=366;BYDAY=MO",
        "FREQ=WEEKLY;BYSETPOS=366;BYDAY=MO",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYSETPOS=2;BYHOUR=3",
        "FREQ=HOURLY;INTERVAL=24;BYHOUR=13",
        "FREQ=MINUTELY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MINUTELY;INTERVAL=60;BYMINUTE=31",
        "FREQ=MINUTELY;INTERVAL=2;BYMINUTE=31",
        "FREQ=MINUTELY;INTERVAL=7;BYHOUR=3;BYMINUTE=11;BYMONTH=4;BYMONTHDAY=31",
        "FREQ=DAILY;UNTIL=20251231T000000",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30;COUNT=1000",
    ],
)
def test_a_rule_that_never_applies_is_found_out_within_a_second(rule: str) -> None:
    begun_s = time.process_time()
    assert starts("2026-01-01 12:30", "Europe/Berlin", rule) == []
    with pytest.raises(ValueError, match="it has no occurrence from start"):
        check_start(datetime(2026, 1, 1, 12, 30), "Europe/Berlin", rule)  # noqa: DTZ001
    # dateutil alone takes up to a minute.
    assert time.process_time() - begun_s < 1.0


EVERY_DAY = "BYMONTHDAY=" + ",".join(map(str, range(1, 32)))
EVERY_MINUTE = f"BYHOUR={','.join(map(str, range(24)))};BYMINUTE={','.join(map(str, range(60)))}"


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=MINUTELY",
        "FREQ=HOURLY;BYMINUTE=0,30",
        "FREQ=DAILY",
        "FREQ=WEEKLY;BYDAY=MO",
        "FREQ=MONTHLY;COUNT=1000",
        "FREQ=DAILY;COUNT=1000",
        "FREQ=YEARLY",
        f"FREQ=YEARLY;{EVERY_DAY};{EVERY_MINUTE}",
        f"FREQ=YEARLY;{EVERY_DAY};{EVERY_MINUTE};BYSETPOS=-1",
        f"FREQ=MONTHLY;{EVERY_DAY};{EVERY_MINUTE}",
        f"FREQ=DAILY;{EVERY_MINUTE}",
        "FREQ=WEEKLY;BYHOUR=0;BYMINUTE=" + ",".join(map(str, range(60))),
    ],
    ids=range(12),
)
def test_the_age_of_a_schedule_costs_nothing(rule: str) -> None:
    starts("2001-01-01 12:30", "Europe/Berlin", rule)
    begun_s = time.process_time()
    for _ in range(20):
        starts("2001-01-01 12:30", "Europe/Berlin", rule, n=1, after="2026-06-01 00:00")
    assert time.process_time() - begun_s < 0.5


@pytest.mark.parametrize(
    ("start", "timezone", "rule", "message"),
    [
        ("2026-03-29 02:30", "Europe/Berlin", None, "Europe/Berlin has no such time"),
        ("1999-12-31 00:00", "UTC", None, "it must be in the years 2000 to 2099"),
        ("2100-01-01 00:00", "UTC", None, "it must be in the years 2000 to 2099"),
        ("2026-01-01 00:00:00.5", "UTC", None, "it must be a whole second"),
        ("2026-01-01 00:00", "Mars/Olympus", None, "timezone is 'Mars/Olympus'; it must be the IANA name"),
        (
            "2026-01-01 00:00",
            "UTC",
            "FREQ=WEEKLY;BYDAY=MO",
            "does not have; its first occurrence is 2026-01-05T00:00:00",
        ),
    ],
)
def test_starts_that_are_refused(start: str, timezone: str, rule: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_start(datetime.fromisoformat(start), timezone, rule)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Berlin",
        "../../etc/passwd",
        "/etc/localtime",
        "localtime",
        "right/UTC",
        "posix/UTC",
        "Europe",
        "Europe/",
        "leapseconds",
        "UTC\n",
        "UTC\0",
        "\u00dcnicode/Zone",
        "a" * 500,
        "Europe/Berlin ",
        "+01:00",
        "zone.tab",
    ],
)
def test_what_is_no_time_zone(name: str) -> None:
    with pytest.raises(ValueError, match="it must be the IANA name of a time zone"):
        zone_of(name)
