"""`/stop`, `/resume` and `/stops`: emergency stops of an asset, a site or all that the caller sees."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.access import AccessControl, principal
from trioder.api.asset_query import FleetIndex, FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.openapi import documented
from trioder.api.parsing import checked_id, checked_query, read_json_body
from trioder.api.responses import json_response, list_response
from trioder.control.model import Dispatch
from trioder.domain.access import Scope
from trioder.domain.dispatch import DispatchTarget
from trioder.domain.lifecycle import OPEN, DispatchState
from trioder.domain.text import preview
from trioder.process.rfc3339 import format_ms
from trioder.process.slices import Steps, parts_of, run_in_slices
from trioder.schemas.dispatch import TargetRow
from trioder.schemas.resources import NoQuery
from trioder.schemas.stops import ResumeResponse, StopBody, StopInForceRow, StopResponse, StopRow

# The cost of finding whether the caller sees an asset.
_SEEN_US = 0.3
_TARGETS = ("asset_id", "site_id", "fleet")
_decoder = msgspec.json.Decoder(StopBody)


class StopTarget(NamedTuple):
    """What is stopped as one: its assets, and whose they are."""

    target: DispatchTarget
    keys: Sequence[int]
    tenant: str

    def __str__(self) -> str:
        return f"{self.target.kind} {self.target.id}".strip()


def stops_blueprint(headend: Headend, indexes: FleetIndexes, access: AccessControl) -> Blueprint:
    """Return the routes of emergency stops."""
    blueprint = Blueprint("stops", __name__)
    stops, in_force = headend.dispatcher.stops, headend.dispatcher.in_force

    async def read_targets(action: str) -> Sequence[StopTarget]:
        checked_query(NoQuery)
        try:
            body = await read_json_body(_decoder)
            return _targets_of(body, indexes.of_request())
        except ApiError as error:
            access.record(action, outcome="failed", reason=error.message)
            raise

    @blueprint.get("/stops")
    @documented(list[StopInForceRow], role="viewer")
    async def list_stops() -> TrioResponse:
        """List the stops that hold assets of the caller, newest first."""
        checked_query(NoQuery)
        index = indexes.of_request()
        active_stops = [each for each in headend.dispatcher.history if each.is_stop and not each.is_ending]
        rows = [await run_in_slices(_row_steps(each, index)) for each in reversed(active_stops)]
        return list_response([row for row in rows if row is not None], lambda row: row)

    @blueprint.post("/stop")
    @documented(StopResponse, role="operator", body=StopBody, errors=(404, 408, 413, 415))
    async def stop() -> TrioResponse:
        """Stop an asset, a site or the fleet: 0 MW at once, until it is resumed. Repeating it is safe."""
        found = []
        for each in await read_targets("stop"):
            dispatch = await stops.stop(
                each.target, each.keys, tenant=each.tenant, requested_by=principal().name
            )
            access.record("stop", target=str(each), tenant=each.tenant)
            found.append(dispatch)
        return json_response(
            StopResponse(stops=list(map(_stop_row, found)), assets=sum(map(_open_assets, found)))
        )

    @blueprint.post("/resume")
    @documented(ResumeResponse, role="operator", body=StopBody, errors=(404, 408, 413, 415))
    async def resume() -> TrioResponse:
        """End the stop of an asset, a site or the fleet; each target is resumed on its own."""
        resumed: list[Dispatch] = []
        keys: set[int] = set()
        for each in await read_targets("resume"):
            dispatch = stops.find(each.target, tenant=each.tenant)
            if dispatch is not None:
                keys.update(key for key, setpoint in dispatch.setpoints.items() if setpoint.is_open)
                await stops.resume(dispatch, requested_by=principal().name)
                resumed.append(dispatch)
            access.record("resume", target=str(each), tenant=each.tenant)
        present = [setpoint for key in keys if (setpoint := in_force(key)) is not None]
        still_stopped = sum(setpoint.holds_asset for setpoint in present)
        return json_response(
            ResumeResponse(
                resumed=list(map(_stop_row, resumed)),
                assets=len(keys),
                still_stopped=still_stopped,
                dispatched=len(present) - still_stopped,
            )
        )

    return blueprint


def _targets_of(body: StopBody, index: FleetIndex) -> Sequence[StopTarget]:
    """Return what a body names; to a caller of some sites alone, the fleet is these sites, each on its own.

    Raises:
        ApiError: 400 unless there is exactly one target, with an asset; 404 when it is not in the fleet.
    """
    targets = [name for name in _TARGETS if getattr(body, name) is not None]
    if len(targets) != 1:
        found = "none" if not targets else f"{len(targets)}: {', '.join(targets)}"
        names = ", ".join(f"`{name}`" for name in _TARGETS)
        raise ApiError(400, f"the body must name exactly one of {names}; it names {found}")
    if body.fleet is False:
        raise ApiError(400, "fleet is false; it must be true, or an asset or a site is named instead")
    if body.asset_id is not None:
        asset_id = checked_id("asset_id", body.asset_id)
        key = index.key_of(asset_id)
        return [StopTarget(DispatchTarget(kind="asset", id=asset_id), (key,), index.tenant_of(key))]
    if body.site_id is not None:
        site_id = checked_id("site_id", body.site_id)
        if not index.keys_of_site(site_id):
            raise ApiError(400, f"site {preview(site_id)} has no assets; there is nothing to stop or resume")
        return [_site_target(site_id, index)]
    if not index.all_keys:
        raise ApiError(400, "there are no assets; there is nothing to stop or resume")
    if index.scope.site_ids is None:
        return [StopTarget(DispatchTarget(kind="fleet"), index.all_keys, index.scope.tenant)]
    return [_site_target(site.id, index) for site in index.sites if index.keys_by_site[site.id]]


def _row_steps(dispatch: Dispatch, index: FleetIndex) -> Steps[StopInForceRow | None]:
    """Return a stop as the caller sees it, in steps; None if it holds no asset of the caller."""
    is_shown = index.shows(dispatch)
    by_state = Counter[DispatchState]()
    if is_shown:
        by_state.update({state: dispatch.count_by_state[state] for state in OPEN})
    for keys in () if is_shown else parts_of(tuple(dispatch.setpoints)):
        seen = [dispatch.setpoints[key] for key in keys if index.has(key)]
        by_state.update(setpoint.state for setpoint in seen if setpoint.is_open)
        yield _SEEN_US * len(keys)
    if not by_state.total():
        return None
    # The fleets of all tenants are stopped as one, each tenant's is another; some sites are no fleet.
    is_fleet = dispatch.target.kind == "fleet"
    can_resume = is_shown and (not is_fleet or index.scope == Scope(tenant=dispatch.tenant))
    return StopInForceRow(
        dispatch_id=dispatch.dispatch_id,
        target=TargetRow(kind=dispatch.target.kind, id=dispatch.target.id or None),
        assets=by_state.total(),
        by_state={state: count for state, count in by_state.items() if count},
        stopped_at=format_ms(dispatch.dispatched_ms),
        tenant=dispatch.tenant,
        requested_by=dispatch.requested_by if is_shown else None,
        can_resume=can_resume,
    )


def _site_target(site_id: str, index: FleetIndex) -> StopTarget:
    keys = index.keys_by_site[site_id]
    return StopTarget(DispatchTarget(kind="site", id=site_id), keys, index.tenant_of(keys[0]))


def _stop_row(dispatch: Dispatch) -> StopRow:
    """Return a stop as it is now."""
    return StopRow(
        dispatch_id=dispatch.dispatch_id,
        target=TargetRow(kind=dispatch.target.kind, id=dispatch.target.id or None),
        assets=len(dispatch.setpoints),
        by_state={state: count for state, count in dispatch.count_by_state.items() if count},
        stopped_at=format_ms(dispatch.dispatched_ms),
        tenant=dispatch.tenant,
        requested_by=dispatch.requested_by,
    )


def _open_assets(dispatch: Dispatch) -> int:
    """Return how many assets a stop holds."""
    return sum(dispatch.count_by_state[state] for state in OPEN)
