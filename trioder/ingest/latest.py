"""The latest sample of every asset and its quality: columns by asset key, about 90 bytes an asset.

Older samples are in the store.
"""

import math
from array import array
from collections.abc import Iterable, Sequence

from trioder.domain.assets import soc_pct
from trioder.domain.fleet import Fleet, FleetChange
from trioder.domain.quality import LatestQuality
from trioder.domain.quality import Quality as Code
from trioder.domain.telemetry import BessState, Samples, Telemetry, status_of
from trioder.ingest.latest_values import Columns, LatestView, Reported

_NONE, _SYNTHESIZED, _AGENT = 0, 1, 2
_GOOD, _OF_MODEL = int(Code.GOOD), int(Code.SYNTHESIZED)
_DOUBTFUL = frozenset({Code.SUSPECT, Code.BAD})
_BEFORE_ALL_TIME, _AFTER_ALL_TIME = -(2**63), 2**63
# Fewer assets are faster one by one.
_SHORTEST_RUN = 8


class LatestState:
    """The newest known state of each asset of the fleet; an agent's is stale from `stale_after_s` on.

    Within one boot of an agent, batches are ordered by their sequence, and single samples by the time when
    they were made: backfill never overwrites a newer value, and a clock that was ahead hides nothing.

    Attributes:
        version: changes with every change of any sample, of a session's assets and of the clock.
        sample_versions: of each asset, the version of its latest sample. Read only.
        written: the assets written since their one follower emptied this; None while nobody follows.
    """

    def __init__(self, fleet: Fleet, *, stale_after_s: float = 12.0) -> None:
        self._fleet = fleet
        self.stale_after_s = stale_after_s
        # At this age a sample is not stale yet, a millisecond later it is; despite the rounding of floats.
        self._fresh_ms = math.floor(stale_after_s * 1000 + 1e-6)
        self.version = 0
        # Until when no sample becomes stale: never too late, it may be too early.
        self._none_stale_until_ms = _BEFORE_ALL_TIME
        self._stale_checked_ms = _BEFORE_ALL_TIME
        self._stale_epoch = 0
        self.written: set[int] | None = None
        count = len(fleet.assets)
        self.sample_versions = array("Q", bytes(8 * count))
        self._source = bytearray(count)
        self._quality = bytearray(count)
        # 1 where the latest sample was reported in the present session, 0 where it is from an older one.
        self._in_session = bytearray(count)
        # By the agent's own clock, for users; the other times are by the headend's.
        self._ts_ms = array("q", bytes(8 * count))
        self._made_ms = array("q", bytes(8 * count))
        self._received_ms = array("q", bytes(8 * count))
        # Of the newest sample of this boot of the agent; synthesized samples do not change them.
        self._agent_seq = array("Q", bytes(8 * count))
        self._agent_made_ms = array("q", [_BEFORE_ALL_TIME]) * count
        self._soc_mwhr = array("d", bytes(8 * count))
        self._current_mw = array("d", bytes(8 * count))
        self._setpoint_mw = array("d", bytes(8 * count))
        self._available_discharge_mw = array("d", bytes(8 * count))
        self._available_charge_mw = array("d", bytes(8 * count))
        # The last good state of assets whose latest sample is suspect or bad.
        self._trusted: dict[int, BessState] = {}

    def __len__(self) -> int:
        """How many assets have any sample."""
        return len(self._source) - self._source.count(_NONE)

    def fleet_changed(self, change: FleetChange) -> None:
        """Extend the columns for added assets; forget the samples of retired ones."""
        self.version += 1
        for key in change.retired:
            self.sample_versions[key] = self.version
            self._source[key] = _NONE
            self._quality[key] = self._in_session[key] = 0
            self._trusted.pop(key, None)
        added = len(self._fleet.assets) - len(self._source)
        for flags in (self._source, self._quality, self._in_session):
            flags.extend(bytes(added))
        versions = self.sample_versions
        for column in (self._ts_ms, self._made_ms, self._received_ms, self._agent_seq, versions):
            column.extend([0] * added)
        self._agent_made_ms.extend([_BEFORE_ALL_TIME] * added)
        for values in (
            self._soc_mwhr,
            self._current_mw,
            self._setpoint_mw,
            self._available_discharge_mw,
            self._available_charge_mw,
        ):
            values.extend([0.0] * added)

    def count(self, code: Code) -> int:
        """How many assets have a latest sample of this quality; of good ones, also those without any."""
        return self._quality.count(code)

    def begin_boot(self, asset_keys: Iterable[int]) -> None:
        """Another boot, agent or outbox reports these assets: its order applies from now on."""
        for key in asset_keys:
            self._agent_seq[key] = 0
            self._agent_made_ms[key] = _BEFORE_ALL_TIME

    def begin_session(self, asset_keys: Iterable[int]) -> None:
        """A session begins: the latest samples of its assets are from an older one."""
        self.version += 1
        for key in asset_keys:
            self._in_session[key] = 0

    def clock_stepped(self, by_ms: int) -> None:
        """The headend's clock was stepped by this (< 0 is back): no sample's age changes."""
        self.version += 1
        self.sample_versions[:] = array("Q", [self.version]) * len(self.sample_versions)
        self._none_stale_until_ms = _BEFORE_ALL_TIME
        for column in (self._made_ms, self._received_ms):
            column[:] = array("q", [ms + by_ms for ms in column])
        for key, source in enumerate(self._source):
            if source == _SYNTHESIZED:
                # Its own time is by the headend's clock as well.
                self._ts_ms[key] += by_ms
        before = _BEFORE_ALL_TIME
        self._agent_made_ms[:] = array(
            "q", [ms if ms == before else ms + by_ms for ms in self._agent_made_ms]
        )
        if self.written is not None:
            self.written.update(range(len(self._source)))

    def apply_agent(
        self,
        samples: Samples,
        *,
        received_ms: int,
        made_ms: int | None = None,
        batch_seq: int | None = None,
    ) -> None:
        """Apply an agent's samples where nothing newer is known.

        Args:
            samples: of one agent, not of a wrong time.
            received_ms: when, by the headend's clock.
            made_ms: when they were made, by the same; their own time by default. Never later than received.
            batch_seq: their position in the agent's outbox; None for single samples.
        """
        made_ms = min(received_ms, samples.ts_unix_ms if made_ms is None else made_ms)
        self.version += 1
        self._none_stale_until_ms = min(self._none_stale_until_ms, made_ms + self._fresh_ms)
        run = _run_of(samples.asset_keys) if len(samples.asset_keys) > 1 else None
        if run is not None:
            newer = (
                max(self._agent_made_ms[run]) <= made_ms
                if batch_seq is None
                else max(self._agent_seq[run]) < batch_seq
            )
            if newer:
                self._write_run(run, samples, made_ms, received_ms, batch_seq)
                return
        for row, key in enumerate(samples.asset_keys):
            if batch_seq is None:
                if made_ms < self._agent_made_ms[key]:
                    continue
            elif batch_seq <= self._agent_seq[key]:
                continue
            else:
                self._agent_seq[key] = batch_seq
            self._agent_made_ms[key] = made_ms
            self._write(key, row, samples, _AGENT, made_ms=made_ms, received_ms=received_ms)

    def apply_synthesized(self, samples: Samples) -> None:
        """Apply samples of the headend's own model; only for assets that no agent drives."""
        now_ms = samples.ts_unix_ms
        self.version += 1
        for row, key in enumerate(samples.asset_keys):
            self._write(key, row, samples, _SYNTHESIZED, made_ms=now_ms, received_ms=now_ms)

    def _write(
        self, key: int, row: int, samples: Samples, source: int, *, made_ms: int, received_ms: int
    ) -> None:
        if source == _SYNTHESIZED:
            code: int = Code.SYNTHESIZED
        else:
            code = samples.quality[row] if samples.quality else Code.GOOD
        if code in _DOUBTFUL or self._trusted:
            self._keep_trusted(key, code)
        if self.written is not None:
            self.written.add(key)
        self._source[key] = source
        self._in_session[key] = source == _AGENT
        self._quality[key] = code
        self.sample_versions[key] = self.version
        self._ts_ms[key] = samples.ts_unix_ms
        self._made_ms[key] = made_ms
        self._received_ms[key] = received_ms
        self._soc_mwhr[key] = samples.soc_mwhr[row]
        self._current_mw[key] = samples.current_mw[row]
        self._setpoint_mw[key] = samples.setpoint_mw[row]
        self._available_discharge_mw[key] = samples.available_discharge_mw[row]
        self._available_charge_mw[key] = samples.available_charge_mw[row]

    def _write_run(
        self, run: slice, samples: Samples, made_ms: int, received_ms: int, batch_seq: int | None
    ) -> None:
        rows = len(samples.asset_keys)
        if self.written is not None:
            self.written.update(samples.asset_keys)
        if samples.quality or (self._trusted and not self._trusted.keys().isdisjoint(samples.asset_keys)):
            for key, code in zip(samples.asset_keys, samples.quality or bytes(rows), strict=True):
                self._keep_trusted(key, code)
        if batch_seq is not None:
            self._agent_seq[run] = array("Q", [batch_seq]) * rows
        self.sample_versions[run] = array("Q", [self.version]) * rows
        self._source[run] = bytes([_AGENT]) * rows
        self._quality[run] = samples.quality or bytes(rows)
        self._in_session[run] = b"\1" * rows
        self._ts_ms[run] = array("q", [samples.ts_unix_ms]) * rows
        self._made_ms[run] = self._agent_made_ms[run] = array("q", [made_ms]) * rows
        self._received_ms[run] = array("q", [received_ms]) * rows
        self._soc_mwhr[run] = _as_array(samples.soc_mwhr)
        self._current_mw[run] = _as_array(samples.current_mw)
        self._setpoint_mw[run] = _as_array(samples.setpoint_mw)
        self._available_discharge_mw[run] = _as_array(samples.available_discharge_mw)
        self._available_charge_mw[run] = _as_array(samples.available_charge_mw)

    def _keep_trusted(self, key: int, next_code: int) -> None:
        """Before a sample is applied: remember the one that it replaces, if that is the last good one."""
        if next_code not in _DOUBTFUL:
            self._trusted.pop(key, None)
        elif self._source[key] != _NONE and self._quality[key] not in _DOUBTFUL:
            self._trusted[key] = self._state(key)

    def state(self, key: int) -> BessState | None:
        """The asset's latest state, of any source and quality."""
        return None if self._source[key] == _NONE else self._state(key)

    def columns(self, key: int) -> Columns | None:
        """The asset's latest sample as it is stored; None without one."""
        source = self._source[key]
        if source == _NONE:
            return None
        return Columns(
            source == _AGENT, self._quality[key], self._ts_ms[key], self._made_ms[key], self._state(key)
        )

    def trusted_state(self, key: int) -> BessState | None:
        """The asset's latest state that is neither suspect nor bad: where a model may continue."""
        if self._quality[key] in _DOUBTFUL:
            return self._trusted.get(key)
        return self.state(key)

    def reported(self, key: int, now_ms: int) -> Reported | None:
        """The last values of the asset's agent; None unless its latest sample of the present session is good.

        Synthesized samples and those of an earlier session do not count.
        """
        if not self._in_session[key] or self._quality[key]:
            return None
        return Reported(
            self._soc_mwhr[key],
            self._current_mw[key],
            self._setpoint_mw[key],
            self._available_discharge_mw[key],
            self._available_charge_mw[key],
            self._age_s(key, now_ms),
        )

    def is_suspect(self, key: int) -> bool:
        """Whether the last sample of the asset's agent in its session is not good."""
        return bool(self._in_session[key] and self._quality[key])

    def stale_keys(self, keys: Sequence[int], now_ms: int) -> Sequence[int]:
        """Those of the assets whose latest sample is older than it should be; all of them have an agent."""
        oldest_ms = now_ms - round(self.stale_after_s * 1000)
        run = _run_of(keys)
        if run is not None and min(self._made_ms[run]) >= oldest_ms:
            return ()
        return [key for key in keys if self._made_ms[key] < oldest_ms]

    def is_current(self, key: int, ts_unix_ms: int, now_ms: int) -> bool:
        """Whether the asset's latest sample is the one of this time, from its agent, and not stale."""
        return (
            self._ts_ms[key] == ts_unix_ms
            and self._source[key] == _AGENT
            and self._age_s(key, now_ms) <= self.stale_after_s
        )

    def stale_epoch(self, now_ms: int) -> int:
        """A number that is another one once any sample has become stale by its age alone."""
        if not self._stale_checked_ms <= now_ms <= self._none_stale_until_ms:
            oldest_ms = now_ms - self._fresh_ms
            fresh = (
                made_ms
                for made_ms, code, source in zip(self._made_ms, self._quality, self._source, strict=True)
                if made_ms >= oldest_ms and source == _AGENT and code == Code.GOOD
            )
            self._none_stale_until_ms = min(fresh, default=_AFTER_ALL_TIME) + self._fresh_ms
            self._stale_checked_ms = now_ms
            self._stale_epoch += 1
        return self._stale_epoch

    def age_of(self, key: int) -> tuple[int, int]:
        """When the asset's latest sample was made, by the headend's clock, and the code of its quality."""
        return self._made_ms[key], self._quality[key]

    def quality_at(self, code: int, age_s: float) -> LatestQuality:
        """The quality of a sample of this code and age."""
        if code == Code.GOOD:
            return "stale" if age_s > self.stale_after_s else "good"
        if code == Code.SYNTHESIZED:
            return "synthesized"
        return "bad" if code == Code.BAD else "suspect"

    def quality(self, key: int, now_ms: int) -> LatestQuality | None:
        """The quality of the asset's latest sample as of `now_ms`; None without one."""
        return None if self._source[key] == _NONE else self._quality_of(key, self._age_s(key, now_ms))

    def power_of(self, keys: Sequence[int], now_ms: int) -> tuple[int, float, float]:
        """How many of the assets have a good or synthesized sample; sums of their power and setpoint, MW."""
        run, oldest_ms = _run_of(keys), now_ms - self._fresh_ms
        if run is not None and self._are_good(run, oldest_ms):
            return len(keys), sum(self._current_mw[run]), sum(self._setpoint_mw[run])
        live, current_mw, setpoint_mw = 0, 0.0, 0.0
        for key in keys:
            code = self._quality[key]
            is_good = code == _GOOD and self._source[key] == _AGENT and self._made_ms[key] >= oldest_ms
            if is_good or code == _OF_MODEL:
                live += 1
                current_mw += self._current_mw[key]
                setpoint_mw += self._setpoint_mw[key]
        return live, current_mw, setpoint_mw

    def _are_good(self, run: slice, oldest_ms: int) -> bool:
        return (
            self._quality.count(_GOOD, run.start, run.stop) == run.stop - run.start
            and self._source.count(_AGENT, run.start, run.stop) == run.stop - run.start
            and min(self._made_ms[run]) >= oldest_ms
        )

    def view(self, key: int, now_ms: int) -> LatestView | None:
        """The asset's latest sample as of `now_ms`; None without one."""
        source = self._source[key]
        if source == _NONE:
            return None
        asset = self._fleet.assets[key]
        current_mw = self._current_mw[key]
        soc_mwhr = self._soc_mwhr[key]
        ts_ms = self._ts_ms[key]
        age_s = self._age_s(key, now_ms)
        return LatestView(
            telemetry=Telemetry(
                asset_id=asset.id,
                site_id=asset.site_id,
                site_name=asset.site_name,
                ts_unix_ms=ts_ms,
                soc_mwhr=soc_mwhr,
                soc_pct=soc_pct(asset, soc_mwhr),
                capacity_mwhr=asset.capacity_mwhr,
                current_mw=current_mw,
                setpoint_mw=self._setpoint_mw[key],
                max_mw=asset.max_mw,
                min_mw=asset.min_mw,
                available_discharge_mw=self._available_discharge_mw[key],
                available_charge_mw=self._available_charge_mw[key],
                status=status_of(current_mw),
            ),
            source="agent" if source == _AGENT else "synthesized",
            age_s=age_s,
            quality=self._quality_of(key, age_s),
        )

    def _state(self, key: int) -> BessState:
        return BessState(
            self._soc_mwhr[key],
            self._current_mw[key],
            self._setpoint_mw[key],
            self._available_discharge_mw[key],
            self._available_charge_mw[key],
        )

    def _age_s(self, key: int, now_ms: int) -> float:
        return max(0, now_ms - self._made_ms[key]) / 1000.0

    def _quality_of(self, key: int, age_s: float) -> LatestQuality:
        return self.quality_at(self._quality[key], age_s)


def _as_array(column: Sequence[float]) -> "array[float]":
    return column if isinstance(column, array) else array("d", column)


def _run_of(keys: Sequence[int]) -> slice | None:
    """The keys as a slice, if they are consecutive, as those of a shard: column operations are faster."""
    if len(keys) < _SHORTEST_RUN:
        return None
    if isinstance(keys, range) and keys.step == 1:
        return slice(keys.start, keys.stop)
    if keys != list(range(keys[0], keys[0] + len(keys))):
        return None
    return slice(keys[0], keys[0] + len(keys))
