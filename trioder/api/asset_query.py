"""Selects the assets of a request by id, site and page: their keys, in fleet order."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from trioder.api.errors import ApiError
from trioder.api.parsing import Query, query_id, query_ids, query_limit
from trioder.api.schemas.resources import MAX_ROWS
from trioder.domain.fleet import Fleet
from trioder.domain.text import preview
from trioder.process.slices import Steps, parts_of, run_in_slices

_MAX_IDS_LISTED = 10
# The cost of finding whether an asset has a row.
_FILTER_US = 0.5


class FleetIndex:
    """Finds the keys of a fleet's assets, in fleet order; rebuilt when the fleet was reloaded."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._build(fleet)

    def _build(self, fleet: Fleet) -> None:
        self._version = fleet.version
        # A key is the asset's position in the fleet file, until the file is reloaded.
        self._position_by_key = (
            None
            if isinstance(fleet.keys, range)
            else {key: position for position, key in enumerate(fleet.keys)}
        )
        keys_by_site: Mapping[str, list[int]] = defaultdict(list)
        for key in fleet.keys:
            keys_by_site[fleet.assets[key].site_id].append(key)
        # A site may have no assets.
        self._keys_by_site = {site.id: tuple(keys_by_site.get(site.id, ())) for site in fleet.sites}

    def _refresh(self) -> None:
        if self._version != self._fleet.version:
            self._build(self._fleet)

    @property
    def all_keys(self) -> Sequence[int]:
        """The keys of all assets."""
        return self._fleet.keys

    def key_of(self, asset_id: str) -> int:
        """Return the asset with an id in upper or lower case.

        Raises:
            ApiError: 404.
        """
        key = self._fleet.index_by_id.get(asset_id.lower())
        if key is None:
            raise ApiError(404, f"there is no asset {preview(asset_id)} in the fleet")
        return key

    def keys_of_site(self, site_id: str) -> Sequence[int]:
        """Return the assets of a site.

        Raises:
            ApiError: 404.
        """
        self._refresh()
        keys = self._keys_by_site.get(site_id)
        if keys is None:
            raise ApiError(404, f"there is no site {preview(site_id)} in the fleet")
        return keys

    async def keys_of_query(
        self, query: Query, *, has_row: Callable[[int], bool] | None = None
    ) -> Sequence[int]:
        """Return the assets selected by `?site_id=`, `?asset_id=` and `?after=`, up to `?limit=`.

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
            # Membership in a range is cheap; in a site's tuple it is not.
            within = keys if isinstance(keys, range) else frozenset(keys)
            keys = sorted((key for key in self.keys_of(asset_ids) if key in within), key=self._position_of)
        if after is not None:
            last = self._position_of(self.keys_of([after]).pop())
            keys = (
                keys[last + 1 :]
                if isinstance(keys, range)
                else [key for key in keys if self._position_of(key) > last]
            )
        if has_row is None or len(keys) <= limit:
            return keys[:limit]
        return await run_in_slices(_filter_steps(keys, has_row, limit))

    def keys_of(self, asset_ids: Sequence[str]) -> set[int]:
        """Return the assets with these ids.

        Raises:
            ApiError: 404 with the unknown ids.
        """
        index_by_id = self._fleet.index_by_id
        unknown = [asset_id for asset_id in asset_ids if asset_id not in index_by_id]
        if unknown:
            names = ", ".join(unknown[:_MAX_IDS_LISTED])
            more = f" and {len(unknown) - _MAX_IDS_LISTED} more" if len(unknown) > _MAX_IDS_LISTED else ""
            raise ApiError(404, f"there is no asset {names}{more} in the fleet")
        return {index_by_id[asset_id] for asset_id in asset_ids}

    def _position_of(self, key: int) -> int:
        self._refresh()
        return key if self._position_by_key is None else self._position_by_key[key]


def _filter_steps(keys: Sequence[int], has_row: Callable[[int], bool], limit: int) -> Steps[Sequence[int]]:
    found: list[int] = []
    for part in parts_of(keys):
        found += filter(has_row, part)
        if len(found) >= limit:
            break
        yield _FILTER_US * len(part)
    return found[:limit]
