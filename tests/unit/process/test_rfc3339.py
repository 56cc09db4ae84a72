import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioder.process.rfc3339 import format_ms, parse_ms

FIRST_MS = -62135596800000
LAST_MS = 253402300799999


def test_a_time_is_written_in_utc_with_milliseconds() -> None:
    assert format_ms(1767323045678) == "2026-01-02T03:04:05.678Z"


@given(st.integers(FIRST_MS, LAST_MS))
def test_what_is_written_is_read_back(ts_unix_ms: int) -> None:
    assert parse_ms(format_ms(ts_unix_ms)) == ts_unix_ms


@pytest.mark.parametrize("ts_unix_ms", [FIRST_MS - 1, LAST_MS + 1, 10**30])
def test_a_time_outside_of_the_calendar_is_refused(ts_unix_ms: int) -> None:
    with pytest.raises(ValueError, match=f"{ts_unix_ms} ms is not a time"):
        format_ms(ts_unix_ms)


@given(st.datetimes(timezones=st.timezones()).filter(lambda moment: 1900 < moment.year < 9000))
def test_it_agrees_with_datetime_on_any_offset(moment: datetime) -> None:
    offset = moment.utcoffset()
    assert offset is not None
    if offset.total_seconds() % 60:  # RFC 3339 has no seconds in offsets
        return
    expected = (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    assert abs(parse_ms(moment.isoformat()) - expected * 1000) <= 1


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"),
        ("2026-01-02t03:04:05z", "2026-01-02T03:04:05.000Z"),
        ("2026-01-02 03:04:05.1+00:00", "2026-01-02T03:04:05.100Z"),
        ("2026-01-02T03:04:05.678999999Z", "2026-01-02T03:04:05.678Z"),
        ("2026-01-02T03:04:05-07:00", "2026-01-02T10:04:05.000Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000Z"),
    ],
)
def test_every_form_of_the_rfc_is_read(text: str, same: str) -> None:
    assert format_ms(parse_ms(text)) == same


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-01-02",
        "2026-W01-1",
        "20260102T030405Z",
        "2026-01-02T03:04:05",
        "2026-13-02T03:04:05Z",
        "2026-02-30T03:04:05Z",
        "2026-01-02T24:00:00Z",
        "2026-01-02T03:04:61Z",
        "2026-01-02T03:04:05+24:00",
        "2026-01-02T03:04:05Z\n",
        "2026-01-02T03:04:61.123Z",
        "2026-02-30T03:04:05.123Z",
        "2026-01-02T03:04:05.+12Z",
        "2026-01-02T03:04:05. 12Z",
        "2026-01-02T03:04:05.1_2Z",
        "2026-01-02T03:04:05.\u0660\u0661\u0662Z",
        "2026-01-02T03:04:05.\u00b2\u00b2\u00b2Z",
        "2026-01-02T03:04:05,123Z",
        "٢٠٢٦-01-02T03:04:05Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:60Z",
        "0000-01-01T00:00:00Z",
    ],
)
def test_anything_else_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="not a") as refusal:
        parse_ms(text)
    assert repr(text) in str(refusal.value)


@given(st.text(max_size=40))
def test_no_text_makes_it_raise_anything_else(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_ms(text)
