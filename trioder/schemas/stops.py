"""The bodies of `/stop` and `/resume`."""

from typing import Annotated

from msgspec import Meta, Struct

from trioder.schemas.dispatch import TargetRow
from trioder.schemas.resources import Id, Time


class StopBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is stopped or resumed: exactly one of asset_id, site_id and fleet, within what the caller sees."""

    asset_id: Id | None = None
    site_id: Id | None = None
    fleet: Annotated[bool, Meta(description="True: all assets that the caller sees.")] | None = None


class StopRow(Struct, kw_only=True):
    """A stop: a dispatch of priority `emergency`, which holds its assets at 0 MW until it is resumed.

    `dispatch_id` is that of its record. `assets` are those that it has stopped; `by_state` counts their
    states: `queued` are not connected, `deferred` are under another stop.
    """

    dispatch_id: Id
    target: TargetRow
    assets: int
    by_state: dict[str, int]
    stopped_at: Time
    tenant: str
    requested_by: str


class StopInForceRow(Struct, kw_only=True):
    """A stop that holds assets of the caller: `assets` of them, and `by_state` their states.

    `can_resume`: POST /resume with the same target ends it, given the role. Otherwise it is of assets beyond
    those that the caller sees, and requested_by is null.
    """

    dispatch_id: Id
    target: TargetRow
    assets: int
    by_state: dict[str, int]
    stopped_at: Time
    tenant: str
    requested_by: str | None
    can_resume: bool


class StopResponse(Struct, kw_only=True):
    """The stops that are in force for the target, new or not."""

    stops: list[StopRow]
    assets: int


class ResumeResponse(Struct, kw_only=True):
    """The stops that were ended; none when the target itself was not stopped.

    `assets` had been stopped by these. `still_stopped` of them are covered by another stop; the dispatches
    that were deferred have taken over `dispatched` of them, and the others stay at 0 MW.
    """

    resumed: list[StopRow]
    assets: int
    still_stopped: int
    dispatched: int
