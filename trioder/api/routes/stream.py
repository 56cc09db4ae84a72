"""`/stream`: the live feed as server-sent events (WHATWG HTML, 9.2). What is sent is in `api.stream`."""

from collections.abc import AsyncGenerator
from typing import Any, cast

from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse

from trioder.api.access import AccessControl, hold_stream
from trioder.api.asset_query import FleetIndex, FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.http.body import body_writer
from trioder.api.http.request_log import REQUEST_ID
from trioder.api.openapi import documented
from trioder.api.parsing import Query, checked_query, query_ids
from trioder.api.stream.client import RETRY, StreamClient
from trioder.api.stream.sse import EventId, EventIdError
from trioder.api.stream.topics import ALL_TOPICS, TOPICS
from trioder.api.stream.view import StreamFilter
from trioder.domain.text import preview
from trioder.schemas.stream import EventStream, StreamQuery

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_EVENT_STREAM = "text/event-stream"


def stream_blueprint(headend: Headend, indexes: FleetIndexes, access: AccessControl) -> Blueprint:
    """Return the route of the live feed."""
    blueprint = Blueprint("stream", __name__)

    @blueprint.get("/stream")
    @documented(EventStream, role="viewer", query=StreamQuery, errors=(404,))
    async def stream() -> TrioResponse:
        """Follow what changes: a snapshot, then each change. Resumes by the header Last-Event-ID."""
        which = _filter_of(checked_query(StreamQuery), indexes.of_request())
        last = _last_event_id()
        if headend.closing.is_set():
            raise ApiError(503, "the headend is stopping", retry_after_s=5)
        if request.method == "HEAD":
            return TrioResponse(b"", content_type=_EVENT_STREAM, headers=_HEADERS)
        hold_stream()
        scope, recheck = cast("dict[str, Any]", request.scope), access.recheck_of(request)

        async def body() -> AsyncGenerator[bytes]:
            # With the head; the rest goes straight to the connection.
            yield RETRY
            async with headend.feed.open_group(which) as group:
                client = StreamClient(
                    headend.feed, group, last=last, recheck=recheck, described=_described(scope)
                )
                await client.write_to(body_writer(scope))

        response = TrioResponse(body(), content_type=_EVENT_STREAM, headers=_HEADERS)
        response.timeout = None
        return response

    return blueprint


def _filter_of(query: Query, index: FleetIndex) -> StreamFilter:
    site_ids, asset_ids = query_ids(query, "site_id"), query_ids(query, "asset_id")
    for site_id in site_ids:
        index.keys_of_site(site_id)
    index.keys_of(asset_ids)
    return StreamFilter(
        scope=index.scope,
        site_ids=frozenset(site_ids) if site_ids else None,
        asset_ids=frozenset(asset_ids) if asset_ids else None,
        topics=_topics_of(query),
    )


def _topics_of(query: Query) -> frozenset[str]:
    if "topics" not in query:
        return frozenset(TOPICS)
    names = query["topics"][0].split(",")
    for name in names:
        if name not in ALL_TOPICS:
            known = ", ".join(ALL_TOPICS)
            raise ApiError(
                400, f"topics has {preview(name)}; it must be some of {known}, with commas between"
            )
    return frozenset(names)


def _last_event_id() -> EventId | None:
    # EventSource sends none, or an empty one, at first.
    text = request.headers.get("Last-Event-ID", "")
    try:
        return EventId.parse(text) if text else None
    except EventIdError as error:
        raise ApiError(400, f"Last-Event-ID is {preview(text)}; {error}") from None


def _described(scope: dict[str, Any]) -> dict[str, object]:
    client = scope.get("client")
    fields: dict[str, object] = {"peer": f"{client[0]}:{client[1]}" if client else ""}
    return fields | {"request_id": scope.get(REQUEST_ID, "")}
