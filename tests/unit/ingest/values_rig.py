"""A session of three batteries, and the time and the store in a test's hands."""

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import structlog
import trio

from tests.unit.headend.parts import START_UNIX_S, Parts, StillWall, asset_id, make_parts, make_session
from tests.unit.headend.stores import SlowStore
from trioder.domain.assets import Asset
from trioder.domain.quality import Quality
from trioder.domain.telemetry import Samples
from trioder.gateway.sessions import Session
from trioder.ingest.latest_values import LatestView
from trioder.store.interface import StoreUnavailableError
from trioder.wire.records import Batch, SingleSample

NOW = int(START_UNIX_S * 1000)
DAY = 86_400_000
GOOD, SUSPECT, BAD, WRONG_TIME = Quality.GOOD, Quality.SUSPECT, Quality.BAD, Quality.WRONG_TIME


class RecordingStore(SlowStore):
    """Records the samples of batches as well, and has stored samples."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: dict[int, Samples] = {}
        self.reported_ms: Mapping[str, Sequence[int]] = {}
        self.is_unavailable = False
        self.slow_ids: set[str] = set()

    def submit(self, outbox_id: str, batch_seq: int, samples: Samples) -> bool:
        self.batches[batch_seq] = samples
        return super().submit(outbox_id, batch_seq, samples)

    async def reported_times(self, assets: Sequence[Asset], *, limit: int) -> Mapping[str, Sequence[int]]:
        if self.is_unavailable:
            raise StoreUnavailableError("unavailable")
        if any(asset.id in self.slow_ids for asset in assets):
            await trio.sleep_forever()
        ids = [asset.id for asset in assets if asset.id in self.reported_ms]
        return {one: self.reported_ms[one][-limit:] for one in ids}

    def qualities(self, batch_seq: int) -> list[int]:
        samples = self.batches[batch_seq]
        return list(samples.quality or bytes(len(samples.asset_keys)))


class Rig:
    """A session of three batteries of 40 MWh and 10 MW, and the time in a test's hands."""

    def __init__(self, *, assets: int = 3) -> None:
        self.store = RecordingStore()
        self.wall = StillWall()
        self.parts: Parts = make_parts(assets=assets, store=self.store, wall=self.wall)
        self.session = make_session("agent", *range(assets), outbox_id="box")
        self.seq = 0

    async def open(self, **changes: Any) -> Session:
        if "clock_skew_s" in changes:
            changes.setdefault("clock_error_s", 0.0)
        for name, value in changes.items():
            setattr(self.session, name, value)
        await self.parts.ingest.session_opened(self.session)
        await self.parts.ingest.load_recent_times(self.session)
        return self.session

    def batch(self, *powers: float, after_s: float = 4.0, ts_ms: int | None = None, **changes: Any) -> None:
        """The next batch, of one row an asset, made `after_s` after the last."""
        self.wall.passed_s += after_s
        self.seq = changes.pop("batch_seq", self.seq + 1)
        self.parts.ingest.receive_batch(self.session, self.made(powers, ts_ms, **changes))

    def made(self, powers: Sequence[float], ts_ms: int | None, **changes: Any) -> Batch:
        rows = len(powers)
        return replace(
            Batch(
                batch_seq=self.seq,
                ts_unix_ms=self.wall.now_ms() if ts_ms is None else ts_ms,
                asset_index=list(range(rows)),
                soc_mwhr=[20.0] * rows,
                current_mw=list(powers),
                setpoint_mw=[1.0] * rows,
                available_discharge_mw=[10.0] * rows,
                available_charge_mw=[10.0] * rows,
            ),
            **changes,
        )

    def single(self, mw: float = 1.0, *, ts_ms: int | None = None, key: int = 0, **changes: Any) -> None:
        sample = SingleSample(
            asset_id=asset_id(key),
            ts_unix_ms=self.wall.now_ms() if ts_ms is None else ts_ms,
            soc_mwhr=20.0,
            current_mw=mw,
            setpoint_mw=1.0,
            available_discharge_mw=10.0,
            available_charge_mw=10.0,
            soc_pct=50.0,
            capacity_mwhr=40.0,
            max_mw=10.0,
            min_mw=-10.0,
        )._replace(**changes)
        self.parts.ingest.receive_single(self.session, key, sample)

    def view(self, key: int = 0) -> LatestView:
        view = self.parts.latest.view(key, self.wall.now_ms())
        assert view is not None
        return view

    def displayed(self, key: int = 0) -> tuple[str, float, float]:
        view = self.view(key)
        return view.quality, view.telemetry.current_mw, view.age_s


@contextmanager
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


def slow(rig: Rig) -> None:
    """Nameplates that ramp by 0.1 MW/s, so that 2 MW a pulse of 4 s may be."""
    fleet = rig.parts.fleet
    fleet.assets[:] = [replace(asset, ramp_rate_mw_per_min=6.0) for asset in fleet.assets]
    rig.parts.ingest.nameplates_changed()
