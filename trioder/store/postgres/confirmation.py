"""An operator's confirmation that telemetry held by retention may be dropped, written to the database.

The headend reads it with its next maintenance, or after its next start.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import psycopg

from trioder.store.interface import StoreConfigurationError
from trioder.store.postgres.pg_connection import checked_conninfo

_CONNECT_WITHIN_S = 10


class HeldTelemetry(NamedTuple):
    """The days of telemetry that wait for a confirmation.

    Attributes:
        days: their number.
        first: the oldest.
        before: a confirmation approves all telemetry dated before this day.
        newest_day: the newest day of telemetry, which a confirmation trusts.
        reason: why they are held.
    """

    days: int
    first: date
    before: date
    newest_day: date
    reason: str


def held_telemetry(url: str) -> HeldTelemetry | None:
    """Read what waits for a confirmation; None if nothing does.

    Raises:
        StoreConfigurationError: the URL is malformed, or the database cannot be queried.
    """
    try:
        with _connect(url) as connection:
            row = connection.execute(
                "SELECT held_days, held_from, held_before, held_newest_day, held_reason "
                "FROM telemetry_retention WHERE held_days > 0"
            ).fetchone()
    except psycopg.Error as error:
        raise _query_error(error) from None
    return None if row is None else HeldTelemetry(*row)


def confirm(url: str, held: HeldTelemetry) -> None:
    """Approve dropping what is held.

    Raises:
        StoreConfigurationError: the database cannot be queried, what is held has changed, or it depends on
            a day in the future.
    """
    if held.newest_day > datetime.now(UTC).date() + timedelta(days=1):
        raise StoreConfigurationError(
            f"what is held rests on telemetry of {held.newest_day}, and by this machine's clock that day has "
            "not come: nothing is confirmed; let the headend run with a right clock"
        )
    try:
        with _connect(url) as connection:
            updated = connection.execute(
                "UPDATE telemetry_retention SET confirmed_before = held_before, "
                "newest_day = greatest(newest_day, held_newest_day), updated_at = now() "
                "WHERE held_days > 0 AND held_before = %s AND held_newest_day = %s",
                [held.before, held.newest_day],
            )
    except psycopg.Error as error:
        raise _query_error(error) from None
    if updated.rowcount != 1:
        raise StoreConfigurationError("what is held has changed meanwhile; nothing is confirmed: try again")


def _connect(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(
        checked_conninfo(url),
        autocommit=True,
        connect_timeout=_CONNECT_WITHIN_S,
        options="-c lock_timeout=10s",
    )


def _query_error(error: psycopg.Error) -> StoreConfigurationError:
    reason = " ".join((error.diag.message_primary or str(error)).split())
    return StoreConfigurationError(f"the database cannot be asked (does the headend run?): {reason}")
