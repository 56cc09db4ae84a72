"""What one session's telemetry becomes: samples by asset key, each row's quality, and when they were made.

Synchronous, and changes nothing but what it remembers of the session. Where they go is decided in `ingest`.
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

_NOT_KNOWN = math.nan
_FLAGGED = "flagged by the device itself"
_TOO_FAST = "current_mw is {:.6g}; by the nameplate's ramp it cannot have got there so fast"


class Received(NamedTuple):
    """What was made of one message.

    Attributes:
        samples: with the qualities of its rows.
        made_ms: when its rows were made, by the headend's clock; not after they were received.
        newest: whether the session has sent nothing newer before.
        wrong_time: whether its time cannot be; every row says so then.
        unknown: how many rows were dropped, for their assets are not in the fleet.
        reason_of: why a row is suspect or bad; None when none is. Put into words only when it is called.
    """

    samples: Samples
    made_ms: int
    newest: bool
    wrong_time: bool = False
    unknown: int = 0
    reason_of: Callable[[int], str] | None = None


class _Rows:
    """The rows that a batch has: mostly those of the batch before.

    Attributes:
        of: the keys of the session's assets, by position.
        asset_index: as the batch names them.
        known: the rows whose assets are in the fleet; None when all are.
        keys: of those assets.
        screen: for those assets.
    """

    __slots__ = ("asset_index", "keys", "known", "of", "screen")

    def __init__(self, fleet: Fleet, keys: Sequence[int | None], asset_index: Sequence[int]) -> None:
        self.of = keys
        self.asset_index = asset_index
        known = [(row, key) for row, at in enumerate(asset_index) if (key := keys[at]) is not None]
        self.known = None if len(known) == len(asset_index) else [row for row, _ in known]
        self.keys = _as_range([key for _, key in known])
        self.screen = Screen([fleet.assets[key] for key in self.keys])


class _Lane:
    """The batch before, among those that are sent in their turn, or among those that are sent early.

    Attributes:
        current_mw: NaN where it is not to be compared with.
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
        self._in_turn, self._early = _Lane(), _Lane()
        # Of assets whose samples come one by one.
        self._bounds: dict[int, Bounds] = {}
        # The time, ms, when it was received, ms, and the power, MW, of each one's sample before.
        self._before: dict[int, array[float]] = {}

    def batch(self, batch: Batch, *, received_ms: int) -> Received:
        """Read one batch."""
        rows = self._rows_of(batch)
        columns = _packed(batch, rows.known)
        device = _picked(batch.quality, rows.known)
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
            quality = self._judged(batch, rows, columns, device, received_ms)
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
        """Read one sample that was sent on its own."""
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
        """The fleet's nameplates are others by now."""
        self._rows = None
        self._bounds.clear()

    def clock_stepped(self, by_ms: int) -> None:
        """The headend's own clock was set ahead by this."""
        self._clock.clock_stepped(by_ms)
        for lane in (self._in_turn, self._early):
            lane.received_ms += by_ms
        for before in self._before.values():
            before[1] += by_ms

    def _rows_of(self, batch: Batch) -> _Rows:
        keys = self._session.batch_keys
        rows = self._rows
        if rows is None or rows.of is not keys or rows.asset_index != batch.asset_index:
            rows = self._rows = _Rows(self._fleet, keys, batch.asset_index)
        return rows

    def _judged(
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
        """The rows that cannot have moved so fast since the batch before, which this one becomes."""
        lane = self._early if batch.live_only else self._in_turn
        too_fast: list[int] = []
        # What comes again, or with other assets, has nothing before it to be compared with.
        if lane.rows is rows and batch.batch_seq > lane.batch_seq:
            # Neither a clock that was set back nor a backlog that comes at once makes a step of a change.
            dt_ms = max(batch.ts_unix_ms - lane.ts_unix_ms, received_ms - lane.received_ms)
            too_fast = rows.screen.too_fast_rows(lane.current_mw, current_mw, dt_ms / 1000.0)
        lane.rows, lane.batch_seq = rows, batch.batch_seq
        lane.ts_unix_ms, lane.received_ms = batch.ts_unix_ms, received_ms
        lane.current_mw = current_mw
        if impossible_rows:
            lane.current_mw = current_mw[:]
            for row in impossible_rows:
                lane.current_mw[row] = _NOT_KNOWN
        return too_fast

    def _reason_single(self, key: int, sample: SingleSample, received_ms: int) -> str:
        """Why the battery cannot have these values; empty when it can. This sample becomes the one before."""
        bounds = self._bounds.get(key)
        if bounds is None:
            bounds = self._bounds[key] = Bounds.of(self._fleet.assets[key])
        # The sample has all that a row has.
        reason = impossible(bounds, sample) or _impossible_beside(sample)
        if reason:
            self._before.pop(key, None)
            return reason
        ts_ms, current_mw = sample.ts_unix_ms, sample.current_mw
        before = self._before.get(key)
        if before is None:
            self._before[key] = array("d", (ts_ms, received_ms, current_mw))
            return ""
        before_ts_ms, before_received_ms, before_mw = before
        before[0], before[1], before[2] = ts_ms, received_ms, current_mw
        if ts_ms <= before_ts_ms or abs(current_mw - before_mw) <= bounds.step_mw:
            return ""
        dt_ms = max(ts_ms - before_ts_ms, received_ms - before_received_ms)
        too_fast = is_too_fast(bounds, before_mw, current_mw, dt_ms / 1000.0)
        return _TOO_FAST.format(current_mw) if too_fast else ""


def _impossible_beside(sample: SingleSample) -> str:
    """As `impossible`, of what only a single sample has; none of it is stored."""
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
    """The keys as a range, if they are neighbours and ascend, as a shard's: the latest state is faster."""
    neighbours = range(keys[0], keys[0] + len(keys)) if keys else range(0)
    return neighbours if keys == list(neighbours) else keys


def _packed(batch: Batch, rows: Sequence[int] | None) -> "tuple[array[float], ...]":
    """The columns of `Row`, of all rows or of these; packed once, for the latest state and the store."""
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


# A third of the time that `array` takes for a list.
@lru_cache(maxsize=16)
def _doubles(count: int) -> Struct:
    return Struct(f"{count}d")


def _picked(quality: bytes, rows: Sequence[int] | None) -> bytes:
    if not quality or rows is None:
        return quality
    picked = bytes([quality[row] for row in rows])
    return picked if any(picked) else b""
