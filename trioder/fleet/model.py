"""A fleet in memory: its sites and assets in file order, and its shards."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from trioder.sim.model import Asset


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place with one or more assets.

    Attributes:
        id: UUID, canonical lower case.
        lat: degrees north, -90..90.
        lon: degrees east, -180..180.
    """

    id: str
    name: str
    location: str
    lat: float | None = None
    lon: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Sites and assets whose ids are unique and whose references hold; `load_fleet` sees to it.

    Attributes:
        index_by_id: asset id to its position in `assets`.
        sites_by_id: site id to the site.
    """

    sites: tuple[Site, ...]
    assets: tuple[Asset, ...]
    index_by_id: Mapping[str, int] = field(init=False, repr=False, compare=False)
    sites_by_id: Mapping[str, Site] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index_by_id = {asset.id: position for position, asset in enumerate(self.assets)}
        object.__setattr__(self, "index_by_id", MappingProxyType(index_by_id))
        object.__setattr__(self, "sites_by_id", MappingProxyType({site.id: site for site in self.sites}))


def shard_fleet(fleet: Fleet, size: int) -> list[tuple[Asset, ...]]:
    """Return the assets in file order, cut into runs of `size`; the last may be shorter.

    Raises:
        ValueError: size is below 1.
    """
    if size < 1:
        raise ValueError(f"size is {size}; a shard must hold at least 1 asset")
    return [fleet.assets[start : start + size] for start in range(0, len(fleet.assets), size)]
