"""A fleet as the text of a fleet file, for the programs that make fleets."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet, Site
from trioder.fleet.documents import asset_to_document

_NO_NOTES: Mapping[str, str] = {}


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
        notes: comments for a YAML file, by the id of the asset that they stand above.
    """
    if form == "json":
        document = {
            "sites": [_site_entry(site) for site in fleet.sites],
            "assets": [_asset_entry(asset) for asset in fleet.assets],
        }
        return json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    return "\n".join(_yaml_lines(fleet, heading, notes)) + "\n"


def _yaml_lines(fleet: Fleet, heading: str, notes: Mapping[str, str]) -> Iterator[str]:
    for line in heading.splitlines():
        yield f"# {line}".rstrip()
    yield "sites:"
    for site in fleet.sites:
        yield from _yaml_entry(_site_entry(site))
    yield "assets:"
    for asset in fleet.assets:
        for line in notes.get(asset.id, "").splitlines():
            yield f"  # {line}"
        yield from _yaml_entry(_asset_entry(asset))


def _yaml_entry(entry: Mapping[str, Any]) -> Iterator[str]:
    lead = "  - "
    for key, value in entry.items():
        # A UUID needs no quotes, and JSON's are YAML's.
        shown = value if key in {"id", "site_id"} else json.dumps(value, ensure_ascii=False)
        yield f"{lead}{key}: {shown}"
        lead = "    "


def _site_entry(site: Site) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": site.id, "name": site.name, "location": site.location}
    if site.lat is not None and site.lon is not None:
        entry |= {"lat": site.lat, "lon": site.lon}
    return entry


def _asset_entry(asset: Asset) -> dict[str, Any]:
    entry = asset_to_document(asset)
    # The site tells these.
    del entry["site_name"], entry["location"]
    if "charge_efficiency" in entry:
        del entry["efficiency"]
    return entry
