"""The sender of go-back-N: which batch is sent next, and which are dropped. No I/O.

Every batch stays in its `BatchLog` until the headend has committed it.
"""

from dataclasses import dataclass

import structlog

from trioder.agent.persistence.state_store import BatchLog
from trioder.wire.uplink import batch_ts_unix_ms

log = structlog.stdlib.get_logger(__name__)

# Unacknowledged batches in flight at once.
WINDOW_BATCHES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One batch to be sent now.

    Attributes:
        payload: as it was appended.
        gap_from_seq: the batches from here to batch_seq - 1 are gone; reported with the batch.
        lost_batches: how many of those were dropped unacknowledged.
        live_only: an early copy of the newest batch, which is sent again in sequence.
    """

    batch_seq: int
    payload: bytes
    gap_from_seq: int | None = None
    lost_batches: int = 0
    live_only: bool = False


class Outbox:
    """Returns batches strictly in order, in a bounded window, and the newest one early ahead of a backlog.

    Between `disconnected` and `registered` it returns nothing. An acknowledgement or a replay request of
    batches that were never sent is logged and ignored.

    Args:
        batches: the log; this object is its only user.
        max_bytes: of the log; beyond, the oldest batches but the newest are dropped.

    Attributes:
        dropped: batches dropped before the headend had them.
        unreadable: how often a batch was skipped because it could not be read back.
    """

    def __init__(self, batches: BatchLog, *, max_bytes: int, window_batches: int = WINDOW_BATCHES) -> None:
        self.dropped = 0
        self.unreadable = 0
        self._batches = batches
        self._max_bytes = max_bytes
        self._window_batches = window_batches
        self._connected = False
        self._committed_seq = batches.first_seq - 1
        # What the headend expects; it may have been dropped.
        self._next_seq = batches.first_seq
        # Earlier batches were read from the store, which may be an older copy.
        self._own_from_seq = batches.last_seq + 1
        # Over all sessions: the headend may commit what an earlier session, or process, sent.
        self._highest_sent_seq = batches.last_seq
        self._live_sent_seq = batches.last_seq
        self._dropping = False

    @property
    def next_append_seq(self) -> int:
        """The sequence number that the next batch will have."""
        return self._batches.last_seq + 1

    @property
    def batches(self) -> int:
        """How many batches there are."""
        return self._batches.last_seq - self._batches.first_seq + 1

    @property
    def size_bytes(self) -> int:
        """Of all batches."""
        return self._batches.size_bytes

    def is_settled(self) -> bool:
        """Whether the headend has every batch that can still be read."""
        batches = self._batches
        newest = batches.last_seq
        while newest > max(self._committed_seq, batches.first_seq - 1) and batches.read(newest) is None:
            newest -= 1
        return newest <= self._committed_seq

    def append(self, payload: bytes) -> None:
        """Append the newest batch, and drop the oldest if there is no room."""
        batches = self._batches
        batches.append(payload)
        while batches.size_bytes > self._max_bytes and batches.first_seq < batches.last_seq:
            if batches.first_seq > self._committed_seq:
                batches.losses.add(batches.first_seq)
            batches.drop_first()
            self.dropped += 1
            if not self._dropping:
                self._dropping = True
                log.warning("outbox full, the oldest batches are dropped", max_bytes=self._max_bytes)

    def bounds(self) -> tuple[int, int]:
        """Return the oldest batch of the log and the newest ever appended; (0, 0) before there was any."""
        return (self._batches.first_seq, self._batches.last_seq) if self._batches.last_seq else (0, 0)

    def is_set_back(self, committed_seq: int, committed_ts_unix_ms: int | None) -> bool:
        """Whether the headend has committed a batch that is not of this outbox: the state is an older copy.

        Args:
            committed_seq: the last batch that the headend has of the outbox.
            committed_ts_unix_ms: the time of that batch, where the headend has it on record.
        """
        batches = self._batches
        if committed_seq > batches.last_seq:
            return True
        if committed_ts_unix_ms is None or committed_seq < batches.first_seq:
            return False
        payload = batches.read(committed_seq)
        return payload is not None and batch_ts_unix_ms(payload) != committed_ts_unix_ms

    def restart(self) -> int:
        """Begin another outbox with this process's batches, at their numbers; return how many they are.

        Older batches count as committed: the headend has those numbers, from before the copy was taken.
        """
        batches = self._batches
        while batches.first_seq < self._own_from_seq and batches.first_seq <= batches.last_seq:
            batches.drop_first()
        batches.losses.forget(batches.first_seq - 1)
        self._committed_seq = batches.first_seq - 1
        self._next_seq = batches.first_seq
        self._highest_sent_seq = self._committed_seq
        return self.batches

    def registered(self, committed_seq: int) -> None:
        """Begin a session: the headend has everything up to `committed_seq`, and expects what follows."""
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
        self._live_sent_seq = 0
        self._drop_committed()

    def disconnected(self) -> None:
        """End the session: nothing is in flight any more."""
        self._connected = False

    def acknowledged(self, batch_seq: int) -> None:
        """Drop everything up to `batch_seq`: the headend has committed it."""
        if batch_seq > self._highest_sent_seq:
            log.warning(
                "acknowledgement of a batch that was never sent",
                batch_seq=batch_seq,
                highest_sent=self._highest_sent_seq,
            )
        elif batch_seq > self._committed_seq:
            self._committed_seq = batch_seq
            self._next_seq = max(self._next_seq, batch_seq + 1)
            self._drop_committed()

    def replay_from(self, batch_seq: int) -> None:
        """Send `batch_seq` and what follows again."""
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
        """Return the batch to send now, which is then in flight; None when there is none."""
        if not self._connected:
            return None
        batches = self._batches
        batch_seq = max(self._next_seq, batches.first_seq)
        # A batch that is not durable is not sent in sequence: after a crash its number would be used again.
        is_in_window = self._next_seq - self._committed_seq <= self._window_batches
        may_go = is_in_window and batch_seq <= batches.durable_seq
        if self._live_sent_seq < batches.last_seq and not (may_go and batch_seq == batches.last_seq):
            # Ahead of its turn, for the headend's latest values.
            self._live_sent_seq = batches.last_seq
            payload = batches.read(batches.last_seq) if self.batches else None
            if payload is not None:
                return Outgoing(batch_seq=batches.last_seq, payload=payload, live_only=True)
        if not may_go:
            return None
        payload = batches.read(batch_seq)
        while payload is None and batch_seq < batches.durable_seq:
            self.unreadable += 1
            batches.losses.add(batch_seq)
            batch_seq += 1
            payload = batches.read(batch_seq)
        if payload is None:
            # Reported as a gap with the batch that follows.
            return None
        gap_from_seq = self._next_seq if self._next_seq < batch_seq else None
        lost_batches = batches.losses.count(self._next_seq, batch_seq - 1)
        self._next_seq = batch_seq + 1
        self._highest_sent_seq = max(self._highest_sent_seq, batch_seq)
        self._live_sent_seq = max(self._live_sent_seq, batch_seq)
        return Outgoing(
            batch_seq=batch_seq, payload=payload, gap_from_seq=gap_from_seq, lost_batches=lost_batches
        )

    def _drop_committed(self) -> None:
        batches = self._batches
        while batches.first_seq <= min(self._committed_seq, batches.last_seq):
            batches.drop_first()
        batches.losses.forget(min(self._committed_seq, batches.last_seq))
        if self._dropping and batches.size_bytes < self._max_bytes // 2:
            self._dropping = False
            log.warning("outbox has room again", dropped=self.dropped)
