"""The target of a command: one asset, a list of assets, a site or the fleet, within what the caller sees."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from trioder.api.asset_query import FleetIndex
from trioder.api.errors import ApiError
from trioder.api.parsing import checked_id
from trioder.domain.access import ALL_TENANTS
from trioder.domain.dispatch import DispatchTarget
from trioder.domain.text import preview
from trioder.process.slices import Steps, parts_of

_TARGETS = ("asset_id", "asset_ids", "site_id", "fleet")
# The cost of checking an id.
_ID_US = 1.0
# ... and of finding an asset's site.
_TENANT_US = 0.2


class TargetFields(Protocol):
    """The fields of a body that name a target; exactly one of them is to be given."""

    asset_id: str | None
    asset_ids: list[str] | None
    site_id: str | None
    fleet: bool | None


def check_one_target(body: TargetFields) -> None:
    """Check that a body names exactly one target.

    Raises:
        ApiError: 400.
    """
    targets = [name for name in _TARGETS if getattr(body, name) is not None]
    if len(targets) != 1:
        found = "none" if not targets else f"{len(targets)}: {', '.join(targets)}"
        names = ", ".join(f"`{name}`" for name in _TARGETS)
        raise ApiError(400, f"the body must name exactly one of {names}; it names {found}")
    if body.fleet is False:
        raise ApiError(400, "fleet is false; it must be true, or one of the other targets is named instead")


def target_steps(body: TargetFields, index: FleetIndex) -> Steps[tuple[DispatchTarget, Sequence[int]]]:
    """Return the target of a body and its assets, in steps.

    Raises:
        ApiError: 400 for malformed ids or no assets; 404 when it is not in the fleet.
    """
    if body.asset_id is not None:
        asset_id = checked_id("asset_id", body.asset_id)
        return DispatchTarget(kind="asset", id=asset_id), (index.key_of(asset_id),)
    if body.asset_ids is not None:
        ids: list[str] = []
        for part in parts_of(body.asset_ids):
            ids += [
                checked_id(f"asset_ids[{position}]", text) for position, text in enumerate(part, len(ids))
            ]
            yield _ID_US * len(part)
        if not ids:
            raise ApiError(400, "asset_ids is empty; a group has at least one asset")
        if len(set(ids)) < len(ids):
            [(repeated, _)] = Counter(ids).most_common(1)
            raise ApiError(400, f"asset_ids names {repeated} more than once")
        return DispatchTarget(kind="assets"), sorted(index.keys_of(ids))
    if body.site_id is not None:
        site_id = checked_id("site_id", body.site_id)
        keys = index.keys_of_site(site_id)
        if not keys:
            raise ApiError(400, f"site {preview(site_id)} has no assets; a group has at least one")
        return DispatchTarget(kind="site", id=site_id), keys
    return DispatchTarget(kind="fleet"), index.all_keys


def tenant_steps(target: DispatchTarget, keys: Sequence[int], index: FleetIndex) -> Steps[str]:
    """Return whose assets these are, in steps; `ALL_TENANTS` for those of several."""
    if index.scope.tenant != ALL_TENANTS:
        return index.scope.tenant
    if target.kind == "fleet":
        tenants = {site.tenant for site in index.sites if index.keys_by_site[site.id]}
    else:
        tenants = set()
        for part in parts_of(keys):
            tenants |= index.tenants_of(part)
            yield _TENANT_US * len(part)
    return tenants.pop() if len(tenants) == 1 else ALL_TENANTS


def described_target(body: TargetFields) -> str:
    """Describe what a request names, for the audit; it may be malformed."""
    if body.asset_id is not None:
        return f"asset {preview(body.asset_id)}"
    if body.site_id is not None:
        return f"site {preview(body.site_id)}"
    return "fleet" if body.asset_ids is None else f"{len(body.asset_ids)} assets"
