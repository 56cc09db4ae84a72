"""A fleet: its sites and assets, the change that a reload makes, and shards of it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trioder.domain.access import DEFAULT_TENANT
from trioder.domain.assets import Asset


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place with one or more assets.

    Attributes:
        id: UUID, canonical lower case.
        lat: degrees north, -90..90.
        lon: degrees east, -180..180.
        tenant: whom the site and its assets belong to; see `TENANT_RULE`.
        export_limit_mw: what its setpoints may discharge together, MW > 0; None for no limit.
        import_limit_mw: what they may charge together, likewise.
    """

    id: str
    name: str
    location: str
    lat: float | None = None
    lon: float | None = None
    tenant: str = DEFAULT_TENANT
    export_limit_mw: float | None = None
    import_limit_mw: float | None = None


SITE_NUMBERS = ("lat", "lon", "export_limit_mw", "import_limit_mw")


def site_faults(values: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return each broken rule of a site's numbers as (field, text with the number and the rule)."""
    faults = []
    for name, value in values.items():
        if name in {"lat", "lon"}:
            limit = 90 if name == "lat" else 180
            if not -limit <= value <= limit:
                faults.append((name, f"is {value!r}; it must be within -{limit}..{limit}"))
        elif not 0.0 < value < math.inf:
            faults.append((name, f"is {value!r}; it must be a finite number greater than 0"))
    return faults


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetChange:
    """What a reload of the fleet file has changed, as positions in `Fleet.assets`.

    Attributes:
        added: new to the fleet, or in it again.
        changed: nameplate, name, site or the tenant of the site differ.
        retired: no longer in the file.
    """

    added: Sequence[int]
    changed: Sequence[int]
    retired: Sequence[int]


class Fleet:
    """Sites and assets; `load_fleet` has checked that ids are unique and references valid.

    An asset's key is its position in `assets`, and stays the same while the process runs: a reload appends
    new assets, replaces changed ones in place, and keeps retired ones. (The database has keys of its own.)

    Attributes:
        sites: in file order.
        assets: by key; in file order until a reload.
        asset_ids: by key.
        keys: of the assets in the file, in file order; not of retired ones.
        index_by_id: asset id to key, for the assets in the file.
        sites_by_id: site id to the site.
        former_sites: those that are no longer in the file.
        version: counts the reloads.
    """

    def __init__(self, *, sites: Iterable[Site], assets: Iterable[Asset]) -> None:
        self.sites = tuple(sites)
        self.assets = list(assets)
        self.asset_ids = [asset.id for asset in self.assets]
        self.keys: Sequence[int] = range(len(self.assets))
        self.index_by_id: Mapping[str, int] = {asset_id: key for key, asset_id in enumerate(self.asset_ids)}
        self.sites_by_id: Mapping[str, Site] = {site.id: site for site in self.sites}
        self.former_sites: Mapping[str, Site] = {}
        self.version = 0

    def __eq__(self, other: object) -> bool:
        """Whether both have the same sites and assets in the same order."""
        return isinstance(other, Fleet) and (self.sites, self.assets) == (other.sites, other.assets)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def copy(self) -> "Fleet":
        """Return the fleet without retired assets, as its file lists it."""
        return Fleet(sites=self.sites, assets=[self.assets[key] for key in self.keys])

    def tenant_of(self, key: int) -> str:
        """Return the tenant of an asset's site; a retired asset has that of its last site."""
        site_id = self.assets[key].site_id
        return (self.sites_by_id.get(site_id) or self.former_sites[site_id]).tenant

    def reload(self, newer: "Fleet") -> FleetChange:
        """Change into `newer`, in place, and return the difference."""
        assets = list(self.assets)
        key_by_id = {asset_id: key for key, asset_id in enumerate(self.asset_ids)}
        added, changed = [], []
        for asset in newer.assets:
            key = key_by_id.get(asset.id)
            if key is None:
                key_by_id[asset.id] = len(assets)
                added.append(len(assets))
                assets.append(asset)
                continue
            if asset.id not in self.index_by_id:
                added.append(key)
            elif assets[key] != asset or self.tenant_of(key) != newer.sites_by_id[asset.site_id].tenant:
                changed.append(key)
            assets[key] = asset
        retired = [key for asset_id, key in self.index_by_id.items() if asset_id not in newer.index_by_id]
        known = {**self.former_sites, **self.sites_by_id}
        self.former_sites = {site_id: known[site_id] for site_id in known.keys() - newer.sites_by_id.keys()}
        self.sites, self.sites_by_id = newer.sites, newer.sites_by_id
        # In place: other parts hold references to these lists.
        self.assets[:] = assets
        self.asset_ids[:] = [asset.id for asset in assets]
        self.keys = [key_by_id[asset.id] for asset in newer.assets]
        self.index_by_id = {asset.id: key_by_id[asset.id] for asset in newer.assets}
        self.version += 1
        return FleetChange(added=added, changed=changed, retired=retired)


def shard_fleet(fleet: Fleet, size: int) -> list[tuple[Asset, ...]]:
    """Return the assets in file order, in shards of `size` of one tenant; a tenant's last may be smaller.

    Raises:
        ValueError: size is below 1.
    """
    if size < 1:
        raise ValueError(f"size is {size}; a shard must hold at least 1 asset")
    # An agent has one certificate, which is of one tenant.
    by_tenant: dict[str, list[Asset]] = {}
    for key in fleet.keys:
        by_tenant.setdefault(fleet.tenant_of(key), []).append(fleet.assets[key])
    return [
        tuple(assets[start : start + size])
        for assets in by_tenant.values()
        for start in range(0, len(assets), size)
    ]
