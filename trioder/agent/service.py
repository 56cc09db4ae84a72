"""The agent as a whole: batteries, outbox and headend client, connected to each other and run.

Clock, sockets and streams are injected; `__main__` provides the real ones.
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
from trioder.agent.persistence.outbox import Outbox
from trioder.agent.persistence.state_saver import StateSaver
from trioder.agent.persistence.state_store import InMemoryStateStore, StateStore
from trioder.agent.pulse import PulseGrid
from trioder.agent.scenario import NO_SCENARIO, NoScenario
from trioder.agent.send_queue import SendQueue
from trioder.agent.timers import CommsLossTimer
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
    """The parts of a running agent, for benchmarks and tests."""

    pool: BatteryPool
    store: StateStore
    outbox: Outbox
    queue: SendQueue
    client: HeadendClient


async def run_agent(
    config: AgentConfig,
    *,
    dial: Dial,
    wall: WallClock,
    rng: random.Random,
    report: Callable[[LinkReport], None],
    store: StateStore | None = None,
    tick: Tick = tick_asset,
    scenario: NoScenario = NO_SCENARIO,
    stopping: trio.Event | None = None,
    on_ready: Callable[[], None] = lambda: None,
    task_status: trio.TaskStatus[RunningAgent] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run one agent until `stopping` is set, or it is cancelled. Started once its batteries run.

    When `stopping` is set, what may be sent is sent first, for FINISH_WITHIN_S at most.

    Args:
        config: checked.
        dial: connects to the headend; raises OSError when it cannot.
        wall: gives samples their time, and this boot its epoch; disciplined by the system's clock here.
        rng: for the jitter of retries, and ids.
        report: receives every change of the connection; must not block.
        store: of these assets; without it nothing survives this run.
        tick: the physics.
        scenario: the layer that lets batteries, clock and link misbehave.
        stopping: requests a graceful shutdown.
        on_ready: called once when the batteries' tasks run, before the first pulse; may block.
        task_status: Trio's; receives the agent's parts.
    """
    wall = scenario.clock(wall)
    if store is None:
        outbox_id = str(UUID(int=rng.getrandbits(128), version=4))
        store = InMemoryStateStore(outbox_id, [asset.id for asset in config.assets])
    outbox = Outbox(store.batches, max_bytes=config.outbox_bytes)
    queue = SendQueue(outbox)
    saver = StateSaver(store, snapshot=lambda: pool.snapshot(), release=queue.put, wall=wall)  # noqa: PLW0108
    pool = BatteryPool(
        config.assets,
        grid=PulseGrid.aligned(
            tick_s=config.tick_s, phase=config.phase, now_s=trio.current_time(), wall_s=wall.now_s()
        ),
        wall=wall,
        rng=rng,
        tick=scenario.physics(tick),
        send=saver.hold,
    )
    pool.resume(store.batteries())
    epoch = store.begin_boot(wall.now_ms())
    saver.save()
    comms_loss = CommsLossTimer(
        hold_s=config.comms_loss_hold_s, lost=partial(_revert, pool, agent_id=config.agent_id)
    )

    def connection_changed(status: LinkReport) -> None:
        _follow_connection(status, comms_loss=comms_loss, saver=saver, queue=queue, pool=pool)
        report(status)

    client = HeadendClient(
        _identity(config, epoch=epoch, outbox_id=store.outbox_id),
        dial=scenario.link(dial),
        store=store,
        outbox=outbox,
        queue=queue,
        deliver=scenario.setpoints(pool),
        report=connection_changed,
        wall=wall,
        rng=rng,
    )

    def clock_stepped(step: ClockStep) -> None:
        _follow_step(step, pool=pool, comms_loss=comms_loss, saver=saver, client=client)
        queue.put(_step_event(config, step, wall=wall, rng=rng))

    take_frame = partial(_take_frame, scenario.frames(queue.put_frame), saver)
    pulses = trio.CancelScope()

    async def run_pool(*, task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC128  # the pool calls it
        with pulses:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(comms_loss.run)
                await pool.run(take_frame, on_ready=on_ready, task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(run_pool)
        nursery.start_soon(saver.run)
        nursery.start_soon(partial(discipline_clock, wall, stepped=clock_stepped))
        log.info("batteries up", agent_id=config.agent_id, assets=len(config.assets), tick_s=config.tick_s)
        nursery.start_soon(scenario.run, saver.hold)
        nursery.start_soon(client.run)
        task_status.started(RunningAgent(pool=pool, store=store, outbox=outbox, queue=queue, client=client))
        if stopping is None:
            await trio.sleep_forever()
        else:
            await stopping.wait()
        # Samples made after the client has finished would wait for the next start.
        pulses.cancel()
        saver.save()
        if client.connected:
            with trio.move_on_after(FINISH_WITHIN_S):
                client.finish()
                await client.ended.wait()
        saver.save()
        _log_end(config, pool, outbox, queue, store)
        nursery.cancel_scope.cancel()


def _take_frame(put: Callable[[Frame], None], saver: StateSaver, frame: Frame) -> None:
    put(frame)
    saver.save()


async def _revert(pool: BatteryPool, at_s: float, away_s: float, *, agent_id: str) -> None:
    assets = await pool.headend_lost(at_s, away_s)
    log.warning(
        "no headend for too long, setpoints reverted", agent_id=agent_id, away_s=away_s, assets=assets
    )


def _follow_connection(
    status: LinkReport, *, comms_loss: CommsLossTimer, saver: StateSaver, queue: SendQueue, pool: BatteryPool
) -> None:
    if status.state != "connected":
        comms_loss.disconnected()
        return
    comms_loss.connected()
    # A setpoint that is acknowledged as active must survive a crash.
    saver.save_held()
    queue.put_active(pool.acknowledge_active())


def _follow_step(
    step: ClockStep,
    *,
    pool: BatteryPool,
    comms_loss: CommsLossTimer,
    saver: StateSaver,
    client: HeadendClient,
) -> None:
    pool.clock_stepped(step)
    comms_loss.suspended(step.suspended_s)
    saver.save()
    client.send_heartbeat()


def _step_event(config: AgentConfig, step: ClockStep, *, wall: WallClock, rng: random.Random) -> AgentEvent:
    return AgentEvent(
        event_id=str(UUID(int=rng.getrandbits(128), version=4)),
        # Of the agent, and of none of its assets.
        asset_id="",
        site_id="",
        ts_unix_ms=wall.now_ms(),
        event_type=CLOCK_STEP,
        severity="warning",
        message=f"{step}, agent {config.agent_id}",
    )


def _identity(config: AgentConfig, *, epoch: int, outbox_id: str) -> Identity:
    return Identity(
        agent_id=config.agent_id,
        assets=len(config.assets),
        headend=config.headend.authority,
        registration=write_registration(
            agent_id=config.agent_id,
            epoch=epoch,
            protocol=PROTOCOL,
            outbox_id=outbox_id,
            assets=config.assets,
        ),
    )


def _log_end(
    config: AgentConfig, pool: BatteryPool, outbox: Outbox, queue: SendQueue, store: StateStore
) -> None:
    lateness = pool.grid.lateness
    log.info(
        "agent stops",
        agent_id=config.agent_id,
        assets=len(config.assets),
        pulses=lateness.count,
        pulses_skipped=pool.grid.skipped,
        late_p50_ms=round(1000 * lateness.quantile_s(0.5), 1),
        late_p99_ms=round(1000 * lateness.quantile_s(0.99), 1),
        late_max_ms=round(1000 * lateness.max_s, 1),
        samples=pool.rows_made,
        asset_crashes=pool.crashes,
        batches_unacknowledged=outbox.batches,
        batches_dropped=outbox.dropped,
        acknowledgements_dropped=queue.acknowledgements_dropped,
        events_dropped=queue.events_dropped,
        saves_failed=store.failures,
    )
    # The input for quantiles over many agents.
    log.debug(
        "lateness of the last pulses",
        agent_id=config.agent_id,
        late_ms=[round(1000 * late_s, 1) for late_s in lateness.recent],
    )
