"""`/sites/{id}/limits`: what a site may export and import, set for a time or until it is removed."""

import math

import msgspec
from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.access import AccessControl, principal
from trioder.api.asset_query import FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query, checked_time_ms, read_json_body
from trioder.api.responses import json_response
from trioder.domain.dispatch import MAX_DURATION_S
from trioder.domain.fleet import Site
from trioder.domain.site_limits import SiteLimits, SiteLimitsRecord
from trioder.domain.text import preview
from trioder.process.rfc3339 import format_ms
from trioder.schemas.resources import NoQuery
from trioder.schemas.site_limits import SiteLimitsBody, SiteLimitsRow

SET_ACTION, REMOVE_ACTION = "site.limits.set", "site.limits.remove"
_decoder = msgspec.json.Decoder(SiteLimitsBody)


def site_limits_blueprint(headend: Headend, indexes: FleetIndexes, access: AccessControl) -> Blueprint:
    """Return the routes of sites' limits."""
    blueprint = Blueprint("site_limits", __name__)
    dispatcher, table = headend.dispatcher, headend.dispatcher.site_limits

    def site_of(site_id: str) -> Site:
        index = indexes.of_request()
        index.keys_of_site(site_id.lower())
        return next(site for site in index.sites if site.id == site_id.lower())

    def row(site: Site) -> TrioResponse:
        limits, record = table.limits_of(site.id), table.set_by_user(site.id)
        return json_response(
            SiteLimitsRow(
                site_id=site.id,
                export_limit_mw=limits.export_mw,
                import_limit_mw=limits.import_mw,
                until=None if record is None or record.until_ms is None else format_ms(record.until_ms),
                set_at=None if record is None else format_ms(record.set_ms),
                set_by=None if record is None else record.set_by,
                export_mw=dispatcher.site_power.committed_at_mw(site.id, charging=False),
                import_mw=dispatcher.site_power.committed_at_mw(site.id, charging=True),
            )
        )

    @blueprint.get("/sites/<site_id>/limits")
    @documented(SiteLimitsRow, role="viewer", errors=(404,))
    async def show_limits(site_id: str) -> TrioResponse:
        """Show the limits of a site, and what its setpoints amount to."""
        checked_query(NoQuery)
        return row(site_of(site_id))

    @blueprint.put("/sites/<site_id>/limits")
    @documented(SiteLimitsRow, role="operator", body=SiteLimitsBody, errors=(404, 408, 413, 415))
    async def set_limits(site_id: str) -> TrioResponse:
        """Limit a site; setpoints that exceed the limit are reduced at once."""
        checked_query(NoQuery)
        try:
            body = await read_json_body(_decoder)
            site = site_of(site_id)
            record = _record_of(body, site.id, headend.wall.now_ms(), set_by=principal().name)
        except ApiError as error:
            access.record(SET_ACTION, target=preview(site_id), outcome="failed", reason=error.message)
            raise
        table.set(record)
        dispatcher.enforce_site_limits()
        access.record(SET_ACTION, target=site.id, tenant=site.tenant)
        return row(site)

    @blueprint.delete("/sites/<site_id>/limits")
    @documented(SiteLimitsRow, role="operator", errors=(404,))
    async def remove_limits(site_id: str) -> TrioResponse:
        """Apply the fleet file's limits again. Removing limits that are not set is safe."""
        checked_query(NoQuery)
        try:
            site = site_of(site_id)
        except ApiError as error:
            access.record(REMOVE_ACTION, target=preview(site_id), outcome="failed", reason=error.message)
            raise
        table.remove(site.id, reason=f"by {principal().name}")
        dispatcher.enforce_site_limits()
        access.record(REMOVE_ACTION, target=site.id, tenant=site.tenant)
        return row(site)

    return blueprint


def _record_of(body: SiteLimitsBody, site_id: str, now_ms: int, *, set_by: str) -> SiteLimitsRecord:
    limits = SiteLimits(export_mw=body.export_limit_mw, import_mw=body.import_limit_mw)
    if not limits.is_limited:
        raise ApiError(400, "the body has neither export_limit_mw nor import_limit_mw; it needs one")
    for name, limit_mw in (("export_limit_mw", limits.export_mw), ("import_limit_mw", limits.import_mw)):
        if limit_mw is not None and not 0.0 <= limit_mw < math.inf:
            raise ApiError(400, f"{name} is {limit_mw}; it must be a finite number of at least 0")
    return SiteLimitsRecord(
        site_id=site_id, limits=limits, until_ms=_until_ms(body, now_ms), set_ms=now_ms, set_by=set_by
    )


def _until_ms(body: SiteLimitsBody, now_ms: int) -> int | None:
    if body.until is not None and body.duration_s is not None:
        raise ApiError(400, "duration_s and until are both given; limits have one end")
    if body.duration_s is not None:
        if not 1 <= body.duration_s <= MAX_DURATION_S:
            raise ApiError(400, f"duration_s is {body.duration_s}; it must be 1 to {MAX_DURATION_S} s")
        return now_ms + body.duration_s * 1000
    if body.until is None:
        return None
    until_ms = checked_time_ms("until", body.until)
    if not now_ms < until_ms <= now_ms + MAX_DURATION_S * 1000:
        raise ApiError(
            400,
            f"until is {format_ms(until_ms)}; it must be after now, {format_ms(now_ms)}, "
            f"by {MAX_DURATION_S} s at most",
        )
    return until_ms
