"""What waits for the link: telemetry in the outbox, answers to dispatches, and events. As messages.

When they are sent is the link's affair.
"""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

import structlog

from trioder.agent.battery import AgentMessage
from trioder.agent.frame import Frame
from trioder.agent.outbox import Outbox, Outgoing
from trioder.agent.wakeup import Wakeup
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.records import Acknowledgement, AgentEvent
from trioder.wire.uplink import write_acknowledgement, write_batch, write_event

log = structlog.stdlib.get_logger(__name__)

MAX_ACKNOWLEDGEMENTS = 100_000
MAX_EVENTS = 100_000

Item = TypeVar("Item")


class _Waiting(Generic[Item]):
    """A bounded queue; without room the oldest goes, and is counted. The first is logged."""

    def __init__(self, name: str, *, most: int) -> None:
        self.dropped = 0
        self.items: deque[Item] = deque()
        self._name = name
        self._most = most

    def put(self, item: Item) -> None:
        if len(self.items) == self._most:
            if not self.dropped:
                log.warning("there is no room, the oldest are dropped", what=self._name, kept=self._most)
            self.items.popleft()
            self.dropped += 1
        self.items.append(item)


class SendQueue:
    """The messages to be sent next. Acknowledgements and events are bounded: the oldest go first.

    Attributes:
        wakeup: woken whenever there may be something new to take.
    """

    def __init__(self, outbox: Outbox) -> None:
        self.wakeup = Wakeup()
        self._outbox = outbox
        self._acknowledgements = _Waiting[Acknowledgement]("acknowledgements", most=MAX_ACKNOWLEDGEMENTS)
        self._events = _Waiting[AgentEvent]("events", most=MAX_EVENTS)
        self._in_force: Iterator[Acknowledgement] = iter(())

    @property
    def acknowledgements_dropped(self) -> int:
        """Those that were never sent."""
        return self._acknowledgements.dropped

    @property
    def events_dropped(self) -> int:
        """Those that were never sent."""
        return self._events.dropped

    def put(self, telling: AgentMessage) -> None:
        """Queue an event, or what became of a dispatch; one without an id cannot be answered, and is not."""
        if isinstance(telling, AgentEvent):
            self._events.put(telling)
        elif telling.dispatch_id:
            self._acknowledgements.put(telling)
        else:
            return
        self.wakeup.wake()

    def tell_in_force(self, in_force: Iterator[Acknowledgement]) -> None:
        """Tell a new session what is in force, once all that waits is told; each is taken when it is sent."""
        self._in_force = in_force
        self.wakeup.wake()

    def put_frame(self, frame: Frame) -> None:
        """Close a frame and put it into the outbox as the next batch, if it has any rows."""
        batch = frame.close(self._outbox.next_append_seq)
        if batch is not None:
            self._outbox.append(write_batch(batch).SerializeToString())
            self.wakeup.wake()

    def take_next(self) -> pb.AgentToHeadend | None:
        """Return the next message, answers first; None when there is nothing to send."""
        if self._acknowledgements.items:
            return write_acknowledgement(self._acknowledgements.items.popleft())
        if self._events.items:
            return write_event(self._events.items.popleft())
        in_force = next(self._in_force, None)
        if in_force is not None:
            return write_acknowledgement(in_force)
        outgoing = self._outbox.take_next()
        return None if outgoing is None else _message_of(outgoing)


def _message_of(outgoing: Outgoing) -> pb.AgentToHeadend:
    message = pb.AgentToHeadend.FromString(outgoing.payload)
    if outgoing.gap_from_seq is not None:
        message.telemetry_batch.gap_from_seq = outgoing.gap_from_seq
        message.telemetry_batch.lost_batches = outgoing.lost_batches
    message.telemetry_batch.live_only = outgoing.live_only
    return message
