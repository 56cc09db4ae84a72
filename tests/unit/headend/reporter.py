"""An agent that reports every second, as a test asks, and the alarms of its headend."""

from typing import Any

import trio
import trio.testing

from tests.alarms import Listed, list_alarms
from tests.unit.headend.driver import Rig, ScriptedAgent, pulse
from trioder.wire import agent_link_pb2 as pb


class Reporter:
    """An agent that sends a pulse of its assets every second, as a test asks."""

    def __init__(self, rig: Rig, agent: ScriptedAgent, assets: int) -> None:
        self.rig = rig
        self.agent = agent
        self.assets = assets
        self.seq = 0

    async def pulse(self, **values: Any) -> None:
        self.seq += 1
        ts_ms = self.rig.headend.wall.now_ms()
        await self.agent.send(pulse(self.seq, *range(self.assets), **{"ts_ms": ts_ms} | values))
        await trio.testing.wait_all_tasks_blocked()

    async def report(self, seconds: int, **values: Any) -> None:
        for _ in range(seconds):
            await trio.sleep(1.0)
            await self.pulse(**values)


async def reporter(rig: Rig, assets: int = 1, **register: Any) -> Reporter:
    return Reporter(rig, await rig.registered(*range(assets), **register), assets)


async def event(agent: ScriptedAgent, event_type: str, severity: str, *, asset: str = "") -> None:
    await agent.send(
        pb.AgentToHeadend(
            event=pb.Event(
                event_type=event_type,
                asset_id=asset,
                severity=severity,
                message="of the device",
                timestamp="2027-01-15T08:00:00Z",
            )
        )
    )
    await trio.testing.wait_all_tasks_blocked()


def listed(rig: Rig, kind: str) -> list[Listed]:
    return [alarm for alarm in list_alarms(rig.headend) if alarm.kind == kind]
