"""All batteries of the agent under one clock: pulses, dispatches, and the ends of setpoints."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog
import trio

from trioder.agent.asset import Board, leave_out, run_asset
from trioder.agent.battery import Battery, Tick, answer_to
from trioder.agent.frame import Frame
from trioder.agent.leases import LeaseTimer
from trioder.agent.memory import SavedBattery
from trioder.agent.pulse import Lateness, PulseGrid
from trioder.process.wall_time import WallClock
from trioder.sim.model import Asset, Dispatch
from trioder.wire.records import Acknowledgement

log = structlog.stdlib.get_logger(__name__)

# So many tasks are woken between two looks at the sockets: about 15 ms of work.
_WOKEN_AT_ONCE = 1_000
# A frame that is not complete by then goes without the rows that are missing.
_FRAME_SHARE_OF_TICK = 0.75


class Plant:
    """The batteries of one agent.

    Attributes:
        grid: the pulses, and how late they came.
        frame_lateness: how long after its pulse was due each frame was closed.
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
        acknowledge: Callable[[Acknowledgement], None],
    ) -> None:
        now_s = trio.current_time()
        self.grid = grid
        self.frame_lateness = Lateness()
        self.rows_missed = 0
        self._wall = wall
        self._batteries = [
            Battery(asset, position=position, now_s=now_s, tick=tick) for position, asset in enumerate(assets)
        ]
        self._position_by_id = {asset.id: position for position, asset in enumerate(assets)}
        self._board = Board(
            frame=Frame(number=0, at_s=now_s, ts_unix_ms=0, assets=0),
            leases=LeaseTimer(),
            acknowledge=acknowledge,
            wall=wall,
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
        now_s, now_unix_s = trio.current_time(), self._wall.now_s()
        for battery in self._batteries:
            state = saved.get(battery.asset.id)
            if state is None:
                continue
            try:
                battery.resume(state, now_s=now_s, now_unix_s=now_unix_s)
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
        unix_offset_s = self._wall.now_s() - trio.current_time()
        return [
            SavedBattery(
                battery.state.soc_mwhr,
                battery.state.current_mw,
                battery.state.setpoint_mw,
                battery.lease_end_s + unix_offset_s,
            )
            for battery in self._batteries
        ]

    def deliver(self, dispatches: Iterable[Dispatch]) -> None:
        """Hand dispatches to their batteries' tasks, which apply and acknowledge them at once."""
        for dispatch in dispatches:
            position = self._position_by_id.get(dispatch.asset_id)
            if position is None:
                self._reject(dispatch, f"this agent has no asset {dispatch.asset_id}")
                continue
            superseded = self._batteries[position].offer(dispatch)
            if superseded is not None and superseded.dispatch_id != dispatch.dispatch_id:
                self._reject(superseded, f"superseded by {dispatch.dispatch_id} before it was applied")

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
            self.rows_missed += frame.rows_missing()
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
                self._batteries[position].wakeup.wake()

    def _reject(self, dispatch: Dispatch, reason: str) -> None:
        log.warning(
            "dispatch rejected",
            dispatch_id=dispatch.dispatch_id,
            asset_id=dispatch.asset_id,
            mw=dispatch.mw,
            reason=reason,
        )
        self._board.acknowledge(answer_to(dispatch, "rejected", self._wall.now_ms(), reason))
