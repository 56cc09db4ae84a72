"""Scenario files: what they mean, and every error in them with its line and field."""

import json
import math
from pathlib import Path

import pytest

from tests.unit.headend.parts import asset_id, make_fleet
from trioder.domain.scenario import ACTIONS, PARAMETERS, Scenario
from trioder.fleet import (
    ScenarioFileError,
    load_fleet,
    load_scenario,
    scenario_from_document,
    scenario_to_document,
)

ROOT = Path(__file__).parents[3]
ASSETS = make_fleet(10).assets


def loaded(tmp_path: Path, text: str, *, must_match: bool = True, name: str = "s.yaml") -> Scenario:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return load_scenario(path, ASSETS, must_match=must_match)


def faults_of(tmp_path: Path, text: str) -> list[tuple[int | None, str, str]]:
    with pytest.raises(ScenarioFileError) as caught:
        loaded(tmp_path, text)
    return [(fault.line, fault.field, fault.message) for fault in caught.value.faults]


def action(text: str) -> str:
    return "actions:\n  - " + text.replace("\n", "\n    ")


def chosen(tmp_path: Path, selector: str, *, seed: int = 0, must_match: bool = True) -> set[int]:
    text = f"seed: {seed}\n" + action(f"do: trip\nat_s: 0\nassets: {selector}")
    [found] = loaded(tmp_path, text, must_match=must_match).actions
    return {position for position in range(10) if asset_id(position) in found.asset_ids}


def test_a_scenario_has_its_actions_in_file_order_with_their_defaults(tmp_path: Path) -> None:
    scenario = loaded(
        tmp_path,
        """\
name: Two things
seed: 5
actions:
  - {do: derate, factor: 0.5, at_s: 1, assets: all}
  - {do: link_lossy, cut_every_s: 60, at_s: 2.5, for_s: 10, every_s: 20, times: 3, assets: all}
""",
    )
    assert (scenario.name, scenario.seed, scenario.start_unix_s) == ("Two things", 5, None)
    first, second = scenario.actions
    assert (first.number, first.name, first.at_s, first.for_s) == (0, "derate", 1.0, math.inf)
    assert first.parameters == {"factor": 0.5, "over_s": 0.0, "back_s": 0.0}
    assert (second.number, second.for_s, second.every_s, second.times) == (1, 10.0, 20.0, 3)
    assert second.parameters == {"cut_every_s": 60.0}
    assert len(second.asset_ids) == 10


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("all", set(range(10))),
        (f"{{ids: [{asset_id(3).upper()}, {asset_id(7)}]}}", {3, 7}),
        ('{names: ["Battery 2", "*[57]"]}', {2, 5, 7}),
        ("{sites: [North]}", set(range(10))),
        ("{sites: [N*]}", set(range(10))),
        (f"{{sites: [{ASSETS[0].site_id}]}}", set(range(10))),
        (f'{{ids: [{asset_id(1)}], names: ["*9"]}}', {1, 9}),
    ],
)
def test_assets_are_selected_by_id_name_and_site(tmp_path: Path, selector: str, expected: set[int]) -> None:
    assert chosen(tmp_path, selector) == expected


def test_a_share_is_the_same_for_the_same_seed_and_another_for_another(tmp_path: Path) -> None:
    first = chosen(tmp_path, "{share: 0.4}", seed=1)
    assert len(first) == 4
    assert chosen(tmp_path, "{share: 0.4}", seed=1) == first
    assert {frozenset(chosen(tmp_path, "{share: 0.4}", seed=seed)) for seed in range(9)} != {frozenset(first)}


def test_a_share_is_one_of_what_is_selected_and_at_least_one_asset(tmp_path: Path) -> None:
    assert chosen(tmp_path, '{names: ["*[0123]"], share: 0.5}') <= {0, 1, 2, 3}
    assert len(chosen(tmp_path, '{names: ["*[0123]"], share: 0.01}')) == 1


def test_what_an_agent_alone_does_not_have_is_no_error(tmp_path: Path) -> None:
    assert chosen(tmp_path, "{sites: [Elsewhere]}", must_match=False) == set()


ANY = "at_s: 1\nassets: all"


@pytest.mark.parametrize(
    ("text", "line", "field", "message"),
    [
        ("seed: 1\n", 1, "actions", "is missing"),
        ("actions: []\n", 1, "actions", "is an empty list; it must be a list with at least one entry"),
        ("actions: 7\n", 1, "actions", "is 7; it must be a list with at least one entry"),
        ("actions:\n  - trip\n", 2, "actions[0]", "is 'trip'; it must be a mapping"),
        (
            "sead: 1\n" + action(f"do: trip\n{ANY}"),
            1,
            "sead",
            "is not a key of a scenario file (did you mean seed?)",
        ),
        ("seed: -1\n" + action(f"do: trip\n{ANY}"), 1, "seed", "is -1; it must be a whole number within 0.."),
        ("seed: true\n" + action(f"do: trip\n{ANY}"), 1, "seed", "is true; it must be a whole number"),
        ("name: 3\n" + action(f"do: trip\n{ANY}"), 1, "name", "is 3; it must be text"),
        (action(ANY), 2, "actions[0].do", "is missing"),
        (
            action(f"do: tripp\n{ANY}"),
            2,
            "actions[0].do",
            "is 'tripp'; it must be one of trip, derate, reject,",
        ),
        (action("do: trip\nassets: all"), 2, "actions[0].at_s", "is missing"),
        (
            action("do: trip\nat_s: -1\nassets: all"),
            3,
            "actions[0].at_s",
            "is -1; it must be a number within 0..",
        ),
        (action("do: trip\nat_s: .nan\nassets: all"), 3, "actions[0].at_s", "is nan; it must be a number"),
        (action(f"do: trip\n{ANY}\nfor_s: 0"), 5, "actions[0].for_s", "is 0; it must be a number within 0.."),
        (action(f"do: trip\n{ANY}\nfor_s: no"), 5, "actions[0].for_s", "is 'no'; it must be a number"),
        (action(f"do: trip\n{ANY}\nfactor: 0.5"), 5, "actions[0].factor", "is not a key of a trip"),
        (action(f"do: derate\n{ANY}"), 2, "actions[0].factor", "is missing"),
        (
            action(f"do: derate\nfactor: 1\n{ANY}"),
            3,
            "actions[0].factor",
            "is 1; it must be a number within 0..1, and",
        ),
        (
            action(f"do: derate\nfactor: 0.5\nover_s: 9\nfor_s: 8\n{ANY}"),
            4,
            "actions[0].over_s",
            "is 9; it must be at most for_s, which is 8",
        ),
        (
            action(f"do: derate\nfactor: 0.5\nback_s: 9\n{ANY}"),
            4,
            "actions[0].back_s",
            "is given without for_s",
        ),
        (action(f"do: trip\n{ANY}\nevery_s: 9"), 5, "actions[0].every_s", "is given without for_s"),
        (
            action(f"do: trip\n{ANY}\nevery_s: 9\nfor_s: 10"),
            5,
            "actions[0].every_s",
            "is 9; it must be at least for_s, which is 10",
        ),
        (action(f"do: trip\n{ANY}\ntimes: 2"), 5, "actions[0].times", "is given without every_s"),
        (
            action(f"do: trip\n{ANY}\nevery_s: 9\nfor_s: 1\ntimes: 1.5"),
            7,
            "actions[0].times",
            "is 1.5; it must be a whole number within 1..",
        ),
        (action(f"do: link_slow\n{ANY}"), 2, "actions[0].delay_s", "is 0 or missing, and so is bytes_per_s"),
        (action(f"do: clock_step\nby_s: 0\n{ANY}"), 3, "actions[0].by_s", "is 0; it must be a number within"),
        (action("do: trip\nat_s: 0"), 2, "actions[0].assets", "is missing"),
        (
            action("do: trip\nat_s: 0\nassets: some"),
            4,
            "actions[0].assets",
            "is 'some'; it must be all, or a mapping",
        ),
        (
            action("do: trip\nat_s: 0\nassets: {}"),
            4,
            "actions[0].assets",
            "is an empty mapping; it must be all",
        ),
        (
            action("do: trip\nat_s: 0\nassets: {id: [a]}"),
            4,
            "actions[0].assets.id",
            "is not a key of a selector (did",
        ),
        (
            action("do: trip\nat_s: 0\nassets: {ids: a}"),
            4,
            "actions[0].assets.ids",
            "is 'a'; it must be a list of text",
        ),
        (
            action("do: trip\nat_s: 0\nassets: {ids: [3]}"),
            4,
            "actions[0].assets.ids[0]",
            "is 3; it must be text",
        ),
        (
            action("do: trip\nat_s: 0\nassets:\n  names:\n    - Battery 1\n    - Nobody*"),
            7,
            "actions[0].assets.names[1]",
            "is 'Nobody*'; no asset of the fleet matches",
        ),
        (
            action("do: trip\nat_s: 0\nassets: {share: 1.5}"),
            4,
            "actions[0].assets.share",
            "is 1.5; it must be a number within (0, 1]",
        ),
    ],
)
def test_an_error_has_its_line_its_field_and_the_rule(
    tmp_path: Path, text: str, line: int, field: str, message: str
) -> None:
    [(found_line, found_field, found_message)] = faults_of(tmp_path, text)
    assert (found_line, found_field) == (line, field)
    assert found_message.startswith(message)


def test_all_errors_are_reported_together_in_file_order(tmp_path: Path) -> None:
    text = "sead: 1\n" + action("do: trap\nat_s: -1\nassets: {share: 0}") + "\n  - 7\n"
    assert [line for line, _, _ in faults_of(tmp_path, text)] == [1, 3, 4, 5, 6]


def test_an_error_shows_the_file(tmp_path: Path) -> None:
    with pytest.raises(ScenarioFileError, match=r"s\.yaml:1: seed: is 'x'; it must be a whole number"):
        loaded(tmp_path, "seed: x\n" + action(f"do: trip\n{ANY}"))


def test_a_file_that_is_no_scenario_has_one_error(tmp_path: Path) -> None:
    assert faults_of(tmp_path, "- 1\n") == [
        (None, "", "the file holds a list; it must be a mapping with the keys actions")
    ]


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ScenarioFileError, match=r"none\.yaml: cannot be read: No such file"):
        load_scenario(tmp_path / "none.yaml", ASSETS)


def test_json_is_read_too(tmp_path: Path) -> None:
    text = json.dumps({"actions": [{"do": "trip", "at_s": 1, "assets": {"names": ["* 3"]}}]})
    [found] = loaded(tmp_path, text, name="s.json").actions
    assert found.asset_ids == {asset_id(3)}


def test_an_agents_part_is_written_and_read_back_equal(tmp_path: Path) -> None:
    scenario = loaded(
        tmp_path,
        """\
name: x
seed: 9
actions:
  - {do: trip, at_s: 1, assets: {names: ["* 9"]}}
  - {do: derate, factor: 0.5, over_s: 2, at_s: 1, for_s: 3, back_s: 1, assets: {names: ["* [13]"]}}
  - {do: freeze, at_s: 1, for_s: 2, every_s: 3, assets: all}
  - {do: freeze, at_s: 1, for_s: 2, every_s: 3, times: 4, assets: all}
""",
    )
    assets = ASSETS[:4]
    part = scenario.cut(assets, start_unix_s=1.8e9)
    assert part is not None
    document = json.loads(json.dumps(scenario_to_document(part, assets)))
    assert scenario_from_document(document, assets) == part
    # The numbers are those of the file.
    assert [each.number for each in part.actions] == [1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"assets": [4]},
            "scenario: actions[0].assets: is a list; it must be a list of positions within 0..3",
        ),
        ({"assets": [True]}, "scenario: actions[0].assets: is a list; it must be"),
        ({"do": "x"}, "scenario: actions[0].do: is 'x'; it must be one of"),
        ({"at_s": None}, "scenario: actions[0].at_s: is empty; it must be a number"),
    ],
)
def test_a_wrong_document_is_refused(changes: dict[str, object], message: str) -> None:
    entry = {"number": 3, "do": "trip", "at_s": 1.0, "assets": None} | changes
    with pytest.raises(ScenarioFileError) as caught:
        scenario_from_document({"name": "", "seed": 0, "actions": [entry]}, ASSETS[:4])
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("document", [[], 7, "x"])
def test_a_document_that_is_no_object_is_refused(document: object) -> None:
    with pytest.raises(ScenarioFileError, match="it must be an object"):
        scenario_from_document(document, ASSETS)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples" / "scenarios").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_shipped_files_fit_the_default_fleet(path: Path) -> None:
    assert load_scenario(path, load_fleet(ROOT / "assets.yaml").assets).name


def test_the_documentation_lists_every_action_with_its_parameters() -> None:
    rows = {
        line.split("`")[1]: line
        for line in (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    }
    for name in ACTIONS:
        for parameter in PARAMETERS.get(name, {}):
            assert f"`{parameter}`" in rows[name]
        assert name in rows
