"""The text of recurrence rules: what is accepted, and what is refused with which words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioder.domain.recurrence_rule import MAX_RULE_LENGTH, RecurrenceError, parse_recurrence, read_rule


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("FREQ=DAILY", "FREQ=DAILY"),
        ("RRULE:FREQ=WEEKLY;BYDAY=MO,FR", "FREQ=WEEKLY;BYDAY=MO,FR"),
        ("freq=monthly;byday=+1mo,-1fr", "FREQ=MONTHLY;BYDAY=+1MO,-1FR"),
        ("FREQ=YEARLY;UNTIL=99991231T235959Z", "FREQ=YEARLY;UNTIL=99991231T235959Z"),
        ("BYMONTHDAY=-1;FREQ=MONTHLY;WKST=SU", "BYMONTHDAY=-1;FREQ=MONTHLY;WKST=SU"),
    ],
)
def test_what_is_accepted_and_kept(text: str, kept: str) -> None:
    assert parse_recurrence(text) == kept
    assert parse_recurrence(kept) == kept


def test_a_rule_in_parts() -> None:
    rule = read_rule("FREQ=MONTHLY;INTERVAL=2;BYDAY=-1FR,MO;BYMONTH=12,1;COUNT=7;WKST=SU")
    assert (rule.frequency, rule.interval, rule.count, rule.week_start) == ("MONTHLY", 2, 7, 6)
    assert (rule.by_day, rule.by_month) == (((0, 0), (4, -1)), (1, 12))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "recurrence is empty"),
        ("RRULE:", "recurrence is empty"),
        ("daily", "recurrence has the part 'DAILY'; its parts are FREQ, INTERVAL"),
        ("every day", "it must be an RRULE of RFC 5545"),
        ("FREQ=DAILY;", "recurrence has the part ''"),
        ("FREQ", "FREQ is ''; it must be YEARLY"),
        ("FREQ=DAILY=2", "FREQ is 'DAILY=2'"),
        ("INTERVAL=2", "recurrence has no FREQ"),
        ("FREQ=SECONDLY", "FREQ is 'SECONDLY'; it must be YEARLY, MONTHLY"),
        ("FREQ=DAILY;FREQ=DAILY", "recurrence has FREQ more than once"),
        ("FREQ=DAILY;INTERVAL=0", "INTERVAL is '0'; it must be a whole number, 1 to 10000"),
        ("FREQ=DAILY;INTERVAL=-1", "INTERVAL is '-1'"),
        ("FREQ=DAILY;INTERVAL=1.5", "it must be an RRULE"),
        ("FREQ=DAILY;INTERVAL=99999999999999999999", "INTERVAL is '99999999999999999999'"),
        ("FREQ=DAILY;COUNT=0", "COUNT is '0'; it must be a whole number, 1 to 1000"),
        ("FREQ=DAILY;COUNT=1001", "COUNT is '1001'"),
        ("FREQ=DAILY;COUNT=2;UNTIL=20260101T000000Z", "both COUNT and UNTIL"),
        ("FREQ=DAILY;UNTIL=20260101", "UNTIL is '20260101'; it must be a time such as"),
        ("FREQ=DAILY;UNTIL=20260230T000000", "UNTIL is '20260230T000000'"),
        ("FREQ=DAILY;UNTIL=00000101T000000", "UNTIL is '00000101T000000'"),
        ("FREQ=DAILY;UNTIL=20260101T000000+0100", "UNTIL is '20260101T000000\\+0100'"),
        ("FREQ=DAILY;BYHOUR=24", "BYHOUR has '24'; its numbers are 0 to 23"),
        ("FREQ=DAILY;BYHOUR=", "BYHOUR has ''"),
        ("FREQ=DAILY;BYHOUR=1,,2", "BYHOUR has ''"),
        ("FREQ=DAILY;BYSECOND=60", "BYSECOND has '60'"),
        ("FREQ=DAILY;BYSECOND=0,30", "BYSECOND is '0,30'; it must be one number"),
        ("FREQ=DAILY;BYMONTHDAY=0", "BYMONTHDAY has '0'; its numbers are 1 to 31, or -31 to -1 from the end"),
        ("FREQ=DAILY;BYMONTH=-1", "BYMONTH has '-1'"),
        ("FREQ=DAILY;BYDAY=XX", "BYDAY has 'XX'; its days are MO, TU"),
        ("FREQ=DAILY;BYDAY=1MO", "numbered days are for FREQ=MONTHLY"),
        ("FREQ=MONTHLY;BYDAY=0MO", "BYDAY has '0MO'; its number must be 1 to 5"),
        ("FREQ=MONTHLY;BYDAY=53MO", "its number must be 1 to 5"),
        ("FREQ=YEARLY;BYDAY=54MO", "its number must be 1 to 53"),
        ("FREQ=YEARLY;BYWEEKNO=1;BYDAY=MO", "recurrence has the part 'BYWEEKNO=1'"),
        ("FREQ=WEEKLY;BYMONTHDAY=1", "recurrence has BYMONTHDAY with FREQ=WEEKLY"),
        ("FREQ=DAILY;BYYEARDAY=1", "recurrence has BYYEARDAY with FREQ=DAILY"),
        ("FREQ=DAILY;BYSETPOS=1", "recurrence has BYSETPOS alone"),
        ("FREQ=HOURLY;BYMINUTE=1;BYSETPOS=1", "recurrence has BYSETPOS with FREQ=HOURLY"),
        ("FREQ=DAILY;BYEASTER=1", "recurrence has the part 'BYEASTER=1'"),
        ("FREQ=DAILY;WKST=XX", "WKST is 'XX'"),
        ("FREQ=DAILY;X-NOTE=1", "recurrence has the part 'X-NOTE=1'"),
        ("FREQ=DAILY\nDTSTART:20260101T000000", "it must be one rule, on one line"),
        ("FREQ=DAILY\r\n", "on one line and without spaces around it"),
        ("FREQ=DAILY\u2028", "on one line"),
        ("DTSTART:20260101T000000Z", "it must be an RRULE"),
        ("RRULE:RRULE:FREQ=DAILY", "it must be an RRULE"),
        ("FREQ=DAILY;BYHOUR=\u0661", "it must be an RRULE"),
        ("FREQ=DA\u0131LY", "it must be an RRULE"),
        ("FREQ=DAILY;BYHOUR=" + "1," * 300 + "1", f"it must have at most {MAX_RULE_LENGTH}"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(RecurrenceError, match=message):
        parse_recurrence(text)


@given(st.text(max_size=60) | st.text(alphabet="FREQ=DAILYBYMONTHUR;,:+-0123456789Z", max_size=60))
def test_any_text_is_kept_or_refused_in_one_line_of_ascii(text: str) -> None:
    message, kept = "", ""
    try:
        kept = parse_recurrence(text)
    except RecurrenceError as error:
        message = str(error)
    assert bool(message) != bool(kept)
    assert message.isascii()
    assert message.isprintable()
    if kept:
        assert parse_recurrence(kept) == kept
