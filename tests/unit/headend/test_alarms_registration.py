"""Alarms of what an agent registers with: its clock, its assets, its certificate."""

import time
from pathlib import Path

import trio
import trio.testing

from tests.alarms import kinds_and_sources
from tests.unit.access.certificates import Authority, der_of
from tests.unit.headend.driver import NOW, open_rig, registration
from tests.unit.headend.reporter import listed, reporter
from trioder.events.facts import RegistrationChecked
from trioder.rpc.peer import Peer
from trioder.wire.uplink import write_heartbeat


async def test_a_skewed_clock_is_an_alarm_of_the_agent(autojump_clock: object) -> None:
    async with open_rig(assets=1) as rig:
        agent = await rig.agent()
        message = registration(0)
        message.register.clock_unix_ms = NOW - 10_000
        await agent.send(message)
        await agent.receive()
        for second in range(20):
            await agent.send(write_heartbeat(NOW + 1_000 * second - 10_000))
            await trio.sleep(1.0)
        assert [alarm[:3] for alarm in listed(rig, "clock_skew")] == [("clock_skew", "minor", "agent agent")]
        await agent.disconnect()
        await trio.sleep(30.0)
        [alarm] = listed(rig, "clock_skew")
        assert alarm.cleared_s is not None


async def test_a_nameplate_and_assets_that_the_fleet_file_does_not_have(autojump_clock: object) -> None:
    async with open_rig(assets=2) as rig:
        agent = await rig.agent()
        message = registration(0, 1, 7)
        message.register.assets[1].max_mw = 5.0
        message.register.assets[1].min_mw = -10.0
        message.register.assets[1].capacity_mwhr = 40.0
        await agent.send(message)
        await trio.sleep(2.0)
        assert [alarm[1:3] for alarm in listed(rig, "unknown_asset")] == [("warning", "agent agent")]
        assert [alarm[1:3] for alarm in listed(rig, "nameplate_differs")] == [("warning", "agent agent")]
        await agent.disconnect()
        await rig.registered(0, 1, epoch=2)
        await trio.sleep(2.0)
        assert kinds_and_sources(rig.headend, only_open=True) == []


async def test_an_agent_of_unknown_assets_alone_is_an_alarm_though_it_is_refused(
    autojump_clock: object,
) -> None:
    async with open_rig(assets=1) as rig:
        await reporter(rig)
        stranger = await rig.agent()
        await stranger.send(registration(7, agent_id="stranger", outbox_id="its"))
        await trio.sleep(2.0)
        assert [alarm.source for alarm in listed(rig, "unknown_asset")] == ["agent stranger"]
        [alarm] = rig.headend.alarms.register.open_alarms()
        # Whose it is is not known: tenants do not see it.
        assert (alarm.tenant, alarm.site_ids) == ("*", ())


async def test_an_agents_certificate_that_expires_soon_is_an_alarm_until_it_registers_with_a_newer_one(
    autojump_clock: object,
) -> None:
    async with open_rig(assets=1) as rig:

        async def checked(days: float | None) -> list[tuple[str, str]]:
            expires_s = None if days is None else rig.headend.wall.now_s() + days * 86_400
            rig.headend.events.publish(RegistrationChecked("agent", (), (), 0, expires_s))
            await trio.sleep(2.0)
            return [
                (alarm.severity, alarm.reason)
                for alarm in rig.headend.alarms.register.open_alarms()
                if alarm.kind == "certificate_expiring"
            ]

        assert await checked(14.1) == []
        assert await checked(13.5) == [("minor", "the agent's certificate expires in 13.5 days")]
        assert await checked(-1.0) == [("critical", "the agent's certificate has expired")]
        assert await checked(90.0) == []
        assert await checked(None) == []


def test_the_end_of_a_peers_certificate_is_known(tmp_path: Path) -> None:
    certificate = der_of(Authority(tmp_path).issue("agent", to_h=24.0).cert)
    expires_s = Peer(address="a:1", certificate=certificate).certificate_expires_s
    assert expires_s is not None
    assert abs(expires_s - time.time() - 24 * 3600) < 60
    assert Peer(address="a:1").certificate_expires_s is None
    assert Peer(address="a:1", certificate=b"none").certificate_expires_s is None
