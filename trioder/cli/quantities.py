"""Numbers with sensible digits, durations and times: as they are printed, and as they are typed."""

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import click

from trioder.cli.printable import line_of

NONE = "-"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(sec|s|min|m|h|d)", re.ASCII)
_NEGATIVE = re.compile(r"-(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII)
_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_DURATION_RULE = "write a number with a unit, such as 90s, 15m, 1h30m or 2d"
_TIME_RULE = (
    "write 2026-01-31, 2026-01-31T18:00 (local time), 2026-01-31T18:00:00Z, or how long ago, such as 2h"
)
_MINUS = "\u2212"


def decimals_for(values: Iterable[float | None]) -> int:
    """Return how many decimals a column of powers or energies has, by the largest of them."""
    largest = max((abs(value) for value in values if value is not None and math.isfinite(value)), default=0.0)
    if largest >= 10_000:
        return 0
    return 1 if largest >= 100 else 2


def number_text(value: float | None, decimals: int, *, signed: bool = False) -> str:
    """Return a number with separators of thousands; `signed` with a plus where it is above 0."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:,.{decimals}f}"
    if not text.strip("-0.,"):
        # No minus before 0.
        return text.lstrip("-")
    return f"+{text}" if signed and value > 0 else text


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def mw_text(mw: float | None, *, signed: bool = False) -> str:
    """Return a power by itself, with its unit."""
    return NONE if mw is None else f"{number_text(mw, decimals_for([mw]), signed=signed)} MW"


def duration_text(seconds: float | None) -> str:
    """Return a duration in its two largest units, such as ``1h 30m``."""
    if seconds is None:
        return NONE
    left = round(seconds)
    parts = []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0s"


def time_text(time: str | None) -> str:
    """Return a time of the API, RFC 3339, as local time with its zone."""
    if time is None:
        return NONE
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        return line_of(time, 40)
    return moment_text(moment)


def moment_text(moment: datetime) -> str:
    """Return an instant as local time, in seconds, with its zone."""
    try:
        return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"
    except (OverflowError, ValueError, OSError):
        # In the first or the last hours of the calendar.
        return moment.isoformat()


class Duration(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.4
    """A duration with units, in whole seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the seconds."""
        if isinstance(value, int):
            return value
        seconds = _seconds_of(str(value))
        if seconds is None:
            self.fail(f"{line_of(str(value), 40)!r} is no duration; {_DURATION_RULE}", param, ctx)
        if seconds < 1 or seconds != int(seconds):
            self.fail(
                f"{line_of(str(value), 40)!r} is {seconds:g} s; it must be whole seconds, 1 at least",
                param,
                ctx,
            )
        return int(seconds)


class Moment(click.ParamType):  # type: ignore[type-arg]  # as above
    """An instant: local or with an offset, a date, or how long ago; converted to RFC 3339 in UTC."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return RFC 3339 in UTC, with ms."""
        text = str(value).strip()
        ago = _seconds_of(text)
        try:
            if text.lower() == "now":
                moment = datetime.now(UTC)
            elif ago is not None:
                moment = datetime.now(UTC) - timedelta(seconds=ago)
            else:
                moment = datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError, OSError):
            self.fail(f"{line_of(text, 40)!r} is no time; {_TIME_RULE}", param, ctx)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Power(click.ParamType):  # type: ignore[type-arg]  # as above
    """A power in MW; with a minus it charges."""

    name = "MW"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the MW."""
        text = str(value).replace(_MINUS, "-").strip()
        try:
            mw = float(text)
        except ValueError:
            self.fail(f"{line_of(text, 40)!r} is no number of MW, such as 12.5 or -5", param, ctx)
        if not math.isfinite(mw):
            self.fail(f"{text!r} is not finite", param, ctx)
        return mw


def protect_negative_numbers(arguments: Iterable[str]) -> list[str]:
    """Return arguments in which a negative number is not taken for an option."""
    return [_MINUS + argument[1:] if _NEGATIVE.fullmatch(argument) else argument for argument in arguments]


def _seconds_of(text: str) -> float | None:
    text = text.strip().lower()
    if not text or _DURATION.sub("", text).strip():
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))
