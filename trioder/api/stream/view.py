"""What one stream shows: a filter within a scope, resolved to the fleet as it was at its last reload."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from trioder.api.asset_query import FleetIndex
from trioder.control.model import Dispatch
from trioder.domain.access import Scope
from trioder.domain.alarms import Alarm, lies_within
from trioder.domain.schedules import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFilter:
    """What a client follows; clients with equal filters share what is made for them.

    Attributes:
        scope: what it may see.
        site_ids: only the assets of these sites; None for all.
        asset_ids: only these assets; None for all.
        topics: their names.
    """

    scope: Scope
    site_ids: frozenset[str] | None
    asset_ids: frozenset[str] | None
    topics: frozenset[str]

    @property
    def is_narrowed(self) -> bool:
        """Whether it shows less than its scope."""
        return self.site_ids is not None or self.asset_ids is not None


class View:
    """A filter, resolved.

    Attributes:
        keys: the assets shown, in fleet order.
        sites: the sites shown with all of their assets; None if only some of their assets are.
    """

    def __init__(self, which: StreamFilter, index: FleetIndex) -> None:
        self.which = which
        self._index = index
        self.sites: Mapping[str, Sequence[int]] | None = None
        if which.asset_ids is None:
            by_site = index.keys_by_site
            site_ids = by_site.keys() if which.site_ids is None else which.site_ids & by_site.keys()
            self.sites = {site_id: by_site[site_id] for site_id in site_ids}
        self.keys: Sequence[int] = index.all_keys
        if which.is_narrowed:
            chosen = self._chosen()
            self.keys = [key for key in index.all_keys if key in chosen]

    def _chosen(self) -> set[int]:
        which, index = self.which, self._index
        chosen: set[int] | None = None
        if which.asset_ids is not None:
            chosen = {key for asset_id in which.asset_ids if (key := index.find(asset_id)) is not None}
        if which.site_ids is not None:
            of_sites = {key for site_id in which.site_ids for key in index.keys_by_site.get(site_id, ())}
            chosen = of_sites if chosen is None else chosen & of_sites
        return chosen or set()

    @cached_property
    def key_set(self) -> frozenset[int]:
        """The assets shown."""
        return frozenset(self.keys)

    def shown(self, keys: frozenset[int] | set[int]) -> Sequence[int]:
        """Return those of the assets that are shown."""
        return sorted(self.key_set & keys)

    def shows_dispatch(self, dispatch: Dispatch) -> bool:
        """Whether a dispatch lies within the scope, and has a setpoint of an asset that is shown."""
        if not self._index.shows(dispatch):
            return False
        return not self.which.is_narrowed or not dispatch.setpoints.keys().isdisjoint(self.key_set)

    def shows_schedule(self, schedule: Schedule, keys: Collection[int]) -> bool:
        """Whether a schedule lies within the scope, and one of its assets, which are `keys`, is shown."""
        site_ids = None if schedule.site_ids is None else tuple(schedule.site_ids)
        if not lies_within(self.which.scope, tenant=schedule.tenant, site_ids=site_ids):
            return False
        return not self.which.is_narrowed or not self.key_set.isdisjoint(keys)

    def shows_alarm(self, alarm: Alarm) -> bool:
        """Whether an alarm lies within the scope, and lists one of the sites and assets of the filter."""
        which = self.which
        if not lies_within(which.scope, tenant=alarm.tenant, site_ids=alarm.site_ids):
            return False
        if which.site_ids is not None and which.site_ids.isdisjoint(alarm.site_ids or ()):
            return False
        return which.asset_ids is None or not which.asset_ids.isdisjoint(alarm.asset_ids or ())
