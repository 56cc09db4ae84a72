"""Telemetry comes in: to the latest state at once, and to the store in sequence, by go-back-N per outbox.

Synchronous throughout: a batch is dealt with between two checkpoints, and a slow store is never waited for.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from trioder.headend.backlog import KeptMark
from trioder.headend.counters import Counters
from trioder.headend.latest import LatestState
from trioder.headend.mailbox import Mailbox
from trioder.headend.sessions import Session
from trioder.process.wall_time import WallClock
from trioder.sim.model import Telemetry
from trioder.store.interface import Store
from trioder.store.records import Samples
from trioder.wire.checks import WireError
from trioder.wire.records import Batch


class Verdict(Enum):
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

    def __init__(self, committed_seq: int) -> None:
        self.committed_seq = committed_seq
        self.next_seq = committed_seq + 1
        self._held_back = False
        self._replay_asked = False

    @property
    def settled(self) -> bool:
        """Whether the store has nothing of this outbox in hand."""
        return self.next_seq == self.committed_seq + 1

    def judge(self, batch_seq: int, gap_from_seq: int | None) -> Verdict:
        """Place a batch in the sequence; changes nothing."""
        if batch_seq < self.next_seq:
            return Verdict.REPEATED
        if self._held_back:
            return Verdict.HELD_BACK
        fits = batch_seq == self.next_seq or (gap_from_seq is not None and gap_from_seq <= self.next_seq)
        return Verdict.NEXT if fits else Verdict.AHEAD

    def take(self, batch_seq: int) -> None:
        """The store has taken the batch."""
        self.next_seq = batch_seq + 1
        self._replay_asked = False

    def commit(self, batch_seq: int) -> None:
        """The store has committed every batch up to this one."""
        self.committed_seq = max(self.committed_seq, batch_seq)
        self.next_seq = max(self.next_seq, batch_seq + 1)

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
    mailbox: Mailbox | None
    kept: KeptMark = field(default_factory=KeptMark)
    # Of the newest batch that the agent has told of, in its turn or early.
    newest_seq: int = 0
    # While it is attached.
    session: Session | None = None

    @property
    def kept_until_ms(self) -> float | None:
        """The time of the newest batch that is kept, by the headend's clock as far as the skew is known.

        Without an error it was concluded from samples, which may be those of a backlog.
        """
        session = self.session
        if session is None or self.kept.newest_ms is None:
            return None
        skew_s = session.clock_skew_s if session.clock_error_s is not None else None
        return self.kept.newest_ms - 1000 * (skew_s or 0.0)

    @property
    def outbox_batches(self) -> int:
        """How many batches the agent still keeps."""
        return max(0, self.newest_seq - self.cursor.committed_seq)


class Ingest:
    """Takes what agents tell of their assets; a `StoreListener` that passes the store's word on to them.

    A cursor outlives its session for as long as the store has batches of its outbox in hand.
    """

    def __init__(
        self,
        *,
        latest: LatestState,
        store: Store,
        counters: Counters,
        wall: WallClock,
        measured: Callable[[Samples], None],
    ) -> None:
        self._latest = latest
        self._store = store
        self._counters = counters
        self._wall = wall
        # Is shown every sample as it comes.
        self._measured = measured
        self._feeds: dict[str, _Feed] = {}
        # Which boot of which agent each asset's timestamps are of.
        self._boots: dict[int, tuple[str, int]] = {}

    async def session_opened(self, session: Session) -> int:
        """Attach a session to its outbox and return the last batch that is kept."""
        self._begin_boot(session)
        if not session.outbox_id:
            return 0
        feed = self._feeds.get(session.outbox_id)
        if feed is None:
            committed_seq = await self._store.committed_batch_seq(session.outbox_id)
            feed = self._feeds.setdefault(session.outbox_id, _Feed(BatchCursor(committed_seq), None))
        feed.mailbox, feed.session = session.mailbox, session
        feed.cursor.reattach()
        return feed.cursor.committed_seq

    def session_closed(self, session: Session) -> None:
        """Detach a session from its outbox; a newer session of the outbox stays attached."""
        feed = self._feeds.get(session.outbox_id)
        if feed is not None and feed.mailbox is session.mailbox:
            feed.mailbox = feed.session = None
            self._forget_if_settled(session.outbox_id, feed)

    def furthest_behind_s(self) -> float:
        """How old the newest kept batch is of the connected outbox that is furthest behind; 0 without any.

        One pulse and one transaction when nothing waits.
        """
        kept_ms = [kept for feed in self._feeds.values() if (kept := feed.kept_until_ms) is not None]
        return max(0, self._wall.now_ms() - min(kept_ms)) / 1000 if kept_ms else 0.0

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
        if session.backlog_only:
            # It is of the past, and perhaps of assets that another agent drives by now: never the latest.
            if not batch.live_only:
                samples = self._known_of(batch, session.backlog_keys)
                self._counters.samples_received += len(samples.asset_keys)
                self._sequence(feed, session.outbox_id, batch, samples)
            return
        samples = _samples_of(batch, [session.asset_keys[position] for position in batch.asset_index])
        self._apply(samples)
        if not batch.live_only:
            self._sequence(feed, session.outbox_id, batch, samples)

    def receive_telemetry(self, asset_key: int, telemetry: Telemetry) -> None:
        """Take one sample that came on its own, without a sequence."""
        samples = Samples(
            ts_unix_ms=telemetry.ts_unix_ms,
            source="agent",
            asset_keys=(asset_key,),
            soc_mwhr=(telemetry.soc_mwhr,),
            current_mw=(telemetry.current_mw,),
            setpoint_mw=(telemetry.setpoint_mw,),
            available_discharge_mw=(telemetry.available_discharge_mw,),
            available_charge_mw=(telemetry.available_charge_mw,),
        )
        self._apply(samples)
        self._store.keep(samples)

    def batches_committed(self, outbox_id: str, batch_seq: int) -> None:
        """See `StoreListener`: acknowledge to the agent."""
        feed = self._feeds.get(outbox_id)
        if feed is None:
            return
        feed.cursor.commit(batch_seq)
        feed.kept.committed(batch_seq)
        if feed.mailbox is not None:
            feed.mailbox.put_kept(feed.cursor.committed_seq)
        else:
            self._forget_if_settled(outbox_id, feed)

    def batches_let_go(self, outbox_id: str) -> None:
        """See `StoreListener`: go back to what is committed."""
        feed = self._feeds.get(outbox_id)
        if feed is None:
            return
        feed.cursor.let_go()
        if feed.mailbox is not None:
            self._ask_replay(feed)
        else:
            self._forget_if_settled(outbox_id, feed)

    def room_again(self) -> None:
        """See `StoreListener`: ask for what was turned away."""
        for feed in self._feeds.values():
            if feed.cursor.room_again():
                self._ask_replay(feed)

    def _known_of(self, batch: Batch, keys: Sequence[int | None]) -> Samples:
        """The batch without the assets that are not in the fleet; perhaps empty, but of its place."""
        known = [(row, key) for row, at in enumerate(batch.asset_index) if (key := keys[at]) is not None]
        if len(known) < len(batch.asset_index):
            self._counters.samples_unknown += len(batch.asset_index) - len(known)
            rows = [row for row, _ in known]
            batch = replace(
                batch,
                soc_mwhr=[batch.soc_mwhr[row] for row in rows],
                current_mw=[batch.current_mw[row] for row in rows],
                setpoint_mw=[batch.setpoint_mw[row] for row in rows],
                available_discharge_mw=[batch.available_discharge_mw[row] for row in rows],
                available_charge_mw=[batch.available_charge_mw[row] for row in rows],
            )
        return _samples_of(batch, [key for _, key in known])

    def _begin_boot(self, session: Session) -> None:
        # Epoch 0 tells nothing: every session may be another boot.
        boot = (session.agent_id, session.epoch)
        others = [key for key in session.asset_keys if not session.epoch or self._boots.get(key) != boot]
        self._latest.begin_boot(others)
        self._boots.update(dict.fromkeys(others, boot))

    def _apply(self, samples: Samples) -> None:
        self._counters.samples_received += len(samples.asset_keys)
        self._latest.apply_agent(samples, received_ms=self._wall.now_ms())
        self._measured(samples)

    def _sequence(self, feed: _Feed, outbox_id: str, batch: Batch, samples: Samples) -> None:
        cursor = feed.cursor
        match cursor.judge(batch.batch_seq, batch.gap_from_seq):
            case Verdict.NEXT:
                expected_seq = cursor.next_seq
                # Before: a store may commit at once.
                feed.kept.came(batch.batch_seq, batch.ts_unix_ms)
                if self._store.submit(outbox_id, batch.batch_seq, samples):
                    cursor.take(batch.batch_seq)
                    self._counters.batches_taken += 1
                    if expected_seq > 1:  # else nothing is known of what came before
                        self._counters.batches_lost += batch.batch_seq - expected_seq
                else:
                    cursor.hold_back()
                    self._counters.batches_refused += 1
            case Verdict.REPEATED:
                self._counters.batches_repeated += 1
                if feed.mailbox is not None:
                    feed.mailbox.put_kept(cursor.committed_seq)
            case Verdict.AHEAD:
                self._counters.batches_out_of_sequence += 1
                self._ask_replay(feed)
            case Verdict.HELD_BACK:
                self._counters.batches_refused += 1

    def _ask_replay(self, feed: _Feed) -> None:
        if feed.mailbox is not None and (from_seq := feed.cursor.ask_replay()) is not None:
            self._counters.replays_requested += 1
            feed.mailbox.put_replay(from_seq)

    def _forget_if_settled(self, outbox_id: str, feed: _Feed) -> None:
        if feed.cursor.settled:
            del self._feeds[outbox_id]


def _samples_of(batch: Batch, asset_keys: Sequence[int]) -> Samples:
    return Samples(
        ts_unix_ms=batch.ts_unix_ms,
        source="agent",
        asset_keys=asset_keys,
        # Packed once; the latest state and the store each copy the bytes.
        soc_mwhr=array("d", batch.soc_mwhr),
        current_mw=array("d", batch.current_mw),
        setpoint_mw=array("d", batch.setpoint_mw),
        available_discharge_mw=array("d", batch.available_discharge_mw),
        available_charge_mw=array("d", batch.available_charge_mw),
    )
