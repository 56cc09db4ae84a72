"""Schedules over a dispatcher, batteries that obey, and a disk that outlives a headend; on a still clock."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.unit.control.driver import report_sample, take_setpoints
from tests.unit.headend.parts import START_UNIX_S, Parts, StillWall, asset_id, make_parts, make_session
from trioder.control.dispatcher import Dispatcher
from trioder.control.schedules.service import Schedules
from trioder.domain.dispatch import AllocationOf, DispatchRecord, DispatchTarget, with_allocations
from trioder.domain.schedules import Occurrence, Schedule, ScheduleRequest, ScheduleStep
from trioder.gateway.sessions import Session
from trioder.store.interface import StoreHealth, StoreUnavailableError
from trioder.store.none import NoneStore
from trioder.wire.records import Acknowledgement

START_MS = round(START_UNIX_S * 1000)


@dataclass
class Disk:
    """What is written."""

    schedules: dict[str, Schedule] = field(default_factory=dict)
    occurrences: dict[tuple[str, int], Occurrence] = field(default_factory=dict)
    dispatches: dict[str, DispatchRecord] = field(default_factory=dict)


class JournalStore(NoneStore):
    """Writes in order, and only when `write` is called or somebody waits; what is not written is lost."""

    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self.disk = disk
        self.away = False
        self.pending: list[Schedule | Occurrence | DispatchRecord] = []
        self._newest: dict[str, DispatchRecord] = dict(disk.dispatches)

    @property
    def health(self) -> StoreHealth:
        return "error" if self.away else "ok"

    def write(self, count: int = 1_000_000) -> None:
        written, self.pending = self.pending[:count], self.pending[count:]
        for record in written:
            if isinstance(record, Schedule):
                self.disk.schedules[record.schedule_id] = record
            elif isinstance(record, Occurrence):
                self.disk.occurrences[record.schedule_id, record.start_ms] = record
            else:
                self.disk.dispatches[record.dispatch_id] = record

    def record_schedule(self, schedule: Schedule) -> None:
        self.pending.append(schedule)

    def record_occurrence(self, occurrence: Occurrence) -> None:
        self.pending.append(occurrence)

    def record_dispatch(
        self, dispatch: DispatchRecord, *, changed: Collection[int], share_of: AllocationOf
    ) -> None:
        former = self._newest.get(dispatch.dispatch_id)
        shares = () if former is None else (*former.members, *former.left_out)
        record = with_allocations(dispatch, map(share_of, sorted(changed)), former=shares)
        self._newest[dispatch.dispatch_id] = record
        self.pending.append(record)

    async def wait_recorded(self, occurrence: Occurrence) -> bool:
        if not self.away:
            self.write()
        return not self.away

    def _check_there(self) -> None:
        if self.away:
            raise StoreUnavailableError("away")

    async def schedules(self) -> Sequence[Schedule]:
        self._check_there()
        return list(self.disk.schedules.values())

    async def last_occurrences(self, *, now_ms: int) -> Sequence[Occurrence]:  # type: ignore[override]  # one query
        self._check_there()
        newest: dict[str, Occurrence] = {}
        for _, one in sorted(self.disk.occurrences.items()):
            if one.state != "missed" or one.start_ms <= now_ms:
                newest[one.schedule_id] = one
        running = [one for one in self.disk.occurrences.values() if one.state == "running"]
        return [*running, *newest.values()]

    async def occurrences(  # type: ignore[override]  # one query
        self, schedule_id: str, *, after_ms: int, before_ms: int, limit: int, **_: object
    ) -> Sequence[Occurrence]:
        self._check_there()
        found = sorted(self.disk.occurrences.items())
        return [one for key, one in found if key[0] == schedule_id and after_ms <= one.start_ms < before_ms][
            :limit
        ]

    async def open_dispatches(self) -> Sequence[DispatchRecord]:
        self._check_there()
        return [record for record in self.disk.dispatches.values() if record.is_open]

    async def find_dispatch(self, **query: object) -> DispatchRecord | None:
        self._check_there()
        return self._newest.get(str(query["dispatch_id"]))


class Battery:
    """It obeys the newest setpoint that it has not had before, until its end.

    Attributes:
        powers: of each time that it changed: when, and to what.
        applied: the ids of the setpoints that it has obeyed, in order.
    """

    def __init__(self, key: int) -> None:
        self.key = key
        self.mw = 0.0
        self.wire_id = ""
        self.ends_ms: float = float("inf")
        self.powers: list[tuple[int, float]] = []
        self.applied: list[str] = []
        self.session: Session | None = None

    def set(self, now_ms: int, mw: float, *, wire_id: str = "", ends_ms: float = float("inf")) -> None:
        if mw != self.mw:
            self.powers.append((now_ms, mw))
        self.mw, self.wire_id, self.ends_ms = mw, wire_id, ends_ms

    def acknowledgement(self, wire_id: str, status: str, now_ms: int) -> Acknowledgement:
        return Acknowledgement(
            dispatch_id=wire_id,
            asset_id=asset_id(self.key),
            status=status,
            ts_unix_ms=now_ms,
            setpoint_mw=self.mw,
            remaining_s=None if self.ends_ms == float("inf") else (self.ends_ms - now_ms) / 1000,
        )


class Rig:
    """One headend after the other, and what outlives them."""

    def __init__(self, *, assets: int = 2) -> None:
        self.disk = Disk()
        self.passed_s = 0.0
        self.lives = 0
        self.batteries = [Battery(key) for key in range(assets)]
        self.parts: Parts
        self.schedules: Schedules
        self.store: JournalStore
        self._make()

    @property
    def now_ms(self) -> int:
        return self.parts.wall.now_ms()

    @property
    def dispatcher(self) -> Dispatcher:
        return self.parts.dispatcher

    def _make(self) -> None:
        self.lives += 1
        wall = StillWall()
        wall.passed_s = self.passed_s
        self.store = JournalStore(self.disk)
        self.parts = make_parts(assets=len(self.batteries), store=self.store, wall=wall)
        rng = random.Random(self.lives)
        self.parts.dispatcher._delivery._rng = rng
        self.schedules = Schedules(
            fleet=self.parts.fleet,
            dispatcher=self.parts.dispatcher,
            store=self.store,
            events=self.parts.events,
            wall=wall,
            rng=rng,
        )

    async def start(self, *, away: bool = False) -> None:
        """As `headend.service` recovers."""
        self.store.away = away
        if not away:
            steps = await self.schedules.runner.load()
            self.dispatcher.recover(await self.store.open_dispatches(), steps=steps)
            await self.run_due()

    async def kill(self, *, written: int = 0) -> None:
        """End the headend at once: of what waits, only so much is written."""
        self.store.write(written)
        for battery in self.batteries:
            battery.session = None
        self._make()

    def connect(self, *keys: int) -> None:
        for key in keys or range(len(self.batteries)):
            battery = self.batteries[key]
            if battery.session is None:
                battery.session = self.parts.connect(
                    make_session(f"agent-{key}", key, session_id=f"s-{key}-{random.random()}")
                )
                if battery.wire_id:
                    # Before it receives anything.
                    self.dispatcher.acknowledged(
                        battery.acknowledgement(battery.wire_id, "active", self.now_ms),
                        session=battery.session,
                    )
        self.obey()

    def disconnect(self, key: int) -> None:
        battery = self.batteries[key]
        if battery.session is not None:
            self.parts.disconnect(battery.session)
            battery.session = None

    def obey(self) -> None:
        """Each battery ends what is over, applies what it was sent, and reports a sample."""
        now_ms = self.now_ms
        for battery in self.batteries:
            self._end_if_over(battery)
            if battery.session is None:
                continue
            for setpoint in take_setpoints(battery.session):
                wire_id = setpoint.dispatch_id
                ends_ms = float("inf")
                if setpoint.duration_s is not None:
                    ends_ms = min(now_ms + setpoint.duration_s * 1000, setpoint.valid_until_ms or ends_ms)
                if not wire_id:
                    battery.set(now_ms, setpoint.mw)
                    continue
                if wire_id not in battery.applied:
                    battery.applied.append(wire_id)
                    battery.set(now_ms, setpoint.mw, wire_id=wire_id, ends_ms=ends_ms)
                status = "applied" if wire_id == battery.wire_id else "completed"
                self.dispatcher.acknowledged(
                    battery.acknowledgement(wire_id, status, now_ms), session=battery.session
                )
            report_sample(self.parts, battery.key, mw=battery.mw, setpoint=battery.mw)

    def _end_if_over(self, battery: Battery) -> None:
        if self.now_ms < battery.ends_ms:
            return
        wire_id = battery.wire_id
        battery.set(round(battery.ends_ms), 0.0)
        if battery.session is not None:
            self.dispatcher.acknowledged(
                battery.acknowledgement(wire_id, "completed", self.now_ms), session=battery.session
            )

    async def run_due(self) -> None:
        await self.schedules.runner.run_due()
        self.obey()

    async def run(self, seconds: float, *, every_s: float = 1.0) -> None:
        """Let time pass with the headend."""
        end_s = self.passed_s + seconds
        await self.run_due()
        while self.passed_s < end_s:
            self.pass_time(min(every_s, end_s - self.passed_s))
            self.dispatcher.maintain()
            await self.run_due()

    def pass_time(self, seconds: float) -> None:
        self.passed_s += seconds
        wall = self.parts.wall
        assert isinstance(wall, StillWall)
        wall.passed_s = self.passed_s
        for battery in self.batteries:
            if battery.session is None:
                self._end_if_over(battery)

    async def create(
        self,
        *steps: tuple[int, float],
        in_s: float = 10.0,
        key: int | None = 0,
        recurrence: str | None = None,
        misfire_s: int = 60,
    ) -> Schedule:
        """Create a schedule of one battery; of all for None."""
        start = datetime.fromtimestamp(self.now_ms / 1000 + in_s, UTC).replace(tzinfo=None)
        schedule, _ = await self.schedules.create(
            ScheduleRequest(
                target=DispatchTarget(kind="fleet")
                if key is None
                else DispatchTarget(kind="asset", id=asset_id(key)),
                site_ids=None,
                start=start,
                steps=tuple(ScheduleStep(duration_s=duration_s, mw=mw) for duration_s, mw in steps),
                recurrence=recurrence,
                misfire_s=misfire_s,
                requested_by="anna",
            )
        )
        return schedule

    def occurrences(self, schedule: Schedule) -> list[Occurrence]:
        """Those that are on record, oldest first."""
        self.store.write()
        found = sorted(self.disk.occurrences.items())
        return [one for (schedule_id, _), one in found if schedule_id == schedule.schedule_id]

    def only(self, schedule: Schedule) -> Occurrence:
        [occurrence] = self.occurrences(schedule)
        return occurrence

    def seconds(self, battery: int = 0) -> list[tuple[float, float]]:
        """When a battery changed its power, in seconds from the start, and to what."""
        return [((at_ms - START_MS) / 1000, mw) for at_ms, mw in self.batteries[battery].powers]
