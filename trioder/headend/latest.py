"""The latest sample of every asset: columns by asset key, about 70 bytes an asset, and how good it is.

What came before it is the store's.
"""

from array import array
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from trioder.fleet import Fleet
from trioder.sim.bess import soc_pct
from trioder.sim.model import BessState, Telemetry, status_of
from trioder.store.records import Samples, Source

Quality = Literal["good", "stale", "synthesized"]

_NOTHING, _SYNTHESIZED, _AGENT = 0, 1, 2
_BEFORE_ALL_TIME = -(2**63)
# Fewer assets are taken over faster one by one.
_SHORTEST_RUN = 8


class LatestView(NamedTuple):
    """One asset's latest sample and what may be made of it.

    Attributes:
        age_s: since the sample was made or since it came in, whichever is longer; >= 0.
        quality: `stale` for an agent's sample that is older than it should be.
    """

    telemetry: Telemetry
    source: Source
    age_s: float
    quality: Quality


class LatestState:
    """The newest known state of each asset of the fleet; an agent's is stale from `stale_after_s` on.

    An agent's samples are compared by their own timestamps, within one boot of the agent: backfill never
    overwrites a newer value, and an agent whose clock stepped back between two boots is not ignored for ever.
    """

    def __init__(self, fleet: Fleet, *, stale_after_s: float = 12.0) -> None:
        self._fleet = fleet
        self.stale_after_s = stale_after_s
        count = len(fleet.assets)
        self._source = bytearray(count)
        self._ts_ms = array("q", bytes(8 * count))
        self._received_ms = array("q", bytes(8 * count))
        # The newest timestamp that the agent of this boot has told; a synthesized sample leaves it alone.
        self._agent_ts_ms = array("q", [_BEFORE_ALL_TIME]) * count
        self._soc_mwhr = array("d", bytes(8 * count))
        self._current_mw = array("d", bytes(8 * count))
        self._setpoint_mw = array("d", bytes(8 * count))
        self._available_discharge_mw = array("d", bytes(8 * count))
        self._available_charge_mw = array("d", bytes(8 * count))

    def __len__(self) -> int:
        """How many assets have any sample."""
        return len(self._source) - self._source.count(_NOTHING)

    def begin_boot(self, asset_keys: Iterable[int]) -> None:
        """Another boot of an agent, or another agent, drives these assets: its clock counts from now on."""
        for key in asset_keys:
            self._agent_ts_ms[key] = _BEFORE_ALL_TIME

    def apply_agent(self, samples: Samples, *, received_ms: int) -> None:
        """Take an agent's samples over where they are not older than what the agent told before."""
        ts_ms = samples.ts_unix_ms
        agent_ts_ms = self._agent_ts_ms
        run = _run_of(samples.asset_keys)
        if run is not None and max(agent_ts_ms[run]) <= ts_ms:
            self._write_run(run, samples, received_ms)
            return
        for row, key in enumerate(samples.asset_keys):
            if ts_ms >= agent_ts_ms[key]:
                agent_ts_ms[key] = ts_ms
                self._write(key, row, samples, _AGENT, received_ms)

    def apply_synthesized(self, samples: Samples) -> None:
        """Take over what the headend's model made; only for assets that no agent drives."""
        for row, key in enumerate(samples.asset_keys):
            self._write(key, row, samples, _SYNTHESIZED, samples.ts_unix_ms)

    def _write(self, key: int, row: int, samples: Samples, source: int, received_ms: int) -> None:
        self._source[key] = source
        self._ts_ms[key] = samples.ts_unix_ms
        self._received_ms[key] = received_ms
        self._soc_mwhr[key] = samples.soc_mwhr[row]
        self._current_mw[key] = samples.current_mw[row]
        self._setpoint_mw[key] = samples.setpoint_mw[row]
        self._available_discharge_mw[key] = samples.available_discharge_mw[row]
        self._available_charge_mw[key] = samples.available_charge_mw[row]

    def _write_run(self, run: slice, samples: Samples, received_ms: int) -> None:
        rows = len(samples.asset_keys)
        ts_ms = array("q", [samples.ts_unix_ms]) * rows
        self._source[run] = bytes([_AGENT]) * rows
        self._ts_ms[run] = self._agent_ts_ms[run] = ts_ms
        self._received_ms[run] = array("q", [received_ms]) * rows
        self._soc_mwhr[run] = array("d", samples.soc_mwhr)
        self._current_mw[run] = array("d", samples.current_mw)
        self._setpoint_mw[run] = array("d", samples.setpoint_mw)
        self._available_discharge_mw[run] = array("d", samples.available_discharge_mw)
        self._available_charge_mw[run] = array("d", samples.available_charge_mw)

    def clock_stepped(self, by_ms: int) -> None:
        """The headend's clock was set by so much: what it has noted by that clock moves with it."""
        self._received_ms = array("q", [ts_ms + by_ms for ts_ms in self._received_ms])
        for key, source in enumerate(self._source):
            if source == _SYNTHESIZED:
                self._ts_ms[key] += by_ms

    def state(self, key: int) -> BessState | None:
        """The asset's latest known state, whoever told it."""
        if self._source[key] == _NOTHING:
            return None
        return BessState(
            self._soc_mwhr[key],
            self._current_mw[key],
            self._setpoint_mw[key],
            self._available_discharge_mw[key],
            self._available_charge_mw[key],
        )

    def told(self, key: int, now_ms: int) -> tuple[float, float, float | None]:
        """The asset's energy (MWh), power (MW), and how old that is (s); None when nothing was told yet."""
        if self._source[key] == _NOTHING:
            return 0.0, 0.0, None
        return self._soc_mwhr[key], self._current_mw[key], self._age_s(key, now_ms)

    def quality(self, key: int, now_ms: int) -> Quality | None:
        """How good the asset's latest sample is as of `now_ms`; None when there is none yet."""
        source = self._source[key]
        return None if source == _NOTHING else self._quality(source, self._age_s(key, now_ms))

    def view(self, key: int, now_ms: int) -> LatestView | None:
        """The asset's latest sample as of `now_ms`; None when there is none yet."""
        source = self._source[key]
        if source == _NOTHING:
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
            quality=self._quality(source, age_s),
        )

    def _age_s(self, key: int, now_ms: int) -> float:
        # Clocks differ: neither a clock ahead of ours nor a late backfill may look fresh.
        return max(0, now_ms - self._ts_ms[key], now_ms - self._received_ms[key]) / 1000.0

    def _quality(self, source: int, age_s: float) -> Quality:
        if source == _SYNTHESIZED:
            return "synthesized"
        return "stale" if age_s > self.stale_after_s else "good"


def _run_of(keys: Sequence[int]) -> slice | None:
    """The keys as a slice, if they are neighbours and ascend, as those of a shard: columns are faster."""
    if len(keys) < _SHORTEST_RUN or keys != list(range(keys[0], keys[0] + len(keys))):
        return None
    return slice(keys[0], keys[0] + len(keys))
