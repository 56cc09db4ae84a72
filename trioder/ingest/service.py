"""Telemetry ingest: into the latest state at once, and into the store in sequence, by go-back-N per outbox.

Synchronous but for opening a session: a batch is processed between two checkpoints and never waits for the
store.
"""

from contextlib import suppress
from dataclasses import dataclass, field

import structlog
import trio

from trioder.domain.fleet import Fleet
from trioder.domain.quality import Quality
from trioder.events.bus import EventBus
from trioder.events.counters import Counters
from trioder.events.facts import BatchesLost, TelemetryAccepted, TelemetryCommitted
from trioder.gateway.downlink_queue import DownlinkQueue
from trioder.gateway.sessions import Session
from trioder.ingest.intake import Intake, Received
from trioder.ingest.latest import LatestState
from trioder.ingest.quality_alarms import TimeAlarm, ValueAlarms
from trioder.ingest.repeats import REMEMBERED, RecentTimes
from trioder.ingest.sequence import BatchCursor, CommitLag, SequenceCheck, SequenceLimit
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store, StoreUnavailableError
from trioder.store.records import NOTHING_COMMITTED, Watermark
from trioder.wire.checks import WireError
from trioder.wire.records import Batch, SingleSample

# Loading the recent sample times delays a session by no more than this.
_LOAD_WITHIN_S = 2.0
_ASSETS_A_QUERY = 250
# So many uncommitted batches are no backlog, however slowly an agent makes them.
_IN_TRANSIT_BATCHES = 2

log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class _Outbox:
    """The state of one outbox; `downlink` is that of the session that sends from it."""

    cursor: BatchCursor
    downlink: DownlinkQueue | None
    lag: CommitLag = field(default_factory=CommitLag)
    # The newest batch received, in sequence or not.
    newest_seq: int = 0

    @property
    def uncommitted(self) -> int:
        """How many batches the agent still keeps."""
        return max(0, self.newest_seq - self.cursor.committed_seq)


@dataclass(slots=True)
class _SessionState:
    intake: Intake
    times: TimeAlarm
    # None without an outbox.
    limit: SequenceLimit | None = None


class Ingest:
    """Receives the telemetry of all sessions; a `StoreListener` that acknowledges commits to the agents.

    The state of an outbox outlives its session for as long as the store has uncommitted batches of it.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        latest: LatestState,
        store: Store,
        counters: Counters,
        events: EventBus,
        wall: WallClock,
    ) -> None:
        self._fleet = fleet
        self._latest = latest
        self._store = store
        self._counters = counters
        self._wall = wall
        self._events = events
        self._accepted = events.topic(TelemetryAccepted)
        self._outboxes: dict[str, _Outbox] = {}
        self._sessions: dict[Session, _SessionState] = {}
        # The agent, boot and outbox that the order of each asset's samples belongs to.
        self._boots: dict[int, tuple[str, int, str]] = {}
        self._recent_times = RecentTimes()
        self._alarms = ValueAlarms(fleet, events)

    async def session_opened(self, session: Session) -> Watermark:
        """Attach a session to its outbox and return the last committed batch."""
        self._begin_boot(session)
        state = self._sessions[session] = _SessionState(
            Intake(self._fleet, session), TimeAlarm(session, self._events)
        )
        if not session.outbox_id:
            return NOTHING_COMMITTED
        outbox = self._outboxes.get(session.outbox_id)
        if outbox is None:
            watermark = await self._store.watermark(session.outbox_id)
            outbox = self._outboxes.setdefault(session.outbox_id, _Outbox(BatchCursor(watermark), None))
        outbox.downlink = session.downlink
        outbox.cursor.session_opened()
        state.limit = SequenceLimit(
            reported_seq=session.newest_batch_seq,
            next_seq=outbox.cursor.next_seq,
            now_ms=self._wall.now_ms(),
        )
        return outbox.cursor.watermark

    async def load_recent_times(self, session: Session) -> None:
        """Load from the store which samples it has of the session's assets, where no outbox has a sequence.

        If the store does not answer in time, repeats of such samples are stored a second time.
        """
        if session.outbox_id:
            return
        unknown = [self._fleet.assets[key] for key in session.asset_keys if not self._recent_times.knows(key)]
        with trio.move_on_after(_LOAD_WITHIN_S), suppress(StoreUnavailableError):
            # What is loaded by the end of the time counts.
            for start in range(0, len(unknown), _ASSETS_A_QUERY):
                assets = unknown[start : start + _ASSETS_A_QUERY]
                times_ms = await self._store.reported_times(assets, limit=REMEMBERED)
                for asset_id, reported_ms in times_ms.items():
                    # The fleet may have changed meanwhile.
                    if (key := self._fleet.index_by_id.get(asset_id)) is not None:
                        self._recent_times.remember(key, reported_ms)

    def session_closed(self, session: Session) -> None:
        """Detach a session from its outbox; a newer session of the outbox stays attached."""
        state = self._sessions.pop(session, None)
        if state is not None:
            state.times.close(self._wall.now_ms())
        outbox = self._outboxes.get(session.outbox_id)
        if outbox is not None and outbox.downlink is session.downlink:
            outbox.downlink = None
            self._forget_if_settled(session.outbox_id, outbox)

    def furthest_behind_s(self) -> float:
        """The age of the newest committed batch, of the connected outbox that is furthest behind; else 0.

        By the headend's clock; one pulse and one transaction when nothing waits.
        """
        committed_ms = [
            outbox.lag.newest_ms
            for outbox in self._outboxes.values()
            if outbox.downlink is not None and outbox.lag.newest_ms is not None
        ]
        return max(0, self._wall.now_ms() - min(committed_ms)) / 1000 if committed_ms else 0.0

    def behind_s(self, outbox_id: str) -> float:
        """The age of the newest committed batch of a connected outbox, while several wait; else 0."""
        outbox = self._outboxes.get(outbox_id)
        if outbox is None or outbox.lag.newest_ms is None or outbox.uncommitted <= _IN_TRANSIT_BATCHES:
            return 0.0
        return max(0, self._wall.now_ms() - outbox.lag.newest_ms) / 1000

    def backlog(self, outbox_id: str) -> tuple[int, float] | None:
        """How many batches of a connected outbox are not committed yet, and `behind_s`; None if unknown."""
        outbox = self._outboxes.get(outbox_id)
        if outbox is None or outbox.downlink is None:
            return None
        return outbox.uncommitted, self.behind_s(outbox_id)

    def outbox_batches(self) -> tuple[int, int]:
        """How many uncommitted batches the connected agents keep: all together, and the fullest outbox."""
        counts = [outbox.uncommitted for outbox in self._outboxes.values() if outbox.downlink is not None]
        return sum(counts), max(counts, default=0)

    def receive_batch(self, session: Session, batch: Batch) -> None:
        """Process one batch of a session that was opened here.

        Raises:
            WireError: the session has no outbox, or the outbox cannot have such a batch yet.
        """
        state = self._sessions[session]
        if state.limit is None:
            raise WireError("a TelemetryBatch was received, but Register named no outbox_id")
        now_ms = self._wall.now_ms()
        self._check_possible(batch, most=state.limit.at(now_ms))
        self._counters.batches_received += 1
        outbox = self._outboxes[session.outbox_id]
        outbox.newest_seq = max(outbox.newest_seq, batch.batch_seq)
        received = state.intake.batch(batch, received_ms=now_ms)
        if not session.backlog_only:
            self._accept(session, state, received, now_ms, batch.batch_seq)
        elif not batch.live_only:
            # It is old, and another agent may drive its assets now: never the latest.
            self._count(received)
        if session.outbox_held:
            # The agent keeps it.
            self._counters.batches_refused += not batch.live_only
        elif not batch.live_only:
            self._submit(outbox, session, batch, received)

    def receive_single(self, session: Session, asset_key: int, sample: SingleSample) -> None:
        """Process one sample sent on its own, without a sequence; repeats are dropped."""
        if not self._recent_times.add(asset_key, sample.ts_unix_ms):
            self._counters.samples_repeated += 1
            return
        now_ms = self._wall.now_ms()
        state = self._sessions[session]
        received = state.intake.single(asset_key, sample, received_ms=now_ms)
        self._accept(session, state, received, now_ms, None)
        self._store.store_unsequenced(received.samples)

    def outbox_released(self, session: Session) -> None:
        """The session's outbox is its own: request what was not stored meanwhile."""
        session.outbox_held = False
        outbox = self._outboxes.get(session.outbox_id)
        if outbox is not None and outbox.downlink is session.downlink:
            self._request_replay(outbox)

    def nameplates_changed(self) -> None:
        """The fleet's nameplates have changed: later samples are checked against the new ones."""
        for state in self._sessions.values():
            state.intake.nameplates_changed()

    def clock_stepped(self, by_ms: int) -> None:
        """The headend's clock was stepped by this (< 0 is back): no sample's age changes.

        The latest state is corrected by its owner.
        """
        self._alarms.clock_stepped(by_ms)
        for state in self._sessions.values():
            state.intake.clock_stepped(by_ms)
            state.times.clock_stepped(by_ms)
            if state.limit is not None:
                state.limit.clock_stepped(by_ms)
        for outbox in self._outboxes.values():
            outbox.lag.clock_stepped(by_ms)

    def batches_committed(self, outbox_id: str, watermark: Watermark) -> None:
        """See `StoreListener`: acknowledge to the agent."""
        outbox = self._outboxes.get(outbox_id)
        if outbox is None:
            return
        outbox.cursor.committed(watermark)
        outbox.lag.committed(watermark.batch_seq)
        if outbox.downlink is not None:
            outbox.downlink.put_ack(outbox.cursor.committed_seq)
        else:
            self._forget_if_settled(outbox_id, outbox)
        if self._events.wants(TelemetryCommitted):
            self._events.publish(TelemetryCommitted(outbox_id, watermark.batch_seq, watermark.ts_unix_ms))

    def capacity_available(self) -> None:
        """See `StoreListener`: request what was refused."""
        for outbox in self._outboxes.values():
            if outbox.cursor.capacity_available():
                self._request_replay(outbox)

    def _begin_boot(self, session: Session) -> None:
        self._latest.begin_session(session.asset_keys)
        # Epoch 0 identifies no boot: every session may be another one.
        boot = (session.agent_id, session.epoch, session.outbox_id)
        others = [key for key in session.asset_keys if not session.epoch or self._boots.get(key) != boot]
        self._latest.begin_boot(others)
        self._boots.update(dict.fromkeys(others, boot))

    def _accept(
        self,
        session: Session,
        state: _SessionState,
        received: Received,
        now_ms: int,
        batch_seq: int | None,
    ) -> None:
        self._count(received)
        samples = received.samples
        if received.wrong_time or state.times.open is not None:
            state.times.observe(samples.ts_unix_ms, wrong=received.wrong_time, now_ms=now_ms)
        if received.wrong_time:
            return
        self._latest.apply_agent(samples, received_ms=now_ms, made_ms=received.made_ms, batch_seq=batch_seq)
        if received.newest and (samples.quality or self._alarms.open):
            self._alarms.observe(samples, session, now_ms=now_ms, reason_of=received.reason_of)
        if self._accepted.receivers:
            self._accepted.publish(TelemetryAccepted(samples, session.agent_id, now_ms, received.made_ms))

    def _count(self, received: Received) -> None:
        counters, samples = self._counters, received.samples
        counters.samples_received += len(samples.asset_keys)
        counters.samples_unknown += received.unknown
        if samples.quality:
            counters.samples_suspect += samples.quality.count(Quality.SUSPECT)
            counters.samples_bad += samples.quality.count(Quality.BAD)
            counters.samples_wrong_time += samples.quality.count(Quality.WRONG_TIME)

    def _submit(self, outbox: _Outbox, session: Session, batch: Batch, received: Received) -> None:
        cursor, outbox_id = outbox.cursor, session.outbox_id
        match cursor.check(batch.batch_seq, batch.gap_from_seq):
            case SequenceCheck.NEXT:
                expected_seq = cursor.next_seq
                # First: a store may commit at once.
                outbox.lag.received(batch.batch_seq, received.made_ms)
                if self._store.submit(outbox_id, batch.batch_seq, received.samples):
                    cursor.submitted(batch.batch_seq)
                    self._counters.batches_taken += 1
                    self._count_lost(session, batch, expected_seq)
                else:
                    cursor.refused()
                    self._counters.batches_refused += 1
            case SequenceCheck.REPEATED:
                self._counters.batches_repeated += 1
                if outbox.downlink is not None:
                    outbox.downlink.put_ack(cursor.committed_seq)
            case SequenceCheck.OUT_OF_ORDER:
                self._counters.batches_out_of_sequence += 1
                self._request_replay(outbox)
            case SequenceCheck.STORE_FULL:
                self._counters.batches_refused += 1

    def _check_possible(self, batch: Batch, *, most: int) -> None:
        # Else one message could put the outbox's watermark beyond all of its batches to come.
        if batch.batch_seq > most:
            self._counters.batches_impossible += 1
            raise WireError(
                f"TelemetryBatch.batch_seq is {batch.batch_seq}; the newest batch that the outbox can have "
                f"is {most}"
            )

    def _count_lost(self, session: Session, batch: Batch, expected_seq: int) -> None:
        # What an outbox without a record lacks may have been acknowledged by a headend without a database:
        # only the agent knows. What any other outbox lacks is missing in the database.
        lost = batch.batch_seq - expected_seq if expected_seq > 1 else batch.lost_batches or 0
        if lost:
            self._counters.batches_lost += lost
            log.warning(
                "telemetry batches are lost",
                outbox_id=session.outbox_id,
                batches=lost,
                from_batch_seq=expected_seq,
                to_batch_seq=batch.batch_seq - 1,
            )
            self._events.publish(BatchesLost(session.agent_id, lost, self._wall.now_ms()))

    def _request_replay(self, outbox: _Outbox) -> None:
        if outbox.downlink is not None and (from_seq := outbox.cursor.request_replay()) is not None:
            self._counters.replays_requested += 1
            outbox.downlink.put_replay(from_seq)

    def _forget_if_settled(self, outbox_id: str, outbox: _Outbox) -> None:
        if outbox.cursor.settled:
            del self._outboxes[outbox_id]
