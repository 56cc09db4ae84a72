"""The sending half of go-back-N: which batch goes next, and which need not be kept any more. No I/O.

Every batch is kept until the headend has it for good; `trioder.agent.batch_log` is where.
"""

from dataclasses import dataclass

import structlog

from trioder.agent.batch_log import KeptBatches
from trioder.wire.uplink import batch_ts_unix_ms

log = structlog.stdlib.get_logger(__name__)

# Unacknowledged batches under way at once.
WINDOW_BATCHES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One batch to be sent now.

    Attributes:
        payload: as it was appended.
        gap_from_seq: the batches from here to batch_seq - 1 are not kept; to be reported with the batch.
        lost_batches: how many of those were dropped before any headend had acknowledged them.
        live_only: an early copy of the newest; it comes again in its turn.
    """

    batch_seq: int
    payload: bytes
    gap_from_seq: int | None = None
    lost_batches: int = 0
    live_only: bool = False


class Outbox:
    """Hands out batches strictly in order, in a bounded window, and the newest one early behind a backlog.

    Between `disconnected` and `registered` nothing is handed out. The headend's word on what it needs is
    followed wherever it can be true; word of batches that were never sent is logged and passed over.

    Args:
        kept: the store of the batches; this object is its only user.
        max_bytes: more than that is not kept, the newest batch excepted: the oldest are dropped.

    Attributes:
        dropped: batches that were dropped before the headend had them.
        unreadable: how often one was passed over because it could not be read back.
    """

    def __init__(self, kept: KeptBatches, *, max_bytes: int, window_batches: int = WINDOW_BATCHES) -> None:
        self.dropped = 0
        self.unreadable = 0
        self._kept = kept
        self._max_bytes = max_bytes
        self._window_batches = window_batches
        self._connected = False
        self._committed_seq = kept.first_seq - 1
        # What the headend waits for; it may have been dropped.
        self._next_seq = kept.first_seq
        # What was kept before this process began may be older than what the headend has by these numbers.
        self._own_from_seq = kept.last_seq + 1
        # Ever, over all sessions: the headend may commit what an earlier session sent.
        # What was kept before this process began may have been sent, too.
        self._highest_sent_seq = kept.last_seq
        self._shown_seq = kept.last_seq
        self._dropping = False

    @property
    def next_append_seq(self) -> int:
        """The sequence number that the next batch will have."""
        return self._kept.last_seq + 1

    @property
    def batches(self) -> int:
        """How many are kept."""
        return self._kept.last_seq - self._kept.first_seq + 1

    @property
    def size_bytes(self) -> int:
        """Of all that are kept."""
        return self._kept.size_bytes

    def is_settled(self) -> bool:
        """Whether the headend has every batch that can still be read."""
        kept = self._kept
        newest = kept.last_seq
        while newest > max(self._committed_seq, kept.first_seq - 1) and kept.read(newest) is None:
            newest -= 1
        return newest <= self._committed_seq

    def append(self, payload: bytes) -> None:
        """Take in the newest batch, and drop the oldest if there is no room."""
        kept = self._kept
        kept.append(payload)
        while kept.size_bytes > self._max_bytes and kept.first_seq < kept.last_seq:
            if kept.first_seq > self._committed_seq:
                kept.losses.add(kept.first_seq)
            kept.drop_first()
            self.dropped += 1
            if not self._dropping:
                self._dropping = True
                log.warning("outbox full, the oldest batches are dropped", max_bytes=self._max_bytes)

    def bounds(self) -> tuple[int, int]:
        """Return the oldest batch that is kept and the newest that ever was; (0, 0) before there was any."""
        return (self._kept.first_seq, self._kept.last_seq) if self._kept.last_seq else (0, 0)

    def is_set_back(self, committed_seq: int, committed_ts_unix_ms: int | None) -> bool:
        """Whether the headend has committed what this outbox never made: its state is an older copy's.

        Args:
            committed_seq: the last batch that the headend has of the outbox.
            committed_ts_unix_ms: the time of that batch, where the headend has it on record.
        """
        kept = self._kept
        if committed_seq > kept.last_seq:
            return True
        if committed_ts_unix_ms is None or committed_seq < kept.first_seq:
            return False
        payload = kept.read(committed_seq)
        return payload is not None and batch_ts_unix_ms(payload) != committed_ts_unix_ms

    def restart(self) -> int:
        """Begin another sequence with what this process has made, where it stands; return how many go on.

        What was kept from before is taken as committed: the headend has batches of those numbers, made before
        the copy was taken.
        """
        kept = self._kept
        while kept.first_seq < self._own_from_seq and kept.first_seq <= kept.last_seq:
            kept.drop_first()
        kept.losses.forget(kept.first_seq - 1)
        self._committed_seq = kept.first_seq - 1
        self._next_seq = kept.first_seq
        self._highest_sent_seq = self._committed_seq
        return self.batches

    def registered(self, committed_seq: int) -> None:
        """A session stands; the headend has everything up to `committed_seq`, and waits for what follows."""
        if committed_seq > self._highest_sent_seq:
            log.warning(
                "the headend has batches that were never sent",
                batch_seq=committed_seq,
                highest_sent=self._highest_sent_seq,
            )
            committed_seq = self._highest_sent_seq
        if committed_seq < self._committed_seq:
            log.warning(
                "the headend no longer has batches that it acknowledged",
                batch_seq=committed_seq,
                acknowledged=self._committed_seq,
            )
        self._connected = True
        self._committed_seq = committed_seq
        self._next_seq = committed_seq + 1
        # Nothing of an earlier session counts as shown to this one.
        self._shown_seq = 0
        self._let_go()

    def disconnected(self) -> None:
        """The session is over: nothing is under way any more."""
        self._connected = False

    def acknowledged(self, batch_seq: int) -> None:
        """The headend has everything up to `batch_seq` for good."""
        if batch_seq > self._highest_sent_seq:
            log.warning(
                "acknowledgement of a batch that was never sent",
                batch_seq=batch_seq,
                highest_sent=self._highest_sent_seq,
            )
        elif batch_seq > self._committed_seq:
            self._committed_seq = batch_seq
            self._next_seq = max(self._next_seq, batch_seq + 1)
            self._let_go()

    def replay_from(self, batch_seq: int) -> None:
        """The headend waits for `batch_seq` and what follows."""
        if not 0 < batch_seq <= self._highest_sent_seq + 1:
            log.warning(
                "replay asked for from a batch that was never sent",
                batch_seq=batch_seq,
                highest_sent=self._highest_sent_seq,
            )
            return
        self._next_seq = batch_seq
        self._committed_seq = min(self._committed_seq, batch_seq - 1)

    def take_next(self) -> Outgoing | None:
        """Return what is to be sent now and count it as under way; None when there is nothing to send."""
        if not self._connected:
            return None
        kept = self._kept
        batch_seq = max(self._next_seq, kept.first_seq)
        # A batch that a crash could still take away is not sent in its turn: its number would be used twice.
        may_go = self._next_seq - self._committed_seq <= self._window_batches and batch_seq <= kept.saved_seq
        if self._shown_seq < kept.last_seq and not (may_go and batch_seq == kept.last_seq):
            # Not its turn, but it is what people look at.
            self._shown_seq = kept.last_seq
            payload = kept.read(kept.last_seq) if self.batches else None
            if payload is not None:
                return Outgoing(batch_seq=kept.last_seq, payload=payload, live_only=True)
        if not may_go:
            return None
        payload = kept.read(batch_seq)
        while payload is None and batch_seq < kept.saved_seq:
            self.unreadable += 1
            kept.losses.add(batch_seq)
            batch_seq += 1
            payload = kept.read(batch_seq)
        if payload is None:
            # Reported as a gap with the batch that follows.
            return None
        gap_from_seq = self._next_seq if self._next_seq < batch_seq else None
        lost_batches = kept.losses.count(self._next_seq, batch_seq - 1)
        self._next_seq = batch_seq + 1
        self._highest_sent_seq = max(self._highest_sent_seq, batch_seq)
        self._shown_seq = max(self._shown_seq, batch_seq)
        return Outgoing(
            batch_seq=batch_seq, payload=payload, gap_from_seq=gap_from_seq, lost_batches=lost_batches
        )

    def _let_go(self) -> None:
        kept = self._kept
        while kept.first_seq <= min(self._committed_seq, kept.last_seq):
            kept.drop_first()
        kept.losses.forget(min(self._committed_seq, kept.last_seq))
        if self._dropping and kept.size_bytes < self._max_bytes // 2:
            self._dropping = False
            log.warning("outbox has room again", dropped=self.dropped)
