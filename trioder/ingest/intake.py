"""Turns the telemetry of one session into samples by asset key, with their quality and time of making.

Synchronous, and changes nothing but its own state of the session. The samples are distributed in `service`.
"""

import math
from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from struct import Struct
from typing import NamedTuple

from trioder.domain.fleet import Fleet
from trioder.domain.quality import Quality
from trioder.domain.telemetry import Samples
from trioder.gateway.sessions import Session
from trioder.ingest.plausibility import BEYOND_SOC_PCT, Bounds, Screen, impossible, is_too_fast
from trioder.ingest.sample_clock import SampleClock, is_wrong_time
from trioder.wire.records import Batch, SingleSample

_UNKNOWN_MW = math.nan
_FLAGGED = "flagged by the device itself"
_TOO_FAST = "current_mw is {:.6g}; by the nameplate's ramp it cannot have got there so fast"


class Received(NamedTuple):
    """The samples of one message.

    Attributes:
        samples: with the qualities of its rows.
        made_ms: when they were made, by the headend's clock; not after they were received.
        newest: whether the session has sent nothing newer before.
        wrong_time: whether their time cannot be right; the quality of every row is WRONG_TIME then.
        unknown: how many rows were dropped because their assets are not in the fleet.
        reason_of: why a row is suspect or bad; None when none is. The text is formatted when it is called.
    """

    samples: Samples
    made_ms: int
    newest: bool
    wrong_time: bool = False
    unknown: int = 0
    reason_of: Callable[[int], str] | None = None


class _Rows:
    """The rows of a batch; mostly the same as in the previous batch, and reused then.

    Attributes:
        batch_keys: those of the session, of which these rows were made.
        asset_index: the batch's column.
        known: the rows whose assets are in the fleet; None when all are.
        keys: the asset keys of those rows.
        screen: the checks of those rows.
    """

    __slots__ = ("asset_index", "batch_keys", "keys", "known", "screen")

    def __init__(self, fleet: Fleet, batch_keys: Sequence[int | None], asset_index: Sequence[int]) -> None:
        self.batch_keys = batch_keys
        self.asset_index = asset_index
        known = [(row, key) for row, at in enumerate(asset_index) if (key := batch_keys[at]) is not None]
        self.known = None if len(known) == len(asset_index) else [row for row, _ in known]
        self.keys = _as_range([key for _, key in known])
        self.screen = Screen([fleet.assets[key] for key in self.keys])


class _Lane:
    """The previous batch, of those sent in sequence or of the live ones sent ahead of a backlog.

    Attributes:
        current_mw: NaN where the next one must not be compared with it.
    """

    __slots__ = ("batch_seq", "current_mw", "received_ms", "rows", "ts_unix_ms")

    def __init__(self) -> None:
        self.rows: _Rows | None = None
        self.batch_seq = self.ts_unix_ms = self.received_ms = 0
        self.current_mw: array[float] = array("d")


class Intake:
    """Reads the telemetry of one session."""

    def __init__(self, fleet: Fleet, session: Session) -> None:
        self._fleet = fleet
        self._session = session
        self._clock = SampleClock()
        self._rows: _Rows | None = None
        self._newest_seq = 0
        self._in_sequence, self._live = _Lane(), _Lane()
        # Of assets with single samples.
        self._bounds: dict[int, Bounds] = {}
        # Of the previous sample of each: its time and time of receipt, ms, and its power, MW.
        self._previous: dict[int, array[float]] = {}

    def batch(self, batch: Batch, *, received_ms: int) -> Received:
        """Read one batch."""
        rows = self._rows_of(batch)
        columns = _packed(batch, rows.known)
        device = _select(batch.quality, rows.known)
        newest = batch.batch_seq > self._newest_seq
        skew_s = self._session.measured_skew_s
        reason_of = None
        wrong_time = is_wrong_time(batch.ts_unix_ms, received_ms=received_ms, skew_s=skew_s)
        if wrong_time:
            made_ms, newest = received_ms, False
            quality = bytes([Quality.WRONG_TIME]) * len(rows.keys)
        else:
            made_ms = self._clock.made_ms(
                batch.ts_unix_ms, received_ms=received_ms, skew_s=skew_s, newest=newest, in_sequence=True
            )
            self._newest_seq = max(self._newest_seq, batch.batch_seq)
            quality = self._qualities(batch, rows, columns, device, received_ms)
            if quality:
                reason_of = partial(_reason, rows.screen, columns, device)
        soc_mwhr, current_mw, setpoint_mw, available_discharge_mw, available_charge_mw = columns
        samples = Samples(
            ts_unix_ms=batch.ts_unix_ms,
            source="agent",
            asset_keys=rows.keys,
            soc_mwhr=soc_mwhr,
            current_mw=current_mw,
            setpoint_mw=setpoint_mw,
            available_discharge_mw=available_discharge_mw,
            available_charge_mw=available_charge_mw,
            quality=quality,
        )
        unknown = len(batch.asset_index) - len(rows.keys)
        return Received(samples, made_ms, newest, wrong_time, unknown, reason_of)

    def single(self, asset_key: int, sample: SingleSample, *, received_ms: int) -> Received:
        """Read one single sample."""
        ts_ms, skew_s = sample.ts_unix_ms, self._session.measured_skew_s
        reason_of = None
        wrong_time = is_wrong_time(ts_ms, received_ms=received_ms, skew_s=skew_s)
        if wrong_time:
            made_ms, quality = received_ms, Quality.WRONG_TIME
        else:
            made_ms = self._clock.made_ms(
                ts_ms, received_ms=received_ms, skew_s=skew_s, newest=True, in_sequence=False
            )
            reason = self._reason_single(asset_key, sample, received_ms)
            quality = sample.quality
            if quality or reason:
                reason_of = partial(_single_reason, _FLAGGED if quality else reason)
                quality = quality or Quality.SUSPECT
        samples = Samples(
            ts_unix_ms=ts_ms,
            source="agent",
            asset_keys=(asset_key,),
            soc_mwhr=(sample.soc_mwhr,),
            current_mw=(sample.current_mw,),
            setpoint_mw=(sample.setpoint_mw,),
            available_discharge_mw=(sample.available_discharge_mw,),
            available_charge_mw=(sample.available_charge_mw,),
            quality=bytes((quality,)) if quality else b"",
        )
        return Received(samples, made_ms, not wrong_time, wrong_time, 0, reason_of)

    def nameplates_changed(self) -> None:
        """The fleet's nameplates have changed."""
        self._rows = None
        self._bounds.clear()

    def clock_stepped(self, by_ms: int) -> None:
        """The headend's clock was stepped by this."""
        self._clock.clock_stepped(by_ms)
        for lane in (self._in_sequence, self._live):
            lane.received_ms += by_ms
        for previous in self._previous.values():
            previous[1] += by_ms

    def _rows_of(self, batch: Batch) -> _Rows:
        keys = self._session.batch_keys
        rows = self._rows
        if rows is None or rows.batch_keys is not keys or rows.asset_index != batch.asset_index:
            rows = self._rows = _Rows(self._fleet, keys, batch.asset_index)
        return rows

    def _qualities(
        self,
        batch: Batch,
        rows: _Rows,
        columns: "tuple[array[float], ...]",
        device: bytes,
        received_ms: int,
    ) -> bytes:
        """The qualities of the rows; empty when all are good."""
        suspect_rows = rows.screen.impossible_rows(columns)
        if rows.screen.may_step:
            suspect_rows += self._too_fast(batch, rows, columns[1], suspect_rows, received_ms)
        if not suspect_rows:
            return device
        quality = bytearray(device or len(rows.keys))
        for row in suspect_rows:
            if quality[row] != Quality.BAD:
                quality[row] = Quality.SUSPECT
        return bytes(quality)

    def _too_fast(
        self,
        batch: Batch,
        rows: _Rows,
        current_mw: "array[float]",
        impossible_rows: Sequence[int],
        received_ms: int,
    ) -> list[int]:
        """The rows whose power changed too fast since the previous batch, which this one replaces."""
        lane = self._live if batch.live_only else self._in_sequence
        too_fast: list[int] = []
        # A repeat, or a batch of other assets, has no previous one to compare with.
        if lane.rows is rows and batch.batch_seq > lane.batch_seq:
            # So that neither a clock set back nor a backlog sent at once turns a change into a step.
            dt_ms = max(batch.ts_unix_ms - lane.ts_unix_ms, received_ms - lane.received_ms)
            too_fast = rows.screen.too_fast_rows(lane.current_mw, current_mw, dt_ms / 1000.0)
        lane.rows, lane.batch_seq = rows, batch.batch_seq
        lane.ts_unix_ms, lane.received_ms = batch.ts_unix_ms, received_ms
        lane.current_mw = current_mw
        if impossible_rows:
            lane.current_mw = current_mw[:]
            for row in impossible_rows:
                lane.current_mw[row] = _UNKNOWN_MW
        return too_fast

    def _reason_single(self, key: int, sample: SingleSample, received_ms: int) -> str:
        """Why the battery cannot have these values; empty when it can. Replaces the previous sample."""
        bounds = self._bounds.get(key)
        if bounds is None:
            bounds = self._bounds[key] = Bounds.of(self._fleet.assets[key])
        # A sample has all attributes of a row.
        reason = impossible(bounds, sample) or _impossible_extra(sample)
        if reason:
            self._previous.pop(key, None)
            return reason
        ts_ms, current_mw = sample.ts_unix_ms, sample.current_mw
        previous = self._previous.get(key)
        if previous is None:
            self._previous[key] = array("d", (ts_ms, received_ms, current_mw))
            return ""
        previous_ts_ms, previous_received_ms, previous_mw = previous
        previous[0], previous[1], previous[2] = ts_ms, received_ms, current_mw
        if ts_ms <= previous_ts_ms or abs(current_mw - previous_mw) <= bounds.step_mw:
            return ""
        dt_ms = max(ts_ms - previous_ts_ms, received_ms - previous_received_ms)
        too_fast = is_too_fast(bounds, previous_mw, current_mw, dt_ms / 1000.0)
        return _TOO_FAST.format(current_mw) if too_fast else ""


def _impossible_extra(sample: SingleSample) -> str:
    """As `impossible`, for the values that only a single sample has; they are not stored."""
    if not -BEYOND_SOC_PCT <= sample.soc_pct <= 100.0 + BEYOND_SOC_PCT:
        return f"soc_pct is {sample.soc_pct:.6g}; it must be within 0..100"
    if math.isfinite(sample.capacity_mwhr + sample.max_mw + sample.min_mw):
        return ""
    for name in ("capacity_mwhr", "max_mw", "min_mw"):
        if not math.isfinite(value := getattr(sample, name)):
            return f"{name} is {value}; it must be a finite number"
    return ""


def _single_reason(reason: str, _row: int) -> str:
    return reason


def _reason(screen: Screen, columns: "tuple[array[float], ...]", device: bytes, row: int) -> str:
    if device and device[row]:
        return _FLAGGED
    return screen.why_impossible(columns, row) or _TOO_FAST.format(columns[1][row])


def _as_range(keys: list[int]) -> Sequence[int]:
    """The keys as a range, if they are consecutive, as a shard's: the latest state is updated faster."""
    consecutive = range(keys[0], keys[0] + len(keys)) if keys else range(0)
    return consecutive if keys == list(consecutive) else keys


def _packed(batch: Batch, rows: Sequence[int] | None) -> "tuple[array[float], ...]":
    """The columns of `Row`, of all or of these rows; packed once, for the latest state and the store."""
    columns: tuple[Sequence[float], ...] = (
        batch.soc_mwhr,
        batch.current_mw,
        batch.setpoint_mw,
        batch.available_discharge_mw,
        batch.available_charge_mw,
    )
    if rows is not None:
        columns = tuple([column[row] for row in rows] for column in columns)
    return tuple(map(_as_array, columns))


def _as_array(values: Sequence[float]) -> "array[float]":
    packed = array("d")
    packed.frombytes(_doubles(len(values)).pack(*values))
    return packed


# Three times as fast as `array` of a list.
@lru_cache(maxsize=16)
def _doubles(count: int) -> Struct:
    return Struct(f"{count}d")


def _select(quality: bytes, rows: Sequence[int] | None) -> bytes:
    if not quality or rows is None:
        return quality
    selected = bytes([quality[row] for row in rows])
    return selected if any(selected) else b""
