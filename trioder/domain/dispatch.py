"""Dispatch: requests, the setpoints sent to agents, and the records of both."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final, Literal, get_args

from trioder.domain.access import DEFAULT_TENANT

TargetKind = Literal["asset", "assets", "site", "fleet"]
Strategy = Literal["headroom", "capacity", "equal"]
# The lowest first.
Priority = Literal["schedule", "operator", "emergency"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
RefusalCode = Literal["bad_request", "not_found", "out_of_bounds"]

# A year: a longer duration is a mistake, or no end was meant.
MAX_DURATION_S = 366 * 86_400
# An agent that reconnects later has settled; an old setpoint would surprise its operator.
EXPIRES_IN_S = 60.0
MAX_EXPIRES_IN_S = 86_400.0


class DispatchRefusedError(Exception):
    """A request that was refused; the message names the value and the rule."""

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.code: RefusalCode = code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTerms:
    """What makes a request a step of a schedule's occurrence.

    Attributes:
        dispatch_id: of the dispatch that it becomes.
        precedence: when the occurrence starts and when its schedule was created, Unix time in ms: between two
            schedules, an asset is under the one with the later occurrence, then the one created later.
        former_id: the dispatch of the step before, which this one continues; empty for none.
        wire_id: by which agents know its setpoints, where they may have some of `dispatch_id` already.
    """

    dispatch_id: str
    precedence: tuple[int, int]
    former_id: str = ""
    wire_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTerms:
    """What is asked, of one asset or of many together: hold `mw`, for a time or until the next dispatch.

    Attributes:
        duration_s: how long, from when it was dispatched.
        valid_until_ms: until this instant; Unix time. At most one of the two is given.
        reversion_mw: the setpoint after the end.
        expires_in_s: how long the dispatch may wait for an asset that is not connected.
        idempotency_key: the user's, to be recorded.
        request_digest: of the request under that key.
        tenant: whose assets; `ALL_TENANTS` for several tenants' together.
        requested_by: the principal's name.
        priority: `emergency` is for stops alone.
        step: of a schedule.
    """

    mw: float
    duration_s: int | None = None
    valid_until_ms: int | None = None
    reversion_mw: float = 0.0
    expires_in_s: float | None = None
    idempotency_key: str | None = None
    request_digest: str | None = None
    tenant: str = DEFAULT_TENANT
    requested_by: str = ""
    priority: Priority = "operator"
    step: StepTerms | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchRequest(RequestTerms):
    """A request to one asset."""

    asset_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchTarget:
    """What is dispatched: one asset, a list of assets, a site or the fleet.

    Attributes:
        id: of the asset or the site; empty for the others.
    """

    kind: TargetKind
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRequest(RequestTerms):
    """A request to many assets together; the powers are totals.

    Attributes:
        keys: the assets, distinct, by their position in the fleet.
        resplit: whether the power of an asset that drops out is reallocated to the others.
    """

    target: DispatchTarget
    keys: Sequence[int]
    strategy: Strategy = "headroom"
    resplit: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Setpoint:
    """One asset's setpoint as it is sent to its agent; the wire's Setpoint.

    Attributes:
        duration_s: the setpoint ends after this time; without one it holds.
        valid_until_ms: it ends at this instant at the latest; Unix time.
        reversion_mw: the setpoint after the end.
        group_id: the group dispatch that it is part of; empty for a dispatch to one asset.
    """

    dispatch_id: str
    asset_id: str
    mw: float
    duration_s: int | None = None
    valid_until_ms: int | None = None
    reversion_mw: float = 0.0
    group_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetSetpointRecord:
    """One asset's setpoint within a dispatch, and its state.

    Attributes:
        wire_id: the dispatch_id that its agent knows.
        code: why it was allocated this power, for programs; `allocation` is the same for people.
        answer: the status that its agent acknowledged with.
        mean_mw: its mean power from the end of its ramp on; None without a sample.
    """

    asset_id: str
    mw: float
    reversion_mw: float = 0.0
    wire_id: str
    code: str = ""
    allocation: str = ""
    state: str
    held_mw: float | None = None
    mean_mw: float | None = None
    answer: str | None = None
    reason: str | None = None
    sent_ms: int | None = None
    answered_ms: int | None = None
    tracking_ms: int | None = None
    ends_ms: int | None = None
    queue_until_ms: int | None = None
    ended_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcludedAssetRecord:
    """A candidate that was allocated nothing, and why: `code` for programs, `allocation` for people."""

    asset_id: str
    code: str
    allocation: str


# One candidate of a dispatch: its setpoint, or why it was excluded.
AllocationRecord = AssetSetpointRecord | ExcludedAssetRecord

# Stands for the state of those that were allocated nothing, where states are asked for.
LEFT_OUT: Final = "left_out"

# Returns the current allocation of the asset with this key.
AllocationOf = Callable[[int], AllocationRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReallocationRecord:
    """A reallocation of a group dispatch.

    Attributes:
        dropped: the assets that dropped out, each with the reason.
        adjusted: the assets whose setpoint was reduced because they report or deliver less, with the reason.
        joined: the assets that were added.
        changed: how many assets got another setpoint.
        shortfall_mw: the part of the total that no asset can hold from then on.
    """

    at_ms: int
    wire_id: str
    dropped: Sequence[tuple[str, str]]
    changed: int
    shortfall_mw: float
    adjusted: Sequence[tuple[str, str]] = ()
    joined: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchRecord:
    """A dispatch and its present state.

    Attributes:
        allocated_mw: the sum of its setpoints.
        shortfall_mw: the part of the total that no asset can hold.
        ends_ms: when its setpoints end; None when they hold.
        strategy: how the total was split; None for a dispatch to one asset.
        state: the aggregate of its setpoints' states.
        is_open: whether any of its setpoints may still change.
        idempotency_key: the user's, if any; request_digest identifies the request that used it.
        by_state: how many setpoints are in each state.
        assets_left_out: how many candidates were excluded.
        members: the setpoints; empty where they are stored or read separately.
        left_out: the excluded candidates; likewise.
        tenant: whose assets; `ALL_TENANTS` for several tenants' together.
        requested_by: the principal's name; empty for dispatches from before principals were recorded.
        priority: one of `PRIORITIES`.
        reason: of a dispatch to one asset: why its setpoint is in its state.
    """

    dispatch_id: str
    target: DispatchTarget
    mw: float
    allocated_mw: float
    shortfall_mw: float = 0.0
    duration_s: int | None = None
    valid_until_ms: int | None = None
    reversion_mw: float = 0.0
    expires_in_s: float = 60.0
    strategy: str | None = None
    resplit: bool = False
    dispatched_ms: int
    ends_ms: int | None = None
    state: str
    is_open: bool
    idempotency_key: str | None = None
    request_digest: str | None = None
    resplits: Sequence[ReallocationRecord] = ()
    by_state: Mapping[str, int] = field(default_factory=dict)
    assets_left_out: int = 0
    members: Sequence[AssetSetpointRecord] = ()
    left_out: Sequence[ExcludedAssetRecord] = ()
    tenant: str = DEFAULT_TENANT
    requested_by: str = ""
    priority: Priority = "operator"
    reason: str | None = None


def with_allocations(
    dispatch: DispatchRecord,
    allocations: Iterable[AllocationRecord],
    *,
    former: Iterable[AllocationRecord] = (),
) -> DispatchRecord:
    """Return the record with these allocations, and those of `former` for the assets not among them."""
    by_asset = {allocation.asset_id: allocation for allocation in former}
    by_asset.update((allocation.asset_id, allocation) for allocation in allocations)
    return replace(
        dispatch,
        members=tuple(one for one in by_asset.values() if isinstance(one, AssetSetpointRecord)),
        left_out=tuple(one for one in by_asset.values() if isinstance(one, ExcludedAssetRecord)),
    )


def page_of_allocations(
    dispatch: DispatchRecord, *, limit: int, after: str | None, state: str | None
) -> Sequence[AllocationRecord] | None:
    """Return a page of a whole record's allocations; see `Queries.allocations`."""
    allocations: Sequence[AllocationRecord] = (*dispatch.members, *dispatch.left_out)
    if after is not None:
        asset_ids = [each.asset_id for each in allocations]
        if after not in asset_ids:
            return None
        allocations = allocations[asset_ids.index(after) + 1 :]
    found = (each for each in allocations if state in {None, state_of(each)})
    return list(islice(found, limit))


def state_of(allocation: AllocationRecord) -> str:
    """Return the state of an asset's setpoint; `LEFT_OUT` for one that was allocated nothing."""
    return allocation.state if isinstance(allocation, AssetSetpointRecord) else LEFT_OUT
