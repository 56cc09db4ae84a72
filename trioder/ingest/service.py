"""Telemetry comes in: to the latest state at once, and to the store in sequence, by go-back-N per outbox.

Synchronous throughout: a batch is dealt with between two checkpoints, and a slow store is never waited for.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

import structlog
import trio

from trioder.domain.fleet import Fleet
from trioder.domain.quality import Quality
from trioder.domain.telemetry import Samples
from trioder.events.counters import Counters
from trioder.gateway.downlink_queue import DownlinkQueue
from trioder.gateway.sessions import Session
from trioder.ingest.commit_lag import CommitLag
from trioder.ingest.intake import Intake, Received
from trioder.ingest.latest import LatestState
from trioder.ingest.quality_alarms import TimeAlarm, ValueAlarms
from trioder.ingest.repeats import REMEMBERED, KeptTimes
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store, StoreUnavailableError
from trioder.store.records import NOTHING_COMMITTED, Watermark
from trioder.wire.checks import WireError
from trioder.wire.records import Batch, SingleSample

# A session is not delayed for longer by what is remembered of its assets.
_RECALL_WITHIN_S = 2.0

log = structlog.stdlib.get_logger(__name__)


class SequenceCheck(Enum):
    """What is to be done with a batch, as far as the store is concerned."""

    NEXT = "hand it to the store"
    REPEATED = "drop it: it was taken before"
    AHEAD = "drop it: one before it is missing"
    HELD_BACK = "drop it: the store has no room"


class BatchCursor:
    """Where one outbox stands. The receiving half of go-back-N, without any I/O.

    Every batch up to `committed_seq` is kept for good; those up to `next_seq - 1` are with the store.
    One replay is asked for per episode: it ends with the next batch that is taken.
    """

    def __init__(self, mark: Watermark) -> None:
        self.mark = mark
        self.next_seq = mark.batch_seq + 1
        self._held_back = False
        self._replay_asked = False

    @property
    def committed_seq(self) -> int:
        """The last committed batch; `mark` has its time as well."""
        return self.mark.batch_seq

    @property
    def settled(self) -> bool:
        """Whether the store has nothing of this outbox in hand."""
        return self.next_seq == self.committed_seq + 1

    def judge(self, batch_seq: int, gap_from_seq: int | None) -> SequenceCheck:
        """Place a batch in the sequence; changes nothing."""
        if batch_seq < self.next_seq:
            return SequenceCheck.REPEATED
        if self._held_back:
            return SequenceCheck.HELD_BACK
        fits = batch_seq == self.next_seq or (gap_from_seq is not None and gap_from_seq <= self.next_seq)
        return SequenceCheck.NEXT if fits else SequenceCheck.AHEAD

    def take(self, batch_seq: int) -> None:
        """The store has taken the batch."""
        self.next_seq = batch_seq + 1
        self._replay_asked = False

    def commit(self, mark: Watermark) -> None:
        """The store has committed every batch up to this one."""
        if mark.batch_seq > self.mark.batch_seq:
            self.mark = mark
        self.next_seq = max(self.next_seq, mark.batch_seq + 1)

    def hold_back(self) -> None:
        """The store had no room for the next batch: take nothing until there is."""
        self._held_back = True
        # If that batch was asked for, it came; it will have to be asked for anew.
        self._replay_asked = False

    def let_go(self) -> None:
        """The store has dropped all that it had not committed."""
        self.next_seq = self.committed_seq + 1
        self._replay_asked = False

    def reattach(self) -> None:
        """A new session begins, from the batch after the committed one: nothing is asked for yet."""
        self._replay_asked = False

    def room_again(self) -> bool:
        """The store takes batches again; True if any were turned away."""
        held_back, self._held_back = self._held_back, False
        return held_back

    def ask_replay(self) -> int | None:
        """The batch to ask for again; None when it was asked for already, or could not be taken."""
        if self._replay_asked or self._held_back:
            return None
        self._replay_asked = True
        return self.next_seq


@dataclass(slots=True)
class _Feed:
    cursor: BatchCursor
    mailbox: DownlinkQueue | None
    kept: CommitLag = field(default_factory=CommitLag)
    # Of the newest batch that the agent has told of, in its turn or early.
    newest_seq: int = 0

    @property
    def outbox_batches(self) -> int:
        """How many batches the agent still keeps."""
        return max(0, self.newest_seq - self.cursor.committed_seq)


@dataclass(slots=True)
class _Stream:
    """What is remembered of one session."""

    intake: Intake
    times: TimeAlarm


class Ingest:
    """Takes what agents tell of their assets; a `StoreListener` that passes the store's word on to them.

    A cursor outlives its session for as long as the store has batches of its outbox in hand.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        latest: LatestState,
        store: Store,
        counters: Counters,
        wall: WallClock,
        measured: Callable[[Samples], None],
    ) -> None:
        self._fleet = fleet
        self._latest = latest
        self._store = store
        self._counters = counters
        self._wall = wall
        # Is shown every sample of a possible time as it comes, with its quality.
        self._measured = measured
        self._feeds: dict[str, _Feed] = {}
        self._streams: dict[Session, _Stream] = {}
        # Which boot of which agent, and which outbox, the order of each asset's samples is of.
        self._boots: dict[int, tuple[str, int, str]] = {}
        self._kept_times = KeptTimes()
        self._alarms = ValueAlarms(fleet)

    async def session_opened(self, session: Session) -> Watermark:
        """Attach a session to its outbox and return the last batch that is kept."""
        self._begin_boot(session)
        self._streams[session] = _Stream(Intake(self._fleet, session), TimeAlarm(session))
        if not session.outbox_id:
            return NOTHING_COMMITTED
        feed = self._feeds.get(session.outbox_id)
        if feed is None:
            mark = await self._store.watermark(session.outbox_id)
            feed = self._feeds.setdefault(session.outbox_id, _Feed(BatchCursor(mark), None))
        feed.mailbox = session.mailbox
        feed.cursor.reattach()
        return feed.cursor.mark

    async def recall(self, session: Session) -> None:
        """Read which samples of its assets were kept before the headend's start, where no outbox says so.

        As far as the store can say so within a moment: what it cannot is stored again, if it comes again.
        """
        if session.outbox_id:
            return
        unknown = [self._fleet.assets[key] for key in session.asset_keys if not self._kept_times.knows(key)]
        if not unknown:
            return
        with trio.move_on_after(_RECALL_WITHIN_S), suppress(StoreUnavailableError):
            times_ms = await self._store.reported_times(unknown, limit=REMEMBERED)
            for asset_id, reported_ms in times_ms.items():
                # The fleet may have changed meanwhile.
                if (key := self._fleet.index_by_id.get(asset_id)) is not None:
                    self._kept_times.remember(key, reported_ms)

    def session_closed(self, session: Session) -> None:
        """Detach a session from its outbox; a newer session of the outbox stays attached."""
        self._streams.pop(session, None)
        feed = self._feeds.get(session.outbox_id)
        if feed is not None and feed.mailbox is session.mailbox:
            feed.mailbox = None
            self._forget_if_settled(session.outbox_id, feed)

    def furthest_behind_s(self) -> float:
        """How old the newest kept batch is of the connected outbox that is furthest behind; 0 without any.

        By the headend's clock; one pulse and one transaction when nothing waits.
        """
        kept_ms = [
            feed.kept.newest_ms
            for feed in self._feeds.values()
            if feed.mailbox is not None and feed.kept.newest_ms is not None
        ]
        return max(0, self._wall.now_ms() - min(kept_ms)) / 1000 if kept_ms else 0.0

    @property
    def outboxes(self) -> int:
        """How many outboxes are followed: those of the sessions, and those that the store has batches of."""
        return len(self._feeds)

    def outbox_batches(self) -> tuple[int, int]:
        """How many uncommitted batches the connected agents keep: all together, and the fullest outbox."""
        kept = [feed.outbox_batches for feed in self._feeds.values() if feed.mailbox is not None]
        return sum(kept), max(kept, default=0)

    def receive_batch(self, session: Session, batch: Batch) -> None:
        """Take one batch of a session that was opened here.

        Raises:
            WireError: the session has no outbox.
        """
        if not session.outbox_id:
            raise WireError("a TelemetryBatch came, but Register named no outbox_id")
        self._counters.batches_received += 1
        feed = self._feeds[session.outbox_id]
        feed.newest_seq = max(feed.newest_seq, batch.batch_seq)
        now_ms = self._wall.now_ms()
        stream = self._streams[session]
        received = stream.intake.batch(batch, received_ms=now_ms)
        if not session.backlog_only:
            self._take(session, stream, received, now_ms, batch.batch_seq)
        elif not batch.live_only:
            # It is of the past, and perhaps of assets that another agent drives by now: never the latest.
            self._count(received)
        if not batch.live_only:
            self._sequence(feed, session.outbox_id, batch, received)

    def receive_single(self, session: Session, asset_key: int, sample: SingleSample) -> None:
        """Take one sample that came on its own, without a sequence; a repeated one only once."""
        if not self._kept_times.add(asset_key, sample.ts_unix_ms):
            self._counters.samples_repeated += 1
            return
        now_ms = self._wall.now_ms()
        stream = self._streams[session]
        received = stream.intake.single(asset_key, sample, received_ms=now_ms)
        self._take(session, stream, received, now_ms, None)
        self._store.store_unsequenced(received.samples)

    def nameplates_changed(self) -> None:
        """The fleet's nameplates are others by now: what comes is judged by them."""
        for stream in self._streams.values():
            stream.intake.nameplates_changed()

    def clock_stepped(self, by_ms: int) -> None:
        """The headend's own clock was set ahead by this (or back, < 0): nothing is older for that.

        The latest state is another's to adjust.
        """
        self._alarms.clock_stepped(by_ms)
        for stream in self._streams.values():
            stream.intake.clock_stepped(by_ms)
            stream.times.clock_stepped(by_ms)
        for feed in self._feeds.values():
            feed.kept.clock_stepped(by_ms)

    def batches_committed(self, outbox_id: str, mark: Watermark) -> None:
        """See `StoreListener`: acknowledge to the agent."""
        feed = self._feeds.get(outbox_id)
        if feed is None:
            return
        feed.cursor.commit(mark)
        feed.kept.committed(mark.batch_seq)
        if feed.mailbox is not None:
            feed.mailbox.put_ack(feed.cursor.committed_seq)
        else:
            self._forget_if_settled(outbox_id, feed)

    def batches_released(self, outbox_id: str) -> None:
        """See `StoreListener`: go back to what is committed."""
        feed = self._feeds.get(outbox_id)
        if feed is None:
            return
        feed.cursor.let_go()
        if feed.mailbox is not None:
            self._ask_replay(feed)
        else:
            self._forget_if_settled(outbox_id, feed)

    def capacity_available(self) -> None:
        """See `StoreListener`: ask for what was turned away."""
        for feed in self._feeds.values():
            if feed.cursor.room_again():
                self._ask_replay(feed)

    def _begin_boot(self, session: Session) -> None:
        self._latest.begin_session(session.asset_keys)
        # Epoch 0 tells nothing: every session may be another boot.
        boot = (session.agent_id, session.epoch, session.outbox_id)
        others = [key for key in session.asset_keys if not session.epoch or self._boots.get(key) != boot]
        self._latest.begin_boot(others)
        self._boots.update(dict.fromkeys(others, boot))

    def _take(
        self, session: Session, stream: _Stream, received: Received, now_ms: int, batch_seq: int | None
    ) -> None:
        self._count(received)
        samples = received.samples
        if received.wrong_time or stream.times.is_open:
            stream.times.follow(samples.ts_unix_ms, wrong=received.wrong_time, now_ms=now_ms)
        if received.wrong_time:
            return
        self._latest.apply_agent(samples, received_ms=now_ms, made_ms=received.made_ms, batch_seq=batch_seq)
        if received.newest and (samples.quality or self._alarms):
            self._alarms.follow(
                samples, agent_id=session.agent_id, now_ms=now_ms, reason_of=received.reason_of
            )
        self._measured(samples)

    def _count(self, received: Received) -> None:
        counters, samples = self._counters, received.samples
        counters.samples_received += len(samples.asset_keys)
        counters.samples_unknown += received.unknown
        if samples.quality:
            counters.samples_suspect += samples.quality.count(Quality.SUSPECT)
            counters.samples_bad += samples.quality.count(Quality.BAD)
            counters.samples_wrong_time += samples.quality.count(Quality.WRONG_TIME)

    def _sequence(self, feed: _Feed, outbox_id: str, batch: Batch, received: Received) -> None:
        cursor = feed.cursor
        match cursor.judge(batch.batch_seq, batch.gap_from_seq):
            case SequenceCheck.NEXT:
                expected_seq = cursor.next_seq
                # Before: a store may commit at once.
                feed.kept.came(batch.batch_seq, received.made_ms)
                if self._store.submit(outbox_id, batch.batch_seq, received.samples):
                    cursor.take(batch.batch_seq)
                    self._counters.batches_taken += 1
                    self._count_lost(outbox_id, batch, expected_seq)
                else:
                    cursor.hold_back()
                    self._counters.batches_refused += 1
            case SequenceCheck.REPEATED:
                self._counters.batches_repeated += 1
                if feed.mailbox is not None:
                    feed.mailbox.put_ack(cursor.committed_seq)
            case SequenceCheck.AHEAD:
                self._counters.batches_out_of_sequence += 1
                self._ask_replay(feed)
            case SequenceCheck.HELD_BACK:
                self._counters.batches_refused += 1

    def _count_lost(self, outbox_id: str, batch: Batch, expected_seq: int) -> None:
        # Of an outbox without a record, what is missing may have been acknowledged by a headend without a
        # database: only the agent knows. Of any other, what is missing is missing in the database.
        lost = batch.batch_seq - expected_seq if expected_seq > 1 else batch.lost_batches or 0
        if lost:
            self._counters.batches_lost += lost
            log.warning(
                "telemetry batches are lost",
                outbox_id=outbox_id,
                batches=lost,
                from_batch_seq=expected_seq,
                to_batch_seq=batch.batch_seq - 1,
            )

    def _ask_replay(self, feed: _Feed) -> None:
        if feed.mailbox is not None and (from_seq := feed.cursor.ask_replay()) is not None:
            self._counters.replays_requested += 1
            feed.mailbox.put_replay(from_seq)

    def _forget_if_settled(self, outbox_id: str, feed: _Feed) -> None:
        if feed.cursor.settled:
            del self._feeds[outbox_id]
