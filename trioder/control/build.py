"""A request becomes a command with its members: checked, and dealt where it is for many; not begun yet.

What may be asked is in `requests`, how a total is dealt in `grouping`.
"""

from collections.abc import Callable
from itertools import count

from trioder.control.allocator import Allocator
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.requests import (
    EXPIRES_IN_S,
    DispatchRefusedError,
    GroupRequest,
    check_finite,
    check_power,
    checked_term,
)
from trioder.domain.dispatch import DispatchRequest, DispatchTarget
from trioder.domain.fleet import Fleet
from trioder.gateway.sessions import SessionRegistry
from trioder.process.slices import Steps, run_at_once
from trioder.process.wall_time import WallClock


class DispatchBuilder:
    """Makes commands; `new_id` names them."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        sessions: SessionRegistry,
        grouping: Allocator,
        wall: WallClock,
        new_id: Callable[[], str],
    ) -> None:
        self._fleet = fleet
        self._sessions = sessions
        self._grouping = grouping
        self._wall = wall
        self._new_id = new_id
        self._numbers = count(1)

    def to_one(self, request: DispatchRequest) -> Dispatch:
        """Make a command to one asset.

        Raises:
            DispatchRefusedError: unknown asset, or a value that it or its agent does not take.
        """
        key = self._fleet.index_by_id.get(request.asset_id)
        if key is None:
            raise DispatchRefusedError("not_found", f"there is no asset {request.asset_id} in the fleet")
        asset = self._fleet.assets[key]
        check_power(asset, "mw", request.mw)
        check_power(asset, "reversion_mw", request.reversion_mw)
        session = self._sessions.session_of(key)
        if request.reversion_mw and session is not None and not session.supports_reversions:
            # Before it supersedes what the asset goes on obeying.
            raise DispatchRefusedError(
                "bad_request",
                f"reversion_mw is {request.reversion_mw}; the agent of asset {asset.id} is too old for it",
            )
        command = self._command(request, DispatchTarget(kind="asset", id=asset.id))
        command.candidate_keys = (key,)
        member = AssetSetpoint(
            command=command,
            key=key,
            mw=request.mw,
            reversion_mw=request.reversion_mw,
            wire_id=command.dispatch_id,
            ends_ms=command.ends_ms,
            queue_until_ms=command.queue_until_ms,
        )
        command.add(member)
        self._grouping.check_single(command, member)
        return command

    def to_many(self, request: GroupRequest) -> Dispatch:
        """Make a command to many assets, and deal its total to those that can take part.

        Raises:
            DispatchRefusedError: no asset, or a value that cannot be.
        """
        command = self.for_many(request)
        run_at_once(self.deal_steps(command))
        return command

    def deal_steps(self, command: Dispatch) -> Steps[None]:
        """Deal the total of a command that `for_many` has made.

        Raises:
            DispatchRefusedError: the assets cannot hold the reversion.
        """
        return self._grouping.deal_steps(command)

    def for_many(self, request: GroupRequest) -> Dispatch:
        """Make a command to many assets, of which none has its share yet.

        Raises:
            DispatchRefusedError: no asset, or a value that cannot be.
        """
        check_finite("mw", request.mw)
        check_finite("reversion_mw", request.reversion_mw)
        if not request.keys:
            raise DispatchRefusedError("bad_request", "the group has no asset; it must have at least one")
        command = self._command(request, request.target)
        command.strategy = request.strategy
        command.resplit = request.resplit
        command.candidate_keys = request.keys
        return command

    def _command(self, request: DispatchRequest | GroupRequest, target: DispatchTarget) -> Dispatch:
        now_ms = self._wall.now_ms()
        term = checked_term(request, now_ms)
        return Dispatch(
            dispatch_id=self._new_id(),
            number=next(self._numbers),
            target=target,
            mw=request.mw,
            duration_s=request.duration_s,
            valid_until_ms=request.valid_until_ms,
            reversion_mw=request.reversion_mw,
            expires_in_s=EXPIRES_IN_S if request.expires_in_s is None else request.expires_in_s,
            dispatched_ms=now_ms,
            queue_until_ms=term.queue_until_ms,
            ends_ms=term.ends_ms,
        )
