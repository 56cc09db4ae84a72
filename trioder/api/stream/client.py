"""One client's stream: a snapshot or what it has missed, then each change; the pace is the client's.

Nothing is queued for a client: one that reads slowly skips chunks, and is sent the newest values later.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from math import inf
from typing import Protocol

import msgspec
import structlog
import trio

from trioder.api.stream.changes import ChangeForgottenError, event_steps
from trioder.api.stream.feed import LiveFeed
from trioder.api.stream.group import HEARTBEAT_S, Group
from trioder.api.stream.rows import ROWS_AN_EVENT, telemetry_events
from trioder.api.stream.site_rows import site_events
from trioder.api.stream.sse import Event, EventId, with_ids, without_id
from trioder.api.stream.topics import ALL_TOPICS, SITES
from trioder.process.slices import run_in_slices
from trioder.schemas.stream import BeginEvent, EndEvent, MomentEvent

log = structlog.stdlib.get_logger(__name__)

# EventSource connects again after this.
RETRY = b"retry: 2000\n\n"
# Written at once: what a client that does not read pins, beside the socket's buffer.
PIECE_BYTES = 32 * 1024
_RECHECK_EVERY_S = 5.0
_STOPPING = "the headend is stopping"
_LEFT = "the client left"
_TOO_OLD = "Last-Event-ID is too old"
_encode = msgspec.json.Encoder().encode

# Returns why a client may not follow any longer; None while it may.
Recheck = Callable[[], Awaitable[str | None]]


class Writer(Protocol):
    """Writes the body of a response."""

    async def send(self, data: bytes) -> None:
        """Write it all; waits for the client."""

    def close(self) -> None:
        """Close the connection at once."""


class StreamClient:
    """A client of a group.

    Args:
        feed: the feed.
        group: of the client's filter.
        last: up to where it has everything; None for a new one.
        recheck: called every few seconds.
        described: fields for the log.

    Attributes:
        sending_s: since when it has taken nothing of what is being written; infinity while nothing is.
    """

    def __init__(
        self,
        feed: LiveFeed,
        group: Group,
        *,
        last: EventId | None,
        recheck: Recheck,
        described: dict[str, object],
    ) -> None:
        self.sending_s = inf
        self._feed = feed
        self._group = group
        self._last = last
        self._recheck = recheck
        self._described = described
        self._tick = feed.tick
        self._number = group.number
        self._scope = trio.CancelScope()
        self._recheck_s = trio.current_time() + _RECHECK_EVERY_S
        self._started_s = trio.current_time()
        self._ended = _LEFT
        self._events = self._bytes = 0

    def drop(self) -> None:
        """Disconnect it: it does not read."""
        self._scope.cancel()

    async def write_to(self, writer: Writer) -> None:
        """Write the stream until it ends; a client that does not read is disconnected.

        *Cancellation*: the client has left.
        """
        feed = self._feed
        feed.clients.add(self)
        try:
            with self._scope:
                await self._write_all(writer)
            if self._scope.cancelled_caught:
                feed.counters.streams_dropped += 1
                log.warning("stream dropped: its client does not read", **self._described)
                self._ended = "the client did not read"
                writer.close()
        finally:
            feed.clients.discard(self)
            log.info(
                "stream ended",
                **self._described,
                reason=self._ended,
                events=self._events,
                bytes=self._bytes,
                duration_s=round(trio.current_time() - self._started_s, 1),
            )

    async def _write_all(self, writer: Writer) -> None:
        resumes, reason = self._resumes()
        await self._catch_up(writer, resumes=resumes, reason=reason)
        group = self._group
        while (ended := await self._reason_to_end()) is None:
            if self._tick < group.reset_tick:
                await self._catch_up(writer, resumes=False, reason=group.reset_reason)
            elif self._tick >= group.tick:
                await group.changed.park()
            elif self._tick >= group.former_tick:
                chunk, events = group.chunk, group.chunk_events
                self._tick, self._number = group.tick, group.number
                await self._write(writer, chunk, events)
            else:
                self._feed.counters.stream_updates_conflated += group.number - self._number - 1
                await self._write_lag(writer)
        self._ended = ended
        end = Event(b"end", _encode(EndEvent(at=self._feed.at(), reason=ended)))
        await self._write(writer, without_id(end))

    async def _write(self, writer: Writer, data: bytes, events: int = 1) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            piece = data if len(data) <= PIECE_BYTES else data[start : start + PIECE_BYTES]
            self.sending_s = trio.current_time()
            await writer.send(piece)
            self.sending_s = inf
        self._events += events
        self._bytes += len(data)
        self._feed.counters.stream_events += events
        self._feed.counters.stream_bytes += len(data)

    async def _reason_to_end(self) -> str | None:
        if self._feed.closing.is_set():
            return _STOPPING
        now_s = trio.current_time()
        if now_s < self._recheck_s:
            return None
        self._recheck_s = now_s + _RECHECK_EVERY_S
        reason = await self._recheck()
        if reason is not None:
            self._feed.counters.streams_revoked += 1
        return reason

    def _resumes(self) -> tuple[bool, str]:
        """Whether the client is sent what it has missed; and why, or why not."""
        last, feed = self._last, self._feed
        if last is None:
            return False, "there is no Last-Event-ID"
        if last.epoch != feed.epoch:
            return False, "Last-Event-ID is of another run of the feed"
        if last.complete_tick > feed.tick:
            return False, "Last-Event-ID is in the future"
        if last.complete_tick < feed.ring.start_tick:
            return False, _TOO_OLD
        self._tick = last.complete_tick
        return True, "the changes since Last-Event-ID follow"

    async def _catch_up(self, writer: Writer, *, resumes: bool, reason: str) -> None:
        """Begin, or begin anew, and bring the client to the present tick."""
        feed, group = self._feed, self._group
        since, target, self._number = self._tick, feed.tick, group.number
        missed: list[Event] = []
        if resumes:
            try:
                missed = await run_in_slices(event_steps(group.view, feed.ring.since(since)))
            except ChangeForgottenError:
                resumes, reason = False, _TOO_OLD
        # Without ids: a client that is cut off here begins where it has begun now.
        await self._write(writer, without_id(self._begin(resumes=resumes, reason=reason)))
        if resumes:
            feed.counters.streams_resumed += 1
            await self._write_missed(writer, since, missed)
        else:
            feed.counters.stream_snapshots += 1
            await self._write_snapshot(writer)
        self._tick = target
        await self._write(writer, self._last_event(b"complete", target))

    async def _write_lag(self, writer: Writer) -> None:
        """Write what has changed since something was written last."""
        feed, group = self._feed, self._group
        since, target, self._number = self._tick, feed.tick, group.number
        missed: list[Event] | None = None
        if since >= feed.ring.start_tick:
            with suppress(ChangeForgottenError):
                missed = await run_in_slices(event_steps(group.view, feed.ring.since(since)))
        if missed is None:
            await self._catch_up(writer, resumes=False, reason="the client is too far behind")
            return
        await self._write_missed(writer, since, missed)
        self._tick = target
        await self._write(writer, self._last_event(b"heartbeat", target))

    async def _write_missed(self, writer: Writer, since: int, missed: list[Event]) -> None:
        for event in missed:
            await self._write(writer, without_id(event))
        group, rows = self._group, self._feed.rows
        if "telemetry" in group.which.topics:
            await self._write_rows(writer, rows.changed_since(group.view.keys, since))
        if "fleet" in group.which.topics:
            await self._write(writer, without_id(await self._feed.sums(group)))
        if SITES in group.which.topics:
            await self._write_sites(writer, group.sites_version(since))

    async def _write_snapshot(self, writer: Writer) -> None:
        feed, group = self._feed, self._group
        if "fleet" in group.which.topics:
            await self._write(writer, without_id(await feed.sums(group)))
        if SITES in group.which.topics:
            await run_in_slices(feed.site_rows.refresh(group.view.sites or {}))
            await self._write_sites(writer, 0)
        if "telemetry" in group.which.topics:
            await self._write_rows(writer, group.view.keys)
        for name, topic in feed.topics.items():
            if name in group.which.topics:
                for data in topic.snapshot(group.view, feed.at()):
                    await self._write(writer, without_id(Event(name.encode(), data)))

    async def _write_sites(self, writer: Writer, version: int) -> None:
        """Write the sums of the sites that have changed after a version."""
        at = b'"%b"' % self._feed.at().encode()
        rows = self._feed.site_rows.changed_since(self._group.view.sites or {}, version)
        for data in site_events(rows, at):
            await self._write(writer, without_id(Event(SITES.encode(), data)))

    async def _write_rows(self, writer: Writer, keys: Sequence[int]) -> None:
        feed = self._feed
        for start in range(0, len(keys), ROWS_AN_EVENT):
            at = b'"%b"' % feed.at().encode()
            for data in telemetry_events(feed.rows.of(keys[start : start + ROWS_AN_EVENT]), at):
                await self._write(writer, without_id(Event(b"telemetry", data)))

    def _begin(self, *, resumes: bool, reason: str) -> Event:
        group = self._group
        return Event(
            b"begin",
            _encode(
                BeginEvent(
                    at=self._feed.at(),
                    resumed=resumes,
                    reason=reason,
                    topics=[topic for topic in ALL_TOPICS if topic in group.which.topics],
                    assets=len(group.view.keys),
                    heartbeat_s=HEARTBEAT_S,
                )
            ),
        )

    def _last_event(self, name: bytes, tick: int) -> bytes:
        return with_ids([Event(name, _encode(MomentEvent(at=self._feed.at())))], self._feed.epoch, tick)
