"""The parameters of `/stream`, and the data of its events: JSON, one object an event."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from trioder.domain.alarms import AlarmTransition
from trioder.domain.dispatch import Priority
from trioder.domain.quality import LatestQuality
from trioder.domain.schedules import ScheduleTransition
from trioder.domain.telemetry import Source, Status
from trioder.schemas.alarms import AlarmRow
from trioder.schemas.dispatch import AllocationRow, DispatchRow
from trioder.schemas.resources import FleetRow, Id, Time
from trioder.schemas.schedules import OccurrenceRow, ScheduleSummary

# Of the setpoints of a dispatch, or the assets of a session, that an event lists; null beyond.
MAX_SETPOINTS = 100
MAX_SESSION_ASSETS = 1_000


class EventStream:
    """Server-sent events: UTF-8 text; each has `id`, `event` and `data`, and ends with an empty line."""


class StreamQuery(Struct, kw_only=True):
    """What to follow; by default everything that the caller sees."""

    site_id: Annotated[list[Id], Meta(description="Only the assets of these sites; may be repeated.")] = (
        msgspec.field(default_factory=list)
    )
    asset_id: Annotated[list[Id], Meta(description="Only these assets; may be repeated.")] = msgspec.field(
        default_factory=list
    )
    topics: (
        Annotated[
            str,
            Meta(
                description="Separated by commas: fleet, telemetry, dispatch, schedules, alarms, sessions, "
                "which are those by default; and sites, instead of telemetry in large fleets."
            ),
        ]
        | None
    ) = None


class BeginEvent(Struct, kw_only=True):
    """The stream begins, or begins anew.

    `resumed`: what follows are the changes since Last-Event-ID. Otherwise a snapshot follows: drop what was
    received before. `reason` says why. `heartbeat_s`: at least one event comes in that time.
    """

    at: Time
    resumed: bool
    reason: str
    topics: list[str]
    assets: int
    heartbeat_s: float


class MomentEvent(Struct, kw_only=True):
    """`complete`: the snapshot, or the changes since Last-Event-ID, are complete. `heartbeat`: no change."""

    at: Time


class EndEvent(Struct, kw_only=True):
    """The headend ends the stream."""

    at: Time
    reason: str


class FleetEvent(FleetRow, kw_only=True):
    """Sums over the assets that the stream shows, once a second.

    What they can hold for 15 and 60 minutes is computed every 5 s.
    """

    at: Time


class SiteSumsRow(FleetRow, kw_only=True):
    """Sums over the assets of a site."""

    id: Id


class SitesEvent(Struct, kw_only=True):
    """The sums of sites that have changed, at most every 2 s.

    What they can hold for 15 and 60 minutes is computed every 5 s.
    """

    at: Time
    rows: list[SiteSumsRow]


class LiveRow(Struct):
    """The latest sample of an asset, and what it is under.

    `timestamp` is by the agent's clock, `sampled_at` by the headend's: the age of the values is the event's
    `at` less `sampled_at`. Values are as in `TelemetryRow`. `connected`: an agent drives it now.
    `dispatch_id` is its active dispatch, `ends_at` when that ends, `priority` that of the dispatch:
    `emergency` is a stop.
    """

    asset_id: Id
    timestamp: Time
    sampled_at: Time
    soc_mwhr: float | None
    soc_pct: float | None
    current_mw: float | None
    setpoint_mw: float | None
    available_discharge_mw: float | None
    available_charge_mw: float | None
    status: Status | None
    source: Source
    quality: LatestQuality
    connected: bool
    dispatch_id: Id | None
    ends_at: Time | None
    priority: Priority | None


class TelemetryEvent(Struct, kw_only=True):
    """The newest values of assets that have changed."""

    at: Time
    rows: list[LiveRow]


class DispatchEvent(Struct, kw_only=True):
    """A dispatch as it is now, and those of its setpoints that have changed; null for more than 100.

    In a snapshot it is one that is open, without setpoints.
    """

    at: Time
    dispatch: DispatchRow
    setpoints: list[AllocationRow] | None


class AlarmEvent(Struct, kw_only=True):
    """An alarm as it is now; `open` in a snapshot."""

    at: Time
    transition: AlarmTransition | Literal["open"]
    alarm: AlarmRow


class SessionEvent(Struct, kw_only=True):
    """An agent's session; `open` in a snapshot.

    `assets` is how many of the assets that the stream shows it drives; asset_ids is null for more than 1,000.
    """

    at: Time
    transition: Literal["open", "opened", "closed"]
    session_id: Id
    agent_id: str
    peer: str | None
    assets: int
    asset_ids: list[Id] | None
    reason: str | None


class ScheduleEvent(Struct, kw_only=True):
    """A schedule as it is now; `active` in a snapshot. `occurrence`: one of its occurrences has changed."""

    at: Time
    transition: ScheduleTransition | Literal["active", "occurrence"]
    schedule: ScheduleSummary
    occurrence: OccurrenceRow | None


# The data of each event, by its name.
EVENTS: dict[str, Any] = {
    "begin": BeginEvent,
    "complete": MomentEvent,
    "heartbeat": MomentEvent,
    "end": EndEvent,
    "fleet": FleetEvent,
    "sites": SitesEvent,
    "telemetry": TelemetryEvent,
    "dispatch": DispatchEvent,
    "schedules": ScheduleEvent,
    "alarms": AlarmEvent,
    "sessions": SessionEvent,
}
