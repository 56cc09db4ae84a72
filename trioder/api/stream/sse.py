"""Server-sent events as bytes, and the ids by which a stream is resumed."""

import re
from collections.abc import Sequence
from typing import NamedTuple

_ID = re.compile(r"([0-9a-f]{8})\.([0-9]{1,15})(?:\.([0-9]{1,9}))?", re.ASCII)


class EventIdError(Exception):
    """A Last-Event-ID that no event of a headend has; the text is the rule."""


class EventId(NamedTuple):
    """Up to where a client has received what there is.

    Attributes:
        epoch: which run of the feed; another one cannot be resumed.
        tick: everything up to this tick, and ...
        part: ... 0; or else only some events of this tick.
    """

    epoch: str
    tick: int
    part: int = 0

    @classmethod
    def parse(cls, text: str) -> "EventId":
        """Return the id.

        Raises:
            EventIdError: it is none.
        """
        match = _ID.fullmatch(text)
        if match is None:
            raise EventIdError("it must be the id of an event of this stream, such as 0c2f9a11.1234")
        return cls(match[1], int(match[2]), int(match[3] or 0))

    @property
    def complete_tick(self) -> int:
        """The last tick of which everything was received."""
        return self.tick - 1 if self.part else self.tick

    def __str__(self) -> str:
        return f"{self.epoch}.{self.tick}.{self.part}" if self.part else f"{self.epoch}.{self.tick}"


class Event(NamedTuple):
    """The name of an event and its JSON, which has no line break."""

    name: bytes
    data: bytes


def without_id(event: Event) -> bytes:
    """Return an event after which a client that connects again resumes from where it did before."""
    return b"event: %b\ndata: %b\n\n" % event


def with_ids(events: Sequence[Event], epoch: str, tick: int) -> bytes:
    """Return the events of one tick. Only the last one's id has all of the tick."""
    last = len(events) - 1
    return b"".join(
        [
            b"id: %b\nevent: %b\ndata: %b\n\n"
            % (str(EventId(epoch, tick, 0 if number == last else number + 1)).encode(), *event)
            for number, event in enumerate(events)
        ]
    )
