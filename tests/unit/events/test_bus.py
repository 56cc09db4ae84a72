"""The bus: every receiver gets its facts in order, and none of them delays or ends a publisher."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog.testing
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from trioder.domain.fleet import FleetChange
from trioder.events.bus import AtBound, EventBus, Subscription, SubscriptionOverflowError, SubscriptionStats
from trioder.events.counters import Counters
from trioder.events.facts import (
    ConditionCleared,
    ConditionRaised,
    Fact,
    FleetChanged,
    SessionClosed,
    TelemetryCommitted,
)


def make_bus() -> EventBus:
    return EventBus(Counters())


def commit(batch_seq: int, outbox_id: str = "box") -> TelemetryCommitted:
    return TelemetryCommitted(outbox_id, batch_seq, None)


async def read_to_the_end(subscription: Subscription[Any]) -> list[Any]:
    return [fact async for fact in subscription]


async def read_all(subscription: Subscription[Any]) -> list[Any]:
    subscription.close()
    return await read_to_the_end(subscription)


def test_a_type_is_wanted_while_somebody_receives_it() -> None:
    bus = make_bus()
    assert not bus.wants(TelemetryCommitted)
    with bus.subscribe(TelemetryCommitted, name="reader", bound=1):
        assert bus.wants(TelemetryCommitted)
        assert not bus.wants(SessionClosed)
    assert not bus.wants(TelemetryCommitted)
    bus.handle(TelemetryCommitted, lambda _: None)
    assert bus.wants(TelemetryCommitted)


async def test_a_reader_waits_and_reads_in_order_of_publication(autojump_clock: object) -> None:
    bus = make_bus()
    read: list[Fact] = []

    async def reader() -> None:
        with bus.subscribe(TelemetryCommitted, SessionClosed, name="reader", bound=10) as subscription:
            while True:
                read.append(await anext(subscription))

    closed = SessionClosed("s", "a", (), "gone", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await trio.testing.wait_all_tasks_blocked()
        bus.publish(commit(1))
        bus.publish(closed)
        bus.publish(FleetChanged(FleetChange(added=(), changed=(), retired=())))
        await trio.testing.wait_all_tasks_blocked()
        bus.publish(commit(2))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert read == [commit(1), closed, commit(2)]
    assert not bus.wants(TelemetryCommitted)


async def test_at_the_bound_the_oldest_fact_is_dropped(autojump_clock: object) -> None:
    bus = make_bus()
    subscription = bus.subscribe(TelemetryCommitted, name="reader", bound=2)
    for batch_seq in range(1, 6):
        bus.publish(commit(batch_seq))
    assert dict(bus.stats()) == {"reader": SubscriptionStats(depth=2, dropped=3)}
    assert await read_all(subscription) == [commit(4), commit(5)]
    assert dict(bus.stats()) == {"reader": SubscriptionStats(depth=0, dropped=3)}


async def test_the_latest_of_each_key_is_kept_in_the_place_of_the_first(autojump_clock: object) -> None:
    bus = make_bus()
    subscription = bus.subscribe(TelemetryCommitted, name="reader", bound=2, at_bound="latest_per_key")
    for fact in (commit(1, "a"), commit(1, "b"), commit(2, "a")):
        bus.publish(fact)
    assert (subscription.replaced, subscription.dropped) == (1, 0)
    bus.publish(commit(1, "c"))
    assert await read_all(subscription) == [commit(1, "b"), commit(1, "c")]
    assert subscription.dropped == 1


async def test_an_alarm_that_is_cleared_replaces_the_one_that_was_raised(autojump_clock: object) -> None:
    bus = make_bus()
    subscription: Subscription[Fact] = bus.subscribe(
        ConditionRaised, ConditionCleared, name="reader", bound=9, at_bound="latest_per_key"
    )
    bus.publish(ConditionRaised("values", "a", "session 1", (7,), "too much", 1))
    bus.publish(ConditionRaised("clock_skew", "a", "session 1", (7,), "off", 1))
    cleared = ConditionCleared("values", "a", "session 2", (7,), 2)
    bus.publish(cleared)
    first, second = await read_all(subscription)
    assert first == cleared
    assert second.kind == "clock_skew"


async def test_a_reader_that_refuses_to_miss_facts_reads_what_it_has_and_then_fails(
    autojump_clock: object,
) -> None:
    bus = make_bus()
    subscription = bus.subscribe(TelemetryCommitted, name="archive", bound=2, at_bound="refuse")
    for batch_seq in range(1, 6):
        bus.publish(commit(batch_seq))
    assert not bus.wants(TelemetryCommitted)
    read = [await anext(subscription), await anext(subscription)]
    with pytest.raises(SubscriptionOverflowError, match="archive was closed: more than 2 facts waited"):
        await anext(subscription)
    assert read == [commit(1), commit(2)]
    assert dict(bus.stats()) == {"archive": SubscriptionStats(depth=0, dropped=1)}


async def test_a_reader_that_waits_ends_when_its_subscription_is_closed(autojump_clock: object) -> None:
    bus = make_bus()
    subscription = bus.subscribe(TelemetryCommitted, name="reader", bound=1)
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_to_the_end, subscription)
            await trio.testing.wait_all_tasks_blocked()
            subscription.close()


async def test_subscriptions_of_one_name_are_counted_together(autojump_clock: object) -> None:
    bus = make_bus()
    for _ in range(2):
        bus.subscribe(TelemetryCommitted, name="feed", bound=1)
    bus.publish(commit(1))
    bus.publish(commit(2))
    assert dict(bus.stats()) == {"feed": SubscriptionStats(depth=2, dropped=2)}


def test_a_subscription_without_room_for_one_fact_is_refused() -> None:
    with pytest.raises(ValueError, match="bound of subscription reader is 0"):
        make_bus().subscribe(TelemetryCommitted, name="reader", bound=0)


def test_handlers_run_in_order_of_registration_and_a_failing_one_is_passed_over() -> None:
    counters = Counters()
    bus = EventBus(counters)
    calls: list[str] = []

    def fail(_: TelemetryCommitted) -> None:
        calls.append("second")
        raise LookupError("no such outbox")

    bus.handle(TelemetryCommitted, lambda _: calls.append("first"))
    bus.handle(TelemetryCommitted, fail)
    bus.handle(TelemetryCommitted, lambda _: calls.append("third"))
    with structlog.testing.capture_logs() as logs:
        for batch_seq in range(1, 8):
            bus.publish(commit(batch_seq))
    assert calls == ["first", "second", "third"] * 7
    assert counters.event_handler_failures == 7
    assert {(line["event"], line["fact"]) for line in logs} == {
        ("event handler failed", "TelemetryCommitted")
    }
    assert [line["failures"] for line in logs] == [1, 2, 4]


async def test_a_cause_is_queued_before_what_a_handler_publishes_of_it(autojump_clock: object) -> None:
    bus = make_bus()
    closed = SessionClosed("s", "a", (), "gone", 0)
    bus.handle(TelemetryCommitted, lambda _: bus.publish(closed))
    subscription: Subscription[Fact] = bus.subscribe(
        TelemetryCommitted, SessionClosed, name="reader", bound=9
    )
    bus.publish(commit(1))
    assert await read_all(subscription) == [commit(1), closed]


def test_handlers_and_subscriptions_may_be_added_and_ended_while_publishing() -> None:
    bus = make_bus()
    subscription = bus.subscribe(TelemetryCommitted, name="reader", bound=9)
    later: list[Fact] = []

    def change(_: TelemetryCommitted) -> None:
        subscription.close()
        bus.handle(TelemetryCommitted, later.append)

    bus.handle(TelemetryCommitted, change)
    bus.publish(commit(1))
    bus.publish(commit(2))
    assert subscription.depth == 1
    assert later == [commit(2)]


@dataclass(frozen=True, kw_only=True)
class ReaderPlan:
    """How a subscriber reads: never, slowly or fast, and after how many facts it fails or leaves."""

    bound: int
    at_bound: AtBound
    pause_s: float | None
    ends_after: int
    fails: bool


@dataclass(kw_only=True)
class Reader:
    plan: ReaderPlan
    subscription: Subscription[TelemetryCommitted]
    read: list[TelemetryCommitted] = field(default_factory=list)
    overflowed: bool = False

    async def run(self) -> None:
        if self.plan.pause_s is None:
            return
        try:
            with self.subscription:
                async for fact in self.subscription:
                    self.read.append(fact)
                    if len(self.read) >= self.plan.ends_after:
                        if self.plan.fails:
                            raise LookupError("a subscriber's own fault")
                        return
                    await trio.sleep(self.plan.pause_s)
        except SubscriptionOverflowError:
            self.overflowed = True
        except LookupError:
            return


FACTS_A_SECOND = 5

PLANS = st.builds(
    ReaderPlan,
    bound=st.integers(1, 8),
    at_bound=st.sampled_from(["drop_oldest", "latest_per_key", "refuse"]),
    pause_s=st.sampled_from([None, 0.0, 0.5, 3.0, 1000.0]),
    ends_after=st.integers(1, 60),
    fails=st.booleans(),
)


@settings(max_examples=100, deadline=None)
@given(
    plans=st.lists(PLANS, max_size=5),
    failing_handlers=st.integers(0, 2),
    outboxes=st.lists(st.sampled_from("abc"), max_size=60),
)
def test_no_subscriber_delays_or_ends_a_publisher_and_the_counters_add_up(
    plans: list[ReaderPlan], failing_handlers: int, outboxes: list[str]
) -> None:
    counters = Counters()
    bus = EventBus(counters)
    handled: list[Fact] = []
    facts = [commit(at, outbox_id) for at, outbox_id in enumerate(outboxes)]

    def fail(_: Fact) -> None:
        raise ZeroDivisionError

    for _ in range(failing_handlers):
        bus.handle(TelemetryCommitted, fail)
    bus.handle(TelemetryCommitted, handled.append)
    readers = [
        Reader(
            plan=plan,
            subscription=bus.subscribe(
                TelemetryCommitted, name=f"reader {at}", bound=plan.bound, at_bound=plan.at_bound
            ),
        )
        for at, plan in enumerate(plans)
    ]

    async def publisher() -> None:
        for at, fact in enumerate(facts):
            # Waiting for a subscriber would take virtual time.
            assert trio.current_time() == at // FACTS_A_SECOND
            bus.publish(fact)
            if (at + 1) % FACTS_A_SECOND == 0:
                await trio.sleep(1.0)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            for reader in readers:
                nursery.start_soon(reader.run)
            await publisher()
            await trio.sleep(2.0)
            nursery.cancel_scope.cancel()

    with structlog.testing.capture_logs():
        trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    assert handled == facts
    assert counters.event_handler_failures == failing_handlers * len(facts)
    stats = dict(bus.stats())
    for at, reader in enumerate(readers):
        check_reader(reader, facts)
        if f"reader {at}" in stats:
            assert stats[f"reader {at}"].dropped == reader.subscription.dropped


def check_reader(reader: Reader, facts: list[TelemetryCommitted]) -> None:
    subscription = reader.subscription
    assert (
        subscription.offered
        == subscription.delivered + subscription.dropped + subscription.replaced + subscription.depth
    )
    assert subscription.depth <= reader.plan.bound
    assert subscription.delivered == len(reader.read)
    # Nothing twice, nothing made up; where nothing is replaced, in order.
    assert len(set(reader.read)) == len(reader.read)
    assert set(reader.read) <= set(facts)
    if reader.plan.at_bound != "latest_per_key":
        assert reader.read == sorted(reader.read, key=facts.index)
    if reader.plan.at_bound == "refuse":
        # All facts up to the overflow, and none dropped before it.
        assert reader.read == facts[: len(reader.read)]
        assert subscription.dropped <= 1
    if reader.plan.pause_s is None and reader.plan.at_bound != "refuse":
        assert subscription.offered == len(facts)
