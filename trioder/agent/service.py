"""The agent as a whole: its batteries, its outbox and its link, put together and run.

Everything from outside is injected; `__main__` gives it the real clock, sockets and streams.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import structlog
import trio

from trioder.agent.battery import Tick
from trioder.agent.battery_pool import BatteryPool
from trioder.agent.config import AgentConfig
from trioder.agent.frame import Frame
from trioder.agent.headend_client import Dial, HeadendClient, Identity, LinkReport
from trioder.agent.headend_watch import HeadendWatch
from trioder.agent.memory import AgentMemory, MemoryInRam, SavedBattery
from trioder.agent.outbox import Outbox
from trioder.agent.pulse import PulseGrid
from trioder.agent.renewal import renew_outbox
from trioder.agent.send_queue import SendQueue
from trioder.agent.state_saver import StateSaver
from trioder.process.clock_discipline import ClockStep, discipline_clock
from trioder.process.wall_time import WallClock
from trioder.sim.bess import tick_asset
from trioder.wire.records import CLOCK_STEP, AgentEvent
from trioder.wire.service import PROTOCOL
from trioder.wire.uplink import write_registration

log = structlog.stdlib.get_logger(__name__)

FINISH_WITHIN_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningAgent:
    """What a running agent can be asked; for status lines, benchmarks and tests."""

    plant: BatteryPool
    memory: AgentMemory
    outbox: Outbox
    queue: SendQueue
    link: HeadendClient


async def run_agent(
    config: AgentConfig,
    *,
    dial: Dial,
    wall: WallClock,
    rng: random.Random,
    report: Callable[[LinkReport], None],
    memory: AgentMemory | None = None,
    tick: Tick = tick_asset,
    stopping: trio.Event | None = None,
    settle: Callable[[], None] = lambda: None,
    task_status: trio.TaskStatus[RunningAgent] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run one agent until `stopping` is set, or it is cancelled. Started once its batteries live.

    When `stopping` is set, what may be sent is sent first, for FINISH_WITHIN_S at most.

    Args:
        config: checked.
        dial: connects to the headend; raises OSError when it cannot.
        wall: gives samples their time, and this boot its epoch; kept at its system's clock here.
        rng: for the jitter of retries, and ids.
        report: is told of every change of the link; must not block.
        memory: what outlives this run, of these assets; without it nothing does.
        tick: the physics.
        stopping: asks for an orderly end.
        settle: called once when the batteries stand, before their first pulse; may take its time.
        task_status: Trio's; is given what the agent can be asked.
    """
    if memory is None:
        outbox_id = str(UUID(int=rng.getrandbits(128), version=4))
        memory = MemoryInRam(outbox_id, [asset.id for asset in config.assets])
    outbox = Outbox(memory.batches, max_bytes=config.outbox_bytes)
    queue = SendQueue(outbox)

    def look() -> list[SavedBattery]:
        return plant.to_be_saved()

    keeper = StateSaver(memory, look=look, release=queue.put, wall=wall)
    plant = BatteryPool(
        config.assets,
        grid=PulseGrid.aligned(
            tick_s=config.tick_s, phase=config.phase, now_s=trio.current_time(), wall_s=wall.now_s()
        ),
        wall=wall,
        rng=rng,
        tick=tick,
        tell=keeper.hold,
    )
    plant.resume(memory.batteries())
    epoch = memory.begin_boot(wall.now_ms())
    keeper.save()
    watch = HeadendWatch(
        hold_s=config.comms_loss_hold_s, lost=partial(_revert, plant, agent_id=config.agent_id)
    )

    def linked(status: LinkReport) -> None:
        _follow_link(status, watch=watch, keeper=keeper, queue=queue, plant=plant)
        report(status)

    link = HeadendClient(
        _identity(config, epoch=epoch, outbox_id=memory.outbox_id),
        dial=dial,
        outbox=outbox,
        queue=queue,
        deliver=plant.deliver,
        report=linked,
        renew_outbox=partial(
            renew_outbox,
            memory=memory,
            outbox=outbox,
            queue=queue,
            agent_id=config.agent_id,
            wall=wall,
            rng=rng,
        ),
        wall=wall,
        rng=rng,
    )

    def stepped(step: ClockStep) -> None:
        _follow_step(step, plant=plant, watch=watch, keeper=keeper, link=link)
        queue.put(_step_event(config, step, wall=wall, rng=rng))

    def take_frame(frame: Frame) -> None:
        queue.put_frame(frame)
        keeper.save()

    pulses = trio.CancelScope()

    async def run_plant(*, task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC128  # the plant calls it
        with pulses:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch.run)
                await plant.run(take_frame, settle=settle, task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(run_plant)
        nursery.start_soon(keeper.run)
        nursery.start_soon(partial(discipline_clock, wall, stepped=stepped))
        log.info("batteries up", agent_id=config.agent_id, assets=len(config.assets), tick_s=config.tick_s)
        nursery.start_soon(link.run)
        task_status.started(RunningAgent(plant=plant, memory=memory, outbox=outbox, queue=queue, link=link))
        if stopping is None:
            await trio.sleep_forever()
        else:
            await stopping.wait()
        # What was made once the sending had ended would have to wait for the next start.
        pulses.cancel()
        keeper.save()
        if link.connected:
            with trio.move_on_after(FINISH_WITHIN_S):
                link.finish()
                await link.ended.wait()
        keeper.save()
        _log_end(config, plant, outbox, queue, memory)
        nursery.cancel_scope.cancel()


async def _revert(plant: BatteryPool, at_s: float, away_s: float, *, agent_id: str) -> None:
    assets = await plant.lose_headend(at_s, away_s)
    log.warning(
        "no headend for too long, setpoints reverted", agent_id=agent_id, away_s=away_s, assets=assets
    )


def _follow_step(
    step: ClockStep, *, plant: BatteryPool, watch: HeadendWatch, keeper: StateSaver, link: HeadendClient
) -> None:
    plant.clock_stepped(step)
    watch.suspended(step.suspended_s)
    keeper.save()
    link.send_heartbeat()


def _step_event(config: AgentConfig, step: ClockStep, *, wall: WallClock, rng: random.Random) -> AgentEvent:
    return AgentEvent(
        event_id=str(UUID(int=rng.getrandbits(128), version=4)),
        # The agent's own, and so of none of its assets.
        asset_id="",
        site_id="",
        ts_unix_ms=wall.now_ms(),
        event_type=CLOCK_STEP,
        severity="warning",
        message=f"{step}, agent {config.agent_id}",
    )


def _follow_link(
    status: LinkReport, *, watch: HeadendWatch, keeper: StateSaver, queue: SendQueue, plant: BatteryPool
) -> None:
    if status.state != "connected":
        watch.disconnected()
        return
    watch.connected()
    # What is told to be in force is to be so after a crash as well.
    keeper.save_held()
    queue.tell_in_force(plant.tell_in_force())


def _identity(config: AgentConfig, *, epoch: int, outbox_id: str) -> Identity:
    return Identity(
        agent_id=config.agent_id,
        assets=len(config.assets),
        headend=str(config.headend),
        registration=write_registration(
            agent_id=config.agent_id,
            epoch=epoch,
            protocol=PROTOCOL,
            outbox_id=outbox_id,
            assets=config.assets,
        ),
    )


def _log_end(
    config: AgentConfig, plant: BatteryPool, outbox: Outbox, queue: SendQueue, memory: AgentMemory
) -> None:
    lateness = plant.grid.lateness
    log.info(
        "agent stops",
        agent_id=config.agent_id,
        assets=len(config.assets),
        pulses=lateness.count,
        pulses_skipped=plant.grid.skipped,
        late_p50_ms=round(1000 * lateness.quantile_s(0.5), 1),
        late_p99_ms=round(1000 * lateness.quantile_s(0.99), 1),
        late_max_ms=round(1000 * lateness.max_s, 1),
        samples=plant.rows_made,
        asset_crashes=plant.crashes,
        batches_unacknowledged=outbox.batches,
        batches_dropped=outbox.dropped,
        acknowledgements_dropped=queue.acknowledgements_dropped,
        events_dropped=queue.events_dropped,
        saves_failed=memory.failures,
    )
    # What quantiles over many agents are made of.
    log.debug(
        "lateness of the last pulses",
        agent_id=config.agent_id,
        late_ms=[round(1000 * late_s, 1) for late_s in lateness.recent],
    )
