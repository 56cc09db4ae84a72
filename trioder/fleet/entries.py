"""What a site and an asset are in a file or document, and how they become values of the domain."""

import math
from collections.abc import Mapping

from trioder.domain.assets import Asset, nameplate_faults
from trioder.domain.fleet import Site
from trioder.fleet.record import Record, Shape
from trioder.fleet.tree import Findings, Section

_SITE = Shape(
    noun="a site",
    ids=frozenset({"id"}),
    names=frozenset({"name"}),
    texts=frozenset({"location"}),
    numbers=frozenset({"lat", "lon"}),
    required=("id", "name", "location"),
)
_ASSET = Shape(
    noun="an asset",
    ids=frozenset({"id", "site_id"}),
    names=frozenset({"name"}),
    numbers=frozenset(
        {
            "capacity_mwhr",
            "max_mw",
            "min_mw",
            "efficiency",
            "charge_efficiency",
            "discharge_efficiency",
            "round_trip_efficiency",
            "ramp_rate_mw_per_min",
            "min_soc_pct",
            "max_soc_pct",
            "aux_load_mw",
            "self_discharge_pct_per_day",
        }
    ),
    required=("id", "name", "site_id", "capacity_mwhr", "max_mw", "min_mw", "ramp_rate_mw_per_min"),
)
# Handed from process to process, an asset brings along what its site would tell.
_DOCUMENT = Shape(
    noun="an asset document",
    ids=_ASSET.ids,
    names=_ASSET.names,
    texts=frozenset({"site_name", "location"}),
    numbers=_ASSET.numbers,
    required=_ASSET.required,
)
_EFFICIENCY_FORMS = (
    ("efficiency",),
    ("round_trip_efficiency",),
    ("charge_efficiency", "discharge_efficiency"),
)
_PASSED_ON = (
    "capacity_mwhr",
    "max_mw",
    "min_mw",
    "ramp_rate_mw_per_min",
    "min_soc_pct",
    "max_soc_pct",
    "aux_load_mw",
    "self_discharge_pct_per_day",
)


def read_site(section: Section, path: str, findings: Findings) -> Site | None:
    """Return the site, or None with its faults noted."""
    record = Record(section, path, _SITE, findings)
    for key, limit in (("lat", 90.0), ("lon", 180.0)):
        value = record.numbers.get(key)
        if value is not None and not -limit <= value <= limit:
            record.fault(key, f"is {value!r}; it must be within {-limit:g}..{limit:g}")
    if record.has("lat") != record.has("lon"):
        absent = "lon" if record.has("lat") else "lat"
        record.fault(absent, "is missing; lat and lon go together")
    if not record.is_sound:
        return None
    texts, numbers = record.texts, record.numbers
    return Site(
        id=texts["id"],
        name=texts["name"],
        location=texts["location"],
        lat=numbers.get("lat"),
        lon=numbers.get("lon"),
    )


def read_asset(
    section: Section, path: str, findings: Findings, *, sites: Mapping[str, Site | None]
) -> Asset | None:
    """Return the asset of a fleet file, or None with its faults noted.

    Args:
        section: the asset's mapping.
        path: where it stands, such as assets[17].
        findings: takes the faults.
        sites: the file's sites by id; None stands for one that has faults of its own.
    """
    record = Record(section, path, _ASSET, findings)
    site_id = record.texts.get("site_id", "")
    if site_id and site_id not in sites:
        record.fault("site_id", f"is {site_id!r}; no site has this id")
    efficiencies = _efficiencies(record)
    site = sites.get(site_id)
    if efficiencies is None or site is None:
        return None
    return _built(record, efficiencies, site_name=site.name, location=site.location)


def read_document(section: Section, findings: Findings) -> Asset | None:
    """Return the asset of a document that stands for itself, or None with its faults noted."""
    record = Record(section, "", _DOCUMENT, findings)
    efficiencies = _efficiencies(record)
    if efficiencies is None:
        return None
    texts = record.texts
    return _built(
        record, efficiencies, site_name=texts.get("site_name", ""), location=texts.get("location", "")
    )


def _efficiencies(record: Record) -> tuple[float, float] | None:
    """Return the charge and the discharge efficiency, or None when anything of the record is not sound."""
    for key, message in nameplate_faults(record.numbers):
        record.fault(key, message)
    given = [form for form in _EFFICIENCY_FORMS if any(record.has(key) for key in form)]
    if not given:
        record.fault("efficiency", "is missing")
    elif len(given) > 1:
        keys = [key for form in given for key in form if record.has(key)]
        record.fault(keys[-1], f"the efficiency is given in more than one form: {', '.join(keys)}")
    else:
        for key in given[0]:
            if not record.has(key):
                record.fault(key, f"is missing; it goes with {next(k for k in given[0] if k != key)}")
    if not record.is_sound:
        return None
    numbers = record.numbers
    match given[0]:
        case ("efficiency",):
            return numbers["efficiency"], numbers["efficiency"]
        case ("round_trip_efficiency",):
            one_way = math.sqrt(numbers["round_trip_efficiency"])
            return one_way, one_way
        case _:
            return numbers["charge_efficiency"], numbers["discharge_efficiency"]


def _built(record: Record, efficiencies: tuple[float, float], *, site_name: str, location: str) -> Asset:
    texts, numbers = record.texts, record.numbers
    charge_efficiency, discharge_efficiency = efficiencies
    return Asset(
        id=texts["id"],
        name=texts["name"],
        site_id=texts["site_id"],
        site_name=site_name,
        location=location,
        charge_efficiency=charge_efficiency,
        discharge_efficiency=discharge_efficiency,
        **{key: numbers[key] for key in _PASSED_ON if key in numbers},
    )
