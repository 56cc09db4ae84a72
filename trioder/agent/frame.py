"""The rows of all assets of one pulse, which become one batch."""

from collections.abc import Callable

import trio

from trioder.domain.quality import Quality
from trioder.domain.telemetry import BessState
from trioder.wire.records import Batch


class Frame:
    """The rows of one pulse.

    It is complete when every asset has put its row or was left out. A row that arrives after it was closed
    is dropped.

    Attributes:
        number: counts the frames from 1.
        at_s: the instant of the rows, on Trio's clock.
        complete: set when no row is missing.
    """

    __slots__ = ("_flagged", "_missing", "_rows", "_ts_unix_ms", "at_s", "complete", "number")

    def __init__(self, *, number: int, at_s: float, ts_unix_ms: int, assets: int) -> None:
        self.number = number
        self.at_s = at_s
        self.complete = trio.Event()
        self._ts_unix_ms = ts_unix_ms
        self._rows: list[BessState | None] = [None] * assets
        self._missing = assets
        # Positions of the rows whose quality is not good; mostly none.
        self._flagged: dict[int, Quality] = {}

    def put(self, position: int, state: BessState, quality: Quality = Quality.GOOD) -> None:
        """Put the row of the asset at `position`; each asset once, unless it was left out.

        Args:
            position: of the asset in the agent's batches.
            state: as the device reports it.
            quality: the device's, good or bad.
        """
        if self._rows:
            self._rows[position] = state
            if quality != Quality.GOOD:
                self._flagged[position] = quality
            self._count_one()

    def alter(self, position: int, report: Callable[[BessState, Quality], tuple[BessState, Quality]]) -> None:
        """Replace the row of the asset at `position`, if there is one, by what `report` makes of it."""
        row = self._rows[position] if self._rows else None
        if row is None:
            return
        self._rows[position], quality = report(row, self._flagged.pop(position, Quality.GOOD))
        if quality != Quality.GOOD:
            self._flagged[position] = quality

    def leave_out(self) -> None:
        """Count one asset as having no row."""
        self._count_one()

    def rows_missing(self) -> int:
        """Return how many assets have no row so far."""
        return self._rows.count(None)

    def close(self, batch_seq: int) -> Batch | None:
        """Return the rows as a batch; None without any. A frame is closed once."""
        rows, self._rows = self._rows, []
        if None in rows:
            asset_index = [position for position, row in enumerate(rows) if row is not None]
        else:
            asset_index = list(range(len(rows)))
        if not asset_index:
            return None
        columns = tuple(zip(*filter(None, rows), strict=True))
        soc_mwhr, current_mw, setpoint_mw, available_discharge_mw, available_charge_mw = columns
        return Batch(
            batch_seq=batch_seq,
            ts_unix_ms=self._ts_unix_ms,
            asset_index=asset_index,
            soc_mwhr=soc_mwhr,
            current_mw=current_mw,
            setpoint_mw=setpoint_mw,
            available_discharge_mw=available_discharge_mw,
            available_charge_mw=available_charge_mw,
            quality=bytes([self._flagged.get(position, Quality.GOOD) for position in asset_index])
            if self._flagged
            else b"",
        )

    def _count_one(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            self.complete.set()
