"""An asset as a JSON document for its agent, and a fleet as the text of a fleet file."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Literal

from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet, Site

_DOCUMENT_KEYS = (
    "id",
    "site_id",
    "site_name",
    "name",
    "location",
    "capacity_mwhr",
    "max_mw",
    "min_mw",
    "efficiency",
    "ramp_rate_mw_per_min",
)
# Written only where they differ from the default.
_DEFAULTS = {
    each.name: each.default for each in fields(Asset) if each.init and isinstance(each.default, float)
}
_NO_NOTES: Mapping[str, str] = {}


def asset_to_document(asset: Asset) -> dict[str, Any]:
    """Return the asset as JSON values, without optional ones that have their default.

    `efficiency` is one way: its square is the round trip's. If the directions differ, the document has
    `charge_efficiency` and `discharge_efficiency` as well.
    """
    document: dict[str, Any] = {key: getattr(asset, key) for key in _DOCUMENT_KEYS}
    if asset.charge_efficiency != asset.discharge_efficiency:
        document["charge_efficiency"] = asset.charge_efficiency
        document["discharge_efficiency"] = asset.discharge_efficiency
    optional = {key: getattr(asset, key) for key in _DEFAULTS}
    return document | {key: value for key, value in optional.items() if value != _DEFAULTS[key]}


def dump_fleet(
    fleet: Fleet,
    *,
    form: Literal["yaml", "json"],
    heading: str = "",
    notes: Mapping[str, str] = _NO_NOTES,
) -> str:
    """Return the text that `load_fleet` reads back as an equal fleet.

    Args:
        fleet: sites and assets, written in their order.
        form: the format of the file.
        heading: comment lines for the top of a YAML file, without their #.
        notes: comments for a YAML file, each above the asset with that id.
    """
    sites, assets = list(map(_site_entry, fleet.sites)), list(map(_asset_entry, fleet.assets))
    if form == "json":
        return json.dumps({"sites": sites, "assets": assets}, ensure_ascii=False, indent=1) + "\n"
    lines = [f"# {line}".rstrip() for line in heading.splitlines()]
    lines.append("sites:")
    for entry in sites:
        lines += _yaml_entry(entry)
    lines.append("assets:")
    for entry in assets:
        lines += [f"  # {line}" for line in notes.get(entry["id"], "").splitlines()]
        lines += _yaml_entry(entry)
    return "\n".join(lines) + "\n"


def _yaml_entry(entry: Mapping[str, Any]) -> Iterator[str]:
    indent = "  - "
    for key, value in entry.items():
        # A UUID needs no quotes; JSON's quoted text is valid YAML.
        yield f"{indent}{key}: {value if key in {'id', 'site_id'} else json.dumps(value, ensure_ascii=False)}"
        indent = "    "


def _site_entry(site: Site) -> dict[str, Any]:
    entry = {field.name: getattr(site, field.name) for field in fields(Site) if field.name != "tenant"}
    return {key: value for key, value in entry.items() if value is not None}


def _asset_entry(asset: Asset) -> dict[str, Any]:
    entry = asset_to_document(asset)
    del entry["site_name"], entry["location"]
    if "charge_efficiency" in entry:
        del entry["efficiency"]
    return entry
