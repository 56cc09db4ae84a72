"""An asset as a JSON-able document and back: what the launcher hands to agents and REST shows."""

from collections.abc import Mapping
from typing import Any

from trioder.domain.assets import Asset
from trioder.fleet.entries import read_document
from trioder.fleet.tree import Findings, Section

_OPTIONAL = {
    "min_soc_pct": 0.0,
    "max_soc_pct": 100.0,
    "aux_load_mw": 0.0,
    "self_discharge_pct_per_day": 0.0,
}


def asset_to_document(asset: Asset) -> dict[str, Any]:
    """Return the asset as plain JSON values; what is optional is there only where it is not the default.

    `efficiency` is always there: one way, so that its square is the round trip's. An asset whose ways
    differ has `charge_efficiency` and `discharge_efficiency` beside it.
    """
    document: dict[str, Any] = {
        "id": asset.id,
        "site_id": asset.site_id,
        "site_name": asset.site_name,
        "name": asset.name,
        "location": asset.location,
        "capacity_mwhr": asset.capacity_mwhr,
        "max_mw": asset.max_mw,
        "min_mw": asset.min_mw,
        "efficiency": asset.efficiency,
        "ramp_rate_mw_per_min": asset.ramp_rate_mw_per_min,
    }
    if asset.charge_efficiency != asset.discharge_efficiency:
        document["charge_efficiency"] = asset.charge_efficiency
        document["discharge_efficiency"] = asset.discharge_efficiency
    for key, default in _OPTIONAL.items():
        value = getattr(asset, key)
        if value != default:
            document[key] = value
    return document


def asset_from_document(document: Mapping[str, Any], *, source: str = "asset document") -> Asset:
    """Return the asset that a document tells, by the same rules as a fleet file's.

    The `efficiency` beside `charge_efficiency` and `discharge_efficiency` says nothing new and is passed
    over.

    Args:
        document: as `asset_to_document` makes it; site_name and location may be absent.
        source: names the document in the faults.

    Raises:
        FleetFileError: with every fault found.
    """
    findings = Findings(source)
    section = Section(document.items())
    if section.keys() >= {"efficiency", "charge_efficiency", "discharge_efficiency"}:
        del section["efficiency"]
    asset = read_document(section, findings)
    findings.raise_any()
    if asset is None:
        raise AssertionError("a document without faults makes an asset")
    return asset
