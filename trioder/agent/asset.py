"""The task of one battery: parked until a pulse, a dispatch or the end of a setpoint wakes it.

A crash restarts that task alone, from the battery's last good state.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Never

import structlog
import trio

from trioder.agent.battery import AgentMessage, Battery
from trioder.agent.frame import Frame
from trioder.agent.leases import LeaseTimer
from trioder.process.backoff import Backoff

log = structlog.stdlib.get_logger(__name__)

_FIRST_REST_S = 1.0
_MAX_REST_S = 60.0


@dataclass(slots=True, kw_only=True)
class AgentContext:
    """What all batteries of an agent share.

    Attributes:
        frame: of the latest pulse.
        tell: takes what the headend is to know of a battery, above all what became of a dispatch.
        crashes: of all batteries' tasks together.
    """

    frame: Frame
    leases: LeaseTimer
    tell: Callable[[AgentMessage], None]
    rng: random.Random
    crashes: int = 0


async def run_asset(battery: Battery, board: AgentContext) -> None:
    """Drive one battery until cancelled. A crash is logged, and it goes on from its last good state."""
    backoff = Backoff(first_s=_FIRST_REST_S, max_s=_MAX_REST_S, rng=board.rng)
    while True:
        started_s = trio.current_time()
        try:
            await _live(battery, board)
        except Exception:
            if trio.current_time() - started_s > _MAX_REST_S:
                backoff.reset()
            rest_s = backoff.next_delay_s()
            battery.crashes += 1
            board.crashes += 1
            log.exception(
                "asset crashed, restarts",
                asset_id=battery.asset.id,
                asset=battery.asset.name,
                site=battery.asset.site_name,
                crashes=battery.crashes,
                restart_in_s=round(rest_s, 1),
            )
        leave_out(battery, board.frame)
        battery.resting = True
        await trio.sleep(rest_s)
        battery.resting = False
        # What has come meanwhile, a dispatch above all, is looked at now.
        battery.wakeup.wake()


async def _live(battery: Battery, board: AgentContext) -> Never:
    wakeup = battery.wakeup
    while True:
        await wakeup.wait()
        frame = board.frame
        if battery.frame_number != frame.number:
            battery.advance(frame.at_s)
            battery.frame_number = frame.number
            frame.put(battery.position, battery.state, battery.quality)
        if battery.called:
            _obey(battery, board)


def _obey(battery: Battery, board: AgentContext) -> None:
    if battery.obey(trio.current_time()):
        board.leases.set(battery.position, battery.lease_end_s)
    for telling in battery.take_tellings():
        board.tell(telling)


def leave_out(battery: Battery, frame: Frame) -> None:
    """The battery gives no row to the frame, unless it has done so already."""
    if battery.frame_number != frame.number:
        battery.frame_number = frame.number
        frame.leave_out()
