"""Dispatch: what users ask for, the setpoints that are sent, and the record of both."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

TargetKind = Literal["asset", "assets", "site", "fleet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchRequest:
    """What a user asks of one asset: hold `mw`, for a while or until told otherwise.

    Attributes:
        duration_s: for so long, from when the asset is told.
        valid_until_ms: until this instant; Unix time. Not both.
        reversion_mw: the setpoint that follows.
        expires_in_s: how long the command may wait for an asset that is not connected.
    """

    asset_id: str
    mw: float
    duration_s: int | None = None
    valid_until_ms: int | None = None
    reversion_mw: float = 0.0
    expires_in_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setpoint:
    """A request that was validated and given an identity; what the wire calls a Setpoint.

    Attributes:
        duration_s: the setpoint ends after so long; it holds without.
        valid_until_ms: it ends at this instant at the latest; Unix time.
        reversion_mw: the setpoint that follows when it ends.
        group_id: of the command to many assets that it is a part of; empty when it stands alone.
    """

    dispatch_id: str
    asset_id: str
    mw: float
    duration_s: int | None = None
    valid_until_ms: int | None = None
    reversion_mw: float = 0.0
    group_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchTarget:
    """Whom a command was given to: one asset, a list of them, a site's, or all.

    Attributes:
        id: of the asset or the site; empty for the others.
    """

    kind: TargetKind
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRecord:
    """What one asset was given of a command, and what has become of it.

    Attributes:
        mean_mw: its power on average, from when it should have arrived on; None while no sample shows it.
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
class LeftOutRecord:
    """An asset that was given nothing of a command, and why: for programs, and for people."""

    asset_id: str
    code: str
    allocation: str


# What one asset has of a command: a share, or the reason why it has none.
ShareRecord = MemberRecord | LeftOutRecord


# Returns the share of the asset with this key, as it is when asked.
ShareOf = Callable[[int], ShareRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResplitRecord:
    """A command's shares were dealt anew.

    Attributes:
        dropped: the assets that dropped out, each with the reason.
        adjusted: the assets that were given less because they report or deliver less, each with the reason.
        joined: the assets that take part from then on.
        changed: how many assets got another share.
        shortfall_mw: what nobody could be given from then on.
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
    """One command and what has become of it so far.

    Attributes:
        allocated_mw: what its members were given, together.
        shortfall_mw: what nobody could be given.
        ends_ms: when its setpoints end; None when they hold.
        strategy: how it was split; None for a command to one asset.
        state: how far its members have come, together.
        is_open: whether any of its setpoints may still change.
        idempotency_key: the user's, if there was one; request_digest tells whether it is used for the same.
        by_state: how many members are in each state.
        assets_left_out: how many were given nothing.
        members: none where they are handed over, or read, apart from the rest.
        left_out: likewise.
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
    resplits: Sequence[ResplitRecord] = ()
    by_state: Mapping[str, int] = field(default_factory=dict)
    assets_left_out: int = 0
    members: Sequence[MemberRecord] = ()
    left_out: Sequence[LeftOutRecord] = ()


def with_shares(
    dispatch: DispatchRecord, shares: Iterable[ShareRecord], *, former: Iterable[ShareRecord] = ()
) -> DispatchRecord:
    """Return the record with these shares, and those of `former` whose assets are not among them."""
    by_asset = {share.asset_id: share for share in former}
    by_asset.update((share.asset_id, share) for share in shares)
    return replace(
        dispatch,
        members=tuple(share for share in by_asset.values() if isinstance(share, MemberRecord)),
        left_out=tuple(share for share in by_asset.values() if isinstance(share, LeftOutRecord)),
    )
