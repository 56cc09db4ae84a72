"""Builds dispatches from requests; the dispatcher starts them.

The rules for requests are in `requests`, the allocation of a total in `allocator`.
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
from trioder.process.wall_time import WallClock


class DispatchBuilder:
    """Builds dispatches; `new_id` returns their ids."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        sessions: SessionRegistry,
        allocator: Allocator,
        wall: WallClock,
        new_id: Callable[[], str],
    ) -> None:
        self._fleet = fleet
        self._sessions = sessions
        self._allocator = allocator
        self._wall = wall
        self._new_id = new_id
        self._numbers = count(1)

    def build_single(self, request: DispatchRequest) -> Dispatch:
        """Build a dispatch to one asset.

        Raises:
            DispatchRefusedError: unknown asset, or a value that it or its agent does not accept.
        """
        key = self._fleet.index_by_id.get(request.asset_id)
        if key is None:
            raise DispatchRefusedError("not_found", f"there is no asset {request.asset_id} in the fleet")
        asset = self._fleet.assets[key]
        check_power(asset, "mw", request.mw)
        check_power(asset, "reversion_mw", request.reversion_mw)
        session = self._sessions.session_of(key)
        if request.reversion_mw and session is not None and not session.supports_reversions:
            # Refused before it supersedes the asset's present setpoint.
            raise DispatchRefusedError(
                "bad_request",
                f"reversion_mw is {request.reversion_mw}; the agent of asset {asset.id} is too old for it",
            )
        dispatch = self._new_dispatch(request, DispatchTarget(kind="asset", id=asset.id))
        dispatch.candidate_keys = (key,)
        setpoint = AssetSetpoint(
            dispatch=dispatch,
            key=key,
            mw=request.mw,
            reversion_mw=request.reversion_mw,
            wire_id=dispatch.dispatch_id,
            ends_ms=dispatch.ends_ms,
            queue_until_ms=dispatch.queue_until_ms,
        )
        dispatch.add(setpoint)
        self._allocator.check_single(dispatch, setpoint)
        return dispatch

    def build_group(self, request: GroupRequest) -> Dispatch:
        """Build a dispatch to many assets, without its setpoints: `Allocator.allocate_steps` adds them.

        Raises:
            DispatchRefusedError: no asset, or an invalid value.
        """
        check_finite("mw", request.mw)
        check_finite("reversion_mw", request.reversion_mw)
        if not request.keys:
            raise DispatchRefusedError("bad_request", "the group has no asset; it must have at least one")
        dispatch = self._new_dispatch(request, request.target)
        dispatch.strategy = request.strategy
        dispatch.resplit = request.resplit
        dispatch.candidate_keys = request.keys
        return dispatch

    def _new_dispatch(self, request: DispatchRequest | GroupRequest, target: DispatchTarget) -> Dispatch:
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
