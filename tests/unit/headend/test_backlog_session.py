"""A session that only hands a backlog over: it claims nothing, changes no latest value, and loses nothing."""

import pytest

from tests.unit.headend.driver import Rig, ScriptedAgent, open_rig, pulse
from tests.unit.headend.parts import asset_id, make_fleet, make_session
from trioder.domain.telemetry import Samples
from trioder.gateway.sessions import ClaimRefusedError, SessionRegistry
from trioder.rpc import StatusCode
from trioder.store.none import NoneStore
from trioder.store.records import SessionRecord
from trioder.wire.records import BatchAck, SessionGrant
from trioder.wire.uplink import write_backlog_registration

UNKNOWN = asset_id(77)


class ListeningStore(NoneStore):
    def __init__(self) -> None:
        super().__init__()
        self.submitted: list[tuple[int, list[int], list[float]]] = []
        self.sessions_seen = 0

    def submit(self, outbox_id: str, batch_seq: int, samples: Samples) -> bool:
        self.submitted.append((batch_seq, list(samples.asset_keys), list(samples.soc_mwhr)))
        return super().submit(outbox_id, batch_seq, samples)

    def open_session(self, session: SessionRecord) -> None:
        self.sessions_seen += 1


async def hand_over(rig: Rig, *asset_ids: str, agent_id: str = "former", epoch: int = 5) -> ScriptedAgent:
    agent = await rig.agent()
    await agent.send(
        write_backlog_registration(
            agent_id=agent_id, epoch=epoch, protocol=1, outbox_id="old box", asset_ids=asset_ids
        )
    )
    return agent


async def test_a_backlog_is_stored_while_another_agent_drives_the_asset(autojump_clock: object) -> None:
    store = ListeningStore()
    async with open_rig(store=store) as rig:
        live = await rig.registered(0, 1, agent_id="live")
        await live.send(pulse(1, 0, soc=33.0))
        await live.receive()
        former = await hand_over(rig, asset_id(1), asset_id(0))
        assert isinstance(await former.receive(), SessionGrant)
        await former.send(pulse(1, 0, 1, soc=11.0, ts_ms=None))
        assert await former.receive() == BatchAck(batch_seq=1)
        state = rig.headend.latest.state(0)
        assert state is not None
        assert state.soc_mwhr == 33.0
        assert store.submitted[-1] == (1, [1, 0], [11.0, 11.0])
        assert rig.headend.sessions.assets_connected == 2
        assert len(rig.headend.sessions) == 1
        assert store.sessions_seen == 1


async def test_samples_of_unknown_assets_are_dropped_and_the_sequence_goes_on(autojump_clock: object) -> None:
    store = ListeningStore()
    async with open_rig(store=store) as rig:
        former = await hand_over(rig, UNKNOWN, asset_id(0))
        await former.receive()
        await former.send(pulse(1, 0, 1))
        await former.send(pulse(2, 0))
        while await former.receive() != BatchAck(batch_seq=2):
            pass
        assert [(seq, keys) for seq, keys, _ in store.submitted] == [(1, [0]), (2, [])]
        assert rig.headend.counters.samples_unknown == 2


async def test_a_newer_connection_of_the_same_backlog_takes_over(autojump_clock: object) -> None:
    async with open_rig() as rig:
        older = await hand_over(rig, asset_id(0))
        await older.receive()
        newer = await hand_over(rig, asset_id(0), epoch=6)
        assert isinstance(await newer.receive(), SessionGrant)
        assert (await older.refusal()).status == StatusCode.ABORTED


async def test_it_never_supersedes_the_agents_live_session(autojump_clock: object) -> None:
    async with open_rig() as rig:
        await rig.registered(0, agent_id="former", epoch=1)
        former = await hand_over(rig, asset_id(0), epoch=9)
        assert (await former.refusal()).status == StatusCode.ALREADY_EXISTS
        assert rig.headend.sessions.session_of(0) is not None


async def test_without_an_outbox_it_is_refused(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await rig.agent()
        message = write_backlog_registration(
            agent_id="former", epoch=1, protocol=1, outbox_id="", asset_ids=[asset_id(0)]
        )
        await agent.send(message)
        refusal = await agent.refusal()
        assert (refusal.status, "outbox_id is empty" in refusal.message) == (
            StatusCode.INVALID_ARGUMENT,
            True,
        )


def test_an_outbox_that_a_live_agent_has_is_not_handed_over_beside_it() -> None:
    registry = SessionRegistry()
    registry.claim(make_session("live", 0, outbox_id="box"), asset_ids=[asset_id(0)])
    backlog = make_session("former", outbox_id="box")
    backlog.batch_keys, backlog.backlog_only = (0,), True
    with pytest.raises(ClaimRefusedError):
        registry.claim(backlog, asset_ids=[make_fleet(1).assets[0].id])
    assert len(registry) == 1
