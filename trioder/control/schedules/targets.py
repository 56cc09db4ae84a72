"""The assets of a schedule's target as the fleet is now: assets and sites may have left it since."""

from collections.abc import Sequence

from trioder.domain.access import ALL_TENANTS, Scope
from trioder.domain.fleet import Fleet
from trioder.domain.schedules import ScheduleRequest


def target_keys(request: ScheduleRequest, fleet: Fleet) -> Sequence[int]:
    """Return the assets, by key, in fleet order.

    Without those that have left the fleet, that belong to another tenant by now, or, of a fleet, lie outside
    the sites of its creator.
    """
    kind, index_by_id = request.target.kind, fleet.index_by_id
    if kind == "fleet":
        sites = None if request.site_ids is None else frozenset(request.site_ids)
        scope = Scope(tenant=request.tenant, site_ids=sites)
        inside = {site.id for site in fleet.sites if scope.includes(tenant=site.tenant, site_id=site.id)}
        return [key for key in fleet.keys if fleet.assets[key].site_id in inside]
    if kind == "site":
        site = fleet.sites_by_id.get(request.target.id)
        if site is None or request.tenant not in {ALL_TENANTS, site.tenant}:
            return ()
        return [key for key in fleet.keys if fleet.assets[key].site_id == site.id]
    ids = (request.target.id,) if kind == "asset" else request.asset_ids
    keys = [key for asset_id in ids if (key := index_by_id.get(asset_id)) is not None]
    if request.tenant != ALL_TENANTS:
        keys = [key for key in keys if fleet.tenant_of(key) == request.tenant]
    return sorted(keys)
