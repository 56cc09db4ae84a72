"""What the store asks of its database: few, whole transactions. The real one is in `psycopg_database`.

Every call may fail with `DatabaseError`, and may then have happened or not: each can be made again.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import attrgetter
from typing import Protocol

from trioder.domain.assets import Asset
from trioder.domain.dispatch import AllocationOf, AllocationRecord, DispatchRecord
from trioder.domain.quality import Quality
from trioder.domain.telemetry import PastSample, Samples, Source
from trioder.store.records import PastSession, SessionRecord, Watermark

# A batch's own objects, apart from its columns.
_BATCH_BYTES = 1_200
_NOTE_BYTES = 1_000
_KEY_BYTES = 64
_SHARE_BYTES = 500


class DatabaseError(Exception):
    """The database did not do what was asked; the text is for an operator.

    Attributes:
        of_data: it is there and refuses the data itself: to ask again would fail again.
    """

    def __init__(self, reason: str, *, of_data: bool = False) -> None:
        super().__init__(reason)
        self.of_data = of_data


# As the column `source` has them.
SOURCE_CODES: Mapping[Source, int] = {"agent": 0, "synthesized": 1}


# Not frozen, though nothing changes it once it is made: that would double what each costs to make.
@dataclass(slots=True, kw_only=True)
class PendingBatch:
    """A batch on its way to the database, its columns packed (44 bytes a row, 14 a run).

    `quality` is empty when every row is good, or synthesized by its source; else a code a row.

    Attributes:
        run_ts_unix_ms: rows that follow each other and are of one instant are a run; the instant of each, ...
        run_sources: ... its source as `SOURCE_CODES` has it, ...
        run_rows: ... and how many rows it has.
    """

    outbox_id: str
    batch_seq: int
    run_ts_unix_ms: "array[int]"
    run_sources: "array[int]"
    run_rows: "array[int]"
    asset_keys: "array[int] | range"
    soc_mwhr: "array[float]"
    current_mw: "array[float]"
    setpoint_mw: "array[float]"
    available_discharge_mw: "array[float]"
    available_charge_mw: "array[float]"
    quality: bytes = b""

    @classmethod
    def of(cls, outbox_id: str, batch_seq: int, *parts: Samples) -> "PendingBatch":
        """Pack the columns of one part or more, in order."""
        return cls(
            outbox_id=outbox_id,
            batch_seq=batch_seq,
            run_ts_unix_ms=array("q", [part.ts_unix_ms for part in parts]),
            run_sources=array("h", [SOURCE_CODES[part.source] for part in parts]),
            run_rows=array("i", [len(part.asset_keys) for part in parts]),
            asset_keys=_keys(parts),
            soc_mwhr=_joined(parts, "soc_mwhr"),
            current_mw=_joined(parts, "current_mw"),
            setpoint_mw=_joined(parts, "setpoint_mw"),
            available_discharge_mw=_joined(parts, "available_discharge_mw"),
            available_charge_mw=_joined(parts, "available_charge_mw"),
            quality=_joined_qualities(parts),
        )

    @property
    def watermark(self) -> Watermark:
        """Its outbox's mark once this batch is committed; an agent's batch is of one instant."""
        return Watermark(self.batch_seq, self.run_ts_unix_ms[-1])

    @property
    def rows(self) -> int:
        """How many samples it holds."""
        return len(self.asset_keys)

    @property
    def size(self) -> int:
        """Its memory, in bytes."""
        return _BATCH_BYTES + 44 * len(self.asset_keys) + 14 * len(self.run_rows) + len(self.quality)


def _joined_qualities(parts: Sequence[Samples]) -> bytes:
    if len(parts) == 1:
        return parts[0].quality
    return b"".join(map(_qualities, parts)) if any(part.quality for part in parts) else b""


def _qualities(part: Samples) -> bytes:
    usual = Quality.GOOD if part.source == "agent" else Quality.SYNTHESIZED
    return part.quality or bytes([usual]) * len(part.asset_keys)


def _keys(parts: Sequence[Samples]) -> "array[int] | range":
    # Neighbours, as a shard's assets are, stay a range: the database's keys of a range are a slice.
    if len(parts) == 1 and isinstance(keys := parts[0].asset_keys, range) and keys.step == 1:
        return keys
    return array("i", chain.from_iterable(part.asset_keys for part in parts))


def _joined(parts: Sequence[Samples], name: str) -> "array[float]":
    """One column of all parts; that of a single part as it is, if it is packed."""
    if len(parts) == 1 and isinstance(column := getattr(parts[0], name), array):
        return column
    return array("d", chain.from_iterable(map(attrgetter(name), parts)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionNote:
    """A session as it is to be remembered now; a later note of the same session replaces it."""

    session: SessionRecord
    disconnected_ms: int | None = None
    reason: str | None = None

    @property
    def size(self) -> int:
        """Its memory, in bytes."""
        return _NOTE_BYTES + 4 * len(self.session.asset_keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchNote:
    """A dispatch as it is to be remembered now, with what has changed of it since it was last written.

    Attributes:
        dispatch: without members and left_out.
        changed: the keys of the assets whose share is to be written.
        share_of: an asset's share as it is when asked.
    """

    dispatch: DispatchRecord
    changed: frozenset[int]
    share_of: AllocationOf

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it is in the database alone."""
        return len(self.changed) == self._assets

    @property
    def size(self) -> int:
        """The memory that it takes, or keeps from being freed, in bytes."""
        if self.dispatch.is_open or not self.changed:
            # The headend has the shares in memory anyway.
            return _NOTE_BYTES + _KEY_BYTES * len(self.changed)
        return _NOTE_BYTES + _KEY_BYTES * len(self.changed) + _SHARE_BYTES * self._assets

    @property
    def _assets(self) -> int:
        return sum(self.dispatch.by_state.values()) + self.dispatch.assets_left_out

    @property
    def shares(self) -> list[AllocationRecord]:
        """Those that have changed, in fleet order."""
        return [self.share_of(key) for key in sorted(self.changed)]

    def followed_by(self, newer: "DispatchNote") -> "DispatchNote":
        """Both as one."""
        return replace(newer, changed=self.changed | newer.changed)

    def without_shares(self) -> "DispatchNote":
        """What is left of it when there is no room for more."""
        return replace(self, changed=frozenset(), share_of=_no_share)


def _no_share(key: int) -> AllocationRecord:
    raise KeyError(key)


Note = SessionNote | DispatchNote


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermarks:
    """The last committed batch of each outbox.

    Attributes:
        complete: an outbox that is not among them has none.
    """

    by_outbox: Mapping[str, Watermark] = field(default_factory=dict)
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a transaction came to.

    Attributes:
        marks: of each outbox in it: the last batch that is committed now.
        rows: how many samples it added; those of batches that were there already are not among them.
    """

    marks: Mapping[str, Watermark]
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """What the upkeep of the telemetry has come to since the headend started.

    Attributes:
        partition_failures: attempts to make or drop a day's partition that failed; they are repeated.
        days_dropped: days of telemetry that retention has dropped.
        days_held: days that retention would drop, and that wait for an operator.
    """

    partition_failures: int = 0
    days_dropped: int = 0
    days_held: int = 0


class Database(Protocol):
    """One database, one writer."""

    async def connect(self, *, first: bool) -> Watermarks:
        """Connect anew and make everything ready for what follows.

        Args:
            first: this is the headend's first: sessions that are open in the database are a dead one's.
        """

    async def disconnect(self) -> None:
        """Let go of the connection, in whatever state; never fails."""

    async def write(self, batches: Sequence[PendingBatch], *, rows: bool = True) -> Written:
        """Commit, in one transaction, the batches that are not committed yet, and their outboxes' marks.

        Args:
            batches: those of one outbox in sequence.
            rows: False moves the marks alone.
        """

    async def note(self, notes: Iterable[Note]) -> None:
        """Write sessions and dispatches as they are now, in one transaction. Besides the writer."""

    async def drop_old_records(self) -> bool:
        """Delete some of the records that are too old, in one transaction; whether there are more of them.

        Besides the writer; not while `note` runs.
        """

    async def mirror_fleet(self) -> None:
        """Make the database's fleet that of the headend, which has changed since the connection was made."""

    async def tend(self) -> Maintenance:
        """What is due from time to time: see that it answers, make partitions ahead, drop old ones."""

    async def watermark(self, outbox_id: str) -> Watermark:
        """The outbox's mark, `NOTHING_COMMITTED` when it has none. Besides the writer."""

    async def find_retired_asset(self, asset_id: str) -> Asset | None:
        """An asset that is not in the fleet any more. Besides the writer."""

    async def history(
        self, asset: Asset, *, limit: int, start_ms: int | None, end_ms: int | None
    ) -> Sequence[PastSample]:
        """See `Store.history`. Besides the writer."""

    async def reported_times(self, asset_ids: Sequence[str], *, limit: int) -> Mapping[str, Sequence[int]]:
        """See `Store.reported_times`. Besides the writer."""

    async def sessions(
        self, *, limit: int, asset: Asset | None, agent_id: str | None
    ) -> Sequence[PastSession]:
        """See `Store.sessions`. Besides the writer."""

    async def open_dispatches(self, *, limit: int) -> Sequence[DispatchRecord]:
        """The last `limit` of those that `Store.living_dispatches` tells of. Besides the writer."""

    async def find_dispatch(
        self, *, dispatch_id: str | None, idempotency_key: str | None, whole: bool
    ) -> DispatchRecord | None:
        """See `Store.find_dispatch`; `whole` with what each asset has. Besides the writer."""

    async def dispatches(
        self, *, limit: int, asset: Asset | None, state: str | None, whole: bool
    ) -> Sequence[DispatchRecord]:
        """See `Store.dispatches`. Besides the writer."""
