"""The rows of `/sites` and `/fleet`: sums over the assets of a site or of the whole fleet, made in steps."""

from collections.abc import Sequence
from typing import Any

from trioder.api.context import Headend
from trioder.api.sums import SUM_US, Sums, add_assets, sum_columns
from trioder.domain.fleet import Site
from trioder.process.rfc3339 import format_ms
from trioder.process.slices import Steps, parts_of
from trioder.schemas.resources import FleetRow

# The cost of a site's row.
_ROW_US = 20.0


def fleet_steps(headend: Headend, keys: Sequence[int]) -> Steps[FleetRow]:
    """Return the sums over these assets, in steps."""
    sums = yield from _sum_steps(headend, keys)
    return FleetRow(**sum_columns(sums))


def site_steps(headend: Headend, sites: Sequence[tuple[Site, Sequence[int]]]) -> Steps[list[dict[str, Any]]]:
    """Return the columns of a `SiteRow` for each site with its assets, in steps."""
    rows: list[dict[str, Any]] = []
    table = headend.dispatcher.site_limits
    for site, keys in sites:
        columns = {name: getattr(site, name) for name in ("id", "name", "location", "lat", "lon")}
        limits, record = table.limits_of(site.id), table.set_by_user(site.id)
        columns["export_limit_mw"], columns["import_limit_mw"] = limits.export_mw, limits.import_mw
        until_ms = None if record is None else record.until_ms
        columns["limits_until"] = None if until_ms is None else format_ms(until_ms)
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
