"""The bodies and parameters of `/alarms` and `/events`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from trioder.domain.alarms import AlarmKind, AlarmState, EventOrigin, Severity, SourceKind
from trioder.schemas.resources import DEFAULT_HISTORY_ROWS, MAX_HISTORY_ROWS, Id, Time

MAX_COMMENT_LENGTH = 500

_Limit = Annotated[int, Meta(ge=1, le=MAX_HISTORY_ROWS, description="Maximum number of rows.")]
_OfAsset = Annotated[Id, Meta(description="Only those that concern this asset.")]
_OfSite = Annotated[Id, Meta(description="Only those that concern this site.")]
_OfAgent = Annotated[str, Meta(description="Only those of this agent.")]


class AlarmRow(Struct, kw_only=True):
    """An alarm.

    `source_kind` and `source_id` say what has it: an asset, an agent, a site, or the headend, then with the
    tenant whose assets one alarm summarizes, or empty for the headend itself. `assets` is how many assets it
    concerns; asset_id and site_id are null unless it is one. `value` is in the unit that the reason names.
    """

    alarm_id: Id
    kind: AlarmKind
    severity: Severity
    state: AlarmState
    source_kind: SourceKind
    source_id: str
    detail: str
    tenant: str
    agent_id: str | None
    site_id: Id | None
    asset_id: Id | None
    assets: int
    reason: str
    value: float | None
    raised_at: Time
    cleared_at: Time | None
    acknowledged_at: Time | None
    acknowledged_by: str | None
    comment: str


class AlarmResponse(AlarmRow, kw_only=True):
    """An alarm with its assets and sites; null where there are more than 1,000 assets, or 256 sites."""

    asset_ids: list[Id] | None
    site_ids: list[Id] | None


class AlarmsQuery(Struct, kw_only=True):
    """Which alarms, newest first."""

    state: Annotated[Literal["open", "cleared", "all"], Meta(description="Which of them.")] = "open"
    kind: Annotated[AlarmKind, Meta(description="Only those of this kind.")] | None = None
    severity: Annotated[Severity, Meta(description="Only those of this severity.")] | None = None
    site_id: _OfSite | None = None
    asset_id: _OfAsset | None = None
    agent_id: _OfAgent | None = None
    limit: _Limit = DEFAULT_HISTORY_ROWS
    before: Annotated[Id, Meta(description="Continue after this alarm, the last of a page.")] | None = None


class AcknowledgeBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """Who acknowledges an alarm may comment on it. An empty body is no comment."""

    comment: Annotated[str, Meta(max_length=MAX_COMMENT_LENGTH)] | None = None


class EventRow(Struct, kw_only=True):
    """What an agent reported, or a transition of an alarm.

    `number` grows with the time of recording; `time` is by the clock of the origin.
    """

    number: int
    time: Time
    origin: EventOrigin
    agent_id: str | None
    asset_id: Id | None
    event_type: str
    severity: str
    message: str
    tenant: str
    alarm_id: Id | None


class EventsQuery(Struct, kw_only=True):
    """Which events, newest first."""

    site_id: _OfSite | None = None
    asset_id: _OfAsset | None = None
    agent_id: _OfAgent | None = None
    event_type: Annotated[str, Meta(description="Only those of this type.")] | None = None
    origin: (
        Annotated[EventOrigin, Meta(description="Only those that agents, or the headend, report.")] | None
    ) = None
    limit: _Limit = DEFAULT_HISTORY_ROWS
    before: Annotated[int, Meta(ge=1, description="Only those with a smaller number.")] | None = None
