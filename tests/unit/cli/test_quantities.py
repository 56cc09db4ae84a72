"""Numbers, durations and times: as they are printed, and as they are typed."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import click
import pytest

from trioder.cli.quantities import (
    Duration,
    Moment,
    Power,
    decimals_for,
    duration_text,
    mw_text,
    number_text,
    protect_negative_numbers,
    time_text,
)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (-0.001, "0.00"), (12.345, "12.35"), (-5, "-5.00"), (1234.5, "1,234.50"), (None, "-")],
)
def test_a_number(value: float | None, text: str) -> None:
    assert number_text(value, 2) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_shown_as_none(value: float) -> None:
    assert number_text(value, 2) == "-"


def test_a_signed_number_has_a_plus_above_zero() -> None:
    assert [number_text(value, 1, signed=True) for value in (1.0, 0.0, -1.0)] == ["+1.0", "0.0", "-1.0"]


@pytest.mark.parametrize(("values", "decimals"), [([], 2), ([99.9, None], 2), ([5, -100], 1), ([12_000], 0)])
def test_the_largest_number_decides_the_decimals(values: list[float | None], decimals: int) -> None:
    assert decimals_for(values) == decimals


def test_a_power_by_itself_has_its_unit() -> None:
    assert (mw_text(-123.456), mw_text(5, signed=True), mw_text(None)) == ("-123.5 MW", "+5.00 MW", "-")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (45, "45s"), (900, "15m"), (5400, "1h 30m"), (86_400, "1d"), (90_061, "1d 1h"), (3601, "1h")],
)
def test_a_duration_is_shown_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.usefixtures("berlin")
def test_a_time_is_local_with_its_zone() -> None:
    assert time_text("2026-07-01T12:00:00.500Z") == "2026-07-01 14:00:00 CEST"
    assert time_text("2026-01-01T12:00:00.500Z") == "2026-01-01 13:00:00 CET"
    assert time_text(None) == "-"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172_800)]
)
def test_a_duration_is_typed_with_units(text: str, seconds: int) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["90", "", "15 minutes", "0s", "0.5s", "-15m", "\x1b[2J"])
def test_a_duration_that_is_none_is_named(text: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        Duration().convert(text, None, None)
    assert "\x1b" not in str(caught.value)


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-07-01", "2026-06-30T22:00:00.000Z"),
        ("2026-07-01T12:00", "2026-07-01T10:00:00.000Z"),
        ("2026-07-01T12:00:00Z", "2026-07-01T12:00:00.000Z"),
        ("2026-07-01 12:00:00-02:00", "2026-07-01T14:00:00.000Z"),
    ],
)
def test_a_time_without_offset_is_local(text: str, utc: str) -> None:
    assert Moment().convert(text, None, None) == utc


def test_a_duration_as_a_time_is_how_long_ago() -> None:
    typed = datetime.fromisoformat(Moment().convert("2h", None, None))
    assert abs(datetime.now(UTC) - timedelta(hours=2) - typed) < timedelta(seconds=10)


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_is_none_is_named(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no time"):
        Moment().convert(text, None, None)


@pytest.mark.parametrize(("text", "mw"), [("12.5", 12.5), ("-5", -5.0), ("+3", 3.0), ("\u2212.5", -0.5)])
def test_a_power(text: str, mw: float) -> None:
    assert Power().convert(text, None, None) == mw


@pytest.mark.parametrize("text", ["ten", "nan", "inf", "5MW"])
def test_a_power_that_is_none_is_named(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Power().convert(text, None, None)


def test_negative_numbers_are_no_options() -> None:
    assert protect_negative_numbers(["-5", "-.5", "-1e3", "-x", "--json", "-5h"]) == [
        "\u22125",
        "\u2212.5",
        "\u22121e3",
        "-x",
        "--json",
        "-5h",
    ]
