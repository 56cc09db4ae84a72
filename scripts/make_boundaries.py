"""Makes the boundaries of the console's map from public-domain data: US states and the world's countries.

Usage: python -m pip download --no-deps --dest WHEELS plotly-geo==1.0.0 geopandas==0.14.4
       python scripts/make_boundaries.py WHEELS --output trioder/console/static/geo

Only the shapefiles in the two wheels are read. docs/decisions/console-map.md describes the format.
"""

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from zipfile import ZipFile

import click

FORMAT = "trioder-boundaries/1"

Point = tuple[float, float]
Ring = list[Point]

_KM_PER_DEGREE = 111.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """A state or a country: a short code, its name, and closed rings of (lon, lat) in degrees, even-odd."""

    id: str
    name: str
    rings: tuple[Ring, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A shapefile in a wheel, and how it is simplified.

    `tolerance_km` is the greatest distance between an original point and the simplified line. Islands
    below `min_island_km2` are left out. Coordinates are multiples of 1 / `units_per_degree`.
    """

    output: str
    wheel: str
    sha256: str
    member: str
    encoding: str
    id_field: str
    name_field: str
    excluded: frozenset[str]
    tolerance_km: float
    min_island_km2: float
    units_per_degree: int
    source: str
    license: str
    date: str


STATES = Dataset(
    output="us-states.json",
    wheel="plotly_geo-1.0.0-py3-none-any.whl",
    sha256="9f695ca0a48494c821d8ab612d33b092bc64ec8de86d021c5209cc0b217aa9ce",
    member="_plotly_geo/package_data/cb_2016_us_state_500k",
    encoding="iso-8859-1",
    id_field="STUSPS",
    name_field="NAME",
    # Islands of the Pacific beyond the equal-area projection of the states.
    excluded=frozenset({"AS", "GU", "MP"}),
    tolerance_km=1.5,
    min_island_km2=50.0,
    units_per_degree=200,
    source="US Census Bureau, cartographic boundaries cb_2016_us_state_500k, from the wheel plotly-geo 1.0.0",
    license="public domain (work of the US government)",
    date="2016",
)

WORLD = Dataset(
    output="world.json",
    wheel="geopandas-0.14.4-py3-none-any.whl",
    sha256="3bb6473cb59d51e1a7fe2dbc24a1a063fb0ebdeddf3ce08ddbf8c7ddc99689aa",
    member="geopandas/datasets/naturalearth_lowres/naturalearth_lowres",
    encoding="iso-8859-1",
    id_field="iso_a3",
    name_field="name",
    # Its ring follows the edge of the map along 90 degrees south, where Web Mercator has no image.
    excluded=frozenset({"ATA"}),
    tolerance_km=0.0,
    min_island_km2=0.0,
    units_per_degree=100,
    source="Natural Earth, 1:110m Admin 0 Countries (naturalearth_lowres), from the wheel geopandas 0.14.4",
    license="public domain (Natural Earth terms of use)",
    date="2022",
)


@click.command()
@click.argument("wheels", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--output",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="The directory of us-states.json and world.json.",
)
def main(wheels: Path, output: Path) -> None:
    """Make the boundaries from the wheels in the directory WHEELS."""
    for dataset in (STATES, WORLD):
        try:
            areas = read_areas(dataset, wheels)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        text = boundaries_text(dataset, areas)
        (output / dataset.output).write_text(text, encoding="utf-8")
        print(f"{output / dataset.output}: {len(areas)} areas, {len(text.encode()):,} bytes")


def read_areas(dataset: Dataset, wheels: Path) -> list[Area]:
    """Return the areas of a dataset, sorted by id.

    Raises:
        ValueError: the wheel is missing, or is another file than the one that this script is written for.
    """
    path = wheels / dataset.wheel
    if not path.is_file():
        command = f"python -m pip download --no-deps --dest {wheels} plotly-geo==1.0.0 geopandas==0.14.4"
        raise ValueError(f"{path} is missing; get it with: {command}")
    content = path.read_bytes()
    if (digest := hashlib.sha256(content).hexdigest()) != dataset.sha256:
        raise ValueError(f"{path} has the SHA-256 {digest}; it must be {dataset.sha256}")
    with ZipFile(path) as wheel:
        table = _dbf_rows(wheel.read(f"{dataset.member}.dbf"), dataset.encoding)
        shapes = _shp_polygons(wheel.read(f"{dataset.member}.shp"))
    areas: list[Area] = []
    for row, rings in zip(table, shapes, strict=True):
        name = row[dataset.name_field]
        # Natural Earth has no code for some disputed areas: their name stands for it.
        code = row[dataset.id_field] if row[dataset.id_field] != "-99" else name
        if code not in dataset.excluded:
            areas.append(Area(id=code, name=name, rings=rings))
    return sorted(areas, key=lambda area: area.id)


def _dbf_rows(content: bytes, encoding: str) -> list[dict[str, str]]:
    """Return the rows of a dBASE III table as text."""
    count, header, width = struct.unpack_from("<IHH", content, 4)
    fields: list[tuple[str, int]] = []
    at = 32
    while content[at] != 0x0D:
        fields.append((content[at : at + 11].split(b"\0")[0].decode("ascii"), content[at + 16]))
        at += 32
    rows: list[dict[str, str]] = []
    for number in range(count):
        at = header + number * width + 1
        row: dict[str, str] = {}
        for name, size in fields:
            row[name] = content[at : at + size].decode(encoding).strip()
            at += size
        rows.append(row)
    return rows


def _shp_polygons(content: bytes) -> Iterator[tuple[Ring, ...]]:
    """Yield the rings of each record of a shapefile of polygons (ESRI Shapefile Technical Description)."""
    at = 100
    while at < len(content):
        (words,) = struct.unpack_from(">I", content, at + 4)
        kind, part_count, point_count = struct.unpack_from("<I32xII", content, at + 8)
        if kind != 5:
            raise ValueError(f"the shapefile has a record of shape type {kind}; polygons have 5")
        starts = [*struct.unpack_from(f"<{part_count}I", content, at + 52), point_count]
        flat = struct.unpack_from(f"<{2 * point_count}d", content, at + 52 + 4 * part_count)
        points = list(zip(flat[::2], flat[1::2], strict=True))
        yield tuple(points[first:last] for first, last in pairwise(starts))
        at += 8 + 2 * words


class Topology:
    """Rings as sequences of arcs; a border between two areas is one arc, which both use.

    So a border is simplified once, and no gap appears between neighbours. An arc ends where a third
    line joins.
    """

    def __init__(self, areas: Sequence[Area]) -> None:
        self.arcs: list[Ring] = []
        self._indexes: dict[tuple[Point, ...], int] = {}
        self._junctions = _junctions(ring for area in areas for ring in area.rings)
        # Per area and ring: indexes of arcs; ~index is the arc backwards.
        self.rings = [[self._cut(ring) for ring in area.rings] for area in areas]

    def uses(self) -> list[int]:
        """Return how many rings use each arc."""
        uses = [0] * len(self.arcs)
        for rings in self.rings:
            for ring in rings:
                for index in ring:
                    uses[index if index >= 0 else ~index] += 1
        return uses

    def _cut(self, ring: Ring) -> list[int]:
        points = ring[:-1]
        cuts = [place for place, point in enumerate(points) if point in self._junctions]
        # Without a junction, all rings of this line begin at the same point.
        first = cuts[0] if cuts else points.index(min(points))
        points = points[first:] + points[:first]
        points.append(points[0])
        ends = [place - first for place in cuts[1:]] + [len(points) - 1]
        return [self._index(points[begin : end + 1]) for begin, end in pairwise([0, *ends])]

    def _index(self, arc: Ring) -> int:
        forward, backward = tuple(arc), tuple(reversed(arc))
        if forward in self._indexes:
            return self._indexes[forward]
        if backward in self._indexes:
            return ~self._indexes[backward]
        self._indexes[forward] = len(self.arcs)
        self.arcs.append(arc)
        return len(self.arcs) - 1


def _junctions(rings: Iterator[Ring]) -> set[Point]:
    """Return the points whose neighbours are not the same in all rings."""
    neighbours: dict[Point, frozenset[Point]] = {}
    junctions: set[Point] = set()
    for ring in rings:
        points = ring[:-1]
        for place, point in enumerate(points):
            pair = frozenset((points[place - 1], points[(place + 1) % len(points)]))
            if neighbours.setdefault(point, pair) != pair:
                junctions.add(point)
    return junctions


def simplify(points: Ring, tolerance_km: float) -> Ring:
    """Return the points that Douglas and Peucker's method keeps (1973); the ends are always kept."""
    if tolerance_km <= 0.0 or len(points) < 3:
        return points
    squeeze = math.cos(math.radians(sum(lat for _, lat in points) / len(points)))
    plane = [(lon * squeeze * _KM_PER_DEGREE, lat * _KM_PER_DEGREE) for lon, lat in points]
    kept = {0, len(points) - 1}
    pending = [(0, len(points) - 1)]
    while pending:
        first, last = pending.pop()
        farthest, place = max(
            ((_distance(plane[at], plane[first], plane[last]), at) for at in range(first + 1, last)),
            default=(0.0, first),
        )
        if farthest > tolerance_km:
            kept.add(place)
            pending += [(first, place), (place, last)]
    return [points[at] for at in sorted(kept)]


def _distance(point: Point, begin: Point, end: Point) -> float:
    """Return the distance of a point from a segment."""
    dx, dy = end[0] - begin[0], end[1] - begin[1]
    length = dx * dx + dy * dy
    along = ((point[0] - begin[0]) * dx + (point[1] - begin[1]) * dy) / length if length else 0.0
    along = min(1.0, max(0.0, along))
    return math.hypot(point[0] - begin[0] - along * dx, point[1] - begin[1] - along * dy)


def area_km2(ring: Ring) -> float:
    """Return the area within a closed ring, in a plane that is true at its middle."""
    squeeze = math.cos(math.radians(sum(lat for _, lat in ring) / len(ring)))
    twice = sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in pairwise(ring))
    return abs(twice) / 2.0 * squeeze * _KM_PER_DEGREE**2


def boundaries_text(dataset: Dataset, areas: Sequence[Area]) -> str:
    """Return the JSON of a dataset: the same bytes for the same areas."""
    topology = Topology(areas)
    uses = topology.uses()
    quantized = [
        _quantize(simplify(arc, _tolerance_km(arc, dataset)), dataset.units_per_degree)
        for arc in topology.arcs
    ]

    def is_kept(ring: Ring, indexes: Sequence[int]) -> bool:
        if any(uses[_plain(index)] > 1 for index in indexes):
            return True
        return area_km2(ring) >= dataset.min_island_km2

    entries: list[dict[str, object]] = []
    order: dict[int, int] = {}

    def renumber(index: int) -> int:
        number = order.setdefault(_plain(index), len(order))
        return number if index >= 0 else ~number

    for area, rings in zip(areas, topology.rings, strict=True):
        kept = [
            [renumber(index) for index in indexes]
            for ring, indexes in zip(area.rings, rings, strict=True)
            if is_kept(ring, indexes) and _has_area([quantized[_plain(index)] for index in indexes])
        ]
        entries.append({"id": area.id, "name": area.name, "rings": kept})
    return _document(dataset, entries, [quantized[index] for index in order])


def _tolerance_km(arc: Ring, dataset: Dataset) -> float:
    """Return the tolerance of a dataset; less for a small island, whose towns would lie in the water."""
    if arc[0] != arc[-1]:
        return dataset.tolerance_km
    return min(dataset.tolerance_km, math.sqrt(area_km2(arc)) / 20.0)


def _plain(index: int) -> int:
    return index if index >= 0 else ~index


def _quantize(points: Ring, units_per_degree: int) -> list[tuple[int, int]]:
    """Return the points in whole units, without repetitions of one point after the other."""
    quantized: list[tuple[int, int]] = []
    for lon, lat in points:
        point = (round(lon * units_per_degree), round(lat * units_per_degree))
        if not quantized or quantized[-1] != point:
            quantized.append(point)
    return quantized


def _has_area(arcs: Sequence[Sequence[tuple[int, int]]]) -> bool:
    return len({point for arc in arcs for point in arc}) >= 3


def _document(
    dataset: Dataset, entries: Sequence[Mapping[str, object]], arcs: Sequence[Sequence[tuple[int, int]]]
) -> str:
    heading = {
        "format": FORMAT,
        "source": dataset.source,
        "license": dataset.license,
        "date": dataset.date,
        "made_by": "scripts/make_boundaries.py",
        "units_per_degree": dataset.units_per_degree,
    }
    lines = [f"{_json(key)}:{_json(value)}" for key, value in heading.items()]
    lines.append('"areas":[\n' + ",\n".join(_json(entry) for entry in entries) + "\n]")
    lines.append('"arcs":[\n' + ",\n".join(_json(_deltas(arc)) for arc in arcs) + "\n]")
    return "{" + ",\n".join(lines) + "}\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _deltas(arc: Sequence[tuple[int, int]]) -> list[int]:
    """Return x, y of the first point, then the differences from point to point, in one list."""
    flat: list[int] = [*arc[0]]
    for (x, y), (next_x, next_y) in pairwise(arc):
        flat += (next_x - x, next_y - y)
    return flat


if __name__ == "__main__":
    main()
