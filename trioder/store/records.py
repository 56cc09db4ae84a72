"""What only the store and its users share: sessions and how far outboxes are committed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Watermark(NamedTuple):
    """How far an outbox is committed.

    Attributes:
        batch_seq: of the last committed batch; 0 when there is none.
        ts_unix_ms: the time of exactly that batch; None when there is none, or its time is not on record.
    """

    batch_seq: int
    ts_unix_ms: int | None


NOTHING_COMMITTED = Watermark(0, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """One agent's session, as it opened."""

    session_id: str
    agent_id: str
    epoch: int
    peer: str
    asset_keys: Sequence[int]
    connected_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PastSession:
    """One session as it is remembered.

    Attributes:
        assets: how many it drove.
        disconnected_ms: None while it is open.
        reason: why it ended; None while it is open.
    """

    session_id: str
    agent_id: str
    epoch: int
    peer: str
    assets: int
    connected_ms: int
    disconnected_ms: int | None
    reason: str | None
