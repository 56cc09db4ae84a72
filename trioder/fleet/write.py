"""An asset as a JSON document for its agent, and a fleet as the text of a fleet file."""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet, Site

# In the order in which they are written; the optional ones where they differ from their default.
_NAMES = ("id", "site_id", "site_name", "name", "location")
_NUMBERS = ("capacity_mwhr", "max_mw", "min_mw", "efficiency", "ramp_rate_mw_per_min")
_OPTIONAL = [field for field in fields(Asset) if isinstance(field.default, float)]


def asset_to_document(asset: Asset) -> dict[str, Any]:
    """Return the asset as JSON values, without optional ones that have their default.

    `efficiency` is one way: its square is the round trip's. If the directions differ, the document has
    `charge_efficiency` and `discharge_efficiency` as well.
    """
    keys = [*_NAMES, *_NUMBERS]
    if asset.charge_efficiency != asset.discharge_efficiency:
        keys += ["charge_efficiency", "discharge_efficiency"]
    keys += [field.name for field in _OPTIONAL if getattr(asset, field.name) != field.default]
    return {key: getattr(asset, key) for key in keys}


def dump_fleet(
    fleet: Fleet, *, form: Literal["yaml", "json"], heading: str = "", notes: Mapping[str, str] | None = None
) -> str:
    """Return the text that `load_fleet` reads back as an equal fleet.

    Args:
        fleet: sites and assets, written in their order.
        form: the format of the file.
        heading: comment lines for the top of a YAML file, without their #.
        notes: comments for a YAML file, each above the site or asset with that id.
    """
    content = {"sites": list(map(_site_entry, fleet.sites)), "assets": list(map(_asset_entry, fleet.assets))}
    if form == "json":
        return json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    lines = [f"# {line}".rstrip() for line in heading.splitlines()]
    for name, entries in content.items():
        lines.append(f"{name}:")
        for entry in entries:
            lines += [f"  # {line}" for line in (notes or {}).get(entry["id"], "").splitlines()]
            lines.append("  - " + "\n    ".join(f"{key}: {_yaml(key, entry[key])}" for key in entry))
    return "\n".join(lines) + "\n"


def _yaml(key: str, value: object) -> object:
    # A UUID needs no quotes; JSON's quoted text is valid YAML.
    return value if key in {"id", "site_id"} else json.dumps(value, ensure_ascii=False)


def _site_entry(site: Site) -> dict[str, Any]:
    values = {field: getattr(site, field.name) for field in fields(site)}
    return {field.name: value for field, value in values.items() if value != field.default}


def _asset_entry(asset: Asset) -> dict[str, Any]:
    entry = asset_to_document(asset)
    del entry["site_name"], entry["location"]
    if "charge_efficiency" in entry:
        del entry["efficiency"]
    return entry
