"""Selects the assets of a request within what its caller sees, by id, site and page: keys in fleet order."""

from bisect import bisect_right
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import chain

from trioder.api.access import known_principal
from trioder.api.errors import ApiError
from trioder.api.parsing import Query, query_id, query_ids, query_limit
from trioder.control.model import Dispatch
from trioder.domain.access import ALL_TENANTS, EVERYTHING, Scope
from trioder.domain.fleet import Fleet, Site
from trioder.domain.text import preview
from trioder.process.slices import Steps, parts_of
from trioder.schemas.resources import MAX_ROWS

_MAX_IDS_LISTED = 10
# The cost of finding whether an asset has a row.
_FILTER_US = 0.5
# Of scopes other than the whole fleet; each has up to 8 bytes an asset.
_MAX_INDEXES = 64


class FleetIndex:
    """The part of a fleet, as it was at its last reload, that lies within a scope.

    What lies outside is answered as what does not exist.

    Attributes:
        scope: what it is the index of.
        sites: within the scope, in fleet order.
    """

    def __init__(self, fleet: Fleet, *, whole: "FleetIndex | None" = None, scope: Scope = EVERYTHING) -> None:
        """Index a fleet.

        Args:
            fleet: the fleet.
            whole: the index of everything; None for that itself.
            scope: see above.
        """
        self._fleet = fleet
        self.scope = scope
        self.sites: Sequence[Site] = [
            site for site in fleet.sites if scope.includes(tenant=site.tenant, site_id=site.id)
        ]
        keys_by_site = _keys_by_site(fleet) if whole is None else whole.keys_by_site
        # A site may have no assets.
        self.keys_by_site: Mapping[str, Sequence[int]] = {
            site.id: keys_by_site.get(site.id, ()) for site in self.sites
        }
        self._position_by_key: Mapping[int, int] | None = (
            _position_by_key(fleet) if whole is None else whole._position_by_key  # noqa: SLF001  # its own class
        )

    @cached_property
    def all_keys(self) -> Sequence[int]:
        """The keys of all assets within the scope."""
        if len(self.sites) == len(self._fleet.sites):
            return self._fleet.keys
        return tuple(sorted(chain.from_iterable(self.keys_by_site.values()), key=self._position_of))

    def has(self, key: int) -> bool:
        """Whether an asset lies within the scope: its site does, though it may have left the fleet itself."""
        return self._fleet.assets[key].site_id in self.keys_by_site

    def shows(self, dispatch: Dispatch) -> bool:
        """Whether a dispatch is of the scope's tenant, and all of its assets are within the scope."""
        if self.scope.tenant not in {ALL_TENANTS, dispatch.tenant}:
            return False
        if self.scope.site_ids is None:
            return True
        # One that an agent reported has no candidates.
        keys = dispatch.candidate_keys or tuple(dispatch.setpoints)
        return not dispatch.retired and all(map(self.has, keys))

    def find(self, asset_id: str) -> int | None:
        """Return the asset with this id, in lower case; None if there is none within the scope."""
        key = self._fleet.index_by_id.get(asset_id)
        return key if key is not None and self.has(key) else None

    def key_of(self, asset_id: str) -> int:
        """Return the asset with an id in upper or lower case.

        Raises:
            ApiError: 404.
        """
        key = self.find(asset_id.lower())
        if key is None:
            raise ApiError(404, f"there is no asset {preview(asset_id)} in the fleet")
        return key

    def keys_of_site(self, site_id: str) -> Sequence[int]:
        """Return the assets of a site.

        Raises:
            ApiError: 404.
        """
        keys = self.keys_by_site.get(site_id)
        if keys is None:
            raise ApiError(404, f"there is no site {preview(site_id)} in the fleet")
        return keys

    @cached_property
    def name(self) -> str:
        """What it is the index of, as a text: equal for equal scopes only."""
        site_ids = self.scope.site_ids
        return f"{self.scope.tenant} {'*' if site_ids is None else ' '.join(sorted(site_ids))}"

    def key_steps(
        self, query: Query, *, has_row: Callable[[int], bool] | None = None
    ) -> Steps[Sequence[int]]:
        """Return the assets selected by `?site_id=`, `?asset_id=` and `?after=`, up to `?limit=`, in steps.

        Args:
            query: the parameters.
            has_row: where some assets have no row in the response, so that they do not count to the limit.

        Raises:
            ApiError: 400, or 404 with every unknown id.
        """
        site_id, asset_ids = query_id(query, "site_id"), query_ids(query, "asset_id")
        after = query_id(query, "after")
        limit = query_limit(query, highest=MAX_ROWS, default=MAX_ROWS)
        keys = self.all_keys if site_id is None else self.keys_of_site(site_id)
        if asset_ids:
            asked = self.keys_of(asset_ids)
            within = asked if site_id is None else asked.intersection(keys)
            keys = sorted(within, key=self._position_of)
        if after is not None:
            last = self._position_of(self.keys_of([after]).pop())
            keys = keys[bisect_right(keys, last, key=self._position_of) :]
        if has_row is None or len(keys) <= limit:
            return keys[:limit]
        return (yield from _filter_steps(keys, has_row, limit))

    def keys_of(self, asset_ids: Sequence[str]) -> set[int]:
        """Return the assets with these ids.

        Raises:
            ApiError: 404 with the unknown ids.
        """
        # 25,000 ids may be asked for: the whole set is compared, and each id only if there is a fault.
        index_by_id, assets = self._fleet.index_by_id, self._fleet.assets
        found = {index_by_id.get(asset_id) for asset_id in asset_ids}
        keys = {key for key in found if key is not None}
        if len(keys) == len(found) and {assets[key].site_id for key in keys} <= self.keys_by_site.keys():
            return keys
        unknown = [asset_id for asset_id in asset_ids if self.find(asset_id) is None]
        names = ", ".join(unknown[:_MAX_IDS_LISTED])
        more = f" and {len(unknown) - _MAX_IDS_LISTED} more" if len(unknown) > _MAX_IDS_LISTED else ""
        raise ApiError(404, f"there is no asset {names}{more} in the fleet")

    def tenant_of(self, key: int) -> str:
        """Return whose an asset is."""
        return self._fleet.tenant_of(key)

    def tenants_of(self, keys: Sequence[int]) -> set[str]:
        """Return whose these assets are."""
        assets = self._fleet.assets
        one_of_each_site = {assets[key].site_id: key for key in keys}.values()
        return {self._fleet.tenant_of(key) for key in one_of_each_site}

    def ids_of(self, keys: Sequence[int]) -> Sequence[str]:
        """Return the ids of these assets."""
        assets = self._fleet.assets
        return tuple(assets[key].id for key in keys)

    def site_ids_of(self, keys: Sequence[int]) -> set[str]:
        """Return the sites of these assets."""
        assets = self._fleet.assets
        return {assets[key].site_id for key in keys}

    def _position_of(self, key: int) -> int:
        return key if self._position_by_key is None else self._position_by_key[key]


class FleetIndexes:
    """The indexes of a fleet, one for each scope that was asked for of late; built anew after a reload."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._build()

    def _build(self) -> None:
        self._version = self._fleet.version
        self._whole = FleetIndex(self._fleet)
        self._by_scope: OrderedDict[Scope, FleetIndex] = OrderedDict()

    def of_request(self) -> FleetIndex:
        """Return the index of what the caller of the current request sees."""
        caller = known_principal()
        return self.of(EVERYTHING if caller is None else caller.scope)

    def of(self, scope: Scope) -> FleetIndex:
        """Return the index of a scope."""
        if self._version != self._fleet.version:
            self._build()
        if scope is EVERYTHING:
            return self._whole
        index = self._by_scope.get(scope)
        if index is None:
            index = self._by_scope[scope] = FleetIndex(self._fleet, whole=self._whole, scope=scope)
            if len(self._by_scope) > _MAX_INDEXES:
                self._by_scope.popitem(last=False)
        self._by_scope.move_to_end(scope)
        return index


def _position_by_key(fleet: Fleet) -> Mapping[int, int] | None:
    # A key is the asset's position in the fleet file, until the file is reloaded.
    if isinstance(fleet.keys, range):
        return None
    return {key: position for position, key in enumerate(fleet.keys)}


def _keys_by_site(fleet: Fleet) -> Mapping[str, Sequence[int]]:
    keys_by_site: Mapping[str, list[int]] = defaultdict(list)
    for key in fleet.keys:
        keys_by_site[fleet.assets[key].site_id].append(key)
    return {site_id: tuple(keys) for site_id, keys in keys_by_site.items()}


def _filter_steps(keys: Sequence[int], has_row: Callable[[int], bool], limit: int) -> Steps[Sequence[int]]:
    found: list[int] = []
    for part in parts_of(keys):
        found += filter(has_row, part)
        if len(found) >= limit:
            break
        yield _FILTER_US * len(part)
    return found[:limit]
