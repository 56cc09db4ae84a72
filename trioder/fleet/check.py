"""A fleet file or an asset document into values of the domain, or every error in it with its line."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from trioder.domain.access import TENANT_RULE, is_tenant
from trioder.domain.assets import NAMEPLATE_FIELDS, Asset, nameplate_faults
from trioder.domain.fleet import Fleet, Site
from trioder.domain.text import CANONICAL_UUID, MAX_NAME_LENGTH
from trioder.fleet.parse import Findings, Section, describe, parse_file

_Values = dict[str, Any]


def load_fleet(path: Path) -> Fleet:
    """Read and check a fleet file: JSON when its name ends in .json, else YAML.

    Raises:
        FleetFileError: with every error found; only one if the file cannot be read or parsed.
    """
    findings = Findings(str(path))
    site_values, asset_values = _check_file(parse_file(path, findings), findings)
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
    values = _check(_DOCUMENT, section, findings)
    findings.raise_any()
    return _asset(values)


def _asset(values: _Values) -> Asset:
    one_way = values.pop("efficiency", None)
    if "round_trip_efficiency" in values:
        one_way = math.sqrt(values.pop("round_trip_efficiency"))
    if one_way is not None:
        values["charge_efficiency"] = values["discharge_efficiency"] = one_way
    return Asset(**values)


def _check_file(root: Section, findings: Findings) -> tuple[list[_Values], list[_Values]]:
    """Return the valid values of each site and of each asset; report every error."""
    lists = _check(_FILE, root, findings)
    sites = _check_each(_SITE, "sites", lists, findings)
    # A site with errors is still a site: references to it are not errors.
    site_ids = {values.get("id") for values in sites}

    def reference(value: object) -> str:
        if (site_id := _uuid(value)) not in site_ids:
            raise ValueError(f"is {site_id!r}; no site has this id")
        return site_id

    kind = _ASSET._replace(checks={**_ASSET.checks, "site_id": reference})
    return sites, _check_each(kind, "assets", lists, findings)


# Checks of one value: each returns it, or raises ValueError with the message.


def _entries(value: object) -> list[Any]:
    if not isinstance(value, list) or not value:
        what = "an empty list" if isinstance(value, list) else describe(value)
        raise ValueError(f"is {what}; it must be a list with at least one entry")
    return value


def _uuid(value: object) -> str:
    if not (isinstance(value, str) and CANONICAL_UUID.fullmatch(value.lower())):
        raise _must_be("a UUID such as 123e4567-e89b-12d3-a456-426614174000", value)
    return value.lower()


def _text(value: object, *, min_length: int = 0) -> str:
    if not isinstance(value, str):
        raise _must_be("text (in quotes, if it looks like a number)", value)
    if not min_length <= len(value) <= MAX_NAME_LENGTH or not value.isprintable():
        raise _must_be(f"{min_length}..{MAX_NAME_LENGTH} printable characters", value)
    return value


def _tenant(value: object) -> str:
    if not (isinstance(value, str) and is_tenant(value)):
        raise _must_be(TENANT_RULE, value)
    return value


def _number(value: object) -> float:
    # bool is an int to Python, and a mistake in a fleet.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _must_be("a number", value)
    try:
        return float(value)
    except OverflowError:
        raise _must_be("a finite number", value) from None


def _limit(value: object) -> float:
    limit_mw = _number(value)
    if not 0.0 < limit_mw < math.inf:
        raise _must_be("a finite number greater than 0", value)
    return limit_mw


def _must_be(rule: str, value: object) -> ValueError:
    return ValueError(f"is {describe(value)}; it must be {rule}")


# Rules between the fields of a mapping, from its valid values and all that is given: the errors by key.


def _site_rules(values: _Values, given: Section) -> Iterator[tuple[str, str]]:
    for key, limit in (("lat", 90.0), ("lon", 180.0)):
        if key in values and not -limit <= values[key] <= limit:
            yield key, f"is {values[key]!r}; it must be within {-limit:g}..{limit:g}"
    if ("lat" in given) != ("lon" in given):
        yield "lon" if "lat" in given else "lat", "is missing; lat and lon go together"


def _asset_rules(values: _Values, given: Section) -> Iterator[tuple[str, str]]:
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


class _Kind(NamedTuple):
    """A kind of mapping: the check of each key, the keys it must have, and the rules between them."""

    noun: str
    checks: Mapping[str, Callable[[object], Any]]
    required: Sequence[str]
    rules: Callable[[_Values, Section], Iterable[tuple[str, str]]] = lambda *_: ()


_name = partial(_text, min_length=1)
_EFFICIENCIES = ("efficiency", "round_trip_efficiency", "charge_efficiency", "discharge_efficiency")
_NUMBERS = dict.fromkeys((*NAMEPLATE_FIELDS, *_EFFICIENCIES), _number)
_FILE = _Kind("a fleet file", {"sites": _entries, "assets": _entries}, ("sites", "assets"))
_SITE = _Kind(
    "a site",
    {
        "id": _uuid,
        "name": _name,
        "location": _text,
        "lat": _number,
        "lon": _number,
        "tenant": _tenant,
        **dict.fromkeys(("export_limit_mw", "import_limit_mw"), _limit),
    },
    ("id", "name", "location"),
    _site_rules,
)
_ASSET = _Kind(
    "an asset",
    {"id": _uuid, "name": _name, "site_id": _uuid, **_NUMBERS},
    ("id", "name", "site_id", "capacity_mwhr", "max_mw", "min_mw", "ramp_rate_mw_per_min"),
    _asset_rules,
)
# An asset passed between processes carries its site's name and location.
_DOCUMENT = _ASSET._replace(
    noun="an asset document", checks={**_ASSET.checks, "site_name": _text, "location": _text}
)


def _check_each(kind: _Kind, key: str, lists: _Values, findings: Findings) -> list[_Values]:
    """Return the valid values of each mapping in a list; report what is no mapping or has a used id."""
    checked: list[_Values] = []
    place_by_id: dict[str, str] = {}
    entries = lists.get(key, [])
    lines = getattr(entries, "lines", [None] * len(entries))
    for position, (entry, line) in enumerate(zip(entries, lines, strict=True)):
        path = f"{key}[{position}]"
        if not isinstance(entry, Section):
            findings.add(f"is {describe(entry)}; it must be a mapping", field=path, line=line)
            continue
        checked.append(_check(kind, entry, findings, path))
        if isinstance(entry_id := entry.get("id"), str):
            id_line = entry.line_of("id")
            place = f"{path}.id" if id_line is None else f"line {id_line}"
            if (first := place_by_id.setdefault(entry_id.lower(), place)) != place:
                message = f"is {describe(entry_id)}; {first} has this id already"
                findings.add(message, field=f"{path}.id", line=id_line)
    return checked


def _check(kind: _Kind, section: Section, findings: Findings, path: str = "") -> _Values:
    """Return the valid values of a mapping; report every error in it."""
    values, faults = {}, []
    for key, value in section.items():
        try:
            values[key] = kind.checks[key](value)
        except KeyError:
            faults.append((key, f"is not a key of {kind.noun}{_suggestion(key, frozenset(kind.checks))}"))
        except ValueError as error:
            faults.append((key, str(error)))
    faults += [(key, "is missing") for key in kind.required if key not in section]
    faults += kind.rules(values, section)
    for key, message in faults:
        findings.add(message, field=f"{path}.{key}" if path else key, line=section.line_of(key))
    return values


@lru_cache(maxsize=256)  # the same misspelling is often in every record of a generated file
def _suggestion(key: str, known: frozenset[str]) -> str:
    near = get_close_matches(key[:80], sorted(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
