"""All batteries of the agent under one clock: pulses, dispatches, and the ends of setpoints."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import structlog
import trio

from trioder.agent.asset import AgentContext, leave_out, run_asset
from trioder.agent.battery import AgentMessage, Battery, Tick
from trioder.agent.frame import Frame
from trioder.agent.leases import LeaseTimer
from trioder.agent.memory import SavedBattery
from trioder.agent.pulse import Lateness, PulseGrid
from trioder.domain.assets import Asset
from trioder.domain.dispatch import Setpoint
from trioder.process.clock_discipline import ClockStep
from trioder.process.wall_time import WallClock
from trioder.wire.records import Acknowledgement

log = structlog.stdlib.get_logger(__name__)

# So many tasks are woken between two looks at the sockets: about 15 ms of work.
_WOKEN_AT_ONCE = 1_000
# A frame that is not complete by then goes without the rows that are missing.
_FRAME_SHARE_OF_TICK = 0.75


class BatteryPool:
    """The batteries of one agent.

    Attributes:
        grid: the pulses, and how late they came.
        frame_lateness: how long after its pulse was due each frame was closed.
        rows_made: rows that went into frames.
        rows_missed: rows that frames went without.
    """

    def __init__(
        self,
        assets: Sequence[Asset],
        *,
        grid: PulseGrid,
        wall: WallClock,
        rng: random.Random,
        tick: Tick,
        tell: Callable[[AgentMessage], None],
    ) -> None:
        now_s = trio.current_time()
        self.grid = grid
        self.frame_lateness = Lateness()
        self.rows_made = 0
        self.rows_missed = 0
        self._wall = wall
        self._batteries = [
            Battery(asset, position=position, now_s=now_s, tick=tick, wall=wall)
            for position, asset in enumerate(assets)
        ]
        self._position_by_id = {asset.id: position for position, asset in enumerate(assets)}
        self._board = AgentContext(
            frame=Frame(number=0, at_s=now_s, ts_unix_ms=0, assets=0),
            leases=LeaseTimer(),
            tell=tell,
            rng=rng,
        )

    @property
    def crashes(self) -> int:
        """How often a battery's task has crashed."""
        return self._board.crashes

    def resume(self, saved: Mapping[str, SavedBattery]) -> None:
        """Let the batteries go on from what was saved of them, before `run`.

        Args:
            saved: by asset id; a battery that is not there, or whose values cannot be used, starts afresh.
        """
        now_s = trio.current_time()
        for battery in self._batteries:
            state = saved.get(battery.asset.id)
            if state is None:
                continue
            try:
                battery.resume(state, now_s=now_s)
            except ValueError as error:
                log.warning(
                    "saved state cannot be used, the battery starts afresh",
                    asset_id=battery.asset.id,
                    asset=battery.asset.name,
                    site=battery.asset.site_name,
                    reason=str(error),
                )
                continue
            self._board.leases.set(battery.position, battery.lease_end_s)

    def to_be_saved(self) -> list[SavedBattery]:
        """Return the batteries' state as it stands, in their order."""
        unix_offset_s, now_s = self._wall.unix_s(0.0), trio.current_time()
        return [
            SavedBattery(
                (state := battery.state).soc_mwhr,
                state.current_mw,
                state.setpoint_mw,
                battery.lease_end_s + unix_offset_s,
                battery.reversion_mw,
                battery.dispatch_id,
                battery.lease_end_s - now_s,
            )
            for battery in self._batteries
        ]

    def tell_in_force(self) -> Iterator[Acknowledgement]:
        """Return what to tell of the dispatches that are in force now; each is made when it is asked for.

        By then one may have ended, or another taken its place: those have answers of their own.
        """
        running = [(battery, battery.dispatch_id) for battery in self._batteries if battery.dispatch_id]
        return _told_while_active(running)

    def deliver(self, dispatches: Iterable[Setpoint]) -> None:
        """Hand dispatches to their batteries' tasks, which apply and acknowledge them at once."""
        now_s = trio.current_time()
        for dispatch in dispatches:
            position = self._position_by_id.get(dispatch.asset_id)
            if position is None:
                self._reject(dispatch)
                continue
            battery = self._batteries[position]
            superseded = battery.offer(dispatch)
            if superseded is not None and superseded.dispatch_id != dispatch.dispatch_id:
                reason = f"by {dispatch.dispatch_id or 'one without an id'} before it was applied"
                self._board.tell(battery.answer(superseded.dispatch_id, "superseded", now_s, reason))

    def clock_stepped(self, step: ClockStep) -> int:
        """The wall time has jumped: bring the ends of setpoints that are instants of it in line.

        Returns:
            How many setpoints end at another time now.
        """
        now_s = trio.current_time()
        changed = 0
        for battery in self._batteries:
            if battery.clock_stepped(now_s, step.suspended_s):
                self._board.leases.set(battery.position, battery.lease_end_s)
                changed += 1
        return changed

    async def lose_headend(self, at_s: float, away_s: float) -> int:
        """Let each battery go to its reversion, for at `at_s` there was no headend for `away_s`.

        All are told at once, so that no dispatch of a later session comes in between.

        Returns:
            How many there were for which that changes something.
        """
        affected = [battery for battery in self._batteries if battery.lose_headend(at_s, away_s)]
        for number, battery in enumerate(affected, start=1):
            battery.wakeup.wake()
            if number % _WOKEN_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        return len(affected)

    async def run(
        self,
        take_frame: Callable[[Frame], None],
        *,
        settle: Callable[[], None],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Drive the batteries until cancelled; started once all their tasks are parked.

        Args:
            take_frame: is given the frame of each pulse, to close it.
            settle: called once when all stand, before the first pulse is waited for; may take its time.
            task_status: Trio's.
        """
        async with trio.open_nursery() as nursery:
            for position, battery in enumerate(self._batteries):
                nursery.start_soon(run_asset, battery, self._board)
                if position % _WOKEN_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
            nursery.start_soon(self._end_leases)
            # The last tasks run, and park, before this one is scheduled again.
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            settle()
            self.grid.begin(trio.current_time())
            task_status.started()
            await self._pulse(take_frame)

    async def _pulse(self, take_frame: Callable[[Frame], None]) -> None:
        number = 0
        while True:
            await trio.sleep_until(self.grid.due_s)
            now_s = trio.current_time()
            due_s = self.grid.strike(now_s)
            number += 1
            frame = Frame(
                number=number, at_s=now_s, ts_unix_ms=self._wall.now_ms(), assets=len(self._batteries)
            )
            self._board.frame = frame
            with trio.move_on_at(now_s + _FRAME_SHARE_OF_TICK * self.grid.tick_s):
                await self._wake_all(frame)
                await frame.complete.wait()
            missing = frame.rows_missing()
            self.rows_missed += missing
            self.rows_made += len(self._batteries) - missing
            take_frame(frame)
            self.frame_lateness.record(trio.current_time() - due_s)

    async def _wake_all(self, frame: Frame) -> None:
        for position, battery in enumerate(self._batteries):
            if battery.resting:
                leave_out(battery, frame)
            else:
                battery.wakeup.wake()
            if position % _WOKEN_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    async def _end_leases(self) -> None:
        while True:
            for position in await self._board.leases.wait_due():
                self._batteries[position].call()

    def _reject(self, dispatch: Setpoint) -> None:
        reason = f"this agent has no asset {dispatch.asset_id}"
        log.warning("dispatch rejected", dispatch_id=dispatch.dispatch_id, mw=dispatch.mw, reason=reason)
        self._board.tell(
            Acknowledgement(
                dispatch_id=dispatch.dispatch_id,
                asset_id=dispatch.asset_id,
                status="rejected",
                ts_unix_ms=self._wall.now_ms(),
                reason=reason,
            )
        )


def _told_while_active(running: Iterable[tuple[Battery, str]]) -> Iterator[Acknowledgement]:
    for battery, dispatch_id in running:
        now_s = trio.current_time()
        if battery.dispatch_id == dispatch_id and battery.lease_end_s > now_s:
            yield battery.answer(dispatch_id, "active", now_s)
