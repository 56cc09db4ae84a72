"""A fleet file or an asset document into values of the domain, or every error in it with its line."""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from trioder.domain.access import TENANT_RULE, is_tenant
from trioder.domain.assets import NAMEPLATE_FIELDS, Asset, nameplate_faults
from trioder.domain.fleet import SITE_NUMBERS, Fleet, Site, site_faults
from trioder.domain.text import CANONICAL_UUID
from trioder.fleet.faults import Findings, describe
from trioder.fleet.kinds import Kind, Values, entries_of, mappings, must_be, number, text
from trioder.fleet.parse import Section, parse_file


def load_fleet(path: Path) -> Fleet:
    """Read and check a fleet file: JSON when its name ends in .json, else YAML.

    Raises:
        FleetFileError: with every error found; only one if the file cannot be read or parsed.
    """
    findings = Findings(str(path))
    lists = _FILE.check(parse_file(path, findings), findings)
    site_values = _check_each(_SITE, "sites", lists, findings)
    # A site with errors is still a site: references to it are not errors.
    site_ids = {values.get("id") for values in site_values}

    def reference(value: object) -> str:
        if (site_id := _uuid(value)) not in site_ids:
            raise ValueError(f"is {site_id!r}; no site has this id")
        return site_id

    kind = _ASSET._replace(checks={**_ASSET.checks, "site_id": reference})
    asset_values = _check_each(kind, "assets", lists, findings)
    findings.raise_any()
    sites = {values["id"]: Site(**values) for values in site_values}
    for values in asset_values:
        site = sites[values["site_id"]]
        values |= {"site_name": site.name, "location": site.location}
    return Fleet(sites=sites.values(), assets=map(_asset, asset_values))


def asset_from_document(document: Mapping[str, Any]) -> Asset:
    """Return the asset that `asset_to_document` has written, checked by the rules of a fleet file.

    An `efficiency` beside `charge_efficiency` and `discharge_efficiency` is redundant, and ignored.
    `site_name` and `location` may be absent.

    Raises:
        FleetFileError: with every error found.
    """
    findings = Findings("asset document")
    section = Section(document.items())
    if section.keys() >= {"efficiency", "charge_efficiency", "discharge_efficiency"}:
        del section["efficiency"]
    values = _DOCUMENT.check(section, findings)
    findings.raise_any()
    return _asset(values)


def _asset(values: Values) -> Asset:
    one_way = values.pop("efficiency", None)
    if "round_trip_efficiency" in values:
        one_way = math.sqrt(values.pop("round_trip_efficiency"))
    if one_way is not None:
        values["charge_efficiency"] = values["discharge_efficiency"] = one_way
    return Asset(**values)


def _check_each(kind: Kind, key: str, lists: Values, findings: Findings) -> list[Values]:
    """Return the valid values of each mapping in a list; report what is no mapping or has a used id."""
    checked: list[Values] = []
    place_by_id: dict[str, str] = {}
    for path, entry in mappings(lists.get(key, []), findings, key):
        checked.append(kind.check(entry, findings, path))
        if isinstance(entry_id := entry.get("id"), str):
            id_line = entry.line_of("id")
            place = f"{path}.id" if id_line is None else f"line {id_line}"
            if (first := place_by_id.setdefault(entry_id.lower(), place)) != place:
                message = f"is {describe(entry_id)}; {first} has this id already"
                findings.add(message, field=f"{path}.id", line=id_line)
    return checked


def _uuid(value: object) -> str:
    if not (isinstance(value, str) and CANONICAL_UUID.fullmatch(value.lower())):
        raise must_be("a UUID such as 123e4567-e89b-12d3-a456-426614174000", value)
    return value.lower()


def _tenant(value: object) -> str:
    if not (isinstance(value, str) and is_tenant(value)):
        raise must_be(TENANT_RULE, value)
    return value


def _site_rules(values: Values, given: Section) -> Iterator[tuple[str, str]]:
    yield from site_faults({key: value for key, value in values.items() if key in SITE_NUMBERS})
    if ("lat" in given) != ("lon" in given):
        yield "lon" if "lat" in given else "lat", "is missing; lat and lon go together"


def _asset_rules(values: Values, given: Section) -> Iterator[tuple[str, str]]:
    yield from nameplate_faults({key: value for key, value in values.items() if key in _NUMBERS})
    match [key for key in _EFFICIENCIES if key in given]:
        case []:
            yield "efficiency", "is missing"
        case ["charge_efficiency"]:
            yield "discharge_efficiency", "is missing; it goes with charge_efficiency"
        case ["discharge_efficiency"]:
            yield "charge_efficiency", "is missing; it goes with discharge_efficiency"
        case [_] | ["charge_efficiency", "discharge_efficiency"]:
            pass
        case keys:
            yield keys[-1], f"the efficiency is given in more than one form: {', '.join(keys)}"


_name = partial(text, min_length=1)
_EFFICIENCIES = ("efficiency", "round_trip_efficiency", "charge_efficiency", "discharge_efficiency")
_NUMBERS = dict.fromkeys((*NAMEPLATE_FIELDS, *_EFFICIENCIES), number)
_FILE = Kind("a fleet file", {"sites": entries_of, "assets": entries_of}, ("sites", "assets"))
_SITE = Kind(
    "a site",
    {"id": _uuid, "name": _name, "location": text, "tenant": _tenant, **dict.fromkeys(SITE_NUMBERS, number)},
    ("id", "name", "location"),
    _site_rules,
)
_ASSET = Kind(
    "an asset",
    {"id": _uuid, "name": _name, "site_id": _uuid, **_NUMBERS},
    ("id", "name", "site_id", "capacity_mwhr", "max_mw", "min_mw", "ramp_rate_mw_per_min"),
    _asset_rules,
)
# An asset passed between processes carries its site's name and location.
_DOCUMENT = _ASSET._replace(
    noun="an asset document", checks={**_ASSET.checks, "site_name": text, "location": text}
)
