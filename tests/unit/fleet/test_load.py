"""A fleet is loaded with all its fields, or refused with every fault, each with its file, line and field."""

import re
from pathlib import Path
from textwrap import dedent

import pytest

from tests.unit.fleet.files import ASSET_ID, GOOD, OTHER_ID, SITE_ID, faults_of, loaded, only_fault_of
from trioder.fleet import FleetFileError, load_fleet


def with_line(key: str, line: str) -> str:
    """GOOD with an asset's key replaced, or added behind when it has none such; empty takes it out."""
    text, found = re.subn(rf"(?m)^    {key}: (?!North$).*\n", f"    {line}\n" if line else "", GOOD, count=1)
    return text if found else f"{GOOD}    {line}\n"


def test_a_good_file_is_a_fleet(tmp_path: Path) -> None:
    fleet = loaded(tmp_path, GOOD)
    [site], [asset] = fleet.sites, fleet.assets
    assert (site.id, site.name, site.location, site.lat, site.lon) == (SITE_ID, "North", "CA", 36.8, -121.78)
    assert (asset.id, asset.name, asset.site_id) == (ASSET_ID, "North 1", SITE_ID)
    assert (asset.site_name, asset.location) == ("North", "CA")
    assert (asset.capacity_mwhr, asset.max_mw, asset.min_mw) == (100.0, 25.0, -20.0)
    assert (asset.charge_efficiency, asset.discharge_efficiency) == (0.9, 0.9)
    assert asset.ramp_rate_mw_per_min == 900.0
    assert fleet.index_by_id == {ASSET_ID: 0}
    assert fleet.sites_by_id == {SITE_ID: site}


def test_every_number_is_a_float_however_it_is_written(tmp_path: Path) -> None:
    asset = loaded(tmp_path, GOOD).assets[0]
    assert {type(value) for value in (asset.capacity_mwhr, asset.min_mw, asset.min_soc_mwhr)} == {float}


def test_optional_fields_are_taken(tmp_path: Path) -> None:
    extra = (
        "    min_soc_pct: 5\n    max_soc_pct: 95\n    aux_load_mw: 0.2\n    self_discharge_pct_per_day: 0.1\n"
    )
    asset = loaded(tmp_path, GOOD + extra).assets[0]
    assert (asset.min_soc_pct, asset.max_soc_pct) == (5.0, 95.0)
    assert (asset.aux_load_mw, asset.self_discharge_pct_per_day) == (0.2, 0.1)


@pytest.mark.parametrize(
    ("lines", "charge", "discharge"),
    [
        ("round_trip_efficiency: 0.81", 0.9, 0.9),
        ("charge_efficiency: 0.95\n    discharge_efficiency: 0.85", 0.95, 0.85),
    ],
)
def test_other_forms_of_efficiency(tmp_path: Path, lines: str, charge: float, discharge: float) -> None:
    asset = loaded(tmp_path, with_line("efficiency", lines)).assets[0]
    assert (asset.charge_efficiency, asset.discharge_efficiency) == pytest.approx((charge, discharge))


def test_a_site_without_a_tenant_belongs_to_the_default_one(tmp_path: Path) -> None:
    fleet = loaded(tmp_path, GOOD)
    assert (fleet.sites[0].tenant, fleet.tenant_of(0)) == ("default", "default")


@pytest.mark.parametrize("tenant", ["a", "north-2", "x" * 64])
def test_a_site_and_its_assets_belong_to_the_tenant_in_the_file(tmp_path: Path, tenant: str) -> None:
    fleet = loaded(tmp_path, GOOD.replace("location: CA", f"location: CA\n    tenant: {tenant}"))
    assert (fleet.sites[0].tenant, fleet.tenant_of(0)) == (tenant, tenant)


@pytest.mark.parametrize(
    ("tenant", "described"),
    [
        ("North", "'North'"),
        ("2north", "'2north'"),
        ("-north", "'-north'"),
        ("north_2", "'north_2'"),
        ('"north\\n"', "'north\\n'"),
        ("größe", "'gr\\xf6\\xdfe'"),
        ('""', "''"),
        ("x" * 65, f"'{'x' * 56}..."),
        ("7", "7"),
        ("true", "true"),
        ("", "empty"),
        ("[north]", "a list"),
    ],
)
def test_a_faulty_tenant_is_reported_with_its_line(tmp_path: Path, tenant: str, described: str) -> None:
    fault = only_fault_of(tmp_path, GOOD.replace("location: CA", f"location: CA\n    tenant: {tenant}"))
    assert (fault.line, fault.field) == (5, "sites[0].tenant")
    rule = "it must be 1 to 64 lower-case letters, digits and hyphens, beginning with a letter"
    assert fault.message == f"is {described}; {rule}"


def test_an_asset_has_no_tenant_of_its_own(tmp_path: Path) -> None:
    fault = only_fault_of(tmp_path, GOOD + "    tenant: north\n")
    assert (fault.line, fault.message) == (16, "is not a key of an asset")


def test_ids_are_canonical(tmp_path: Path) -> None:
    fleet = loaded(tmp_path, GOOD.replace(f"site_id: {SITE_ID}", f"site_id: {SITE_ID.upper()}"))
    assert fleet.assets[0].site_id == SITE_ID


def test_a_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    assert loaded(tmp_path, "\ufeff" + GOOD) == loaded(tmp_path, GOOD)


# Faults of one field

FIELD_FAULTS = [
    ("max_mw", "max_mw: -30", 12, "is -30.0; it must be >= 0 (+ discharges)"),
    ("min_mw", "min_mw: 25.0", 13, "is 25.0; it must be <= 0 (- charges)"),
    ("capacity_mwhr", "capacity_mwhr: 0", 11, "is 0.0; it must be > 0"),
    ("capacity_mwhr", "capacity_mwhr: -1", 11, "is -1.0; it must be > 0"),
    ("capacity_mwhr", "capacity_mwhr: .nan", 11, "is nan; it must be a finite number"),
    ("capacity_mwhr", "capacity_mwhr: .inf", 11, "is inf; it must be a finite number"),
    ("capacity_mwhr", "capacity_mwhr: 1e999", 11, "is inf; it must be a finite number"),
    ("capacity_mwhr", f"capacity_mwhr: {'9' * 350}", 11, f"is {'9' * 57}...; it must be a finite number"),
    ("capacity_mwhr", "capacity_mwhr: true", 11, "is true; it must be a number"),
    ("capacity_mwhr", 'capacity_mwhr: "100"', 11, "is '100'; it must be a number"),
    ("capacity_mwhr", "capacity_mwhr:", 11, "is empty; it must be a number"),
    ("capacity_mwhr", "capacity_mwhr: [1]", 11, "is a list; it must be a number"),
    ("capacity_mwhr", "capacity_mwhr: {a: 1}", 11, "is a mapping; it must be a number"),
    ("efficiency", "efficiency: 0", 14, "is 0.0; it must be within (0, 1]"),
    ("efficiency", "efficiency: 1.01", 14, "is 1.01; it must be within (0, 1]"),
    ("ramp_rate_mw_per_min", "ramp_rate_mw_per_min: 0", 15, "is 0.0; it must be > 0"),
    ("aux_load_mw", "aux_load_mw: 21", 16, "is 21.0; it must be <= -min_mw, which is 20.0"),
    ("min_soc_pct", "min_soc_pct: 100", 16, "is 100.0; it must be < max_soc_pct, which is 100.0"),
    ("max_soc_pct", "max_soc_pct: 0", 16, "is 0.0; it must be > min_soc_pct, which is 0.0"),
    ("efficency", "efficency: 1", 16, "is not a key of an asset (did you mean efficiency?)"),
    ("zzz", "zzz: 1", 16, "is not a key of an asset"),
    (
        "discharge_efficiency",
        "discharge_efficiency: 1",
        16,
        "the efficiency is given in more than one form: efficiency, discharge_efficiency",
    ),
    (
        "round_trip_efficiency",
        "round_trip_efficiency: 1",
        16,
        "the efficiency is given in more than one form: efficiency, round_trip_efficiency",
    ),
]


@pytest.mark.parametrize(("key", "line", "number", "message"), FIELD_FAULTS)
def test_a_faulty_field_is_reported_with_its_line(
    tmp_path: Path, key: str, line: str, number: int, message: str
) -> None:
    fault = only_fault_of(tmp_path, with_line(key, line))
    assert (fault.line, fault.field, fault.message) == (number, f"assets[0].{key}", message)


@pytest.mark.parametrize("key", ["capacity_mwhr", "max_mw", "min_mw", "efficiency", "ramp_rate_mw_per_min"])
def test_a_missing_key_is_reported_with_the_line_of_its_asset(tmp_path: Path, key: str) -> None:
    fault = only_fault_of(tmp_path, with_line(key, ""))
    assert (fault.line, fault.field, fault.message) == (8, f"assets[0].{key}", "is missing")


def test_half_an_efficiency_is_reported(tmp_path: Path) -> None:
    fault = only_fault_of(tmp_path, with_line("efficiency", "charge_efficiency: 0.9"))
    assert fault.field == "assets[0].discharge_efficiency"
    assert fault.message == "is missing; it goes with charge_efficiency"


def test_limits_at_odds_are_reported(tmp_path: Path) -> None:
    text = with_line("max_mw", "max_mw: 0").replace("min_mw: -20", "min_mw: 0")
    fault = only_fault_of(tmp_path, text)
    assert (fault.line, fault.field) == (13, "assets[0].min_mw")
    assert fault.message == "is 0.0; it must be < max_mw, which is 0.0"


@pytest.mark.parametrize(
    ("was", "now", "place", "message"),
    [
        ("lat: 36.8", "lat: 90.1", (5, "sites[0].lat"), "is 90.1; it must be within -90..90"),
        ("lon: -121.78", "lon: -181", (6, "sites[0].lon"), "is -181.0; it must be within -180..180"),
        ("lon: -121.78", "lon: .nan", (6, "sites[0].lon"), "is nan; it must be within -180..180"),
        ("    lon: -121.78\n", "", (2, "sites[0].lon"), "is missing; lat and lon go together"),
        (
            "name: North\n",
            "name: North\n    export_limit_mw: 0\n",
            (4, "sites[0].export_limit_mw"),
            "is 0.0; it must be a finite number greater than 0",
        ),
        (
            "name: North\n",
            "name: North\n    import_limit_mw: -1.5\n",
            (4, "sites[0].import_limit_mw"),
            "is -1.5; it must be a finite number greater than 0",
        ),
        (
            "name: North\n",
            "name: North\n    export_limit_mw: .inf\n",
            (4, "sites[0].export_limit_mw"),
            "is inf; it must be a finite number greater than 0",
        ),
        ("    location: CA\n", "", (2, "sites[0].location"), "is missing"),
        ("name: North\n", "name: 7\n", (3, "sites[0].name"), "is 7; it must be text"),
        (
            "name: North\n",
            'name: ""\n',
            (3, "sites[0].name"),
            "is ''; it must be 1..256 printable characters",
        ),
        ("name: North\n", 'name: "a\\nb"\n', (3, "sites[0].name"), "is 'a\\nb'; it must be 1..256 printable"),
        ("name: North\n", f"name: {'x' * 257}\n", (3, "sites[0].name"), "is 'xxx"),
        (
            "location: CA",
            "locaton: CA",
            (4, "sites[0].locaton"),
            "is not a key of a site (did you mean location",
        ),
        (
            f"site_id: {SITE_ID}",
            f"site_id: {OTHER_ID}",
            (10, "assets[0].site_id"),
            f"is '{OTHER_ID}'; no site has",
        ),
        (f"site_id: {SITE_ID}", "site_id: north", (10, "assets[0].site_id"), "is 'north'; it must be a UUID"),
        (ASSET_ID, f"{{{ASSET_ID}}}", (8, "assets[0].id"), "is a mapping; it must be a UUID"),
        (ASSET_ID, "12345678123456781234567812345678", (8, "assets[0].id"), "is 1234567812345678"),
        ("sites:", "stes: []\nsites:", (1, "stes"), "is not a key of a fleet file (did you mean sites?)"),
    ],
)
def test_a_fault_elsewhere_is_reported_with_its_line(
    tmp_path: Path, was: str, now: str, place: tuple[int, str], message: str
) -> None:
    assert was in GOOD
    faults = faults_of(tmp_path, GOOD.replace(was, now, 1))
    assert [(fault.line, fault.field) for fault in faults if fault.message.startswith(message)] == [place]


def test_a_faulty_site_id_is_not_blamed_on_its_assets(tmp_path: Path) -> None:
    text = GOOD.replace(SITE_ID, "north")
    assert [fault.field for fault in faults_of(tmp_path, text)] == ["sites[0].id", "assets[0].site_id"]


def test_a_faulty_site_does_not_hide_the_faults_of_its_assets(tmp_path: Path) -> None:
    text = with_line("max_mw", "max_mw: -1").replace("lat: 36.8", "lat: 99")
    assert [fault.line for fault in faults_of(tmp_path, text)] == [5, 12]


def test_a_duplicate_asset_is_reported_with_the_first_place(tmp_path: Path) -> None:
    second = GOOD[GOOD.index("  - id: " + ASSET_ID) :].replace(ASSET_ID, ASSET_ID.upper())
    fault = only_fault_of(tmp_path, GOOD + second)
    assert (fault.line, fault.field) == (16, "assets[1].id")
    assert fault.message == f"is '{ASSET_ID.upper()}'; line 8 has this id already"


def test_a_duplicate_site_is_reported_with_the_first_place(tmp_path: Path) -> None:
    second = f"  - {{id: {SITE_ID}, name: South, location: NV}}\nassets:"
    fault = only_fault_of(tmp_path, GOOD.replace("assets:", second))
    assert (fault.line, fault.field) == (7, "sites[1].id")
    assert fault.message.endswith("line 2 has this id already")


# Many faults


def test_all_faults_are_reported_in_one_go_in_the_order_of_the_lines(tmp_path: Path) -> None:
    text = with_line("max_mw", "max_mw: yes").replace("capacity_mwhr: 100", "capacity_mwhr: -1")
    text = text.replace("lat: 36.8", "lat: 99").replace("9e2", "-1") + "    extra: 1\n"
    faults = faults_of(tmp_path, text)
    assert [(fault.line, fault.field.partition(".")[2]) for fault in faults] == [
        (5, "lat"),
        (11, "capacity_mwhr"),
        (12, "max_mw"),
        (15, "ramp_rate_mw_per_min"),
        (16, "extra"),
    ]


def test_the_text_of_the_error_has_one_line_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(with_line("max_mw", "max_mw: -1").replace("lat: 36.8", "lat: 99"), encoding="utf-8")
    with pytest.raises(FleetFileError) as caught:
        load_fleet(path)
    assert str(caught.value) == dedent(f"""\
        {path}:5: sites[0].lat: is 99.0; it must be within -90..90
        {path}:12: assets[0].max_mw: is -1.0; it must be >= 0 (+ discharges)""")


def test_the_text_of_the_error_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(GOOD + "".join(f"    extra{n}: 1\n" for n in range(120)), encoding="utf-8")
    with pytest.raises(FleetFileError) as caught:
        load_fleet(path)
    assert len(caught.value.faults) == 120
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[-1]) == (51, "... and 70 more")
