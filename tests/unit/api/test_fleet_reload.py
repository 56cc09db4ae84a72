"""`/fleet/reload`: the fleet file is reloaded while the headend runs, as a whole or not at all."""

import math
from dataclasses import dataclass, replace

import trio
import trio.testing

from tests.unit.headend.driver import Rig, open_rig, pulse, registration
from tests.unit.headend.parts import asset_id, find_record, make_fleet
from trioder.api import create_app
from trioder.domain.dispatch import DispatchRequest
from trioder.domain.fleet import Fleet
from trioder.domain.quality import Quality
from trioder.fleet import Fault, FleetFileError
from trioder.wire.records import BatchAck, SessionGrant, Setpoints


@dataclass
class FleetFile:
    """What the next read of the file returns or raises."""

    fleet: Fleet
    error: FleetFileError | None = None

    def read(self) -> Fleet:
        if self.error is not None:
            raise self.error
        # A file is read again each time.
        return Fleet(sites=self.fleet.sites, assets=self.fleet.assets)


async def get(rig: Rig, path: str) -> object:
    response = await create_app(rig.headend).test_client().get(path)
    return await response.get_json()


async def reload(rig: Rig) -> tuple[int, dict[str, object]]:
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, trio.testing.MockClock)
    # The file is read in a thread, during which virtual time would pass as fast as it can.
    clock.autojump_threshold = math.inf
    try:
        response = await create_app(rig.headend).test_client().post("/fleet/reload")
    finally:
        clock.autojump_threshold = 0.0
    return response.status_code, await response.get_json()


async def test_assets_are_added_changed_and_retired(autojump_clock: object) -> None:
    three = make_fleet(3)
    file = FleetFile(three)
    async with open_rig(assets=3, read_fleet=file.read) as rig:
        file.fleet = Fleet(
            sites=three.sites,
            assets=[make_fleet(4).assets[3], replace(three.assets[2], name="renamed"), three.assets[0]],
        )
        assert await reload(rig) == (200, {"assets": 3, "added": 1, "changed": 1, "retired": 1})
        rows = await get(rig, "/assets")
        assert isinstance(rows, list)
        assert [row["id"] for row in rows] == [asset_id(3), asset_id(2), asset_id(0)]
        assert rows[1]["name"] == "renamed"
        paged = await get(rig, f"/assets?after={asset_id(3)}&limit=1")
        assert isinstance(paged, list)
        assert [row["id"] for row in paged] == [asset_id(2)]
        fleet = await get(rig, "/fleet")
        assert isinstance(fleet, dict)
        assert fleet["assets"] == 3


async def test_a_file_with_errors_changes_nothing_and_all_are_reported(autojump_clock: object) -> None:
    three = make_fleet(3)
    fault = Fault(file="assets.yaml", line=7, field="assets[0].max_mw", message="is NaN; it must be finite")
    file = FleetFile(make_fleet(1), error=FleetFileError((fault,)))
    async with open_rig(assets=3, read_fleet=file.read) as rig:
        status, body = await reload(rig)
        assert status == 409
        assert "assets.yaml:7: assets[0].max_mw: is NaN; it must be finite" in str(body["message"])
        assert rig.headend.fleet == three
        assert rig.headend.counters.fleet_reloads_refused == 1


async def test_a_session_continues_with_its_other_assets_when_one_is_retired(autojump_clock: object) -> None:
    three = make_fleet(3)
    file = FleetFile(Fleet(sites=three.sites, assets=[three.assets[0], three.assets[2]]))
    async with open_rig(assets=3, read_fleet=file.read) as rig:
        agent = await rig.registered(0, 1, 2, outbox_id="box")
        made = rig.headend.dispatcher.dispatch(DispatchRequest(asset_id=asset_id(1), mw=4.0, duration_s=600))
        assert isinstance(await agent.receive(), Setpoints)
        await reload(rig)
        # The retired battery is released from its setpoint.
        released = await agent.receive()
        assert isinstance(released, Setpoints)
        assert [(one.asset_id, one.mw) for one in released.setpoints] == [(asset_id(1), 0.0)]
        record = find_record(rig.headend.dispatcher, made.dispatch_id)
        assert record is not None
        assert (record.state, record.members[0].reason) == ("failed", "its asset has left the fleet")
        await agent.send(pulse(1, 0, 1, 2, soc=21.0))
        assert await agent.receive() == BatchAck(batch_seq=1)
        assert rig.headend.sessions.assets_connected == 2
        assert rig.headend.counters.samples_unknown == 1


async def test_an_agent_whose_asset_was_added_registers_again(
    autojump_clock: object,
) -> None:
    file = FleetFile(make_fleet(3))
    async with open_rig(assets=2, read_fleet=file.read) as rig:
        agent = await rig.agent()
        grant = await agent.register(0, 2, outbox_id="box")
        assert list(grant.unknown_asset_ids) == [asset_id(2)]
        await reload(rig)
        assert "register again" in (await agent.refusal()).message
        again = await rig.agent()
        grant = await again.register(0, 2, outbox_id="box")
        assert isinstance(grant, SessionGrant)
        assert not grant.unknown_asset_ids
        await again.send(pulse(1, 0, 1, soc=21.0))
        await trio.testing.wait_all_tasks_blocked()
        state = rig.headend.latest.state(2)
        assert state is not None
        assert state.soc_mwhr == 21.0


async def test_a_group_dispatch_goes_to_the_assets_in_the_fleet(autojump_clock: object) -> None:
    three = make_fleet(3)
    file = FleetFile(Fleet(sites=three.sites, assets=three.assets[:2]))
    async with open_rig(assets=3, read_fleet=file.read) as rig:
        await reload(rig)
        response = (
            await create_app(rig.headend)
            .test_client()
            .post("/dispatch", json={"fleet": True, "mw": 1.0, "dry_run": True})
        )
        body = await response.get_json()
        assert sorted(row["asset_id"] for row in body["allocations"]) == [asset_id(0), asset_id(1)]


async def test_samples_of_a_retired_asset_are_not_counted(autojump_clock: object) -> None:
    two = make_fleet(2)
    file = FleetFile(two)
    async with open_rig(assets=2, read_fleet=file.read) as rig:
        agent = await rig.agent()
        message = registration(0, 1)
        plate = message.register.assets[1]
        plate.capacity_mwhr, plate.max_mw, plate.min_mw = 1.0, 1.0, -1.0
        await agent.send(message)
        await agent.send(pulse(1, 0, 1, soc=math.nan))
        await trio.testing.wait_all_tasks_blocked()
        latest, limits = rig.headend.latest, rig.headend.dispatcher.limits
        assert (latest.count(Quality.SUSPECT), len(latest), limits.different) == (2, 2, 1)
        file.fleet = Fleet(sites=two.sites, assets=two.assets[:1])
        assert (await reload(rig))[0] == 200
        assert (latest.count(Quality.SUSPECT), len(latest), limits.different) == (1, 1, 0)
        file.fleet = two
        assert (await reload(rig))[0] == 200
        assert latest.view(1, rig.headend.wall.now_ms()) is None
