"""A fleet file or an asset document into values of the domain, or every error in it with its line."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from trioder.domain.assets import NAMEPLATE_FIELDS, Asset, nameplate_faults
from trioder.domain.fleet import Fleet, Site
from trioder.domain.text import CANONICAL_UUID, MAX_NAME_LENGTH
from trioder.fleet.parse import Findings, Section, describe, parse_json, parse_yaml

_EFFICIENCY_FORMS = (
    ("efficiency",),
    ("round_trip_efficiency",),
    ("charge_efficiency", "discharge_efficiency"),
)


def _uuid(value: object) -> str:
    if not (isinstance(value, str) and CANONICAL_UUID.fullmatch(value.lower())):
        raise ValueError("a UUID such as 123e4567-e89b-12d3-a456-426614174000")
    return value.lower()


def _text(value: object, *, min_length: int = 0) -> str:
    if not isinstance(value, str):
        raise ValueError("text (in quotes, if it looks like a number)")  # noqa: TRY004  # the caller reports it
    if not min_length <= len(value) <= MAX_NAME_LENGTH or not value.isprintable():
        raise ValueError(f"{min_length}..{MAX_NAME_LENGTH} printable characters")
    return value


def _name(value: object) -> str:
    return _text(value, min_length=1)


def _number(value: object) -> float:
    # bool is an int to Python, and a mistake in a fleet.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number")  # noqa: TRY004  # as above
    try:
        return float(value)
    except OverflowError:
        raise ValueError("a finite number") from None


class _Kind(NamedTuple):
    """A kind of record: each key's check, which raises ValueError with what the value must be."""

    noun: str
    checks: Mapping[str, Callable[[object], str | float]]
    required: Sequence[str]


_SITE = _Kind(
    "a site",
    {"id": _uuid, "name": _name, "location": _text, "lat": _number, "lon": _number},
    ("id", "name", "location"),
)
_NUMBERS = (*NAMEPLATE_FIELDS, "efficiency", "round_trip_efficiency")
_ASSET = _Kind(
    "an asset",
    {"id": _uuid, "name": _name, "site_id": _uuid, **dict.fromkeys(_NUMBERS, _number)},
    ("id", "name", "site_id", "capacity_mwhr", "max_mw", "min_mw", "ramp_rate_mw_per_min"),
)
# An asset passed between processes carries its site's name and location.
_DOCUMENT = _Kind(
    "an asset document", {**_ASSET.checks, "site_name": _text, "location": _text}, _ASSET.required
)


def load_fleet(path: Path) -> Fleet:
    """Read and check a fleet file: JSON when its name ends in .json, else YAML.

    Raises:
        FleetFileError: with every error found; only one if the file cannot be read or parsed.
    """
    findings = Findings(str(path))
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise findings.fatal(f"cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise findings.fatal(f"not UTF-8: {error.reason}", line=line) from None
    root = (parse_json if path.suffix.lower() == ".json" else parse_yaml)(text, findings)
    if not isinstance(root, Section):
        what = "the file is empty" if root is None else f"the file holds {describe(root)}"
        raise findings.fatal(f"{what}; it must be a mapping with the keys sites and assets")
    fleet = _read_fleet(root, findings)
    findings.raise_any()
    return fleet


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
    record = _Record(_DOCUMENT, section, "", findings)
    values = _asset_values(record)
    findings.raise_any()
    return Asset(**values)


class _Record:
    """One mapping under check: its valid values, and whether there are no others."""

    def __init__(self, kind: _Kind, section: Section, path: str, findings: Findings) -> None:
        self.section = section
        self.values: dict[str, Any] = {}
        self.is_valid = True
        self._path = path
        self._findings = findings
        for key, value in section.items():
            try:
                self.values[key] = kind.checks[key](value)
            except KeyError:
                self.fault(key, f"is not a key of {kind.noun}{_suggestion(key, frozenset(kind.checks))}")
            except ValueError as rule:
                self.fault(key, f"is {describe(value)}; it must be {rule}")
        for key in kind.required:
            if key not in section:
                self.fault(key, "is missing")

    def fault(self, key: str, message: str) -> None:
        """Record an error of a key, present or not."""
        self.is_valid = False
        field = f"{self._path}.{key}" if self._path else key
        self._findings.add(message, field=field, line=self.section.line_of(key))


def _read_fleet(root: Section, findings: Findings) -> Fleet:
    known = frozenset({"sites", "assets"})
    for key in root.keys() - known:
        message = f"is not a key of a fleet file{_suggestion(key, known)}"
        findings.add(message, field=key, line=root.line_of(key))
    # A site with errors is still a site: references to it are not errors.
    sites: dict[str, Site | None] = {}
    for path, section in _sections(root, "sites", findings):
        site = _read_site(section, path, findings)
        if isinstance(site_id := section.get("id"), str):
            sites.setdefault(site_id.lower(), site)
    assets = [
        asset
        for path, section in _sections(root, "assets", findings)
        if (asset := _read_asset(section, path, findings, sites)) is not None
    ]
    return Fleet(sites=filter(None, sites.values()), assets=assets)


def _sections(root: Section, key: str, findings: Findings) -> Iterator[tuple[str, Section]]:
    """Yield each mapping of a list of the file, with its path; report what is no mapping or has a used id."""
    if key not in root:
        findings.add("is missing", field=key, line=root.line)
        return
    listing = root[key]
    if not isinstance(listing, list) or not listing:
        what = "an empty list" if isinstance(listing, list) else describe(listing)
        message = f"is {what}; it must be a list with at least one entry"
        findings.add(message, field=key, line=root.line_of(key))
        return
    first_by_id: dict[str, str] = {}
    lines = getattr(listing, "lines", [None] * len(listing))
    for position, (item, line) in enumerate(zip(listing, lines, strict=True)):
        path = f"{key}[{position}]"
        if not isinstance(item, Section):
            findings.add(f"is {describe(item)}; it must be a mapping", field=path, line=line)
            continue
        yield path, item
        if isinstance(item_id := item.get("id"), str):
            id_line = item.line_of("id")
            place = f"{path}.id" if id_line is None else f"line {id_line}"
            if (first := first_by_id.setdefault(item_id.lower(), place)) != place:
                message = f"is {describe(item_id)}; {first} has this id already"
                findings.add(message, field=f"{path}.id", line=id_line)


def _read_site(section: Section, path: str, findings: Findings) -> Site | None:
    record = _Record(_SITE, section, path, findings)
    for key, limit in (("lat", 90.0), ("lon", 180.0)):
        value = record.values.get(key, 0.0)
        if not -limit <= value <= limit:
            record.fault(key, f"is {value!r}; it must be within {-limit:g}..{limit:g}")
    if ("lat" in section) != ("lon" in section):
        record.fault("lon" if "lat" in section else "lat", "is missing; lat and lon go together")
    return Site(**record.values) if record.is_valid else None


def _read_asset(
    section: Section, path: str, findings: Findings, sites: Mapping[str, Site | None]
) -> Asset | None:
    record = _Record(_ASSET, section, path, findings)
    site_id = record.values.get("site_id", "")
    if site_id and site_id not in sites:
        record.fault("site_id", f"is {site_id!r}; no site has this id")
    values, site = _asset_values(record), sites.get(site_id)
    if not record.is_valid or site is None:
        return None
    return Asset(**values, site_name=site.name, location=site.location)


def _asset_values(record: _Record) -> dict[str, Any]:
    """Check the nameplate and return the record's values with the efficiency of each direction."""
    values, given = dict(record.values), record.section.keys()
    numbers = {key: value for key, value in values.items() if key in _NUMBERS}
    for key, message in nameplate_faults(numbers):
        record.fault(key, message)
    forms = [form for form in _EFFICIENCY_FORMS if given & set(form)]
    keys = [key for form in forms for key in form if key in given]
    if not forms:
        record.fault("efficiency", "is missing")
    elif len(forms) > 1:
        record.fault(keys[-1], f"the efficiency is given in more than one form: {', '.join(keys)}")
    else:
        for key in set(forms[0]) - given:
            record.fault(key, f"is missing; it goes with {keys[0]}")
    if record.is_valid and len(forms[0]) == 1:
        one_way = values.pop(keys[0])
        if keys[0] == "round_trip_efficiency":
            one_way = math.sqrt(one_way)
        values["charge_efficiency"] = values["discharge_efficiency"] = one_way
    return values


@lru_cache(maxsize=256)  # the same misspelling is often in every record of a generated file
def _suggestion(key: str, known: frozenset[str]) -> str:
    near = get_close_matches(key[:80], sorted(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
