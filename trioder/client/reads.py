"""What can be read over REST, the live feed aside: the request that each takes, and what it returns.

The clients have a method for each, with the same name and parameters. + MW discharges to the grid, - MW
charges. Times are RFC 3339 text, or `datetime` with a time zone. Lists with pages have all rows, or `limit`.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal

import msgspec

from trioder.client.lists import PAGE_ROWS, LineList, Listing
from trioder.client.operation import LINES, Operation, Time, Value, operation, reader, time_text
from trioder.domain.alarms import AlarmKind, EventOrigin, Severity
from trioder.domain.lifecycle import DispatchState
from trioder.schemas.access import AuditRow, WhoAmIResponse
from trioder.schemas.agents import AgentProcessRow
from trioder.schemas.alarms import AlarmResponse, AlarmRow, EventRow
from trioder.schemas.dispatch import MAX_WHOLE_DISPATCH_ROWS, AllocationRow, DispatchRow
from trioder.schemas.power import MAX_MINUTES, RecentPowerResponse, SiteHistoryRow
from trioder.schemas.resources import (
    AgentRow,
    AssetRow,
    FleetRow,
    HealthResponse,
    HistoryBucketRow,
    HistoryRow,
    IndexResponse,
    SessionRow,
    SiteRow,
    TelemetryRow,
)
from trioder.schemas.schedules import (
    OccurrenceRow,
    ScheduleRow,
    ScheduleSummary,
)
from trioder.schemas.site_limits import SiteLimitsRow
from trioder.schemas.stops import StopInForceRow

Resolution = Literal["1m", "5m", "15m", "30m", "1h", "2h", "6h", "1d"]
SumResolution = Literal["5m", "15m", "30m", "1h", "2h", "6h", "1d"]


def index() -> Operation[IndexResponse]:
    """List the entry points of the API."""
    return operation("GET", "/", reader(IndexResponse))


def health() -> Operation[HealthResponse]:
    """Show the headend's health, `degraded` included; its numbers are for callers with a token."""
    return operation("GET", "/health", reader(HealthResponse), statuses=(200, 503))


def metrics() -> Operation[str]:
    """Return the metrics in Prometheus' text format."""
    return operation("GET", "/metrics", bytes.decode, accept="text/plain")


def openapi() -> Operation[dict[str, Any]]:
    """Return the OpenAPI document."""
    return operation("GET", "/openapi.json", reader(dict[str, Any]))


def whoami() -> Operation[WhoAmIResponse]:
    """Show the caller: its name, role, tenant and sites."""
    return operation("GET", "/whoami", reader(WhoAmIResponse))


def audit(*, principal: str | None = None, limit: int | None = None) -> Listing[AuditRow]:
    """List commands, changes of access and refused attempts, newest first."""
    return _listing("/audit", AuditRow, {"principal": principal}, by="before", position="number", limit=limit)


def assets(*, site_id: str | None = None, limit: int | None = None) -> Listing[AssetRow]:
    """List assets, in fleet order."""
    return _listing("/assets", AssetRow, {"site_id": site_id}, by="after", position="id", limit=limit)


def asset(asset_id: str) -> Operation[AssetRow]:
    """Show one asset."""
    return operation("GET", "/assets/{asset_id}", reader(AssetRow), ids={"asset_id": asset_id})


def sites() -> Operation[list[SiteRow]]:
    """List sites with the sums over their assets, in fleet order."""
    return operation("GET", "/sites", reader(list[SiteRow]))


def fleet() -> Operation[FleetRow]:
    """Show the sums over all assets."""
    return operation("GET", "/fleet", reader(FleetRow))


def fleet_power(*, minutes: int = MAX_MINUTES) -> Operation[RecentPowerResponse]:
    """Show the power of all assets over the last minutes, 1 to 15, oldest first."""
    return operation("GET", "/fleet/power", reader(RecentPowerResponse), query={"minutes": minutes})


def site_power(site_id: str, *, minutes: int = MAX_MINUTES) -> Operation[RecentPowerResponse]:
    """Show the power of a site's assets over the last minutes, 1 to 15, oldest first."""
    return operation(
        "GET",
        "/sites/{site_id}/power",
        reader(RecentPowerResponse),
        ids={"site_id": site_id},
        query={"minutes": minutes},
    )


def fleet_history(
    *,
    resolution: SumResolution = "15m",
    start: Time | None = None,
    end: Time | None = None,
    limit: int | None = None,
) -> Operation[list[SiteHistoryRow]]:
    """Show sums over all assets by periods, newest first.

    Without a start there are 100 periods; at most 10,000 lie within start and end.
    """
    query = {"resolution": resolution, **_span(start, end), "limit": limit}
    return operation("GET", "/fleet/history", reader(list[SiteHistoryRow]), query=query)


def site_history(
    site_id: str,
    *,
    resolution: SumResolution = "15m",
    start: Time | None = None,
    end: Time | None = None,
    limit: int | None = None,
) -> Operation[list[SiteHistoryRow]]:
    """Show sums over the assets of a site by periods, newest first; as in `fleet_history`."""
    query = {"resolution": resolution, **_span(start, end), "limit": limit}
    ids = {"site_id": site_id}
    return operation("GET", "/sites/{site_id}/history", reader(list[SiteHistoryRow]), ids=ids, query=query)


def site_limits(site_id: str) -> Operation[SiteLimitsRow]:
    """Show the limits of a site, and what its setpoints amount to."""
    return operation("GET", "/sites/{site_id}/limits", reader(SiteLimitsRow), ids={"site_id": site_id})


def telemetry(
    *, site_id: str | None = None, asset_ids: Iterable[str] = (), limit: int | None = None
) -> Listing[TelemetryRow]:
    """List the latest samples, in fleet order; assets without a sample are omitted."""
    query = {"site_id": site_id, "asset_id": tuple(asset_ids)}
    return _listing("/telemetry", TelemetryRow, query, by="after", position="asset_id", limit=limit)


def asset_telemetry(asset_id: str) -> Operation[TelemetryRow]:
    """Show the latest sample of one asset."""
    return operation("GET", "/telemetry/{asset_id}", reader(TelemetryRow), ids={"asset_id": asset_id})


def history(
    asset_id: str, *, start: Time | None = None, end: Time | None = None, limit: int | None = None
) -> LineList[HistoryRow]:
    """Return the recorded samples of one asset within [start, end), newest first."""
    return _history(HistoryRow, asset_id, start, end, {"limit": limit})


def history_buckets(
    asset_id: str,
    *,
    resolution: Resolution,
    start: Time | None = None,
    end: Time | None = None,
    limit: int | None = None,
) -> LineList[HistoryBucketRow]:
    """Return the statistics of periods of one asset, newest first; `start` and `end` become whole periods.

    Without a start there are 100 periods; at most 10,000 lie within start and end.
    """
    return _history(HistoryBucketRow, asset_id, start, end, {"resolution": resolution, "limit": limit})


def agents(*, limit: int | None = None) -> Listing[AgentRow]:
    """List the connected assets, in fleet order."""
    return _listing("/agents", AgentRow, {}, by="after", position="asset_id", limit=limit)


def agent_processes(
    *, site_id: str | None = None, connected: bool | None = None, limit: int | None = None
) -> Operation[list[AgentProcessRow]]:
    """List agent processes that are connected, or were since the headend's start; 10,000 at most."""
    query = {"site_id": site_id, "connected": connected, "limit": limit}
    return operation("GET", "/agents/processes", reader(list[AgentProcessRow]), query=query)


def sessions(
    *,
    asset_id: str | None = None,
    site_id: str | None = None,
    agent_id: str | None = None,
    limit: int | None = None,
) -> Listing[SessionRow]:
    """List sessions of agents, newest first."""
    query = {"asset_id": asset_id, "site_id": site_id, "agent_id": agent_id}
    return _listing("/agents/sessions", SessionRow, query, by="before", position="session_id", limit=limit)


def show_dispatch(dispatch_id: str | None, *, allocations: bool = True) -> Operation[DispatchRow]:
    """Show the state of one dispatch, and of each of its members."""
    query = {"allocations": allocations}
    ids = {"dispatch_id": dispatch_id}
    return operation("GET", "/dispatch/{dispatch_id}", reader(DispatchRow), ids=ids, query=query)


def allocations(
    dispatch_id: str | None,
    *,
    state: DispatchState | Literal["left_out"] | None = None,
    limit: int | None = None,
) -> Listing[AllocationRow]:
    """List the allocations of a dispatch, in fleet order; those of assets that have left the fleet first."""
    return _listing(
        "/dispatch/{dispatch_id}/allocations",
        AllocationRow,
        {"state": state},
        ids={"dispatch_id": dispatch_id},
        by="after",
        position="asset_id",
        limit=limit,
    )


def dispatches(
    *,
    asset_id: str | None = None,
    site_id: str | None = None,
    state: DispatchState | None = None,
    limit: int | None = None,
    allocations: bool = False,
) -> Listing[DispatchRow]:
    """List dispatches, newest first."""
    return _listing(
        "/dispatch",
        DispatchRow,
        {"asset_id": asset_id, "site_id": site_id, "state": state, "allocations": allocations},
        by="before",
        position="dispatch_id",
        limit=limit,
        page_rows=MAX_WHOLE_DISPATCH_ROWS if allocations else PAGE_ROWS,
    )


def stops() -> Operation[list[StopInForceRow]]:
    """List the emergency stops in force that hold assets of the caller."""
    return operation("GET", "/stops", reader(list[StopInForceRow]))


def schedules(*, active: bool | None = None, limit: int | None = None) -> Operation[list[ScheduleSummary]]:
    """List schedules, newest first, 100 by default; `active`: only those that are not, or are, cancelled."""
    return operation(
        "GET", "/schedules", reader(list[ScheduleSummary]), query={"active": active, "limit": limit}
    )


def schedule(schedule_id: str | None) -> Operation[ScheduleRow]:
    """Show a schedule, its steps and its next occurrences."""
    return operation("GET", "/schedules/{schedule_id}", reader(ScheduleRow), ids={"schedule_id": schedule_id})


def occurrences(
    schedule_id: str | None, *, start: Time | None = None, end: Time | None = None, limit: int | None = None
) -> Operation[list[OccurrenceRow]]:
    """List occurrences that start within [start, end), oldest first: of a day ago and 31 days, by default."""
    return operation(
        "GET",
        "/schedules/{schedule_id}/occurrences",
        reader(list[OccurrenceRow]),
        ids={"schedule_id": schedule_id},
        query={**_span(start, end), "limit": limit},
    )


def alarms(
    *,
    state: Literal["open", "cleared", "all"] = "open",
    kind: AlarmKind | None = None,
    severity: Severity | None = None,
    site_id: str | None = None,
    asset_id: str | None = None,
    agent_id: str | None = None,
    limit: int | None = None,
) -> Listing[AlarmRow]:
    """List alarms, newest first."""
    query = {
        "state": state,
        "kind": kind,
        "severity": severity,
        "site_id": site_id,
        "asset_id": asset_id,
        "agent_id": agent_id,
    }
    return _listing("/alarms", AlarmRow, query, by="before", position="alarm_id", limit=limit)


def alarm(alarm_id: str) -> Operation[AlarmResponse]:
    """Show one alarm, with its assets and sites."""
    return operation("GET", "/alarms/{alarm_id}", reader(AlarmResponse), ids={"alarm_id": alarm_id})


def events(
    *,
    site_id: str | None = None,
    asset_id: str | None = None,
    agent_id: str | None = None,
    event_type: str | None = None,
    origin: EventOrigin | None = None,
    limit: int | None = None,
) -> Listing[EventRow]:
    """List what agents reported, and the transitions of alarms, newest first."""
    query = {
        "site_id": site_id,
        "asset_id": asset_id,
        "agent_id": agent_id,
        "event_type": event_type,
        "origin": origin,
    }
    return _listing("/events", EventRow, query, by="before", position="number", limit=limit)


def _listing(
    route: str,
    row: Any,
    query: Mapping[str, Value],
    *,
    ids: Mapping[str, str | None] | None = None,
    by: Literal["after", "before"],
    position: str,
    limit: int | None,
    page_rows: int = PAGE_ROWS,
) -> Listing[Any]:
    read = reader(list[row])

    def page(after: str | None, rows: int) -> Operation[list[Any]]:
        return operation("GET", route, read, ids=ids, query={**query, "limit": rows, by: after})

    return Listing(page=page, position_of=partial(_position, position), limit=limit, page_rows=page_rows)


def _position(name: str, row: msgspec.Struct) -> str:
    return str(getattr(row, name))


def _history(
    row: Any, asset_id: str, start: Time | None, end: Time | None, query: Mapping[str, Value]
) -> LineList[Any]:
    return LineList.of(
        row,
        operation(
            "GET",
            "/telemetry/{asset_id}/history",
            lambda _: None,
            ids={"asset_id": asset_id},
            query={**_span(start, end), **query},
            accept=LINES,
        ),
    )


def _span(start: Time | None, end: Time | None) -> dict[str, Value]:
    return {"start": time_text("start", start), "end": time_text("end", end)}
