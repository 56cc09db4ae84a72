"""A running headend publishes each fact where it happens, and its metrics show who is too slow for them."""

import math
from collections import Counter
from datetime import UTC, datetime
from typing import Any, TypeVar

import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.headend.driver import NOW, Rig, ScriptedAgent, open_rig, pulse, registration
from tests.unit.headend.parts import asset_id
from trioder.api.asset_query import FleetIndex
from trioder.api.routes.metrics import Connected, Metrics
from trioder.domain.dispatch import DispatchRequest, DispatchTarget
from trioder.domain.schedules import ScheduleRequest, ScheduleStep
from trioder.events import facts
from trioder.events.counters import TenantCounters
from trioder.events.facts import Fact
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.records import SessionGrant
from trioder.wire.uplink import write_heartbeat

F = TypeVar("F", bound=Fact)


def collect(rig: Rig, *fact_types: type[F]) -> list[F]:
    """The facts of these types from now on."""
    published: list[Any] = []
    for fact_type in fact_types:
        rig.headend.events.handle(fact_type, published.append)
    return published


async def send(agent: ScriptedAgent, message: pb.AgentToHeadend) -> None:
    await agent.send(message)
    await trio.testing.wait_all_tasks_blocked()


async def test_a_session_is_opened_and_closed(autojump_clock: object) -> None:
    async with open_rig() as rig:
        published = collect(rig, facts.SessionOpened, facts.SessionClosed)
        agent = await rig.agent()
        grant = await agent.register(0, 2, epoch=7)
        await trio.sleep(5.0)
        await agent.disconnect()
    opened, closed = published
    assert isinstance(opened, facts.SessionOpened)
    assert isinstance(closed, facts.SessionClosed)
    assert (opened.session_id, opened.agent_id, opened.epoch) == (grant.session_id, "agent", 7)
    assert (list(opened.asset_keys), opened.opened_ms) == ([0, 2], NOW)
    assert (closed.session_id, closed.closed_ms) == (grant.session_id, NOW + 5_000)


async def test_telemetry_is_accepted_and_committed(autojump_clock: object) -> None:
    async with open_rig() as rig:
        accepted = collect(rig, facts.TelemetryAccepted)
        committed = collect(rig, facts.TelemetryCommitted)
        agent = await rig.registered(0, 1)
        await send(agent, pulse(1, 0, 1, soc=30.0, ts_ms=NOW - 500))
        # Of a time that cannot be: for the store, and announced to nobody.
        await send(agent, pulse(2, 0, 1, ts_ms=NOW + 3_600_000))
    [fact] = accepted
    assert (fact.agent_id, fact.received_ms, fact.made_ms) == ("agent", NOW, NOW - 500)
    assert (list(fact.samples.asset_keys), list(fact.samples.soc_mwhr)) == ([0, 1], [30.0, 30.0])
    assert [(fact.outbox_id, fact.batch_seq) for fact in committed] == [("box", 1), ("box", 2)]


async def test_a_dispatch_changes_with_every_state_of_its_setpoints(autojump_clock: object) -> None:
    async with open_rig() as rig:
        published = collect(rig, facts.DispatchChanged)
        agent = await rig.registered(1)
        dispatch = rig.headend.dispatcher.dispatch(DispatchRequest(asset_id=asset_id(1), mw=5.0))
        await trio.testing.wait_all_tasks_blocked()
        await send(
            agent,
            pb.AgentToHeadend(
                dispatch_ack=pb.DispatchAck(
                    dispatch_id=dispatch.dispatch_id,
                    asset_id=asset_id(1),
                    status="rejected",
                    timestamp="2026-01-01T00:00:00Z",
                    reason="in maintenance",
                )
            ),
        )
    assert {(fact.dispatch_id, tuple(fact.asset_keys)) for fact in published} == {
        (dispatch.dispatch_id, (1,))
    }
    states = [(fact.state, fact.reason) for fact in published if fact.state]
    assert states == [("sent", None), ("rejected", "in maintenance")]


async def test_alarms_of_values_are_raised_and_cleared_asset_by_asset(autojump_clock: object) -> None:
    async with open_rig() as rig:
        published = collect(rig, facts.ConditionRaised, facts.ConditionCleared)
        agent = await rig.registered(0, 1)
        await send(agent, pulse(1, 0, 1, soc=math.nan))
        for seq in range(2, 6):
            await trio.sleep(4.0)
            await send(agent, pulse(seq, 0, 1, ts_ms=NOW + 4_000 * (seq - 1)))
    assert [(type(fact).__name__, fact.kind, *fact.asset_keys) for fact in published] == [
        ("ConditionRaised", "values", 0),
        ("ConditionRaised", "values", 1),
        ("ConditionCleared", "values", 0),
        ("ConditionCleared", "values", 1),
    ]
    assert isinstance(published[0], facts.ConditionRaised)
    assert published[0].reason == "soc_mwhr is nan; by the nameplate it must be within -0.8..40.8"


async def test_alarms_of_a_session_are_cleared_at_the_latest_with_its_end(autojump_clock: object) -> None:
    async with open_rig() as rig:
        published = collect(rig, facts.ConditionRaised, facts.ConditionCleared)
        agent = await rig.agent()
        message = registration(0)
        message.register.clock_unix_ms = NOW - 10_000
        await agent.send(message)
        grant = await agent.receive()
        assert isinstance(grant, SessionGrant)
        await send(agent, write_heartbeat(NOW - 10_000))
        await send(agent, pulse(1, 0, ts_ms=NOW + 3_600_000))
        await agent.disconnect()
    kinds = [(type(fact).__name__, fact.kind) for fact in published]
    assert kinds[:2] == [("ConditionRaised", "clock_skew"), ("ConditionRaised", "sample_time")]
    assert sorted(kinds[2:]) == [("ConditionCleared", "clock_skew"), ("ConditionCleared", "sample_time")]
    assert {fact.session_id for fact in published} == {grant.session_id}


async def test_an_alarm_changes_when_it_is_raised_acknowledged_and_cleared(autojump_clock: object) -> None:
    async with open_rig() as rig:
        published = collect(rig, facts.AlarmChanged)
        agent = await rig.registered(0)
        for event_type in ("FAN_FAULT", "FAN_FAULT_CLEARED"):
            event = pb.Event(event_type=event_type, severity="error", timestamp="2026-01-01T00:00:00Z")
            await send(agent, pb.AgentToHeadend(event=event))
            await trio.sleep(3.0)
            for alarm in rig.headend.alarms.register.open_alarms():
                rig.headend.alarms.register.acknowledge(alarm, by="ann", comment=None)
        await trio.sleep(10.0)
    assert [fact.transition for fact in published] == ["raised", "acknowledged", "cleared"]
    assert len({fact.key for fact in published}) == 1
    assert published[-1].alarm.acknowledged_by == "ann"


async def test_lost_batches_and_what_a_registration_differs_in_are_published(autojump_clock: object) -> None:
    async with open_rig() as rig:
        published = collect(rig, facts.RegistrationChecked, facts.BatchesLost)
        agent = await rig.registered(0, 7)
        await send(agent, pulse(1, 0))
        message = pulse(5, 0)
        message.telemetry_batch.gap_from_seq = 2
        await send(agent, message)
    checked, lost = published
    assert isinstance(checked, facts.RegistrationChecked)
    assert isinstance(lost, facts.BatchesLost)
    assert (list(checked.unknown_ids), checked.unknown_count) == ([asset_id(7)], 1)
    assert checked.certificate_expires_s is None
    assert (lost.agent_id, lost.batches) == ("agent", 3)


async def test_an_agents_event_is_published_with_bounded_texts(autojump_clock: object) -> None:
    async with open_rig() as rig:
        published = collect(rig, facts.AgentEvent)
        agent = await rig.registered(0)
        event = pb.Event(
            event_type="ALARM",
            asset_id=asset_id(0),
            severity="warning",
            message="x" * 3_000,
            timestamp="2026-01-01T00:00:00Z",
        )
        await send(agent, pb.AgentToHeadend(event=event))
    [fact] = published
    assert (fact.agent_id, fact.asset_id, fact.event_type, fact.severity, len(fact.message)) == (
        "agent",
        asset_id(0),
        "ALARM",
        "warning",
        500,
    )


async def test_metrics_show_depth_and_drops_of_each_subscriber(autojump_clock: object) -> None:
    async with open_rig() as rig:
        with rig.headend.events.subscribe(facts.SessionOpened, name="console", bound=1):
            for agent_id in ("first", "second", "third"):
                key = 0 if agent_id == "first" else 1
                agent = await rig.registered(key, agent_id=agent_id, outbox_id=agent_id)
                await agent.disconnect()
            index = FleetIndex(rig.headend.fleet)
            metrics = Metrics(rig.headend, TenantCounters())
            text, _ = metrics.text("text/plain", index, Connected(0, Counter()))
        samples = {
            sample.name: (sample.labels, sample.value)
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
            if sample.name.startswith("trioder_event")
        }
    assert samples["trioder_event_queue_depth"] == ({"subscriber": "console"}, 1.0)
    assert samples["trioder_events_dropped_total"] == ({"subscriber": "console"}, 2.0)
    assert samples["trioder_event_handler_failures_total"] == ({}, 0.0)


async def test_a_schedule_and_its_occurrence_change(autojump_clock: object) -> None:
    async with open_rig() as rig:
        schedules = collect(rig, facts.ScheduleChanged)
        occurrences = collect(rig, facts.OccurrenceChanged)
        agent = await rig.agent()
        await agent.register(0)
        start = datetime.fromtimestamp((NOW + 5_000) / 1000, UTC).replace(tzinfo=None)
        schedule, _ = await rig.headend.schedules.create(
            ScheduleRequest(
                target=DispatchTarget(kind="asset", id=asset_id(0)),
                start=start,
                steps=(ScheduleStep(duration_s=10, mw=1.0),),
            )
        )
        await trio.sleep(8.0)
        await rig.headend.schedules.cancel(schedule.schedule_id, requested_by="anna")
    assert [one.transition for one in schedules] == ["created", "cancelled"]
    assert {one.schedule.schedule_id for one in schedules} == {schedule.schedule_id}
    # It is due, its step begins, it is cancelled.
    states = [(one.occurrence.state, len(one.occurrence.steps)) for one in occurrences]
    assert states == [("running", 0), ("running", 1), ("cancelled", 1)]
    assert {one.key for one in occurrences} == {("occurrence", schedule.schedule_id, NOW + 5_000)}
