"""The messages to the headend in the order of sending: acknowledgements, events, telemetry of the outbox.

`trioder.agent.headend_client` takes and sends them.
"""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

import structlog

from trioder.agent.frame import Frame
from trioder.agent.persistence.outbox import Outbox, Outgoing
from trioder.agent.wakeup import Wakeup
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.records import Acknowledgement, AgentEvent, AgentMessage
from trioder.wire.uplink import write_acknowledgement, write_batch, write_event

log = structlog.stdlib.get_logger(__name__)

MAX_ACKNOWLEDGEMENTS = 100_000
MAX_EVENTS = 100_000

Item = TypeVar("Item")


class _BoundedQueue(Generic[Item]):
    """A queue that drops and counts the oldest item when it is full; the first drop is logged."""

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
    """The messages to send. Acknowledgements and events are bounded: the oldest are dropped.

    Attributes:
        wakeup: woken when there may be a new message.
    """

    def __init__(self, outbox: Outbox) -> None:
        self.wakeup = Wakeup()
        self._outbox = outbox
        self._acknowledgements = _BoundedQueue[Acknowledgement]("acknowledgements", most=MAX_ACKNOWLEDGEMENTS)
        self._events = _BoundedQueue[AgentEvent]("events", most=MAX_EVENTS)
        self._active: Iterator[Acknowledgement] = iter(())

    @property
    def acknowledgements_dropped(self) -> int:
        """Those never sent."""
        return self._acknowledgements.dropped

    @property
    def events_dropped(self) -> int:
        """Those never sent."""
        return self._events.dropped

    def put(self, message: AgentMessage) -> None:
        """Queue an event or an acknowledgement; one without a dispatch id is ignored."""
        if isinstance(message, AgentEvent):
            self._events.put(message)
        elif message.dispatch_id:
            self._acknowledgements.put(message)
        else:
            return
        self.wakeup.wake()

    def put_active(self, active: Iterator[Acknowledgement]) -> None:
        """Queue the setpoints in force for a new session, after all others; each is taken when it is sent."""
        self._active = active
        self.wakeup.wake()

    def put_frame(self, frame: Frame) -> None:
        """Close a frame and append it to the outbox as the next batch, if it has any rows."""
        batch = frame.close(self._outbox.next_append_seq)
        if batch is not None:
            self._outbox.append(write_batch(batch).SerializeToString())
            self.wakeup.wake()

    def take_next(self) -> pb.AgentToHeadend | None:
        """Return the next message, acknowledgements first; None when there is none."""
        if self._acknowledgements.items:
            return write_acknowledgement(self._acknowledgements.items.popleft())
        if self._events.items:
            return write_event(self._events.items.popleft())
        active = next(self._active, None)
        if active is not None:
            return write_acknowledgement(active)
        outgoing = self._outbox.take_next()
        return None if outgoing is None else _message_of(outgoing)


def _message_of(outgoing: Outgoing) -> pb.AgentToHeadend:
    message = pb.AgentToHeadend.FromString(outgoing.payload)
    if outgoing.gap_from_seq is not None:
        message.telemetry_batch.gap_from_seq = outgoing.gap_from_seq
        message.telemetry_batch.lost_batches = outgoing.lost_batches
    message.telemetry_batch.live_only = outgoing.live_only
    return message
