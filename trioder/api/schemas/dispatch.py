"""What REST takes and tells of dispatches, as types. The rest of REST's types are in `models`.

How they are filled is in `dispatch_answers`.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from trioder.api.schemas.resources import MAX_HISTORY_ROWS, Id, Time
from trioder.control.allocation import Strategy
from trioder.control.lifecycle import DispatchState
from trioder.control.requests import EXPIRES_IN_S, MAX_DURATION_S, MAX_EXPIRES_IN_S
from trioder.domain.dispatch import TargetKind

DEFAULT_DISPATCH_ROWS = 100
# A group of 10,000 with its allocations is about 4 MB.
MAX_WHOLE_DISPATCH_ROWS = 20
MAX_WAIT_S = 30
DEFAULT_WAIT_S = 5

Delivery = Literal["sent", "queued"]

# Described here and checked by the dispatcher, whose message names the value.
Duration = Annotated[
    int,
    Meta(
        description="The setpoint ends after so many seconds.",
        extra_json_schema={"minimum": 1, "maximum": MAX_DURATION_S},
    ),
]
Expiry = Annotated[
    float,
    Meta(
        description=f"How long it may wait for an asset that is away; {EXPIRES_IN_S:g} s by default.",
        extra_json_schema={"exclusiveMinimum": 0, "maximum": MAX_EXPIRES_IN_S},
    ),
]

ValidUntil = Annotated[Time, Meta(description="The setpoint ends then; instead of duration_s.")]
Resplit = Annotated[bool, Meta(description="Whether the share of a member that drops out goes on.")]
OfAsset = Annotated[Id, Meta(description="Only those that this asset has or had a part in.")]
WithAllocations = Annotated[bool, Meta(description="Whether to tell what each asset has.")]


_LIMIT = f"At most so many rows; with allocations, {MAX_WHOLE_DISPATCH_ROWS} at most."


class DispatchBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """A command: hold `mw`, for a while or until told otherwise.

    Exactly one of asset_id, asset_ids, site_id and fleet says who. To many, mw is the total, which is split
    by what each can hold; strategy and resplit are of such commands only.
    """

    asset_id: Id | None = None
    asset_ids: list[Id] | None = None
    site_id: Id | None = None
    fleet: bool | None = None
    mw: Annotated[float, Meta(description="+ discharges. Of one asset within its min_mw..max_mw.")]
    duration_s: Duration | None = None
    valid_until: (
        Annotated[Time, Meta(description="The setpoint ends then; instead of duration_s.")] | None
    ) = None
    reversion_mw: Annotated[float, Meta(description="The setpoint that follows the end.")] = 0.0
    expires_in_s: Expiry | None = None
    strategy: Strategy | None = None
    resplit: (
        Annotated[bool, Meta(description="Whether the share of a member that drops out goes on.")] | None
    ) = None
    dry_run: Annotated[bool, Meta(description="Answer the same, and command nothing.")] = False


class AllocationRow(Struct, kw_only=True):
    """What one asset has of a command, and what has become of it.

    mw is null for an asset that was left out. `code` and `allocation` say why it is what it is, `reason` why
    the state is. held_mw is what a clamped asset holds instead; `answer` is its agent's own status. mean_mw
    is its power on average, from when it should have arrived on.
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
    """An asset that dropped out of a group or was given less, and why."""

    asset_id: Id
    reason: str


class ResplitRow(Struct, kw_only=True):
    """A group's shares were allocated again; `changed` assets got another one.

    dropped: who takes part no more. adjusted: who was given less, because it reports or delivers less.
    joined: who takes part from then on.
    """

    at: Time
    dropped: list[DroppedRow]
    adjusted: list[DroppedRow]
    joined: list[Id]
    changed: int
    shortfall_mw: float


class TargetRow(Struct, kw_only=True):
    """Whom a command was given to; the id is of the asset or the site."""

    kind: TargetKind
    id: Id | None


class DispatchRow(Struct, kw_only=True):
    """A command and what has become of it. A group is as far as that member which is least far.

    `shortfall_mw` is what of `mw` no asset could be given, or what the one asset cannot hold of it;
    `allocated_mw` is the rest. `by_state` counts the members.
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
    allocations: list[AllocationRow] | None


class DispatchAnswer(DispatchRow, kw_only=True):
    """A command as it was taken.

    `shortfall`: the assets together cannot hold all of mw. asset_id and delivery are of a command to one
    asset, and null for many; `queued`: the asset is away, and is told when it is back. A dry run has no
    dispatch_id.
    """

    status: Literal["ok", "shortfall"]
    asset_id: Id | None
    delivery: Delivery | None
    dry_run: bool


class DispatchQuery(Struct, kw_only=True):
    """What of the answer is wanted, and when."""

    wait: (
        Annotated[Literal["ack"], Meta(description="Answer when every agent has answered, else with 202.")]
        | None
    ) = None
    wait_s: Annotated[int, Meta(ge=1, le=MAX_WAIT_S, description="For so long at most.")] = DEFAULT_WAIT_S
    allocations: WithAllocations = True


class ShowDispatchQuery(Struct, kw_only=True):
    """What of the record is wanted."""

    allocations: WithAllocations = True


class DispatchesQuery(Struct, kw_only=True):
    """Which commands, newest first."""

    asset_id: Annotated[Id, Meta(description="Only those that this asset has or had a part in.")] | None = (
        None
    )
    state: DispatchState | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_HISTORY_ROWS, description=_LIMIT)] = DEFAULT_DISPATCH_ROWS
    allocations: WithAllocations = False
