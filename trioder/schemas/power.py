"""The bodies and parameters of `/fleet/power` and `/fleet/history`, and of those of a site."""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from trioder.domain.quality import QualityName
from trioder.schemas.resources import DEFAULT_HISTORY_ROWS, MAX_HISTORY_ROWS, Id, Time

MAX_MINUTES = 15
DEFAULT_RESOLUTION: Final = "15m"


class PowerPointRow(Struct, kw_only=True):
    """Sums over assets at one moment.

    current_mw and setpoint_mw are sums over live_assets, those with a good sample that is not stale, or a
    synthesized one; null if there are none. requested_mw is the sum of the setpoints of open dispatches; null
    without any, and in points from the database.
    """

    at: Time
    current_mw: float | None
    setpoint_mw: float | None
    requested_mw: float | None
    assets: int
    live_assets: int


class RecentPowerResponse(Struct, kw_only=True):
    """The power of the last minutes, oldest first; site_id is null for the fleet.

    Points follow each other after `step_s`, those from before the headend's start after 15 s. Where there are
    none, the power is not known.
    """

    site_id: Id | None
    step_s: float
    points: list[PowerPointRow]


class RecentPowerQuery(Struct, kw_only=True):
    """How far back."""

    minutes: Annotated[int, Meta(ge=1, le=MAX_MINUTES, description="Up to so many minutes ago.")] = (
        MAX_MINUTES
    )


class SiteHistoryRow(Struct, kw_only=True):
    """Sums over the assets of a site, or of the fleet, in one period, which begins at `timestamp`.

    `assets` have good or synthesized samples in it: the sums are of their means, and null if there are none.
    soc_pct is soc_mwhr in % of capacity_mwhr, the capacity of the same assets. `samples`, `good_samples` and
    `worst_quality` are as in the history of an asset.
    """

    timestamp: Time
    assets: int
    samples: int
    good_samples: int
    worst_quality: QualityName
    current_mw: float | None
    setpoint_mw: float | None
    soc_mwhr: float | None
    soc_pct: float | None
    capacity_mwhr: float | None


class SiteHistoryQuery(Struct, kw_only=True):
    """Which periods, newest first."""

    resolution: Annotated[
        Literal["5m", "15m", "30m", "1h", "2h", "6h", "1d"],
        Meta(description="The length of a period, in UTC."),
    ] = DEFAULT_RESOLUTION
    limit: Annotated[int, Meta(ge=1, le=MAX_HISTORY_ROWS, description="Maximum number of rows.")] = (
        DEFAULT_HISTORY_ROWS
    )
    start: Annotated[Time, Meta(description="At or after this time.")] | None = None
    end: Annotated[Time, Meta(description="Before this time.")] | None = None
