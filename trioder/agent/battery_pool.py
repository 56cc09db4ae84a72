"""All batteries of the agent under one clock: a task each, pulses, setpoints, and their ends."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Never

import structlog
import trio

from trioder.agent.battery import Battery, Tick
from trioder.agent.frame import Frame
from trioder.agent.persistence.state_store import SavedBattery
from trioder.agent.pulse import Lateness, PulseGrid
from trioder.agent.timers import LeaseTimer
from trioder.domain.assets import Asset
from trioder.domain.dispatch import Setpoint
from trioder.process.backoff import Backoff
from trioder.process.clock_discipline import ClockStep
from trioder.process.wall_time import WallClock
from trioder.wire.records import Acknowledgement, AgentMessage

log = structlog.stdlib.get_logger(__name__)

# Tasks woken between two polls of the sockets: about 15 ms of work.
_WAKE_CHUNK = 1_000
# A frame that is not complete by then is closed without the missing rows.
_FRAME_SHARE_OF_TICK = 0.75
_FIRST_RESTART_S = 1.0
_MAX_RESTART_S = 60.0


@dataclass(slots=True, kw_only=True)
class AgentContext:
    """What all batteries of an agent share.

    Attributes:
        frame: of the latest pulse.
        send: receives the batteries' messages for the headend.
        crashes: of all batteries' tasks.
    """

    frame: Frame
    leases: LeaseTimer
    send: Callable[[AgentMessage], None]
    rng: random.Random
    crashes: int = 0


class BatteryPool:
    """The batteries of one agent.

    Attributes:
        grid: the pulses, and their lateness.
        frame_lateness: from the time that each pulse was due to the closing of its frame.
        rows_made: rows in frames.
        rows_missed: rows missing from frames.
    """

    def __init__(
        self,
        assets: Sequence[Asset],
        *,
        grid: PulseGrid,
        wall: WallClock,
        rng: random.Random,
        tick: Tick,
        send: Callable[[AgentMessage], None],
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
        self._context = AgentContext(
            frame=Frame(number=0, at_s=now_s, ts_unix_ms=0, assets=0),
            leases=LeaseTimer(),
            send=send,
            rng=rng,
        )

    @property
    def crashes(self) -> int:
        """Crashes of the batteries' tasks."""
        return self._context.crashes

    def resume(self, saved: Mapping[str, SavedBattery]) -> None:
        """Continue from saved states, before `run`.

        Args:
            saved: by asset id; a battery without one, or with an invalid one, begins at its initial state.
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
            self._context.leases.set(battery.position, battery.lease_end_s)

    def snapshot(self) -> list[SavedBattery]:
        """Return the batteries' present state for a save, in their order."""
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

    @property
    def asset_ids(self) -> list[str]:
        """The batteries, in the order of the batches and of `snapshot`."""
        return list(self._position_by_id)

    def acknowledge_active(self) -> Iterator[Acknowledgement]:
        """Yield an acknowledgement for each setpoint in force now, unless it has ended or was replaced.

        Each is built when it is asked for; an ended or replaced setpoint has acknowledgements of its own.
        """
        active = [(battery, battery.dispatch_id) for battery in self._batteries if battery.dispatch_id]
        return _acknowledge_while_active(active)

    def deliver(self, setpoints: Iterable[Setpoint]) -> None:
        """Pass setpoints to their batteries' tasks, which apply and acknowledge them at once."""
        now_s = trio.current_time()
        for setpoint in setpoints:
            position = self._position_by_id.get(setpoint.asset_id)
            if position is None:
                self.reject(setpoint, f"this agent has no asset {setpoint.asset_id}")
                continue
            battery = self._batteries[position]
            superseded = battery.offer(setpoint)
            if superseded is not None and superseded.dispatch_id != setpoint.dispatch_id:
                reason = f"by {setpoint.dispatch_id or 'one without an id'} before it was applied"
                self._context.send(battery.acknowledge(superseded.dispatch_id, "superseded", now_s, reason))

    def reject(self, setpoint: Setpoint, reason: str) -> None:
        """Acknowledge a setpoint as rejected; its battery, if this agent has it, keeps the one in force."""
        position = self._position_by_id.get(setpoint.asset_id)
        if position is not None:
            now_s = trio.current_time()
            battery = self._batteries[position]
            self._context.send(battery.acknowledge(setpoint.dispatch_id, "rejected", now_s, reason))
            return
        log.warning("dispatch rejected", dispatch_id=setpoint.dispatch_id, mw=setpoint.mw, reason=reason)
        self._context.send(
            Acknowledgement(
                dispatch_id=setpoint.dispatch_id,
                asset_id=setpoint.asset_id,
                status="rejected",
                ts_unix_ms=self._wall.now_ms(),
                reason=reason,
            )
        )

    def clock_stepped(self, step: ClockStep) -> None:
        """Move the ends of setpoints after a step of the wall time."""
        now_s = trio.current_time()
        for battery in self._batteries:
            if battery.clock_stepped(now_s, step.suspended_s):
                self._context.leases.set(battery.position, battery.lease_end_s)

    async def headend_lost(self, at_s: float, away_s: float) -> int:
        """Revert every setpoint: at `at_s` there was no headend for `away_s`.

        All are marked at once, so that no setpoint of a later session is affected.

        Returns:
            How many batteries that changes.
        """
        affected = [battery for battery in self._batteries if battery.headend_lost(at_s, away_s)]
        for number, battery in enumerate(affected, start=1):
            battery.wakeup.wake()
            if number % _WAKE_CHUNK == 0:
                await trio.lowlevel.checkpoint()
        return len(affected)

    async def run(
        self,
        take_frame: Callable[[Frame], None],
        *,
        on_ready: Callable[[], None],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run the batteries until cancelled; started once all their tasks are parked.

        Args:
            take_frame: receives the frame of each pulse, and closes it.
            on_ready: called once before the first pulse, when all tasks are parked; may block.
            task_status: Trio's.
        """
        async with trio.open_nursery() as nursery:
            for position, battery in enumerate(self._batteries):
                nursery.start_soon(_run_battery, battery, self._context)
                if position % _WAKE_CHUNK == 0:
                    await trio.lowlevel.checkpoint()
            nursery.start_soon(self._end_leases)
            # The last tasks run, and park, before this one is scheduled again.
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            on_ready()
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
            self._context.frame = frame
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
            if battery.is_restarting:
                _leave_out(battery, frame)
            else:
                battery.wakeup.wake()
            if position % _WAKE_CHUNK == 0:
                await trio.lowlevel.checkpoint()

    async def _end_leases(self) -> None:
        while True:
            for position in await self._context.leases.wait_due():
                self._batteries[position].notify()


async def _run_battery(battery: Battery, context: AgentContext) -> None:
    """Drive one battery until cancelled; after a crash it restarts from its last good state."""
    backoff = Backoff(first_s=_FIRST_RESTART_S, max_s=_MAX_RESTART_S, rng=context.rng)
    while True:
        started_s = trio.current_time()
        try:
            await _drive(battery, context)
        except Exception:
            if trio.current_time() - started_s > _MAX_RESTART_S:
                backoff.reset()
            delay_s = backoff.next_delay_s()
            battery.crashes += 1
            context.crashes += 1
            log.exception(
                "asset crashed, restarts",
                asset_id=battery.asset.id,
                asset=battery.asset.name,
                site=battery.asset.site_name,
                crashes=battery.crashes,
                restart_in_s=round(delay_s, 1),
            )
        _leave_out(battery, context.frame)
        battery.is_restarting = True
        await trio.sleep(delay_s)
        battery.is_restarting = False
        # A setpoint may have arrived meanwhile.
        battery.wakeup.wake()


async def _drive(battery: Battery, context: AgentContext) -> Never:
    """Wait for a pulse, a setpoint or the end of one, and process it."""
    wakeup = battery.wakeup
    while True:
        await wakeup.wait()
        frame = context.frame
        if battery.frame_number != frame.number:
            battery.advance(frame.at_s)
            battery.frame_number = frame.number
            frame.put(battery.position, battery.state, battery.quality)
        if battery.is_notified:
            if battery.apply_pending(trio.current_time()):
                context.leases.set(battery.position, battery.lease_end_s)
            for message in battery.take_messages():
                context.send(message)


def _leave_out(battery: Battery, frame: Frame) -> None:
    if battery.frame_number != frame.number:
        battery.frame_number = frame.number
        frame.leave_out()


def _acknowledge_while_active(active: Iterable[tuple[Battery, str]]) -> Iterator[Acknowledgement]:
    for battery, dispatch_id in active:
        now_s = trio.current_time()
        if battery.dispatch_id == dispatch_id and battery.lease_end_s > now_s:
            yield battery.acknowledge(dispatch_id, "active", now_s)
