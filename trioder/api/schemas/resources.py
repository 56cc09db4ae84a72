"""What REST takes and tells, as types: msgspec encodes from them, and OpenAPI is derived from them.

Units are in the names; + MW discharges to the grid, - MW charges. Times are RFC 3339 with ms, in UTC.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from trioder.domain.quality import QualityName
from trioder.domain.telemetry import Source, Status
from trioder.ingest.latest import Quality
from trioder.store.interface import StoreHealth

Id = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]

# What an answer has at most when its list may be asked for in pages.
MAX_ROWS = 1_000_000
MAX_HISTORY_ROWS = 10_000
DEFAULT_HISTORY_ROWS = 100

Limit = Annotated[int, Meta(ge=1, le=MAX_ROWS, description="At most so many rows.")]
After = Annotated[Id, Meta(description="Go on after this asset: the last one of the page before.")]
OfSite = Annotated[Id, Meta(description="Only the assets of this site.")]


class AssetRow(Struct, kw_only=True):
    """An asset of the fleet: its nameplate. `efficiency` is one-way, its square the round trip's."""

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
    """What could be held together: magnitudes."""

    discharge_mw: float
    charge_mw: float


class AvailableRow(Struct, kw_only=True, rename={"min_15": "15_min", "min_60": "60_min"}):
    """What could be held together now, for a quarter of an hour, and for an hour."""

    now: PowerRow
    min_15: PowerRow
    min_60: PowerRow


class FleetRow(Struct, kw_only=True):
    """Assets as one.

    Capacity and limits are those of all; current_mw, setpoint_mw and soc_mwhr are summed over live_assets.
    stale_assets have not been heard of lately, or never; they are left out, and so are those whose latest
    sample is suspect or bad. by_quality counts the samples.
    `available` is of the live assets that an agent drives: what a command to all of them could get.
    """

    assets: int
    connected_assets: int
    live_assets: int
    stale_assets: int
    by_quality: dict[Quality, int]
    capacity_mwhr: float
    max_mw: float
    min_mw: float
    current_mw: float
    setpoint_mw: float
    soc_mwhr: float
    available: AvailableRow


class SiteRow(FleetRow, kw_only=True):
    """A site, and the sums over its assets."""

    id: Id
    name: str
    location: str
    lat: float | None
    lon: float | None


class TelemetryRow(Struct, kw_only=True):
    """The latest sample of an asset.

    `source` says who made it: the asset's agent, or the headend's own model. `quality` is `stale` once an
    agent's good sample is old, `suspect` when a value cannot be (not finite, which is null here; beyond the
    nameplate; a step faster than its ramp), and `bad` when the device flagged it, both at any age.
    `timestamp` is the agent's, `age_s` goes by the headend's clock. `dispatch_id` is of the dispatch that the
    asset is under, `remaining_s` how long that holds on: null where there is none, or no end. max_mw and
    min_mw are the nameplate's; the available powers are magnitudes: what the battery could hold over one
    pulse.
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
    quality: Quality
    dispatch_id: Id | None
    remaining_s: float | None


class HistoryRow(Struct, kw_only=True):
    """A recorded sample. A value that is no finite number is null; its quality says why."""

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


class AgentRow(Struct, kw_only=True):
    """A connected asset and the agent that drives it.

    `clock_skew_s` is how far the agent's clock is ahead of the headend's (behind, when negative), by
    `clock_error_s` at most wrong; null while that is not known.
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
    """A session of an agent, as it is remembered; still open while disconnected_at is null."""

    session_id: Id
    agent_id: str
    epoch: int
    peer: str
    assets: int
    connected_at: Time
    disconnected_at: Time | None
    reason: str | None


class FleetReloadAnswer(Struct, kw_only=True):
    """What a reload of the fleet file has changed, in assets."""

    assets: Annotated[int, Meta(description="In the fleet now.")]
    added: int
    changed: Annotated[int, Meta(description="Of another nameplate, name or site.")]
    retired: Annotated[int, Meta(description="No longer in the file; their history can still be read.")]


class HealthAnswer(Struct, kw_only=True):
    """How the headend is. Answered with 503 when degraded."""

    status: Literal["ok", "degraded"]
    db: StoreHealth
    db_reason: Annotated[str, Meta(description="Why db is error; empty when it is not.")]
    db_backlog_rows: Annotated[int, Meta(description="Samples that wait to be committed.")]
    agents: int
    assets_connected: int
    assets: int


class IndexAnswer(Struct, kw_only=True):
    """Where to go from here."""

    name: str
    version: str
    links: dict[str, str]


class OpenApiAnswer(Struct):
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
    """Which recorded samples, newest first."""

    limit: Annotated[int, Meta(ge=1, le=MAX_HISTORY_ROWS, description="At most so many rows.")] = (
        DEFAULT_HISTORY_ROWS
    )
    start: Annotated[Time, Meta(description="From this instant on.")] | None = None
    end: Annotated[Time, Meta(description="Before this instant.")] | None = None


class SessionsQuery(Struct, kw_only=True):
    """Which sessions, newest first."""

    asset_id: Annotated[Id, Meta(description="Only sessions that drove this asset.")] | None = None
    agent_id: Annotated[str, Meta(description="Only sessions of this agent.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_HISTORY_ROWS, description="At most so many rows.")] = (
        DEFAULT_HISTORY_ROWS
    )


class AgentsQuery(Struct, kw_only=True):
    """Which connected assets, in fleet order."""

    limit: Limit = MAX_ROWS
    after: After | None = None
