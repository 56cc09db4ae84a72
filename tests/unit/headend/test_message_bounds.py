"""How large an agent's messages may be: by the fleet before it has registered, by its assets after."""

from trio.testing import MockClock

from tests.unit.headend.driver import open_rig, pulse, registration
from trioder.rpc import StatusCode
from trioder.wire import agent_link_pb2 as pb


async def test_a_register_names_no_more_assets_than_a_fleet_may_have(autojump_clock: MockClock) -> None:
    async with open_rig(assets=3) as rig:
        agent = await rig.agent()
        descriptors = [pb.AssetDescriptor()] * 3000
        await agent.send(pb.AgentToHeadend(register=pb.Register(agent_id="agent", assets=descriptors)))
        refusal = await agent.refusal()

        assert refusal.status is StatusCode.INVALID_ARGUMENT
        assert "Register has more than 1070 fields" in refusal.message
        assert not rig.headend.sessions.assets_connected


async def test_an_agent_of_few_assets_sends_no_large_messages(autojump_clock: MockClock) -> None:
    async with open_rig(assets=3) as rig:
        agent = await rig.registered(0, 1)
        await agent.send(pb.AgentToHeadend(telemetry_batch=pb.TelemetryBatch(asset_index=[0] * 100_000)))
        refusal = await agent.refusal()

        assert refusal.status is StatusCode.RESOURCE_EXHAUSTED
        assert "a message of 100" in refusal.message


async def test_a_large_fleet_may_have_one_agent(autojump_clock: MockClock) -> None:
    count = 3000
    async with open_rig(assets=count) as rig:
        agent = await rig.registered(*range(count))
        await agent.send(pulse(1, *range(count)))
        await agent.receive()

        assert rig.headend.sessions.assets_connected == count
        assert rig.headend.counters.batches_received == 1


async def test_a_name_longer_than_a_descriptor_may_be_passes_alone(autojump_clock: MockClock) -> None:
    async with open_rig(assets=1) as rig:
        agent = await rig.agent()
        message = registration(0)
        message.register.assets[0].asset_name = "n" * 20_000
        await agent.send(message)
        await agent.receive()

        assert rig.headend.sessions.assets_connected == 1
