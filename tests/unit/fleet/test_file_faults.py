"""What is no fleet file, in YAML or JSON, is refused with its first fault."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fleet.files import ASSET_ID, GOOD, SITE_ID, faults_of, loaded, only_fault_of
from trioder.fleet import FleetFileError, load_fleet


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", None, "the file is empty; it must be a mapping with the keys sites and assets"),
        ("# nothing\n", None, "the file is empty; "),
        ("- a\n", None, "the file holds a list; "),
        ("fleet\n", None, "the file holds 'fleet'; "),
        (
            "sites: [\na: 1\n",
            3,
            "not valid YAML: did not find expected ',' or ']' (while parsing a flow sequence ",
        ),
        ("sites:\n\t- a\n", 2, "not valid YAML: "),
        ("sites: 'a\n", 2, "not valid YAML: "),
        ("sites: []\nassets: \x07\n", 2, "not valid YAML: "),
        (b"sites: []\n\xff\n", 2, "not UTF-8: "),
        ("sites: []\n---\nassets: []\n", 2, "a second document begins; only one is read"),
        ("[" * 40, 1, "nested more than 16 deep"),
        ("[" * 100_000, 1, "nested more than 16 deep"),
        ("? [a]\n: 1\n", 1, "a key must be text"),
        ("? {a: 1}\n: 1\n", 1, "a key must be text"),
        (GOOD.replace("lat: 36.8", "lat: &a 36.8"), 5, "anchor &a; anchors are not read"),
        (GOOD.replace("lat: 36.8", "lat: !!float 36.8"), 5, "tag tag:yaml.org,2002:float; tags are not read"),
        (GOOD.replace("  - id: " + ASSET_ID, "  - !x\n    id: " + ASSET_ID), 8, "tag !x; tags are not read"),
    ],
)
def test_a_file_that_is_no_fleet_has_one_fault(
    tmp_path: Path, text: str | bytes, line: int | None, message: str
) -> None:
    fault = only_fault_of(tmp_path, text)
    assert fault.message.startswith(message)
    assert fault.line == line


def test_a_small_file_cannot_become_a_large_one(tmp_path: Path) -> None:
    bomb = "a: &a [1,1]\n" + "".join(
        f"{b}: &{b} [*{a},*{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    messages = [fault.message for fault in faults_of(tmp_path, bomb)]
    assert messages[:3] == [
        "anchor &a; anchors are not read",
        "anchor &b; anchors are not read",
        "alias *a; aliases are not read, write the value out",
    ]


def test_a_key_given_twice_is_reported_beside_other_faults(tmp_path: Path) -> None:
    faults = faults_of(tmp_path, GOOD + "    max_mw: 30\n    aux_load_mw: -1\n")
    assert [(fault.line, fault.message) for fault in faults] == [
        (16, "is given twice; it stands in line 12 already"),
        (17, "is -1.0; it must be >= 0"),
    ]


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FleetFileError, match=r"fleet\.yaml: cannot be read: No such file or directory"):
        load_fleet(tmp_path / "fleet.yaml")


def test_a_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FleetFileError, match="cannot be read: Is a directory"):
        load_fleet(tmp_path)


@pytest.mark.parametrize(
    ("text", "field", "line", "message"),
    [
        ("assets: [1]", "sites", 1, "is missing"),
        ("sites: 7\nassets: [1]", "sites", 1, "is 7; it must be a list with at least one entry"),
        (
            "sites: [1]\nassets: []",
            "assets",
            2,
            "is an empty list; it must be a list with at least one entry",
        ),
        ("sites: [1]\nassets:\n  - 7", "assets[0]", 3, "is 7; it must be a mapping"),
        ("sites: [1]\nassets:\n  -", "assets[0]", 3, "is empty; it must be a mapping"),
    ],
)
def test_what_is_no_list_is_reported(tmp_path: Path, text: str, field: str, line: int, message: str) -> None:
    faults = faults_of(tmp_path, text)
    assert [(fault.line, fault.message) for fault in faults if fault.field == field] == [(line, message)]


# JSON


def document() -> dict[str, Any]:
    return {
        "sites": [{"id": SITE_ID, "name": "North", "location": "CA", "lat": 36.8, "lon": -121.78}],
        "assets": [
            {
                "id": ASSET_ID,
                "name": "North 1",
                "site_id": SITE_ID,
                "capacity_mwhr": 100,
                "max_mw": 25.0,
                "min_mw": -20,
                "efficiency": 0.9,
                "ramp_rate_mw_per_min": 9e2,
            }
        ],
    }


def test_a_json_file_is_the_same_fleet(tmp_path: Path) -> None:
    assert loaded(tmp_path, json.dumps(document()), name="fleet.json") == loaded(tmp_path, GOOD)


def test_a_fault_in_a_json_file_is_reported_with_its_path(tmp_path: Path) -> None:
    wrong = document()
    wrong["assets"][0] |= {"max_mw": float("nan"), "extra": True, "min_mw": 10**400}
    faults = faults_of(tmp_path, json.dumps(wrong), name="fleet.json")
    assert {(fault.field, fault.line) for fault in faults} == {
        ("assets[0].max_mw", None),
        ("assets[0].min_mw", None),
        ("assets[0].extra", None),
    }


def test_faults_in_a_json_file_are_in_file_order(tmp_path: Path) -> None:
    wrong = document()
    wrong["assets"][0] |= {"capacity_mwhr": "a", "max_mw": "b", "efficiency": "c"}
    faults = faults_of(tmp_path, json.dumps(wrong), name="fleet.json")
    in_file = [key for key in wrong["assets"][0] if key in {"capacity_mwhr", "max_mw", "efficiency"}]
    assert [fault.field.rpartition(".")[2] for fault in faults] == in_file


def test_a_duplicate_in_a_json_file_is_reported_with_its_path(tmp_path: Path) -> None:
    wrong = document()
    wrong["assets"] *= 2
    fault = only_fault_of(tmp_path, json.dumps(wrong), name="fleet.json")
    assert (fault.field, fault.message) == (
        "assets[1].id",
        f"is '{ASSET_ID}'; assets[0].id has this id already",
    )


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "not valid JSON: Expecting value (column 1)"),
        ('{"sites": [],\n"assets": ]}', 2, "not valid JSON: Expecting value (column 11)"),
        ("[" * 100_000, None, "not valid JSON: nested too deep"),
        (f'{{"sites": {"9" * 5000}}}', None, "not valid JSON: a number is too long"),
        ("[]", None, "the file holds a list; "),
        ("null", None, "the file is empty; "),
    ],
)
def test_a_json_file_that_is_no_fleet_has_one_fault(
    tmp_path: Path, text: str, line: int | None, message: str
) -> None:
    fault = only_fault_of(tmp_path, text, name="fleet.json")
    assert fault.message.startswith(message)
    assert fault.line == line


def test_a_json_key_given_twice_is_reported(tmp_path: Path) -> None:
    text = json.dumps(document()).replace('"max_mw": 25.0', '"max_mw": 25.0, "max_mw": 30.0')
    fault = only_fault_of(tmp_path, text, name="fleet.json")
    assert (fault.field, fault.message) == ("max_mw", "is given twice in one object")
