"""The boundaries of the map: the committed files, and the script that makes them."""

import hashlib
import json
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from scripts.make_boundaries import FORMAT, STATES, WORLD, Area, Dataset, Ring, boundaries_text, read_areas
from trioder.fleet import load_fleet

ROOT = Path(__file__).parents[3]
GEO = ROOT / "trioder/console/static/geo"
MAX_BYTES = {STATES.output: 75_000, WORLD.output: 100_000}
Line = list[tuple[float, float]]

both = pytest.mark.parametrize("dataset", [STATES, WORLD], ids=lambda dataset: dataset.output)


@cache
def committed(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((GEO / name).read_text(encoding="utf-8"))
    return document


def decode_arcs(document: dict[str, Any]) -> list[Line]:
    arcs: list[Line] = []
    for deltas in document["arcs"]:
        x = y = 0
        arc: Line = []
        for dx, dy in zip(deltas[::2], deltas[1::2], strict=True):
            x, y = x + dx, y + dy
            arc.append((x / document["units_per_degree"], y / document["units_per_degree"]))
        arcs.append(arc)
    return arcs


def decode_areas(document: dict[str, Any]) -> dict[str, list[list[Line]]]:
    """Return, per area and ring, its arcs in the direction of the ring."""
    arcs = decode_arcs(document)
    return {
        area["id"]: [
            [arcs[index] if index >= 0 else arcs[~index][::-1] for index in ring] for ring in area["rings"]
        ]
        for area in document["areas"]
    }


def areas_at(document: dict[str, Any], lon: float, lat: float) -> list[str]:
    def is_inside(rings: list[list[Line]]) -> bool:
        crossings = 0
        for ring in rings:
            for arc in ring:
                for (x, y), (next_x, next_y) in pairwise(arc):
                    if (y > lat) != (next_y > lat) and lon < x + (lat - y) / (next_y - y) * (next_x - x):
                        crossings += 1
        return crossings % 2 == 1

    return [name for name, rings in decode_areas(document).items() if is_inside(rings)]


@both
def test_a_file_names_its_source_license_and_date(dataset: Dataset) -> None:
    document = committed(dataset.output)
    assert document["format"] == FORMAT
    assert (document["source"], document["license"], document["date"]) == (
        dataset.source,
        dataset.license,
        dataset.date,
    )
    assert "public domain" in document["license"]


@both
def test_a_file_is_small(dataset: Dataset) -> None:
    assert (GEO / dataset.output).stat().st_size < MAX_BYTES[dataset.output]


@both
def test_rings_are_closed(dataset: Dataset) -> None:
    for name, rings in decode_areas(committed(dataset.output)).items():
        assert rings, name
        for ring in rings:
            assert len({point for arc in ring for point in arc}) >= 3, name
            for arc, following in zip(ring, [*ring[1:], ring[0]], strict=True):
                assert arc[-1] == following[0], name


@both
def test_positions_are_in_range(dataset: Dataset) -> None:
    points = [point for arc in decode_arcs(committed(dataset.output)) for point in arc]
    assert all(-180 <= lon <= 180 and -60 <= lat <= 84 for lon, lat in points)


@both
def test_a_border_is_one_line_that_both_sides_use(dataset: Dataset) -> None:
    document = committed(dataset.output)
    uses = Counter(
        index if index >= 0 else ~index
        for area in document["areas"]
        for ring in area["rings"]
        for index in ring
    )
    assert sorted(uses) == list(range(len(document["arcs"])))
    assert max(uses.values()) == 2
    # A line that two areas had once each would be drawn twice, and simplified twice.
    lines = Counter(min(tuple(arc), tuple(arc[::-1])) for arc in decode_arcs(document) if len(arc) > 1)
    assert max(lines.values()) == 1


@pytest.mark.parametrize(
    ("place", "lon", "lat", "state"),
    [
        ("Los Angeles", -118.24, 34.05, "CA"),
        ("Avalon, on an island", -118.33, 33.35, "CA"),
        ("Reno, near a border", -119.81, 39.53, "NV"),
        ("Phoenix", -112.07, 33.45, "AZ"),
        ("Washington", -77.04, 38.90, "DC"),
        ("Anchorage", -149.85, 61.19, "AK"),
        ("Attu, beyond 180 degrees", 172.95, 52.90, "AK"),
        ("Honolulu", -157.82, 21.33, "HI"),
        ("Detroit", -83.10, 42.38, "MI"),
    ],
)
def test_a_place_is_in_its_state_alone(place: str, lon: float, lat: float, state: str) -> None:
    assert areas_at(committed(STATES.output), lon, lat) == [state]


@pytest.mark.parametrize(
    ("place", "lon", "lat", "country"),
    [
        ("Berlin", 13.40, 52.52, "DEU"),
        ("Maseru, in an enclave", 28.0, -29.6, "LSO"),
        ("Perth", 117.0, -32.0, "AUS"),
        ("Denver", -105.0, 39.7, "USA"),
    ],
)
def test_a_place_is_in_its_country_alone(place: str, lon: float, lat: float, country: str) -> None:
    assert areas_at(committed(WORLD.output), lon, lat) == [country]


def test_the_sites_of_the_default_fleet_are_in_their_states() -> None:
    outside = [
        (site.name, site.location)
        for site in load_fleet(ROOT / "assets.yaml").sites
        if site.lat is not None
        and site.lon is not None
        and areas_at(committed(STATES.output), site.lon, site.lat) != [site.location.rpartition(", ")[2]]
    ]
    assert outside == []


# Two squares with a jagged border between them, along which their rings go in opposite directions.
BORDER: Ring = [(1.0, 0.0), (1.1, 0.25), (1.0, 0.5), (1.001, 0.75), (1.0, 1.0)]
WEST = Area(id="W", name="West", rings=([(0.0, 0.0), *BORDER, (0.0, 1.0), (0.0, 0.0)],))
EAST_RING: Ring = [(1.0, 0.5), *BORDER[1::-1], (2.0, 0.0), (2.0, 1.0), *BORDER[:1:-1]]
EAST = Area(id="E", name="East", rings=(EAST_RING,))
SQUARES = [EAST, WEST]


def test_the_same_areas_give_the_same_bytes_whatever_their_direction() -> None:
    turned = [replace(EAST, rings=(EAST.rings[0][::-1],)), WEST]
    once, again = boundaries_text(STATES, SQUARES), boundaries_text(STATES, SQUARES)
    assert once == again
    assert {frozenset(arc) for arc in decode_arcs(json.loads(once))} == {
        frozenset(arc) for arc in decode_arcs(json.loads(boundaries_text(STATES, turned)))
    }


def test_a_border_is_simplified_once_for_both() -> None:
    document = json.loads(boundaries_text(STATES, SQUARES))
    [border] = [arc for arc in decode_arcs(document) if (1.1, 0.25) in arc]
    # 100 m to the east is within the tolerance, 10 km is not.
    assert sorted(border, key=lambda point: point[1]) == [(1.0, 0.0), (1.1, 0.25), (1.0, 0.5), (1.0, 1.0)]


def test_islands_below_the_limit_are_left_out() -> None:
    def island(side: float) -> Ring:
        return [(5.0, 0.0), (5.0, side), (5.0 + side, side), (5.0 + side, 0.0), (5.0, 0.0)]

    areas = [Area(id="I", name="Islands", rings=(island(0.5), island(0.05)))]
    document = json.loads(boundaries_text(STATES, areas))
    assert [len(area["rings"]) for area in document["areas"]] == [1]


def test_areas_are_read_from_the_shapefile_in_the_wheel(tmp_path: Path) -> None:
    content = write_wheel(tmp_path, STATES, [("W", "Wést", WEST.rings), ("GU", "Guam", EAST.rings)])
    small = replace(STATES, sha256=hashlib.sha256(content).hexdigest())
    assert read_areas(small, tmp_path) == [Area(id="W", name="Wést", rings=WEST.rings)]


def test_another_wheel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is missing; get it with: python -m pip download"):
        read_areas(STATES, tmp_path)
    write_wheel(tmp_path, STATES, [("W", "West", WEST.rings)])
    with pytest.raises(ValueError, match=f"it must be {STATES.sha256}"):
        read_areas(STATES, tmp_path)


def write_wheel(folder: Path, dataset: Dataset, areas: Sequence[tuple[str, str, Sequence[Ring]]]) -> bytes:
    """Write a wheel with a shapefile of these areas, and return its bytes."""
    fields = [(dataset.id_field, 4), (dataset.name_field, 20)]
    table = struct.pack("<4xIHH20x", len(areas), 32 + 32 * len(fields) + 1, 25)
    for name, size in fields:
        table += struct.pack("11sc4xB15x", name.encode(), b"C", size)
    table += b"\r"
    shapes = bytes(100)
    for number, (code, name, rings) in enumerate(areas, start=1):
        table += b" " + code.encode().ljust(4) + name.encode(dataset.encoding).ljust(20)
        points = [coordinate for ring in rings for point in ring for coordinate in point]
        starts = [sum(len(ring) for ring in rings[:place]) for place in range(len(rings))]
        record = struct.pack("<I32xII", 5, len(rings), len(points) // 2)
        record += struct.pack(f"<{len(starts)}I{len(points)}d", *starts, *points)
        shapes += struct.pack(">II", number, len(record) // 2) + record
    path = folder / dataset.wheel
    with ZipFile(path, "w") as wheel:
        wheel.writestr(f"{dataset.member}.dbf", table)
        wheel.writestr(f"{dataset.member}.shp", shapes)
    return path.read_bytes()
