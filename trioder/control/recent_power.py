"""The power of each site over the last 15 minutes: sums in memory, for curves that are there at once.

Columns of numbers by site, one set every few seconds. Minutes from before the start are read from the store.
"""

from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple, TypeVar

import structlog
import trio

from trioder.control.dispatcher import Dispatcher
from trioder.domain.fleet import Fleet
from trioder.domain.telemetry import SitePower
from trioder.ingest.latest import LatestState
from trioder.process.slices import Steps, run_in_slices
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store, StoreUnavailableError

T = TypeVar("T", int, float)

log = structlog.stdlib.get_logger(__name__)

KEPT_S = 900
# The distance of two points, in s: the first with which there are not more numbers than this of each kind,
# about 30 MB altogether.
_STEPS_S = (5, 10, 15, 20, 30, 60)
_MAX_CELLS = 1_500_000
# Of points from the store: each asset has a sample in it, as long as it is not stale.
_STORED_STEP_S = 15
# Reading them takes about a second.
_MAX_STORED_ASSETS = 5_000
# After the start: at once, and when agents have sent what they had meanwhile.
_READ_AFTER_S = (0.0, 30.0, 90.0)
_READ_WITHIN_S = 8.0
_ASSETS_A_PART = 2_000
# The cost of adding an asset, of a site, and of a number in a sum.
_ASSET_US = 0.9
_SITE_US = 2.0
_SUM_US = 0.1
_COLUMNS_A_PART = 2_000


@dataclass(slots=True, eq=False)
class _Frame:
    """The sums of all sites at one moment, by their columns; `requested_mw` is not known of stored ones."""

    at_ms: int
    assets: "array[int]"
    live: "array[int]"
    current_mw: "array[float]"
    setpoint_mw: "array[float]"
    dispatched: "array[int] | None" = None
    requested_mw: "array[float] | None" = None


class PowerPoint(NamedTuple):
    """The power of some sites at one moment.

    Attributes:
        at_ms: when; Unix time.
        assets: how many there are.
        live: how many have a good or synthesized sample.
        current_mw: the power of these; None if there are none.
        setpoint_mw: the setpoints that they report; likewise.
        requested_mw: the setpoints of open dispatches; None without any, and where that is not known.
    """

    at_ms: int
    assets: int
    live: int
    current_mw: float | None
    setpoint_mw: float | None
    requested_mw: float | None


class RecentPower:
    """Adds up the power of every site; `run` is to be running.

    Attributes:
        version: changes with every new point.
        step_s: the distance of two points.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        latest: LatestState,
        dispatcher: Dispatcher,
        store: Store,
        wall: WallClock,
    ) -> None:
        self.version = 0
        self.step_s = _STEPS_S[0]
        self._fleet = fleet
        self._latest = latest
        self._in_force = dispatcher.in_force
        self._store = store
        self._wall = wall
        self._frames: deque[_Frame] = deque()
        # Of each site, also of former ones: the place of its numbers.
        self._columns: dict[str, int] = {}
        self._keys: list[Sequence[int]] = []
        self._fleet_version = -1

    async def run(self) -> None:
        """Add up the power every few seconds, until cancelled."""
        async with trio.open_nursery() as nursery:
            if self._store.health != "disabled" and len(self._fleet.keys) <= _MAX_STORED_ASSETS:
                nursery.start_soon(self._read_stored)
            due_s = trio.current_time()
            while True:
                self._follow_fleet()
                await run_in_slices(self._frame_steps(self._wall.now_ms()))
                # A missed point is left out.
                due_s = max(due_s + self.step_s, trio.current_time())
                await trio.sleep_until(due_s)

    def clock_stepped(self, by_ms: int) -> None:
        """The headend's clock was stepped by this: the distances of points stay."""
        for frame in self._frames:
            frame.at_ms += by_ms
        self.version += 1

    def point_steps(self, site_ids: Iterable[str], *, since_ms: int) -> Steps[list[PowerPoint]]:
        """Return the points of these sites together after a time, oldest first, in steps."""
        self._follow_fleet()
        columns = sorted(self._columns[site_id] for site_id in site_ids)
        points: list[PowerPoint] = []
        for frame in tuple(self._frames):
            if frame.at_ms > since_ms:
                point = yield from _point_steps(frame, columns)
                if point.assets:
                    points.append(point)
        return points

    # What is added up.

    def _follow_fleet(self) -> None:
        """The fleet may have been reloaded: which sites there are, and the assets of each."""
        fleet = self._fleet
        if self._fleet_version == fleet.version:
            return
        self._fleet_version = fleet.version
        if len(self._columns) > 2 * len(fleet.sites) + 1_000:
            # Nearly all are of former sites.
            self._columns.clear()
            self._frames.clear()
        for site in fleet.sites:
            self._columns.setdefault(site.id, len(self._columns))
        keys: list[list[int]] = [[] for _ in self._columns]
        for key in fleet.keys:
            keys[self._columns[fleet.assets[key].site_id]].append(key)
        self._keys = [tuple(each) for each in keys]
        cells = (KEPT_S // step_s * len(keys) for step_s in _STEPS_S)
        fitting = (step_s for step_s, count in zip(_STEPS_S, cells, strict=True) if count <= _MAX_CELLS)
        self.step_s = next(fitting, _STEPS_S[-1])

    def _frame_steps(self, at_ms: int) -> Steps[None]:
        version = self._fleet_version
        latest, in_force, all_keys = self._latest, self._in_force, self._keys
        frame = _empty_frame(at_ms, len(all_keys))
        requested_mw, dispatched = array("f", bytes(4 * len(all_keys))), array("I", bytes(4 * len(all_keys)))
        for column, keys in enumerate(all_keys):
            frame.assets[column] = len(keys)
            for start in range(0, len(keys), _ASSETS_A_PART):
                part = keys[start : start + _ASSETS_A_PART]
                live, current_mw, setpoint_mw = latest.power_of(part, at_ms)
                frame.live[column] += live
                frame.current_mw[column] += current_mw
                frame.setpoint_mw[column] += setpoint_mw
                asked = [setpoint.mw for key in part if (setpoint := in_force(key)) is not None]
                dispatched[column] += len(asked)
                requested_mw[column] += sum(asked)
                yield _ASSET_US * len(part)
            yield _SITE_US
        if self._fleet_version != version:
            # The fleet was reloaded meanwhile: the columns may be those of other sites.
            return
        frame.dispatched, frame.requested_mw = dispatched, requested_mw
        self._frames.append(frame)
        self.version += 1
        while self._frames[0].at_ms <= at_ms - KEPT_S * 1000:
            self._frames.popleft()

    # What the store has.

    async def _read_stored(self) -> None:
        started_s = trio.current_time()
        for after_s in _READ_AFTER_S:
            await trio.sleep_until(started_s + after_s)
            step_ms = _STORED_STEP_S * 1000
            end_ms = self._wall.now_ms() // step_ms * step_ms
            with suppress(StoreUnavailableError), trio.move_on_after(_READ_WITHIN_S):
                found = await self._store.site_power(
                    start_ms=end_ms - KEPT_S * 1000, end_ms=end_ms, step_s=_STORED_STEP_S
                )
                self._add_stored(found)

    def _add_stored(self, found: Sequence[SitePower]) -> None:
        """Add points that the store has instead of those of fewer assets, and where there are none."""
        self._follow_fleet()
        frames: dict[int, _Frame] = {}
        for power in found:
            column = self._columns.get(power.site_id)
            if column is None or not (isfinite(power.current_mw) and isfinite(power.setpoint_mw)):
                continue
            at_ms = power.start_ms + _STORED_STEP_S * 1000
            frame = frames.get(at_ms)
            if frame is None:
                frame = frames[at_ms] = _empty_frame(at_ms, len(self._keys))
                frame.assets = array("I", map(len, self._keys))
            frame.live[column] += power.live
            frame.current_mw[column] += power.current_mw
            frame.setpoint_mw[column] += power.setpoint_mw
        kept = list(self._frames)
        for at_ms, frame in frames.items():
            live, from_ms = sum(frame.live), at_ms - _STORED_STEP_S * 1000
            same = [one for one in kept if from_ms < one.at_ms <= at_ms]
            worse = [one for one in same if sum(one.live) < live]
            kept = [one for one in kept if one not in worse]
            if len(worse) == len(same):
                kept.append(frame)
        self._frames = deque(sorted(kept, key=lambda one: one.at_ms))
        self.version += 1
        if frames:
            log.info("power of the last minutes read from the database", points=len(frames))


def _empty_frame(at_ms: int, sites: int) -> _Frame:
    # Four bytes a number: a billionth of the power is not seen in a curve.
    zeros = bytes(4 * sites)
    return _Frame(at_ms, array("I", zeros), array("I", zeros), array("f", zeros), array("f", zeros))


def _point_steps(frame: _Frame, columns: Sequence[int]) -> Steps[PowerPoint]:
    # Sites that are newer than the frame have no numbers in it.
    size = len(frame.assets)
    assets = live = dispatched = 0
    current_mw = setpoint_mw = requested_mw = 0.0
    for start in range(0, len(columns), _COLUMNS_A_PART):
        part = [column for column in columns[start : start + _COLUMNS_A_PART] if column < size]
        assets += _sum(frame.assets, part)
        live += _sum(frame.live, part)
        current_mw += _sum(frame.current_mw, part)
        setpoint_mw += _sum(frame.setpoint_mw, part)
        if frame.dispatched is not None and frame.requested_mw is not None:
            dispatched += _sum(frame.dispatched, part)
            requested_mw += _sum(frame.requested_mw, part)
        yield 7 * _SUM_US * len(part)
    return PowerPoint(
        frame.at_ms,
        assets,
        live,
        current_mw if live else None,
        setpoint_mw if live else None,
        requested_mw if dispatched else None,
    )


def _sum(numbers: "array[T]", columns: Sequence[int]) -> T:
    if columns and columns[-1] - columns[0] == len(columns) - 1:
        # The sites of one tenant follow each other in most fleets.
        return sum(numbers[columns[0] : columns[-1] + 1])
    return sum([numbers[column] for column in columns])
