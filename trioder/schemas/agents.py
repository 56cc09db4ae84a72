"""The bodies and parameters of `/agents/processes`."""

from typing import Annotated

from msgspec import Meta, Struct

from trioder.schemas.resources import MAX_HISTORY_ROWS, Id, Time

# Of the sites that a row lists; null beyond.
MAX_SITE_IDS = 256


class AgentProcessRow(Struct, kw_only=True):
    """An agent process that is connected, or was since the headend's start.

    `assets` and `site_ids` are those that the caller sees; site_ids is null for more than 256. `reason` says
    why the session ended, `last_seen_at` when the agent's last message was received.
    `backlog_batches` are not in the database yet, and its newest telemetry there is `backlog_s` old if
    several wait; null while it is not connected, and without an outbox. `version` is null if the agent does
    not report it, `certificate_expires_at` without a certificate, and `identity` is the SPIFFE URI in it.
    """

    agent_id: str
    connected: bool
    session_id: Id
    assets: int
    site_ids: list[Id] | None
    connected_at: Time
    disconnected_at: Time | None
    reason: str | None
    last_seen_at: Time
    peer: str
    clock_skew_s: float | None
    clock_error_s: float | None
    backlog_batches: int | None
    backlog_s: float | None
    epoch: int
    protocol: int
    version: str | None
    identity: str | None
    certificate_expires_at: Time | None
    tenant: str


class AgentProcessesQuery(Struct, kw_only=True):
    """Which agent processes, by agent_id."""

    site_id: Annotated[Id, Meta(description="Only agents with an asset of this site.")] | None = None
    connected: Annotated[bool, Meta(description="Only those that are connected, or are not.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_HISTORY_ROWS, description="Maximum number of rows.")] = (
        MAX_HISTORY_ROWS
    )
