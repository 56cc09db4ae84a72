"""Values as the database takes them."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(ts_unix_ms: int | None) -> datetime | None:
    """The instant as the database takes it."""
    return None if ts_unix_ms is None else _EPOCH + timedelta(milliseconds=ts_unix_ms)


def storable(text: str | None) -> str | None:
    """The text without what a text column cannot hold and an agent may have sent."""
    return None if text is None else text.replace("\0", "\N{REPLACEMENT CHARACTER}")
