"""The name of the system's time zone, which schedules follow by default."""

import os
from pathlib import Path

import click

LOCALTIME = Path("/etc/localtime")
_DATABASE = "zoneinfo/"


def local_zone_name() -> str:
    """Return the IANA name of the zone whose clock this process shows.

    Raises:
        UsageError: the system does not say it.
    """
    name = os.environ.get("TZ", "").lstrip(":")
    if not name:
        try:
            name = str(LOCALTIME.resolve(strict=True))
        except OSError:
            # Without the file the clock is in UTC.
            return "UTC"
    if _DATABASE in name:
        name = name.rpartition(_DATABASE)[2]
    if name.startswith("/") or not name.isprintable() or "," in name:
        raise click.UsageError(
            "the system's time zone has no known name; add --timezone, such as Europe/Berlin"
        )
    return name
