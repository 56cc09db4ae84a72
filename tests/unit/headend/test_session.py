"""One agent's stream as the agent sees it: over the real transport, in memory, in virtual time."""

import pytest
import trio
import trio.testing

from tests.unit.headend.driver import NOW, Rig, open_rig, pulse, registration
from tests.unit.headend.parts import asset_id, find_record
from tests.unit.headend.stores import SlowStore
from trioder.domain.dispatch import DispatchRequest
from trioder.rpc import StatusCode
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.records import BatchAck, ReplayRequest, SessionGrant, Setpoints


def soc(rig: Rig, key: int = 0) -> float | None:
    state = rig.headend.latest.state(key)
    return None if state is None else state.soc_mwhr


def telemetry(
    key: int, *, soc_mwhr: float = 12.0, timestamp: str = "2027-01-15T08:00:01Z"
) -> pb.AgentToHeadend:
    return pb.AgentToHeadend(
        telemetry=pb.Telemetry(
            asset_id=asset_id(key), timestamp=timestamp, soc_mwhr=soc_mwhr, current_mw=2.0, setpoint_mw=2.0
        )
    )


def lone_asset(key: int) -> pb.AgentToHeadend:
    """How an agent of one asset that knows nothing newer introduces itself."""
    return pb.AgentToHeadend(register=pb.Register(asset_id=asset_id(key), asset_name="old", site_name="N"))


async def test_a_registration_opens_a_session(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await rig.agent()
        grant = await agent.register(2, 0)
        assert (grant.committed_batch_seq, grant.committed_ts_unix_ms, grant.protocol) == (0, None, 1)
        session = rig.headend.sessions.session_of(2)
        assert session is not None
        assert session.session_id == grant.session_id
        assert rig.headend.sessions.assets_connected == 2


async def test_a_batch_updates_the_latest_state_and_is_acknowledged(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await rig.registered(2, 0)
        await agent.send(pulse(1, 1, soc=33.0))
        assert await agent.receive() == BatchAck(batch_seq=1)
        assert (soc(rig, 0), soc(rig, 2)) == (33.0, None)


async def test_a_missing_batch_is_requested(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await rig.registered(0)
        await agent.send(pulse(3, 0))
        assert await agent.receive() == ReplayRequest(from_batch_seq=1)


async def test_a_new_session_receives_the_watermark(autojump_clock: object) -> None:
    store = SlowStore()
    async with open_rig(store=store) as rig:
        agent = await rig.registered(0)
        await agent.send(pulse(1, 0))
        await trio.testing.wait_all_tasks_blocked()
        await agent.disconnect()
        store.commit()
        grant = await (await rig.agent()).register(0)
        assert (grant.committed_batch_seq, grant.committed_ts_unix_ms) == (1, NOW + 1)


async def test_a_dispatch_arrives(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await rig.registered(0)
        made = rig.headend.dispatcher.dispatch(DispatchRequest(asset_id=asset_id(0), mw=-4.0, duration_s=30))
        assert made.state == "sent"
        [sent] = await agent.setpoints()
        assert (sent.dispatch_id, sent.mw, sent.duration_s) == (made.dispatch_id, -4.0, made.duration_s)


async def test_a_dispatch_made_while_the_agent_was_disconnected_arrives(autojump_clock: object) -> None:
    async with open_rig() as rig:
        made = rig.headend.dispatcher.dispatch(DispatchRequest(asset_id=asset_id(0), mw=-4.0))
        assert made.state == "queued"
        agent = await rig.registered(0)
        [sent] = await agent.setpoints()
        assert (sent.dispatch_id, sent.mw, sent.duration_s) == (made.dispatch_id, -4.0, made.duration_s)


async def test_many_dispatches_go_as_one_message(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await rig.registered(0, 1)
        for key in (0, 1):
            rig.headend.dispatcher.dispatch(DispatchRequest(asset_id=asset_id(key), mw=1.0))
        assert [setpoint.asset_id for setpoint in await agent.setpoints()] == [asset_id(0), asset_id(1)]


async def test_an_acknowledgement_of_a_dispatch_is_recorded(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await rig.registered(0)
        made = rig.headend.dispatcher.dispatch(DispatchRequest(asset_id=asset_id(0), mw=-4.0))
        await agent.send(
            pb.AgentToHeadend(
                dispatch_ack=pb.DispatchAck(
                    dispatch_id=made.dispatch_id,
                    asset_id=asset_id(0),
                    status="applied",
                    timestamp="2027-01-15T08:00:01Z",
                )
            )
        )
        await trio.testing.wait_all_tasks_blocked()
        record = find_record(rig.headend.dispatcher, made.dispatch_id)
        assert record is not None
        assert (record.state, record.members[0].answer) == ("accepted", "applied")


async def test_an_agent_without_a_protocol_is_sent_setpoints_only(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await rig.agent()
        await agent.send(lone_asset(0))
        await agent.send(telemetry(0, soc_mwhr=12.0))
        await agent.send(pb.AgentToHeadend(heartbeat=pb.Heartbeat(asset_id=asset_id(0))))
        await trio.testing.wait_all_tasks_blocked()
        assert soc(rig) == 12.0
        assert rig.headend.counters.heartbeats_received == 1
        rig.headend.dispatcher.dispatch(DispatchRequest(asset_id=asset_id(0), mw=3.0))
        message = await agent.call.receive()
        assert message.WhichOneof("msg") == "setpoint"
        assert (message.setpoint.mw, message.setpoint.HasField("duration_s")) == (3.0, False)


async def test_a_single_sample_is_stored(autojump_clock: object) -> None:
    store = SlowStore()
    async with open_rig(store=store) as rig:
        agent = await rig.agent()
        await agent.send(lone_asset(1))
        await agent.send(telemetry(1, soc_mwhr=12.0))
        await trio.testing.wait_all_tasks_blocked()
        [samples] = store.unsequenced
        assert (list(samples.asset_keys), samples.source, list(samples.soc_mwhr)) == ([1], "agent", [12.0])


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (pulse(1, 0), "asset_index has 0"),
        (telemetry(0), "the first message is telemetry; it must be Register"),
        (pb.AgentToHeadend(), "the first message is None; it must be Register"),
        (pb.AgentToHeadend(register=pb.Register()), "Register names no asset"),
        (pb.AgentToHeadend(register=pb.Register(asset_id="x")), "must be a UUID"),
    ],
    ids=["batch", "telemetry", "nothing", "empty", "bad id"],
)
async def test_a_first_message_that_is_no_registration_is_refused(
    autojump_clock: object, first: pb.AgentToHeadend, message: str
) -> None:
    async with open_rig() as rig:
        agent = await rig.agent()
        await agent.send(first)
        refusal = await agent.refusal()
        assert refusal.status is StatusCode.INVALID_ARGUMENT
        assert message in refusal.message
        assert rig.headend.counters.wire_errors == 1


async def test_an_agent_that_does_not_register_is_refused(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await rig.agent()
        started_s = trio.current_time()
        refusal = await agent.refusal()
        assert refusal.status is StatusCode.DEADLINE_EXCEEDED
        assert trio.current_time() - started_s == pytest.approx(10)


async def test_an_agent_that_ends_before_it_begins_is_refused(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await rig.agent()
        await agent.call.done_sending()
        assert (await agent.refusal()).status is StatusCode.INVALID_ARGUMENT


async def test_unknown_assets_are_refused_by_name(autojump_clock: object) -> None:
    async with open_rig(assets=3) as rig:
        agent = await rig.agent()
        await agent.send(registration(*range(3, 30)))
        refusal = await agent.refusal()
        assert refusal.status is StatusCode.NOT_FOUND
        assert "27 of 27 registered assets are not in the fleet" in refusal.message
        assert [asset_id(key) in refusal.message for key in (2, 3, 12, 13)] == [False, True, True, False]
        assert rig.headend.sessions.assets_connected == 0


async def test_unknown_assets_do_not_refuse_their_neighbours(autojump_clock: object) -> None:
    async with open_rig(assets=3) as rig:
        agent = await rig.agent()
        grant = await agent.register(7, 1, 8, 0, outbox_id="box")
        assert sorted(grant.unknown_asset_ids) == [asset_id(7), asset_id(8)]
        assert rig.headend.sessions.assets_connected == 2
        await agent.send(pulse(1, 0, 1, 2, 3, soc=21.0))
        assert await agent.receive() == BatchAck(batch_seq=1)
        assert [rig.headend.latest.state(key) is not None for key in range(3)] == [True, True, False]
        await agent.send(telemetry(8, soc_mwhr=1.0))
        await agent.send(telemetry(0, soc_mwhr=2.0))
        await trio.testing.wait_all_tasks_blocked()
        state = rig.headend.latest.state(0)
        assert state is not None
        assert state.soc_mwhr == 2.0
        assert rig.headend.counters.samples_unknown == 3
        assert rig.headend.counters.assets_unknown == 2


async def test_a_claimed_asset_is_named_whatever_precedes_it(autojump_clock: object) -> None:
    async with open_rig(assets=3) as rig:
        holder, rival = await rig.agent(), await rig.agent()
        await holder.register(1, agent_id="holder", outbox_id="1")
        await rival.send(registration(9, 8, 1, agent_id="rival", outbox_id="2"))
        assert f"asset {asset_id(1)} is held by agent holder" in (await rival.refusal()).message


async def test_anothers_asset_is_refused_until_the_other_disconnects(autojump_clock: object) -> None:
    async with open_rig() as rig:
        holder, rival = await rig.agent(), await rig.agent()
        await holder.register(0, 1, agent_id="holder", outbox_id="1")
        await rival.send(registration(1, 2, agent_id="rival", outbox_id="2"))
        refusal = await rival.refusal()
        assert refusal.status is StatusCode.ALREADY_EXISTS
        assert f"asset {asset_id(1)} is held by agent holder" in refusal.message
        assert rig.headend.sessions.session_of(2) is None
        await holder.disconnect()
        await (await rig.agent()).register(1, 2, agent_id="rival", outbox_id="2")


async def test_a_newer_session_supersedes_and_the_late_end_of_the_old_one_harms_nothing(
    autojump_clock: object,
) -> None:
    async with open_rig() as rig:
        old, new = await rig.agent(), await rig.agent()
        await old.register(0)
        grant = await new.register(0, epoch=2)
        refusal = await old.refusal()
        assert refusal.status is StatusCode.ABORTED
        assert grant.session_id in refusal.message
        await trio.testing.wait_all_tasks_blocked()
        session = rig.headend.sessions.session_of(0)
        assert session is not None
        assert session.session_id == grant.session_id
        await new.send(pulse(1, 0))
        assert await new.receive() == BatchAck(batch_seq=1)


async def test_an_older_boot_is_refused(autojump_clock: object) -> None:
    async with open_rig() as rig:
        await (await rig.agent()).register(0, epoch=5)
        late = await rig.agent()
        await late.send(registration(0, epoch=4))
        refusal = await late.refusal()
        assert refusal.status is StatusCode.FAILED_PRECONDITION
        assert "epoch 5" in refusal.message


def ragged() -> pb.AgentToHeadend:
    message = pulse(1, 0)
    message.telemetry_batch.current_mw.append(1.0)
    return message


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (ragged(), "current_mw has 2 rows"),
        (pulse(1, 1), "asset_index has 1; the session registered 1 assets"),
        (telemetry(1), "the session did not register that asset"),
        (telemetry(0, timestamp="yesterday"), "must be an RFC 3339 time"),
        (registration(0), "Register was received twice"),
    ],
    ids=["ragged", "index", "foreign asset", "no time", "twice"],
)
async def test_a_malformed_message_ends_its_session_and_nothing_else(
    autojump_clock: object, bad: pb.AgentToHeadend, message: str
) -> None:
    async with open_rig() as rig:
        other = await rig.registered(2, agent_id="other", outbox_id="other")
        agent = await rig.registered(0)
        await agent.send(bad)
        refusal = await agent.refusal()
        assert refusal.status is StatusCode.INVALID_ARGUMENT
        assert message in refusal.message
        assert soc(rig) is None
        await trio.testing.wait_all_tasks_blocked()
        assert rig.headend.sessions.session_of(0) is None
        await other.send(pulse(1, 0))
        assert await other.receive() == BatchAck(batch_seq=1)


async def test_batches_without_an_outbox_are_refused(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await rig.registered(0, outbox_id="")
        await agent.send(pulse(1, 0))
        assert "no outbox_id" in (await agent.refusal()).message


async def test_an_unknown_kind_of_message_is_passed_over(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await rig.registered(0)
        await agent.send(pb.AgentToHeadend())
        await agent.send(pulse(1, 0))
        assert await agent.receive() == BatchAck(batch_seq=1)


async def test_an_agent_that_closes_or_vanishes_is_no_longer_connected(autojump_clock: object) -> None:
    async with open_rig() as rig:
        disconnects, closes = await rig.agent(), await rig.agent()
        await disconnects.register(0, agent_id="disconnects", outbox_id="1")
        await closes.register(1, agent_id="closes", outbox_id="2")
        await closes.call.done_sending()
        with pytest.raises(trio.EndOfChannel):
            await closes.receive()
        assert [rig.headend.sessions.session_of(key) is not None for key in (0, 1)] == [True, False]
        await disconnects.disconnect()
        assert rig.headend.sessions.assets_connected == 0


async def test_an_asset_whose_agent_left_is_synthesized_from_its_last_state(autojump_clock: object) -> None:
    async with open_rig(tick_s=4) as rig:
        agent = await rig.registered(0)
        await trio.sleep(1)
        await agent.send(pulse(1, 0, soc=33.0, ts_ms=NOW + 1000))
        await trio.sleep(20)
        seen = rig.headend.latest.view(0, rig.headend.wall.now_ms())
        assert seen is not None
        assert (seen.source, seen.quality) == ("agent", "stale")
        await agent.disconnect()
        await trio.sleep(4)
        seen = rig.headend.latest.view(0, rig.headend.wall.now_ms())
        assert seen is not None
        assert seen.source == "synthesized"
        assert 32.0 < seen.telemetry.soc_mwhr < 33.0


async def test_a_headend_that_closes_says_so_and_takes_no_more(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent, late = await rig.agent(), await rig.agent()
        await agent.register(0)
        rig.headend.closing.set()
        refusal = await agent.refusal()
        assert (refusal.status, refusal.message) == (StatusCode.UNAVAILABLE, "the headend is shutting down")
        await late.send(registration(1))
        assert (await late.refusal()).status is StatusCode.UNAVAILABLE


async def test_the_grant_precedes_everything_else(autojump_clock: object) -> None:
    async with open_rig() as rig:
        rig.headend.dispatcher.dispatch(DispatchRequest(asset_id=asset_id(0), mw=1.0))
        agent = await rig.agent()
        await agent.send(registration(0))
        await agent.send(pulse(1, 0))
        received = [type(await agent.receive()) for _ in range(3)]
        assert received[0] is SessionGrant
        assert set(received[1:]) == {Setpoints, BatchAck}


async def test_a_session_has_the_agents_version_and_when_it_was_last_heard(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await rig.agent()
        message = registration(0)
        message.register.version = "1.2.3"
        await agent.send(message)
        await agent.receive()
        session = rig.headend.sessions.session_of(0)
        assert session is not None
        assert (session.version, session.received_ms) == ("1.2.3", session.connected_ms)
        await trio.sleep(7)
        await agent.send(pulse(1, 0))
        await agent.receive()
        assert session.received_ms == session.connected_ms + 7000


async def test_the_last_session_of_an_agent_that_left_is_remembered(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await rig.registered(0)
        await agent.disconnect()
        await trio.testing.wait_all_tasks_blocked()
        [session] = rig.headend.sessions.closed
        assert (session.asset_keys, session.closed_ms) == ([0], rig.headend.wall.now_ms())
        assert session.closed_reason
