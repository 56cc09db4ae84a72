"""The client library of the headend's REST API and live feed: `HeadendClient` and `AsyncHeadendClient`.

Responses are the Structs of `trioder.schemas`. It needs no more than ``pip install trioder[client]``.
"""

from trioder.client.async_client import AsyncHeadendClient
from trioder.client.async_readers import AsyncFeedReader, AsyncLines, AsyncPages
from trioder.client.errors import (
    Conflict,
    DispatchEnded,
    Forbidden,
    HeadendError,
    HeadendUnavailable,
    NotFound,
    RequestRefused,
    TooManyRequests,
    Unauthorized,
    UnexpectedResponse,
)
from trioder.client.feed import CompleteEvent, FeedEvent, FeedLost, HeartbeatEvent, Topic
from trioder.client.sync_client import HeadendClient
from trioder.client.sync_readers import FeedReader, Lines
from trioder.schemas.schedules import StepBody
from trioder.schemas.stream import (
    AlarmEvent,
    BeginEvent,
    DispatchEvent,
    EndEvent,
    FleetEvent,
    ScheduleEvent,
    SessionEvent,
    SitesEvent,
    TelemetryEvent,
)

__all__ = [
    "AlarmEvent",
    "AsyncFeedReader",
    "AsyncHeadendClient",
    "AsyncLines",
    "AsyncPages",
    "BeginEvent",
    "CompleteEvent",
    "Conflict",
    "DispatchEnded",
    "DispatchEvent",
    "EndEvent",
    "FeedEvent",
    "FeedLost",
    "FeedReader",
    "FleetEvent",
    "Forbidden",
    "HeadendClient",
    "HeadendError",
    "HeadendUnavailable",
    "HeartbeatEvent",
    "Lines",
    "NotFound",
    "RequestRefused",
    "ScheduleEvent",
    "SessionEvent",
    "SitesEvent",
    "StepBody",
    "TelemetryEvent",
    "TooManyRequests",
    "Topic",
    "Unauthorized",
    "UnexpectedResponse",
]
