"""Makes a plausible fleet of any size, the same for the same seed.

Usage: python scripts/make_fleet.py --assets 100000 --seed 1 --output fleet.json
"""

import random
from pathlib import Path
from typing import Literal
from uuid import UUID

import click

from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet, Site
from trioder.fleet import dump_fleet

_STATES = ("AZ", "CA", "CO", "NM", "NV", "OR", "WA")
_DURATIONS_H = (0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 8.0)
_MAX_UNITS_AT_A_SITE = 6


@click.command()
@click.option("--assets", "count", type=click.IntRange(min=1), required=True, help="How many assets.")
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed, another fleet.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A .yaml or .json file."
)
def main(count: int, seed: int, output: Path) -> None:
    """Make a fleet file."""
    form: Literal["yaml", "json"]
    match output.suffix.lower():
        case ".json":
            form = "json"
        case ".yaml" | ".yml":
            form = "yaml"
        case suffix:
            raise click.BadParameter(
                f"it ends in {suffix!r}; it must end in .yaml or .json", param_hint="--output"
            )
    fleet = make_fleet(count, random.Random(seed))  # noqa: S311 - no secrets here
    heading = f"{count} invented assets; made by scripts/make_fleet.py --assets {count} --seed {seed}."
    output.write_text(dump_fleet(fleet, form=form, heading=heading), encoding="utf-8")


def make_fleet(count: int, rng: random.Random) -> Fleet:
    """Return `count` assets at sites of one to six units, each site with units of one make."""
    sites: list[Site] = []
    assets: list[Asset] = []
    while len(assets) < count:
        site = Site(
            id=_new_id(rng),
            name=f"Site {len(sites) + 1}",
            location=rng.choice(_STATES),
            lat=round(rng.uniform(32.0, 48.0), 4),
            lon=round(rng.uniform(-123.0, -104.0), 4),
        )
        sites.append(site)
        units = min(rng.randint(1, _MAX_UNITS_AT_A_SITE), count - len(assets))
        assets.extend(_units(site, units, rng))
    return Fleet(sites=tuple(sites), assets=tuple(assets))


def _units(site: Site, count: int, rng: random.Random) -> list[Asset]:
    # Batteries range over three orders of magnitude, small ones being the most common.
    rating_mw = round(0.5 * 10.0 ** rng.triangular(0.0, 2.8, 1.0), 1)
    duration_h = rng.choice(_DURATIONS_H)
    efficiency = round(rng.uniform(0.915, 0.935), 4)
    return [
        Asset(
            id=_new_id(rng),
            name=f"{site.name} BESS{unit + 1}",
            site_id=site.id,
            site_name=site.name,
            location=site.location,
            capacity_mwhr=round(rating_mw * duration_h, 3),
            max_mw=rating_mw,
            min_mw=-rating_mw,
            charge_efficiency=efficiency,
            discharge_efficiency=efficiency,
            ramp_rate_mw_per_min=round(36.0 * rating_mw, 3),
        )
        for unit in range(count)
    ]


def _new_id(rng: random.Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


if __name__ == "__main__":
    main()
