"""The rows of `/sites` and `/fleet`: sums over the assets of a site or of the whole fleet, made in steps."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from trioder.api.context import Headend
from trioder.api.sums import SUM_US, Sums, add_assets, sum_columns
from trioder.domain.access import Scope
from trioder.domain.alarms import Alarm, AlarmFilter
from trioder.domain.fleet import Site
from trioder.process.rfc3339 import format_ms
from trioder.process.slices import Steps, parts_of
from trioder.schemas.resources import AlarmCountsRow, FleetRow

# The cost of a site's row.
_ROW_US = 20.0
_SITE_COLUMNS = ("id", "name", "tenant", "location", "lat", "lon")


def fleet_steps(headend: Headend, keys: Sequence[int]) -> Steps[FleetRow]:
    """Return the sums over these assets, in steps."""
    sums = yield from _sum_steps(headend, keys)
    return FleetRow(**sum_columns(sums))


class SiteAssets(NamedTuple):
    """A site, the keys of its assets, and the open alarms that list it."""

    site: Site
    keys: Sequence[int]
    alarms: Sequence[Alarm]


def alarms_by_site(headend: Headend, scope: Scope) -> Mapping[str, Sequence[Alarm]]:
    """Return the open alarms within a scope by the sites that they list."""
    which, found = AlarmFilter(scope=scope), defaultdict[str, list[Alarm]](list)
    for alarm in filter(which.matches, headend.alarms.register.open_alarms()):
        for site_id in alarm.site_ids or ():
            found[site_id].append(alarm)
    return found


def site_steps(headend: Headend, sites: Sequence[SiteAssets]) -> Steps[list[dict[str, Any]]]:
    """Return the columns of a `SiteRow` for each site, in steps."""
    rows: list[dict[str, Any]] = []
    table = headend.dispatcher.site_limits
    for site, keys, alarms in sites:
        columns = {name: getattr(site, name) for name in _SITE_COLUMNS}
        limits, record = table.limits_of(site.id), table.set_by_user(site.id)
        columns["export_limit_mw"], columns["import_limit_mw"] = limits.export_mw, limits.import_mw
        until_ms = None if record is None else record.until_ms
        columns["limits_until"] = None if until_ms is None else format_ms(until_ms)
        columns["alarms"] = AlarmCountsRow(**Counter[str](alarm.severity for alarm in alarms))
        columns["unacknowledged_alarms"] = sum(alarm.acknowledged_ms is None for alarm in alarms)
        sums = yield from _sum_steps(headend, keys)
        rows.append(columns | sum_columns(sums))
        yield _ROW_US
    return rows


def _sum_steps(headend: Headend, keys: Sequence[int]) -> Steps[Sums]:
    sums = Sums()
    for part in parts_of(keys):
        add_assets(sums, part, headend)
        yield SUM_US * len(part)
    return sums
