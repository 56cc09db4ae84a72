"""The limits of sites that are in effect: of the fleet file, or set by users, for a time or until removed.

That setpoints keep to them is in `site_power`.
"""

from collections.abc import Iterable, Mapping

import structlog

from trioder.domain.fleet import Fleet
from trioder.domain.site_limits import SiteLimits, SiteLimitsRecord
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store

log = structlog.stdlib.get_logger(__name__)


class SiteLimitTable:
    """The limits by site.

    Attributes:
        changed: the sites whose limits have changed since this was emptied.
        version: changes with every change of a limit; those of a reload follow the fleet's version.
    """

    def __init__(self, *, fleet: Fleet, store: Store, wall: WallClock) -> None:
        self.changed: set[str] = set()
        self.version = 0
        self._fleet = fleet
        self._store = store
        self._wall = wall
        self._set: dict[str, SiteLimitsRecord] = {}
        self._of_file: dict[str, SiteLimits] = {}
        self._in_effect: dict[str, SiteLimits] = {}
        self._version = -1

    @property
    def in_effect(self) -> Mapping[str, SiteLimits]:
        """The limits of the sites that have any."""
        if self._version != self._fleet.version:
            self._version = self._fleet.version
            self._read_file()
        return self._in_effect

    def limits_of(self, site_id: str) -> SiteLimits:
        """Return the limits of a site."""
        return self.in_effect.get(site_id, SiteLimits())

    def set_by_user(self, site_id: str) -> SiteLimitsRecord | None:
        """Return what a user has set for a site; None while the fleet file's limits apply."""
        return self._set.get(site_id)

    def set(self, record: SiteLimitsRecord) -> None:
        """Set the limits of a site; they replace those that were set before."""
        self._set[record.site_id] = record
        self._store.record_site_limits(record.site_id, record)
        self._update(record.site_id)
        log.warning(
            "limits of a site set",
            site_id=record.site_id,
            export_limit_mw=record.limits.export_mw,
            import_limit_mw=record.limits.import_mw,
            until_ms=record.until_ms,
            set_by=record.set_by,
        )

    def remove(self, site_id: str, *, reason: str) -> bool:
        """Apply the fleet file's limits again; False if they did."""
        if self._set.pop(site_id, None) is None:
            return False
        self._store.record_site_limits(site_id, None)
        self._update(site_id)
        log.warning("limits of a site removed", site_id=site_id, reason=reason)
        return True

    def expire(self) -> None:
        """Remove the limits whose time is over."""
        now_ms = self._wall.now_ms()
        for record in tuple(self._set.values()):
            if record.until_ms is not None and now_ms >= record.until_ms:
                self.remove(record.site_id, reason="their time is over")

    def recover(self, records: Iterable[SiteLimitsRecord]) -> None:
        """Continue with what was set before the start."""
        self._set.update((record.site_id, record) for record in records)
        self._version = -1
        self.version += 1
        self.expire()

    def _read_file(self) -> None:
        sites = self._fleet.sites
        limits = {
            site.id: SiteLimits(export_mw=site.export_limit_mw, import_mw=site.import_limit_mw)
            for site in sites
            if site.export_limit_mw is not None or site.import_limit_mw is not None
        }
        before, self._of_file = self._in_effect, limits
        self._in_effect = {}
        for site_id in self._of_file.keys() | self._set.keys():
            self._update(site_id)
        self.changed |= before.keys() | self._in_effect.keys()

    def _update(self, site_id: str) -> None:
        self.version += 1
        limits = self._of_file.get(site_id, SiteLimits())
        record = self._set.get(site_id)
        if record is not None:
            export_mw, import_mw = record.limits.export_mw, record.limits.import_mw
            limits = SiteLimits(
                export_mw=limits.export_mw if export_mw is None else export_mw,
                import_mw=limits.import_mw if import_mw is None else import_mw,
            )
        self.changed.add(site_id)
        if limits.is_limited:
            self._in_effect[site_id] = limits
        else:
            self._in_effect.pop(site_id, None)
