"""What the headend asks of persistence. Each way of remembering is one class of this shape.

Nothing but what reads may wait: a slow or dead database is never felt
on a stream.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, Protocol

from trioder.domain.assets import Asset
from trioder.domain.dispatch import AllocationOf, DispatchRecord
from trioder.domain.telemetry import PastSample, Samples
from trioder.store.records import PastSession, SessionRecord, Watermark
from trioder.store.stats import StoreStats

StoreHealth = Literal["ok", "error", "disabled"]


class StoreListener(Protocol):
    """Who is told what became of submitted batches; called between two checkpoints, and must not raise."""

    def batches_committed(self, outbox_id: str, mark: Watermark) -> None:
        """Every batch of the outbox up to `mark` is kept for good."""

    def batches_released(self, outbox_id: str) -> None:
        """The store dropped every batch of the outbox that it had not committed."""

    def capacity_available(self) -> None:
        """After a refused `submit`: batches are taken again."""


class Store(Protocol):
    """Remembers telemetry, sessions and dispatches.

    The sequence of an outbox and its rows are kept in one transaction, so that after any crash
    `watermark` and the rows agree.
    """

    @property
    def health(self) -> StoreHealth:
        """Whether what is handed over now is likely to be kept; `disabled` when nothing ever is."""

    @property
    def health_reason(self) -> str:
        """Why health is `error`, in words for an operator; empty when it is not."""

    @property
    def figures(self) -> StoreStats:
        """What the store has done and has still to do, as numbers."""

    def listen(self, listener: StoreListener) -> None:
        """Tell `listener` from now on; there is one at a time."""

    async def watermark(self, outbox_id: str) -> Watermark:
        """The last batch of the outbox that is kept; `NOTHING_COMMITTED` when there is none.

        Waits a moment at most while the store has not been able to read its marks since it started, and then
        answers that nothing is: too low does no harm, what is committed is not written again.
        """

    def submit(self, outbox_id: str, batch_seq: int, samples: Samples) -> bool:
        """Hand over the batch that follows the last one submitted for this outbox.

        The store becomes the owner of the columns.

        Returns:
            False when there is no room: nothing was taken, and `capacity_available` follows.
        """

    def keep(self, samples: Samples) -> None:
        """Hand over samples that no outbox stands behind; without room they are dropped, and counted."""

    def open_session(self, session: SessionRecord) -> None:
        """A session begins."""

    def close_session(self, session_id: str, *, disconnected_ms: int, reason: str) -> None:
        """A session has ended."""

    def record_dispatch(
        self, dispatch: DispatchRecord, *, changed: Collection[int], share_of: AllocationOf
    ) -> None:
        """A dispatch was made, or something has become of it.

        Args:
            dispatch: as it is now, without members and left_out.
            changed: the keys of the assets whose share is not what was recorded last; at first, of all.
            share_of: called for these, when they are written: what is newest then is recorded.
        """

    def fleet_changed(self) -> None:
        """The fleet was reloaded: mirror it before anything of it is written."""

    async def open_dispatches(self) -> Sequence[DispatchRecord]:
        """The dispatches that nobody has seen the end of, oldest first: what a headend goes on with.

        Raises:
            StoreUnavailableError: the database does not answer.
        """

    async def find_dispatch(
        self, *, dispatch_id: str | None = None, idempotency_key: str | None = None
    ) -> DispatchRecord | None:
        """The dispatch with this id, or the one that was made under this key; None when there is none.

        What waits to be written counts as well.

        Raises:
            StoreUnavailableError: the database does not answer, or not within about 2 s.
        """

    async def dispatches(
        self, *, limit: int, asset: Asset | None = None, state: str | None = None, whole: bool = False
    ) -> Sequence[DispatchRecord]:
        """The last `limit` dispatches, newest first; those to one asset, in one state, or both, when named.

        `whole` with what each asset has.

        Raises:
            StoreUnavailableError: the database does not answer.
        """

    async def history(
        self, asset: Asset, *, limit: int, start_ms: int | None = None, end_ms: int | None = None
    ) -> Sequence[PastSample]:
        """The newest `limit` samples of an asset in [start_ms, end_ms), newest first.

        Raises:
            StoreUnavailableError: the database does not answer.
        """

    async def reported_times(self, assets: Sequence[Asset], *, limit: int) -> Mapping[str, Sequence[int]]:
        """The times of the newest samples that agents reported, by asset id, the oldest first.

        Args:
            assets: which; those without a sample are missing in what is returned.
            limit: of each asset, how many of its newest samples are read.

        Raises:
            StoreUnavailableError: the database does not answer.
        """

    async def find_retired_asset(self, asset_id: str) -> Asset | None:
        """An asset that has been in the fleet, as it was then; None when it never was.

        Raises:
            StoreUnavailableError: the database does not answer.
        """

    async def sessions(
        self, *, limit: int, asset: Asset | None = None, agent_id: str | None = None
    ) -> Sequence[PastSession]:
        """The last `limit` sessions, newest first; those of one asset, of one agent, or both, when named.

        Raises:
            StoreUnavailableError: the database does not answer.
        """


class StoreConfigurationError(Exception):
    """The store cannot be had as it was asked for; its text says why and what to do."""


class StoreUnavailableError(Exception):
    """What was asked cannot be answered now; its text says why."""
