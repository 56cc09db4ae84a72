"""Every fault of a configuration is reported at once, with its name, value and rule."""

import json
import math
from pathlib import Path

import pytest

from tests.unit.agent.parts import asset_id, make_asset
from trioder.agent.config import ConfigError, config_of_one_asset, config_of_shard
from trioder.fleet import asset_to_document
from trioder.process.addresses import Endpoint

VARIABLES: dict[str, str | None] = {
    "ASSET_ID": asset_id(1).upper(),
    "SITE_ID": asset_id(2),
    "SITE_NAME": "Site",
    "ASSET_NAME": None,
    "ASSET_LOCATION": None,
    "CAPACITY_MWHR": "100",
    "MAX_MW": "50",
    "MIN_MW": "-40",
    "EFFICIENCY": "0.9",
    "RAMP_RATE_MW_PER_MIN": "100",
    "HEADEND_GRPC": "http://headend:50051",
    "TICK_S": "4",
}


def shard(**changes: object) -> bytes:
    document: dict[str, object] = {
        "agent_id": "shard-1of1-00000000",
        "headend": "127.0.0.1:50051",
        "tick_s": 4.0,
        "phase": 0.5,
        "assets": [asset_to_document(make_asset(number)) for number in range(2)],
    }
    return json.dumps(document | changes).encode()


def test_one_asset_is_read_from_its_variables() -> None:
    config = config_of_one_asset(VARIABLES)
    [asset] = config.assets
    assert (config.agent_id, asset.id, asset.name) == (asset_id(1), asset_id(1), asset_id(1).upper())
    assert (asset.capacity_mwhr, asset.max_mw, asset.min_mw, asset.efficiency) == (100.0, 50.0, -40.0, 0.9)
    assert (config.headend, config.tick_s, config.phase) == (Endpoint("headend", 50051), 4.0, 0.0)


def test_all_faults_of_the_variables_are_reported_at_once() -> None:
    wrong = {"ASSET_ID": "battery-1", "CAPACITY_MWHR": None, "MAX_MW": "much", "EFFICIENCY": "1.5"}
    with pytest.raises(ConfigError) as caught:
        config_of_one_asset(VARIABLES | wrong | {"HEADEND_GRPC": "headend", "TICK_S": "0"})
    text = str(caught.value)
    assert len(caught.value.faults) == 6
    for name, shown in [
        ("ASSET_ID", "battery-1"),
        ("CAPACITY_MWHR", "is missing"),
        ("MAX_MW", "much"),
        ("EFFICIENCY", "1.5"),
        ("HEADEND_GRPC", "'headend'"),
        ("TICK_S", "0.05..3600"),
    ]:
        assert any(line.startswith(name) and shown in line for line in text.splitlines()), name


def test_a_shard_is_read_from_its_document() -> None:
    config = config_of_shard(shard(state_dir="var"))
    assert config.agent_id == "shard-1of1-00000000"
    assert config.assets == (make_asset(0), make_asset(1))
    assert (config.headend, config.tick_s, config.phase) == (Endpoint("127.0.0.1", 50051), 4.0, 0.5)


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({"agent_id": ""}, "agent_id is ''"),
        ({"agent_id": 7}, "agent_id is 7"),
        ({"headend": None}, "headend: 'None' is not an address"),
        ({"headend": "h:0"}, "headend: 'h:0' has the port 0"),
        ({"tick_s": "4"}, "tick_s is '4'"),
        ({"tick_s": math.nan}, "tick_s is nan"),
        ({"tick_s": True}, "tick_s is True"),
        ({"phase": 1.0}, "phase is 1.0"),
        ({"assets": []}, "assets is []"),
        ({"assets": {}}, "assets is {}"),
        ({"assets": [3]}, "assets[0] is 3"),
        ({"assets": [asset_to_document(make_asset(0))] * 2}, "assets[1].id is"),
        ({"assets": [asset_to_document(make_asset(0)) | {"max_mw": "x"}]}, "assets[0].max_mw is 'x'"),
    ],
)
def test_each_fault_of_a_shard_is_named(changes: dict[str, object], reported: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of_shard(shard(**changes))
    [fault] = caught.value.faults
    assert fault.startswith(reported)


@pytest.mark.parametrize("line", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"17"])
def test_what_is_no_document_is_one_clear_fault(line: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of_shard(line)
    assert len(caught.value.faults) == 1
    assert len(str(caught.value)) < 300


def scenario_file(folder: Path, text: str) -> dict[str, str | None]:
    path = folder / "scenario.yaml"
    path.write_text(text, encoding="utf-8")
    return VARIABLES | {"SCENARIO": str(path)}


def test_an_agent_of_one_asset_takes_its_part_of_a_scenario_file(tmp_path: Path) -> None:
    text = """\
actions:
  - {do: trip, at_s: 1, assets: {sites: [Site]}}
  - {do: freeze, at_s: 1, assets: {sites: [X]}}
"""
    scenario = config_of_one_asset(scenario_file(tmp_path, text)).scenario
    assert scenario is not None
    assert [action.name for action in scenario.actions] == ["trip"]


def test_errors_of_a_scenario_file_are_reported_with_those_of_the_variables(tmp_path: Path) -> None:
    variables = scenario_file(tmp_path, "actions:\n  - {do: trap, at_s: -1, assets: all}") | {"TICK_S": "0"}
    with pytest.raises(ConfigError) as caught:
        config_of_one_asset(variables)
    assert len(caught.value.faults) == 3
    assert f"SCENARIO {tmp_path}/scenario.yaml:2: actions[0].at_s: is -1; it must be" in str(caught.value)


def test_errors_of_a_scenario_in_a_shard_document_are_reported() -> None:
    document = {"name": "", "seed": 0, "actions": [{"do": "trip", "at_s": 1, "assets": [2]}]}
    with pytest.raises(
        ConfigError, match=r"scenario: actions\[0\].assets: is a list; it must be a list of pos"
    ):
        config_of_shard(shard(scenario=document))
