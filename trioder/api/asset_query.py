"""Which assets a request is about: by id, by site, by page; in fleet order, as positions in the fleet."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from trioder.api.errors import ApiError, shown
from trioder.api.parsing import Query, query_id, query_ids, query_limit
from trioder.api.schemas.resources import MAX_ROWS
from trioder.domain.fleet import Fleet
from trioder.process.slices import Steps, parts_of, run_in_slices

_MAX_IDS_SHOWN = 10
# What it takes to see whether an asset has a row.
_COUNT_US = 0.5


class FleetIndex:
    """Finds assets of a fleet; what it finds is in fleet order. It follows the fleet's reloads."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._read(fleet)

    def _read(self, fleet: Fleet) -> None:
        self._version = fleet.version
        self._keys = fleet.keys
        # A key is an asset's place in the file, until that is reloaded.
        self._place_by_key = (
            None if isinstance(fleet.keys, range) else {key: place for place, key in enumerate(fleet.keys)}
        )
        keys_by_site: Mapping[str, list[int]] = defaultdict(list)
        for key in fleet.keys:
            keys_by_site[fleet.assets[key].site_id].append(key)
        # A site may be without assets.
        self._keys_by_site = {site.id: tuple(keys_by_site.get(site.id, ())) for site in fleet.sites}

    def _follow(self) -> None:
        if self._version != self._fleet.version:
            self._read(self._fleet)

    @property
    def all_keys(self) -> Sequence[int]:
        """Of every asset in the fleet."""
        return self._fleet.keys

    def key_of(self, asset_id: str) -> int:
        """The asset with an id from the path, in any case.

        Raises:
            ApiError: 404.
        """
        key = self._fleet.index_by_id.get(asset_id.lower())
        if key is None:
            raise ApiError(404, f"there is no asset {shown(asset_id)} in the fleet")
        return key

    def keys_of_site(self, site_id: str) -> Sequence[int]:
        """The assets of a site.

        Raises:
            ApiError: 404.
        """
        self._follow()
        keys = self._keys_by_site.get(site_id)
        if keys is None:
            raise ApiError(404, f"there is no site {shown(site_id)} in the fleet")
        return keys

    async def keys_of_query(
        self, query: Query, *, counts: Callable[[int], bool] | None = None
    ) -> Sequence[int]:
        """The assets that `?site_id=`, `?asset_id=` and `?after=` leave, `?limit=` of them.

        Where some assets have no row, `counts` tells which have, so that only they count to the limit.

        Raises:
            ApiError: 400 or 404, naming every unknown id.
        """
        site_id, asset_ids = query_id(query, "site_id"), query_ids(query, "asset_id")
        after = query_id(query, "after")
        limit = query_limit(query, highest=MAX_ROWS, default=MAX_ROWS)
        keys = self.all_keys if site_id is None else self.keys_of_site(site_id)
        if asset_ids:
            asked = self.keys_of(asset_ids)
            # A range answers at once, a site's tuple is not searched for each.
            within = keys if isinstance(keys, range) else frozenset(keys)
            keys = sorted((key for key in asked if key in within), key=self._place_of)
        if after is not None:
            last = self._place_of(self.keys_of([after]).pop())
            keys = (
                keys[last + 1 :]
                if isinstance(keys, range)
                else [key for key in keys if self._place_of(key) > last]
            )
        if counts is None or len(keys) <= limit:
            return keys[:limit]
        return await run_in_slices(_counted_steps(keys, counts, limit))

    def keys_of(self, asset_ids: Sequence[str]) -> set[int]:
        """The assets with these ids.

        Raises:
            ApiError: 404, naming every id that there is not.
        """
        index_by_id = self._fleet.index_by_id
        unknown = [asset_id for asset_id in asset_ids if asset_id not in index_by_id]
        if unknown:
            names = ", ".join(unknown[:_MAX_IDS_SHOWN])
            more = f" and {len(unknown) - _MAX_IDS_SHOWN} more" if len(unknown) > _MAX_IDS_SHOWN else ""
            raise ApiError(404, f"there is no asset {names}{more} in the fleet")
        return {index_by_id[asset_id] for asset_id in asset_ids}

    def _place_of(self, key: int) -> int:
        self._follow()
        return key if self._place_by_key is None else self._place_by_key[key]


def _counted_steps(keys: Sequence[int], counts: Callable[[int], bool], limit: int) -> Steps[Sequence[int]]:
    counted: list[int] = []
    for part in parts_of(keys):
        counted += filter(counts, part)
        if len(counted) >= limit:
            break
        yield _COUNT_US * len(part)
    return counted[:limit]
