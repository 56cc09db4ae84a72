"""Makes assets.yaml, the default fleet, from EIA-860's battery units.

Usage: python scripts/make_default_fleet.py UNITS_CSV --output assets.yaml
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import click

from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet, Site
from trioder.fleet import dump_fleet

# Ids come from EIA's own keys, so that they outlive every new making of the file.
_NAMESPACE = uuid5(NAMESPACE_URL, "https://www.eia.gov/electricity/data/eia860/")

# Not in EIA-860. Measured plants show 84-87 % AC round trip (EIA-923, M5BAT): 0.927 squared is 86 %.
EFFICIENCY = 0.927
# Measured plants move about 60 % of their rating in a second.
RAMP_RATINGS_PER_MIN = 0.6 * 60.0
# The median of the units whose energy is reported.
DURATION_H = 4.0

_TECHNOLOGIES = {"NAB": "sodium", "FLB": "flow", "PBB": "lead-acid"}

_HEADING = f"""\
The default fleet: battery units of the western US that were operating or on standby at the end of 2022.
Source: U.S. Energy Information Administration, form EIA-860, 2022 (public domain).
Made by scripts/make_default_fleet.py from examples/data/eia860_2022_wecc_battery_units.csv; do not edit.

+ MW discharges to the grid, - MW charges.

From EIA-860:
  id, site_id           UUID version 5 of the plant code and the unit; they stay the same
  name, location        plant and unit; county and state
  lat, lon              of the plant
  capacity_mwhr         nameplate energy (mwh)
  max_mw, min_mw        maximum discharge rate, and maximum charge rate with a minus
Defaults, the same for all, since EIA-860 does not report them:
  efficiency            {EFFICIENCY} one way, which is 86 % for the round trip (measured plants: 84-87 %)
  ramp_rate_mw_per_min  60 % of the larger rate a second, which is {RAMP_RATINGS_PER_MIN:g} times it a minute
A comment above a unit names what is particular about it.
"""


@click.command()
@click.argument("units_csv", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The YAML file."
)
def main(units_csv: Path, output: Path) -> None:
    """Make the default fleet from UNITS_CSV."""
    try:
        text = default_fleet_text(units_csv.read_text(encoding="utf-8"))
    except ValueError as error:
        raise click.UsageError(f"{units_csv}: {error}") from None
    output.write_text(text, encoding="utf-8")


def default_fleet_text(units_csv: str) -> str:
    """Return the fleet file for EIA-860's table of units.

    Raises:
        ValueError: a unit has no positive charge or discharge rate, is listed twice, or is at odds with
            its plant; such things are to be looked at, not guessed.
    """
    sites: dict[str, Site] = {}
    assets: dict[str, Asset] = {}
    notes: dict[str, str] = {}
    for row in csv.DictReader(io.StringIO(units_csv)):
        site = _site(row)
        if sites.setdefault(site.id, site) != site:
            raise ValueError(f"plant {row['plant_code']} has more than one name or place")
        asset = _asset(row, site)
        if asset.id in assets:
            raise ValueError(f"plant {row['plant_code']} unit {row['unit']} is listed twice")
        assets[asset.id] = asset
        notes[asset.id] = _note(row)
    fleet = Fleet(sites=tuple(sites.values()), assets=tuple(assets.values()))
    return dump_fleet(fleet, form="yaml", heading=_HEADING, notes=notes)


def _site(row: Mapping[str, str]) -> Site:
    return Site(
        id=str(uuid5(_NAMESPACE, f"plant/{row['plant_code']}")),
        name=row["plant"],
        location=f"{row['county']} County, {row['state']}",
        lat=float(row["lat"]),
        lon=float(row["lon"]),
    )


def _asset(row: Mapping[str, str], site: Site) -> Asset:
    charge_mw, discharge_mw = _rate(row, "charge_mw"), _rate(row, "discharge_mw")
    return Asset(
        id=str(uuid5(_NAMESPACE, f"plant/{row['plant_code']}/unit/{row['unit']}")),
        name=f"{row['plant']} {row['unit']}",
        site_id=site.id,
        site_name=site.name,
        location=site.location,
        capacity_mwhr=float(row["mwh"]) if row["mwh"] else DURATION_H * discharge_mw,
        max_mw=discharge_mw,
        min_mw=-charge_mw,
        charge_efficiency=EFFICIENCY,
        discharge_efficiency=EFFICIENCY,
        ramp_rate_mw_per_min=round(RAMP_RATINGS_PER_MIN * max(charge_mw, discharge_mw), 3),
    )


def _rate(row: Mapping[str, str], column: str) -> float:
    rate_mw = float(row[column] or 0.0)
    if not rate_mw > 0.0:
        raise ValueError(f"plant {row['plant_code']} unit {row['unit']} has no {column}: {row[column]!r}")
    return rate_mw


def _note(row: Mapping[str, str]) -> str:
    lines = []
    if not row["mwh"]:
        lines.append(
            f"EIA-860 reports no mwh: capacity_mwhr is a default, {DURATION_H:g} h (the median) of discharge."
        )
    mw, charge_mw, discharge_mw = row["mw"], row["charge_mw"], row["discharge_mw"]
    if {charge_mw, discharge_mw} != {mw}:
        lines.append(f"EIA-860: {mw} MW nameplate, {charge_mw} MW charge, {discharge_mw} MW discharge.")
    technology = _TECHNOLOGIES.get(row["storage_tech"])
    if technology is not None:
        lines.append(f"A {technology} battery; the default efficiency is that of lithium-ion plants.")
    if row["status"] != "OP":
        lines.append("On standby, not in regular operation.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
