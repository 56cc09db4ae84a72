"""The live feed without I/O: its request, its events, and what follows when it is lost."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from trioder.client.errors import HeadendError, HeadendUnavailable, TooManyRequests, UnexpectedResponse
from trioder.client.operation import EVENTS, Operation, operation
from trioder.client.retries import MAX_RETRY_AFTER_S
from trioder.process.backoff import Backoff
from trioder.schemas import stream as schemas
from trioder.schemas.stream import (
    AlarmEvent,
    BeginEvent,
    DispatchEvent,
    EndEvent,
    FleetEvent,
    MomentEvent,
    ScheduleEvent,
    SessionEvent,
    SitesEvent,
    TelemetryEvent,
)

# Without any, all but sites.
Topic = Literal["fleet", "sites", "telemetry", "dispatch", "schedules", "alarms", "sessions"]

# The headend is back within 5 s, as far as a reader can see.
_FIRST_DELAY_S = 0.25
_MAX_DELAY_S = 4.0


class CompleteEvent(MomentEvent):
    """The snapshot, or what was missed, is complete."""


class HeartbeatEvent(MomentEvent):
    """Nothing has changed for 2 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedLost:
    """The feed is lost: all values are old from now on, until the next `CompleteEvent`.

    Attributes:
        reason: one sentence for people.
        retry_s: when it is opened again.
    """

    reason: str
    retry_s: float


FeedEvent = (
    BeginEvent
    | CompleteEvent
    | HeartbeatEvent
    | FleetEvent
    | SitesEvent
    | TelemetryEvent
    | DispatchEvent
    | ScheduleEvent
    | AlarmEvent
    | SessionEvent
    | EndEvent
    | FeedLost
)

_TYPES: Mapping[str, Any] = {**schemas.EVENTS, "complete": CompleteEvent, "heartbeat": HeartbeatEvent}
_decoders = {name: msgspec.json.Decoder(kind) for name, kind in _TYPES.items()}


class Feed:
    """What a reader of the live feed knows.

    Args:
        site_ids: only the assets of these sites; all that the caller sees by default.
        asset_ids: only these assets.
        topics: only these; all but `sites` by default.
        last_event_id: continue after this event of an earlier feed.
        rng: for the delays between attempts.

    Attributes:
        last_event_id: of the last event with an id; empty without one.
    """

    def __init__(
        self,
        *,
        site_ids: Iterable[str] = (),
        asset_ids: Iterable[str] = (),
        topics: Iterable[Topic] = (),
        last_event_id: str = "",
        rng: random.Random,
    ) -> None:
        self.last_event_id = last_event_id
        self._query = {
            "site_id": tuple(site_ids),
            "asset_id": tuple(asset_ids),
            "topics": ",".join(topics) or None,
        }
        self._backoff = Backoff(first_s=_FIRST_DELAY_S, max_s=_MAX_DELAY_S, rng=rng)
        self._is_lost = False
        self._end_reason = ""

    def request(self) -> Operation[None]:
        """Return the request that opens the feed, or continues it."""
        self._end_reason = ""
        headers = {"Cache-Control": "no-store"}
        if self.last_event_id:
            headers["Last-Event-ID"] = self.last_event_id
        return operation("GET", "/stream", lambda _: None, query=self._query, accept=EVENTS, headers=headers)

    def received(self, name: str, data: str, event_id: str) -> FeedEvent | None:
        """Return an event of the feed; None for one of a later version's.

        Raises:
            UnexpectedResponse: its data does not fit.
        """
        decoder = _decoders.get(name)
        if decoder is None:
            return None
        try:
            event: FeedEvent = decoder.decode(data)
        except msgspec.MsgspecError as error:
            raise UnexpectedResponse(f"the data of a {name} event of /stream: {error}", status=200) from error
        # Not before it is known to be readable: whoever resumes continues after it.
        self.last_event_id = event_id or self.last_event_id
        match event:
            case CompleteEvent():
                self._is_lost = False
                self._backoff.reset()
            case EndEvent(reason=reason):
                self._end_reason = reason
        return event

    def ended(self) -> HeadendUnavailable:
        """Return why a response is at its end."""
        return HeadendUnavailable(self._end_reason or "the headend closed the connection")

    def lost(self, failure: HeadendError) -> tuple[FeedLost, bool]:
        """Return that the feed is lost, and whether that is new.

        Raises:
            HeadendError: `failure`, if opening it again would not help.
        """
        if not isinstance(failure, HeadendUnavailable | TooManyRequests):
            raise failure
        is_new, self._is_lost = not self._is_lost, True
        # Whoever follows a feed is not to miss hours of it.
        asked_s = min(failure.retry_after_s or 0.0, MAX_RETRY_AFTER_S)
        retry_s = max(self._backoff.next_delay_s(), asked_s)
        return FeedLost(reason=str(failure), retry_s=retry_s), is_new
