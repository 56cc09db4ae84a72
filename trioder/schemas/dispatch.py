"""The bodies and parameters of `/dispatch`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from trioder.domain.dispatch import (
    EXPIRES_IN_S,
    MAX_DURATION_S,
    MAX_EXPIRES_IN_S,
    Priority,
    Strategy,
    TargetKind,
)
from trioder.domain.lifecycle import DispatchState
from trioder.schemas.resources import MAX_HISTORY_ROWS, Id, Time

DEFAULT_DISPATCH_ROWS = 100
# A group of 10,000 with its allocations is about 4 MB.
MAX_WHOLE_DISPATCH_ROWS = 20
MAX_WAIT_S = 30
DEFAULT_WAIT_S = 5

# The limits of these two are checked by the dispatcher, whose error names the value.
Duration = Annotated[
    int,
    Meta(
        description="The setpoint ends after this many seconds.",
        extra_json_schema={"minimum": 1, "maximum": MAX_DURATION_S},
    ),
]
Expiry = Annotated[
    float,
    Meta(
        description=f"How long it may be queued for a disconnected asset; {EXPIRES_IN_S:g} s by default.",
        extra_json_schema={"exclusiveMinimum": 0, "maximum": MAX_EXPIRES_IN_S},
    ),
]
ValidUntil = Annotated[Time, Meta(description="The setpoint ends at this time; instead of duration_s.")]
Resplit = Annotated[bool, Meta(description="Whether the share of a member that drops out is reallocated.")]
Before = Annotated[Id, Meta(description="Continue after this dispatch, the last of the previous page.")]
AtSite = Annotated[Id, Meta(description="Only dispatches with a setpoint of an asset at this site.")]
OfAsset = Annotated[Id, Meta(description="Only dispatches in which this asset has or had a part.")]
WithAllocations = Annotated[bool, Meta(description="Whether to include each asset's allocation.")]
_LIMIT = f"Maximum number of rows; with allocations, at most {MAX_WHOLE_DISPATCH_ROWS}."


# Idempotency digests are made from its encoding: the order of the fields must not change.
class DispatchBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """A dispatch: hold `mw`, for a limited time or until the next dispatch.

    Exactly one of asset_id, asset_ids, site_id and fleet is the target. For several assets, mw is the total,
    which is split by what each can hold; strategy and resplit apply to such dispatches only.
    """

    asset_id: Id | None = None
    asset_ids: list[Id] | None = None
    site_id: Id | None = None
    fleet: bool | None = None
    mw: Annotated[float, Meta(description="+ discharges. For one asset, within its min_mw..max_mw.")]
    duration_s: Duration | None = None
    valid_until: ValidUntil | None = None
    reversion_mw: Annotated[float, Meta(description="The setpoint that follows the end.")] = 0.0
    expires_in_s: Expiry | None = None
    strategy: Strategy | None = None
    resplit: Resplit | None = None
    dry_run: Annotated[bool, Meta(description="Validate and allocate only; nothing is dispatched.")] = False


class AllocationRow(Struct, kw_only=True):
    """One asset's share of a dispatch, and its state.

    mw is null for an asset that was left out. `code` and `allocation` explain the share, `reason` the state.
    held_mw is what a clamped asset holds instead; `answer` is the status of its agent's acknowledgement.
    mean_mw is its mean power since the time when it should have reached the setpoint.
    """

    asset_id: Id
    mw: float | None
    code: str
    allocation: str
    state: DispatchState | None = None
    held_mw: float | None = None
    mean_mw: float | None = None
    answer: str | None = None
    reason: str | None = None
    sent_at: Time | None = None
    answered_at: Time | None = None
    tracking_at: Time | None = None
    ends_at: Time | None = None
    ended_at: Time | None = None


class DroppedRow(Struct, kw_only=True):
    """An asset that dropped out of a group or whose share was reduced, and why."""

    asset_id: Id
    reason: str


class ResplitRow(Struct, kw_only=True):
    """A reallocation of a group's shares; `changed` assets got another share.

    dropped: assets that no longer take part. adjusted: assets with a smaller share, because they report or
    deliver less. joined: assets that take part from now on.
    """

    at: Time
    dropped: list[DroppedRow]
    adjusted: list[DroppedRow]
    joined: list[Id]
    changed: int
    shortfall_mw: float


class TargetRow(Struct, kw_only=True):
    """The target of a dispatch; the id is of the asset or the site."""

    kind: TargetKind
    id: Id | None


class DispatchRow(Struct, kw_only=True):
    """A dispatch and its state. The state of a group is that of its least advanced member.

    `tenant` is that of its assets, `*` for several tenants' together; `requested_by` names the token or the
    user that requested it. `priority`: an asset is under the highest, and the setpoints of lower ones are
    `deferred`; `emergency` is that of stops. `shortfall_mw` is the part of `mw` that could not be allocated
    to any asset, or that a single asset cannot hold; `allocated_mw` is the rest. `by_state` counts the
    members. `reason`: why the setpoint of a single asset is in its state; null for groups, whose allocations
    have reasons.
    """

    dispatch_id: Id | None
    target: TargetRow
    mw: float
    allocated_mw: float
    shortfall_mw: float
    duration_s: int | None
    valid_until: Time | None
    reversion_mw: float
    expires_in_s: float
    strategy: str | None
    resplit: bool
    dispatched_at: Time
    ends_at: Time | None
    state: DispatchState
    members: int
    left_out: int
    by_state: dict[str, int]
    resplits: list[ResplitRow]
    tenant: str
    requested_by: str
    priority: Priority
    reason: str | None
    allocations: list[AllocationRow] | None


class DispatchResponse(DispatchRow, kw_only=True):
    """A dispatch as it was accepted.

    `shortfall`: the assets together cannot hold all of mw. asset_id and delivery are null for several assets;
    `queued`: the asset is disconnected, and the setpoint is sent when it reconnects. `deferred`: a dispatch
    with a higher priority has the asset; it is sent when that ends. A dry run has no dispatch_id. `by_code`
    counts the allocations, those left out included, by their code.
    """

    status: Literal["ok", "shortfall"]
    asset_id: Id | None
    delivery: Literal["sent", "queued", "deferred"] | None
    dry_run: bool
    by_code: dict[str, int]


class DispatchQuery(Struct, kw_only=True):
    """When to respond, and with what."""

    wait: (
        Annotated[
            Literal["ack"],
            Meta(description="Respond when every agent has acknowledged; with 202 if that takes too long."),
        ]
        | None
    ) = None
    wait_s: Annotated[int, Meta(ge=1, le=MAX_WAIT_S, description="Maximum time to wait.")] = DEFAULT_WAIT_S
    allocations: WithAllocations = True


class ShowDispatchQuery(Struct, kw_only=True):
    """What to include."""

    allocations: WithAllocations = True


class DispatchesQuery(Struct, kw_only=True):
    """Which dispatches, newest first."""

    asset_id: OfAsset | None = None
    site_id: AtSite | None = None
    state: DispatchState | None = None
    before: Before | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_HISTORY_ROWS, description=_LIMIT)] = DEFAULT_DISPATCH_ROWS
    allocations: WithAllocations = False


class AllocationsQuery(Struct, kw_only=True):
    """Which allocations of a dispatch, in fleet order; those of assets that have left the fleet first."""

    state: (
        Annotated[
            DispatchState | Literal["left_out"],
            Meta(description="Only setpoints in this state, or only assets that were allocated nothing."),
        ]
        | None
    ) = None
    limit: Annotated[int, Meta(ge=1, le=MAX_HISTORY_ROWS, description="Maximum number of rows.")] = (
        DEFAULT_DISPATCH_ROWS
    )
    after: Annotated[Id, Meta(description="Continue after this asset, the last of a page.")] | None = None
