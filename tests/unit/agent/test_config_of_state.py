"""The paths and bounds in an agent's and a recovery's configuration are checked like all of it."""

import json
import math
from pathlib import Path

import pytest

from tests.unit.agent.test_config import VARIABLES, shard
from trioder.agent.config import ConfigError, config_of_one_asset, config_of_recovery, config_of_shard
from trioder.process.addresses import Endpoint


def test_one_asset_has_its_folder_and_bound_from_variables() -> None:
    config = config_of_one_asset(VARIABLES | {"STATE_DIR": "/state", "OUTBOX_MAX_MB": "2"})
    assert (config.state_dir, config.outbox_bytes) == (Path("/state"), 2 * 1024 * 1024)


def test_a_shard_has_its_folder_bound_and_former_states_from_its_document() -> None:
    config = config_of_shard(shard(state_dir="/state", outbox_max_mb=2, former_states="/state/former"))
    assert (config.state_dir, config.outbox_bytes) == (Path("/state"), 2 * 1024 * 1024)
    assert config.former_states == Path("/state/former")


def test_how_long_setpoints_hold_without_a_headend_is_reported_either_way() -> None:
    assert config_of_one_asset(VARIABLES | {"COMMS_LOSS_HOLD_S": "30"}).comms_loss_hold_s == 30.0
    assert config_of_shard(shard(comms_loss_hold_s=0.5)).comms_loss_hold_s == 0.5


def test_setpoints_hold_for_ever_by_default() -> None:
    assert config_of_one_asset(VARIABLES).comms_loss_hold_s == math.inf
    assert config_of_shard(shard(comms_loss_hold_s=None)).comms_loss_hold_s == math.inf


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "long", ""])
def test_a_hold_that_is_no_time_is_a_fault_of_the_variables(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of_one_asset(VARIABLES | {"COMMS_LOSS_HOLD_S": text})
    [fault] = caught.value.faults
    assert fault.startswith("COMMS_LOSS_HOLD_S is ")
    assert fault.endswith("it must be a finite number of seconds above 0")


def test_the_bound_is_256_mb_by_default() -> None:
    assert config_of_shard(shard()).outbox_bytes == 256 * 1024 * 1024


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({"outbox_max_mb": 0}, "outbox_max_mb is 0; it must be a number of MB"),
        ({"outbox_max_mb": "much"}, "outbox_max_mb is 'much'"),
        ({"state_dir": 5}, "state_dir is 5; it must be the path of a folder"),
        ({"comms_loss_hold_s": 0}, "comms_loss_hold_s is 0; it must be a finite number of seconds above 0"),
        ({"comms_loss_hold_s": True}, "comms_loss_hold_s is True"),
        ({"comms_loss_hold_s": "30"}, "comms_loss_hold_s is '30'"),
        ({"former_states": [1]}, "former_states is [1]; it must be the path of a file"),
    ],
)
def test_faults_of_a_shard_are_reported(changes: dict[str, object], reported: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of_shard(shard(**changes))
    assert reported in str(caught.value)


def test_a_recovery_document_is_read() -> None:
    document = {"headend": "h:1", "files": ["/a"], "former_states": "/s"}
    config = config_of_recovery(json.dumps(document).encode())
    assert (config.headend, config.files) == (Endpoint("h", 1), (Path("/a"),))
    assert config.former_states == Path("/s")


def test_all_faults_of_a_recovery_document_are_reported() -> None:
    with pytest.raises(ConfigError) as caught:
        config_of_recovery(b'{"headend": "nowhere", "files": null, "former_states": ""}')
    assert len(caught.value.faults) == 3
