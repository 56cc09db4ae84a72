"""An operator's answer to telemetry that retention holds: what waits is read, and confirmed, in the database.

The headend, which may run or not, sees the confirmation with its next maintenance.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg

from trioder.store.interface import StoreConfigurationError
from trioder.store.postgres.pg_connection import checked_conninfo

_CONNECT_WITHIN_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldTelemetry:
    """What waits.

    Attributes:
        days: how many days of telemetry, ...
        first: ... the oldest of them.
        before: what a confirmation approves: all telemetry that is dated before this day.
        newest_day: the day that the telemetry has come to; a confirmation says that this is right.
        reason: why it is held.
    """

    days: int
    first: date
    before: date
    newest_day: date
    reason: str


def held_telemetry(url: str) -> HeldTelemetry | None:
    """Read what waits for a confirmation; None when nothing does.

    Raises:
        StoreConfigurationError: the URL is none, or the database cannot be asked.
    """
    try:
        with _connect(url) as connection:
            row = connection.execute(
                "SELECT held_days, held_from, held_before, held_newest_day, held_reason "
                "FROM telemetry_retention WHERE held_days > 0"
            ).fetchone()
    except psycopg.Error as error:
        raise _refused(error) from None
    if row is None:
        return None
    days, first, before, newest_day, reason = row
    return HeldTelemetry(days=days, first=first, before=before, newest_day=newest_day, reason=reason)


def confirm(url: str, held: HeldTelemetry) -> None:
    """Approve that what is held goes.

    Raises:
        StoreConfigurationError: the database cannot be asked, holds something else by now, or what is held
            rests on a day that has not come.
    """
    if held.newest_day > datetime.now(UTC).date() + timedelta(days=1):
        raise StoreConfigurationError(
            f"what is held rests on telemetry of {held.newest_day}, and by this machine's clock that day has "
            "not come: nothing is confirmed; let the headend run with a right clock"
        )
    try:
        with _connect(url) as connection:
            done = connection.execute(
                "UPDATE telemetry_retention SET confirmed_before = held_before, "
                "newest_day = greatest(newest_day, held_newest_day), updated_at = now() "
                "WHERE held_days > 0 AND held_before = %s AND held_newest_day = %s",
                [held.before, held.newest_day],
            )
    except psycopg.Error as error:
        raise _refused(error) from None
    if done.rowcount != 1:
        raise StoreConfigurationError("what is held has changed meanwhile; nothing is confirmed: look again")


def _connect(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(
        checked_conninfo(url),
        autocommit=True,
        connect_timeout=_CONNECT_WITHIN_S,
        options="-c lock_timeout=10s",
    )


def _refused(error: psycopg.Error) -> StoreConfigurationError:
    reason = " ".join((error.diag.message_primary or str(error)).split())
    return StoreConfigurationError(f"the database cannot be asked (does the headend run?): {reason}")
