"""The fleets that scripts make: the committed default one, and invented ones of any size."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from click.testing import CliRunner

from scripts.make_default_fleet import default_fleet_text
from scripts.make_fleet import main as make_fleet_main
from scripts.make_fleet import make_fleet
from trioder.domain.fleet import Fleet, shard_fleet
from trioder.fleet import dump_fleet, load_fleet

ROOT = Path(__file__).parents[3]
UNITS_CSV = ROOT / "examples/data/eia860_2022_wecc_battery_units.csv"


def units() -> list[str]:
    return UNITS_CSV.read_text(encoding="utf-8").splitlines()


def test_the_default_fleet_is_what_the_script_makes_of_the_data() -> None:
    made = default_fleet_text(UNITS_CSV.read_text(encoding="utf-8"))
    assert (ROOT / "assets.yaml").read_text(encoding="utf-8") == made


def test_the_default_fleet_loads() -> None:
    fleet = load_fleet(ROOT / "assets.yaml")
    assert (len(fleet.assets), len(fleet.sites)) == (152, 138)
    assert {asset.site_id for asset in fleet.assets} == fleet.sites_by_id.keys()


def test_a_unit_without_energy_is_given_a_default_that_is_marked() -> None:
    lines = default_fleet_text(UNITS_CSV.read_text(encoding="utf-8")).splitlines()
    [marked] = [number for number, line in enumerate(lines) if "EIA-860 reports no mwh" in line]
    entry = lines[marked : marked + 8]
    assert any('"Bishop Ranch - BR 1-Y 4087B"' in line for line in entry)
    assert "    capacity_mwhr: 10.0" in entry


def test_a_unit_without_a_rate_is_refused() -> None:
    header, first, *_ = units()
    with pytest.raises(ValueError, match=r"plant 141 unit AFSB1 has no charge_mw: '0\.0'"):
        default_fleet_text("\n".join([header, first.replace("100.0,25.0,25.0", "100.0,0.0,25.0")]))


def test_a_unit_listed_twice_is_refused() -> None:
    header, first, *_ = units()
    with pytest.raises(ValueError, match="plant 141 unit AFSB1 is listed twice"):
        default_fleet_text(f"{header}\n{first}\n{first}")


def test_a_plant_in_two_places_is_refused() -> None:
    header, first, *_ = units()
    with pytest.raises(ValueError, match="plant 141 has more than one name or place"):
        default_fleet_text("\n".join([header, first, first.replace("33.5561", "33.6")]))


@pytest.mark.parametrize("count", [1, 2, 500])
def test_a_generated_fleet_has_the_requested_size(count: int) -> None:
    assert len(make_fleet(count, random.Random(1)).assets) == count


def test_the_seed_decides_the_fleet() -> None:
    assert make_fleet(50, random.Random(1)) == make_fleet(50, random.Random(1))
    assert make_fleet(50, random.Random(1)).index_by_id != make_fleet(50, random.Random(2)).index_by_id


@pytest.mark.parametrize("name", ["fleet.yaml", "fleet.yml", "fleet.json"])
def test_an_invented_fleet_loads_as_it_was_made(tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    result = CliRunner().invoke(make_fleet_main, ["--assets", "300", "--seed", "7", "--output", str(output)])
    assert result.exit_code == 0
    assert load_fleet(output) == make_fleet(300, random.Random(7))


def test_another_ending_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(make_fleet_main, ["--assets", "3", "--output", str(tmp_path / "fleet.txt")])
    assert result.exit_code == 2
    assert "it must end in .yaml or .json" in result.output


def test_both_ways_of_an_efficiency_survive_a_file(tmp_path: Path) -> None:
    text = dump_fleet(make_fleet(1, random.Random(1)), form="yaml")
    text = "\n".join(
        "    charge_efficiency: 0.9\n    discharge_efficiency: 0.8" if "efficiency" in line else line
        for line in text.splitlines()
    )
    path = tmp_path / "fleet.yaml"
    path.write_text(text, encoding="utf-8")
    fleet = load_fleet(path)
    assert fleet.assets[0].charge_efficiency == 0.9
    path.write_text(dump_fleet(fleet, form="yaml"), encoding="utf-8")
    assert load_fleet(path) == fleet


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_a_tenant_is_written_where_it_is_not_the_default(
    tmp_path: Path, form: Literal["yaml", "json"]
) -> None:
    made = make_fleet(20, random.Random(1))
    first, *others = made.sites
    fleet = Fleet(sites=[replace(first, tenant="north"), *others], assets=made.assets)
    path = tmp_path / f"fleet.{form}"
    path.write_text(dump_fleet(fleet, form=form), encoding="utf-8")
    assert load_fleet(path) == fleet
    assert path.read_text(encoding="utf-8").count("tenant") == 1


# Shards


@pytest.fixture(scope="module")
def ten() -> Fleet:
    return make_fleet(10, random.Random(1))


@pytest.mark.parametrize(("size", "lengths"), [(1, [1] * 10), (3, [3, 3, 3, 1]), (10, [10]), (99, [10])])
def test_shards_cover_the_fleet_in_file_order(ten: Fleet, size: int, lengths: list[int]) -> None:
    shards = shard_fleet(ten, size)
    assert [len(shard) for shard in shards] == lengths
    assert list(sum(shards, ())) == ten.assets


@pytest.mark.parametrize("size", [0, -1])
def test_a_shard_of_nothing_is_refused(ten: Fleet, size: int) -> None:
    with pytest.raises(ValueError, match=f"size is {size}"):
        shard_fleet(ten, size)
