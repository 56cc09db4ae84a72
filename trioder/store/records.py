"""The store's own values: sessions, and watermarks of outboxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from trioder.domain.access import DEFAULT_TENANT


class Watermark(NamedTuple):
    """The last committed batch of an outbox.

    Attributes:
        batch_seq: its sequence number; 0 if there is none.
        ts_unix_ms: its time; None if there is none, or it is not recorded.
    """

    batch_seq: int
    ts_unix_ms: int | None


NOTHING_COMMITTED = Watermark(0, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """One agent's session when it opened.

    Attributes:
        tenant: whose assets; `ALL_TENANTS` for several tenants' together.
        identity: the SPIFFE URI of the agent's certificate; empty without one.
    """

    session_id: str
    agent_id: str
    epoch: int
    peer: str
    asset_keys: Sequence[int]
    connected_ms: int
    tenant: str = DEFAULT_TENANT
    identity: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastSession:
    """One session read back.

    Attributes:
        assets: the number of its assets.
        disconnected_ms: None while it is open.
        reason: why it ended; None while it is open.
        identity: as in `SessionRecord`.
    """

    session_id: str
    agent_id: str
    epoch: int
    peer: str
    assets: int
    connected_ms: int
    disconnected_ms: int | None
    reason: str | None
    identity: str = ""
