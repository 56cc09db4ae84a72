"""What waits for the link: telemetry in the outbox, and the answers to dispatches. As messages.

When they are sent is the link's affair.
"""

from collections import deque

import structlog

from trioder.agent.frame import Frame
from trioder.agent.outbox import Outbox, Outgoing
from trioder.agent.wakeup import Wakeup
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.records import Acknowledgement
from trioder.wire.uplink import write_acknowledgement, write_batch

log = structlog.stdlib.get_logger(__name__)

MAX_ACKNOWLEDGEMENTS = 100_000


class SendQueue:
    """The messages to be sent next. Acknowledgements are bounded: the oldest go first, and are counted.

    Attributes:
        wakeup: woken whenever there may be something new to take.
        acknowledgements_dropped: those that were never sent.
    """

    def __init__(self, outbox: Outbox) -> None:
        self.wakeup = Wakeup()
        self.acknowledgements_dropped = 0
        self._outbox = outbox
        self._acknowledgements: deque[Acknowledgement] = deque()

    def put_acknowledgement(self, acknowledgement: Acknowledgement) -> None:
        """Queue what became of a dispatch; one without an id cannot be answered, and is not."""
        if not acknowledgement.dispatch_id:
            return
        if len(self._acknowledgements) == MAX_ACKNOWLEDGEMENTS:
            if not self.acknowledgements_dropped:
                log.warning("acknowledgements are dropped, the oldest first", kept=MAX_ACKNOWLEDGEMENTS)
            self._acknowledgements.popleft()
            self.acknowledgements_dropped += 1
        self._acknowledgements.append(acknowledgement)
        self.wakeup.wake()

    def put_frame(self, frame: Frame) -> None:
        """Close a frame and put it into the outbox as the next batch, if it has any rows."""
        batch = frame.close(self._outbox.next_append_seq)
        if batch is not None:
            self._outbox.append(write_batch(batch).SerializeToString())
            self.wakeup.wake()

    def take_next(self) -> pb.AgentToHeadend | None:
        """Return the next message, answers first; None when there is nothing to send."""
        if self._acknowledgements:
            return write_acknowledgement(self._acknowledgements.popleft())
        outgoing = self._outbox.take_next()
        return None if outgoing is None else _message_of(outgoing)


def _message_of(outgoing: Outgoing) -> pb.AgentToHeadend:
    message = pb.AgentToHeadend.FromString(outgoing.payload)
    if outgoing.gap_from_seq is not None:
        message.telemetry_batch.gap_from_seq = outgoing.gap_from_seq
    message.telemetry_batch.live_only = outgoing.live_only
    return message
