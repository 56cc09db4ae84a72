"""Bodies and query parameters: encoded by msgspec, and described in OpenAPI from these types.

Units are in the names; + MW discharges to the grid, - MW charges. Times are RFC 3339 with ms, in UTC.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from trioder.domain.dispatch import Priority
from trioder.domain.quality import LatestQuality, QualityName
from trioder.domain.telemetry import Source, Status

Id = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]

# Of a list with pages.
MAX_ROWS = 1_000_000
MAX_HISTORY_ROWS = 10_000
# Of samples as lines: as good as none.
MAX_HISTORY_LINES = 1_000_000_000
DEFAULT_HISTORY_ROWS = 100
# In s, by their names: each divides the next, and a day.
RESOLUTIONS = {
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "30m": 1800,
    "1h": 3600,
    "2h": 7200,
    "6h": 21_600,
    "1d": 86_400,
}

Limit = Annotated[int, Meta(ge=1, le=MAX_ROWS, description="Maximum number of rows.")]
After = Annotated[Id, Meta(description="Continue after this asset, the last of the previous page.")]
OfSite = Annotated[Id, Meta(description="Only the assets of this site.")]


class AssetRow(Struct):
    """The nameplate of an asset. `efficiency` is one-way; its square is the round-trip efficiency."""

    id: Id
    site_id: Id
    site_name: str
    name: str
    location: str
    capacity_mwhr: float
    max_mw: float
    min_mw: float
    efficiency: float
    ramp_rate_mw_per_min: float
    charge_efficiency: float
    discharge_efficiency: float
    min_soc_pct: float
    max_soc_pct: float
    aux_load_mw: float
    self_discharge_pct_per_day: float


class PowerRow(Struct, kw_only=True):
    """Power that the assets can hold together: magnitudes."""

    discharge_mw: float
    charge_mw: float


class AvailableRow(Struct, kw_only=True, rename={"min_15": "15_min", "min_60": "60_min"}):
    """Power that the assets can hold together now, for 15 minutes, and for 60 minutes."""

    now: PowerRow
    min_15: PowerRow
    min_60: PowerRow


class FleetRow(Struct, kw_only=True):
    """Sums over assets.

    Capacity and limits are summed over all assets; current_mw, setpoint_mw and soc_mwhr over live_assets.
    stale_assets have no recent sample, or none at all; they and assets whose latest sample is suspect or bad
    are excluded. by_quality counts the samples.
    requested_mw is the sum of the setpoints of open dispatches, null without any; dispatched_assets have one,
    and stopped_assets are those of them that an emergency stop holds.
    `available` covers the live assets that are connected: the power that a dispatch to them can obtain.
    """

    assets: int
    connected_assets: int
    live_assets: int
    stale_assets: int
    by_quality: dict[LatestQuality, int]
    capacity_mwhr: float
    max_mw: float
    min_mw: float
    current_mw: float
    setpoint_mw: float
    soc_mwhr: float
    requested_mw: float | None
    dispatched_assets: int
    stopped_assets: int
    available: AvailableRow


class AlarmCountsRow(Struct, kw_only=True):
    """Numbers of alarms by severity."""

    critical: int = 0
    major: int = 0
    minor: int = 0
    warning: int = 0


class SiteRow(FleetRow, kw_only=True):
    """A site, and the sums over its assets.

    The limits are those in effect, null for none; `limits_until`: until when, if they were set for a time.
    `alarms` are the open ones that list the site, `unacknowledged_alarms` those that nobody acknowledged.
    """

    id: Id
    name: str
    tenant: str
    location: str
    lat: float | None
    lon: float | None
    export_limit_mw: float | None
    import_limit_mw: float | None
    limits_until: Time | None
    alarms: AlarmCountsRow
    unacknowledged_alarms: int


class TelemetryRow(Struct, kw_only=True):
    """The latest sample of an asset.

    `source` is the asset's agent, or the headend's own model. `quality` is `stale` when an agent's good
    sample is old, `suspect` when a value is implausible (not finite, which is null here; beyond the
    nameplate; a step faster than the ramp rate), and `bad` when the device flagged it, both at any age.
    `timestamp` is by the agent's clock, `age_s` by the headend's. `dispatch_id` is the active dispatch of the
    asset, `remaining_s` the time until it ends: null without a dispatch, or without an end; `priority` is the
    dispatch's, `emergency` that of a stop. max_mw and min_mw are the nameplate's; the available powers are
    magnitudes, which the battery can hold for one pulse.
    """

    asset_id: Id
    site_id: Id
    site_name: str
    timestamp: Time
    soc_mwhr: float | None
    soc_pct: float | None
    capacity_mwhr: float
    current_mw: float | None
    setpoint_mw: float | None
    max_mw: float
    min_mw: float
    status: Status | None
    available_discharge_mw: float | None
    available_charge_mw: float | None
    source: Source
    age_s: float
    quality: LatestQuality
    dispatch_id: Id | None
    remaining_s: float | None
    priority: Priority | None


class HistoryRow(Struct, kw_only=True):
    """A recorded sample. A value that is not finite is null."""

    asset_id: Id
    site_id: Id
    timestamp: Time
    soc_mwhr: float | None
    soc_pct: float | None
    capacity_mwhr: float
    current_mw: float | None
    setpoint_mw: float | None
    max_mw: float
    min_mw: float
    status: Status
    source: Source
    quality: QualityName


class StatisticsRow(Struct, kw_only=True):
    """Of one quantity, over the good and synthesized samples of a period: null without any.

    The mean is that of the samples; `last` is the newest.
    """

    mean: float | None
    min: float | None
    max: float | None
    last: float | None


class HistoryBucketRow(Struct, kw_only=True):
    """The samples of an asset in one period, which begins at `timestamp`.

    `samples` counts all, `good_samples` those that are good or synthesized, of which the statistics are;
    `worst_quality` is the worst of all: good, synthesized, suspect, wrong_time, bad.
    """

    timestamp: Time
    samples: int
    good_samples: int
    worst_quality: QualityName
    soc_mwhr: StatisticsRow
    soc_pct: StatisticsRow
    current_mw: StatisticsRow
    setpoint_mw: StatisticsRow


class AgentRow(Struct, kw_only=True):
    """A connected asset and its agent.

    `clock_skew_s` is how far the agent's clock is ahead of the headend's (behind, when negative), and
    `clock_error_s` the maximum error of that; null when unknown.
    """

    asset_id: Id
    asset_name: str
    site_name: str
    peer: str
    agent_id: str
    connected_at: Time
    clock_skew_s: float | None
    clock_error_s: float | None


class SessionRow(Struct, kw_only=True):
    """A recorded session of an agent; open while disconnected_at is null."""

    session_id: Id
    agent_id: str
    epoch: int
    peer: str
    assets: int
    connected_at: Time
    disconnected_at: Time | None
    reason: str | None


class FleetReloadResponse(Struct, kw_only=True):
    """The changes made by a reload of the fleet file: numbers of assets."""

    assets: Annotated[int, Meta(description="In the fleet after the reload.")]
    added: int
    changed: Annotated[int, Meta(description="With another nameplate, name or site.")]
    retired: Annotated[int, Meta(description="No longer in the file; their history remains readable.")]


class HealthResponse(Struct, kw_only=True):
    """The headend's health. The status is 503 when degraded.

    The numbers are of what the caller sees, and absent for callers without a token where one is needed;
    db_reason and db_backlog_rows are for callers that see everything.
    """

    status: Literal["ok", "degraded"]
    db: Literal["ok", "error", "disabled"]
    db_reason: Annotated[str, Meta(description="Why db is error; empty otherwise.")] | UnsetType = UNSET
    db_backlog_rows: Annotated[int, Meta(description="Samples waiting to be committed.")] | UnsetType = UNSET
    agents: int | UnsetType = UNSET
    assets_connected: int | UnsetType = UNSET
    assets: int | UnsetType = UNSET


class IndexResponse(Struct, kw_only=True):
    """Entry points of the API."""

    name: str
    version: str
    links: dict[str, str]


class OpenApiResponse(Struct):
    """An OpenAPI 3.1 document."""


class NoQuery(Struct):
    """No query parameters."""


class AssetsQuery(Struct, kw_only=True):
    """Which assets."""

    site_id: OfSite | None = None
    limit: Limit = MAX_ROWS
    after: After | None = None


class LatestQuery(Struct, kw_only=True):
    """Which assets' latest samples."""

    site_id: OfSite | None = None
    asset_id: Annotated[list[Id], Meta(description="Only these assets; may be repeated.")] = msgspec.field(
        default_factory=list
    )
    limit: Limit = MAX_ROWS
    after: After | None = None


class HistoryQuery(Struct, kw_only=True):
    """Which recorded samples, newest first; or their statistics by periods."""

    limit: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_HISTORY_ROWS,
            description="Maximum number of rows. Samples as application/x-ndjson may be 1,000,000,000, which "
            "is then the default.",
        ),
    ] = DEFAULT_HISTORY_ROWS
    start: Annotated[Time, Meta(description="At or after this time.")] | None = None
    end: Annotated[Time, Meta(description="Before this time.")] | None = None
    resolution: (
        Annotated[
            Literal["1m", "5m", "15m", "30m", "1h", "2h", "6h", "1d"],
            Meta(
                description="Instead of samples, a row per period of this length, in UTC, that has any; "
                "`start` and `end` are then rounded to whole periods, at most 10,000 of them."
            ),
        ]
        | None
    ) = None


class SessionsQuery(Struct, kw_only=True):
    """Which sessions, newest first."""

    asset_id: Annotated[Id, Meta(description="Only sessions with this asset.")] | None = None
    site_id: Annotated[Id, Meta(description="Only sessions with an asset of this site.")] | None = None
    agent_id: Annotated[str, Meta(description="Only sessions of this agent.")] | None = None
    before: (
        Annotated[Id, Meta(description="Continue after this session, the last of the previous page.")] | None
    ) = None
    limit: Annotated[int, Meta(ge=1, le=MAX_HISTORY_ROWS, description="Maximum number of rows.")] = (
        DEFAULT_HISTORY_ROWS
    )


class AgentsQuery(Struct, kw_only=True):
    """Which connected assets, in fleet order."""

    limit: Limit = MAX_ROWS
    after: After | None = None
