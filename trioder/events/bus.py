"""The event bus: publishers announce facts, handlers and bounded subscriptions receive them.

Publishing is synchronous, waits for nobody and never raises because of a receiver. What a fact is, is in
`facts`; why there are two kinds of receivers, in docs/decisions/event-layer.md.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from itertools import count
from types import TracebackType
from typing import Any, Generic, Literal, NamedTuple, Self, TypeVar

import structlog
import trio

from trioder.events.counters import Counters
from trioder.events.facts import Fact

log = structlog.stdlib.get_logger(__name__)

AtBound = Literal["drop_oldest", "latest_per_key", "refuse"]
F = TypeVar("F", bound=Fact)


class SubscriptionOverflowError(Exception):
    """A subscription with the rule `refuse` was closed: its reader was too slow for its bound."""


class SubscriptionStats(NamedTuple):
    """The subscriptions of one name together.

    Attributes:
        depth: facts that wait to be read.
        dropped: facts dropped at the bound, those of closed subscriptions included.
    """

    depth: int
    dropped: int


class Subscription(Generic[F]):
    """An async iterator over facts, in the order in which they were published; for one reader.

    It is a context manager: leaving it ends the subscription.

    Attributes:
        name: for the metrics.
        offered: facts published to it.
        delivered: facts read from it.
        dropped: facts dropped at its bound.
        replaced: facts that a newer one of their key has replaced; not counted as dropped.
    """

    def __init__(
        self, name: str, *, bound: int, at_bound: AtBound, close: "Callable[[Subscription[Any]], None]"
    ) -> None:
        if bound < 1:
            raise ValueError(f"the bound of subscription {name} is {bound}; it must be at least 1")
        self.name = name
        self.offered = self.delivered = self.dropped = self.replaced = 0
        self._bound = bound
        self._at_bound = at_bound
        self._close = close
        # By key, where the latest of each key counts; else by a running number. Ordered by insertion.
        self._queue: OrderedDict[Hashable, F] = OrderedDict()
        self._numbers = count()
        self._reader = trio.lowlevel.ParkingLot()
        self._closed = self._overflowed = False

    @property
    def depth(self) -> int:
        """How many facts wait to be read."""
        return len(self._queue)

    def close(self) -> None:
        """End the subscription; what waits can still be read."""
        if not self._closed:
            self._closed = True
            self._close(self)
            self._reader.unpark_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> F:
        """Wait for a fact.

        Raises:
            SubscriptionOverflowError: the bound was exceeded, and all facts before that have been read.
        """
        await trio.lowlevel.checkpoint()
        while not self._queue:
            if self._overflowed:
                raise SubscriptionOverflowError(
                    f"subscription {self.name} was closed: more than {self._bound} facts waited"
                )
            if self._closed:
                raise StopAsyncIteration
            await self._reader.park()
        self.delivered += 1
        _, fact = self._queue.popitem(last=False)
        return fact

    def take_all(self) -> list[F]:
        """Return the facts that wait, oldest first, without waiting; for a reader that runs by the clock."""
        facts = list(self._queue.values())
        self._queue.clear()
        self.delivered += len(facts)
        return facts

    def receive(self, fact: F) -> None:
        """Queue a fact; for the bus."""
        self.offered += 1
        key: Hashable = fact.key if self._at_bound == "latest_per_key" else next(self._numbers)
        if key in self._queue:
            self.replaced += 1
        elif len(self._queue) >= self._bound:
            self.dropped += 1
            if self._at_bound == "refuse":
                log.warning("event subscription closed: its reader is too slow", subscriber=self.name)
                self._overflowed = True
                self.close()
                return
            self._queue.popitem(last=False)
        # A newer fact of a key takes the older one's place: no key waits for ever.
        self._queue[key] = fact
        self._reader.unpark()


class Topic(Generic[F]):
    """The receivers of one fact type; a publisher on the hot path gets it once.

    Attributes:
        receivers: called with each fact: first subscriptions, then handlers. When it is empty, nobody wants
            a fact, and there is no need to build one.
    """

    __slots__ = ("_counters", "_failures", "_handlers", "_subscriptions", "receivers")

    def __init__(self, counters: Counters) -> None:
        self.receivers: tuple[Callable[[F], object], ...] = ()
        self._counters = counters
        self._failures = 0
        self._subscriptions: tuple[Subscription[Any], ...] = ()
        self._handlers: tuple[Callable[[F], object], ...] = ()

    def publish(self, fact: F) -> None:
        """See `EventBus`."""
        for receive in self.receivers:
            try:
                receive(fact)
            except Exception:
                self._counters.event_handler_failures += 1
                self._failures += 1
                # The 1st, 2nd, 4th, 8th ...: one that fails with every sample must not fill the disk.
                if self._failures.bit_count() == 1:
                    log.exception("event handler failed", fact=type(fact).__name__, failures=self._failures)

    def add_handler(self, handler: Callable[[F], object]) -> None:
        """See `EventBus`."""
        self._handlers += (handler,)
        self._renew()

    def add(self, subscription: Subscription[Any]) -> None:
        """Queue each fact for a subscription; for the bus."""
        self._subscriptions += (subscription,)
        self._renew()

    def remove(self, subscription: Subscription[Any]) -> None:
        """Queue no more facts for it."""
        self._subscriptions = tuple(other for other in self._subscriptions if other is not subscription)
        self._renew()

    def _renew(self) -> None:
        # Replaced as a whole: a publication that is under way is not affected.
        self.receivers = (*(subscription.receive for subscription in self._subscriptions), *self._handlers)


class EventBus:
    """Passes each fact on to who asked for its type: first to subscriptions, then to handlers.

    A handler that publishes facts itself publishes them in the middle of the first one: subscriptions have
    queued that one already, so that in every queue a cause comes before its effects.
    """

    def __init__(self, counters: Counters) -> None:
        self._topics: defaultdict[type[Fact], Topic[Any]] = defaultdict(partial(Topic, counters))
        self._subscriptions: dict[Subscription[Any], frozenset[type[Fact]]] = {}
        self._dropped: defaultdict[str, int] = defaultdict(int)

    def topic(self, fact_type: type[F]) -> Topic[F]:
        """The receivers of a fact type, now and later."""
        return self._topics[fact_type]

    def wants(self, fact_type: type[Fact]) -> bool:
        """Whether anybody receives facts of this type; else there is no need to build one."""
        return bool(self._topics[fact_type].receivers)

    def publish(self, fact: Fact) -> None:
        """Pass a fact on; returns once every subscription has queued it and every handler has run."""
        self._topics[type(fact)].publish(fact)

    def handle(self, fact_type: type[F], handler: Callable[[F], object]) -> None:
        """Call `handler` with every fact of this type, within `publish`; in the order of registration.

        It must be fast. An exception is counted and logged, and reaches neither the publisher nor others.
        """
        self._topics[fact_type].add_handler(handler)

    def subscribe(
        self, *fact_types: type[F], name: str, bound: int, at_bound: AtBound = "drop_oldest"
    ) -> Subscription[F]:
        """Queue facts of these types for a reader of its own task.

        Args:
            fact_types: what to receive.
            name: of the subscriber, for the metrics; subscriptions of one name are counted together.
            bound: how many facts may wait, >= 1.
            at_bound: what happens to a fact beyond that. `drop_oldest` drops the oldest waiting one;
                `latest_per_key` keeps only the latest of each key anyway, and drops the oldest key; `refuse`
                drops the new one and ends the subscription with an error for its reader.
        """
        subscription: Subscription[F] = Subscription(
            name, bound=bound, at_bound=at_bound, close=self._unsubscribe
        )
        self._subscriptions[subscription] = frozenset(fact_types)
        for fact_type in self._subscriptions[subscription]:
            self._topics[fact_type].add(subscription)
        return subscription

    def stats(self) -> Iterator[tuple[str, SubscriptionStats]]:
        """The subscriptions of each name that there ever was."""
        depths = dict.fromkeys(self._dropped, 0)
        dropped = dict(self._dropped)
        for subscription in self._subscriptions:
            name = subscription.name
            depths[name] = depths.get(name, 0) + subscription.depth
            dropped[name] = dropped.get(name, 0) + subscription.dropped
        for name, depth in depths.items():
            yield name, SubscriptionStats(depth, dropped[name])

    def _unsubscribe(self, subscription: Subscription[Any]) -> None:
        for fact_type in self._subscriptions.pop(subscription):
            self._topics[fact_type].remove(subscription)
        self._dropped[subscription.name] += subscription.dropped
