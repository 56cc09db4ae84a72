"""A scenario is cut for the shards, and each agent reads its own part."""

import json
from dataclasses import replace

from tests.unit.launcher.fleets import shards_of
from trioder.agent.config import config_of_shard
from trioder.domain.scenario import Action, Scenario
from trioder.launcher.shards import Shard, shard_document, with_scenario

START_UNIX_S = 1_800_000_000.25


def line_of(shard: Shard) -> bytes:
    return b"".join(shard_document(shard, headend="127.0.0.1:50051", tick_s=4.0, state_dir="var"))


def cut_for(*positions: int) -> tuple[Shard, ...]:
    """Shards of two of six assets; those at the positions trip."""
    shards = shards_of(assets=6, size=2)
    ids = [asset.id for shard in shards for asset in shard.assets]
    trip = Action(
        number=0, name="trip", at_s=1.0, parameters={}, asset_ids=frozenset(ids[p] for p in positions)
    )
    scenario = Scenario(name="x", seed=1, actions=(trip,))
    return with_scenario(shards, scenario, start_unix_s=START_UNIX_S)


def test_each_agent_gets_its_own_assets_and_the_common_start() -> None:
    for shard, expected in zip(cut_for(1, 2, 3), ([1], [2, 3], []), strict=True):
        config = config_of_shard(line_of(shard))
        assert config.scenario == shard.scenario
        if not expected:
            assert config.scenario is None
            continue
        assert config.scenario is not None
        assert config.scenario.start_unix_s == START_UNIX_S
        [action] = config.scenario.actions
        assert len(action.asset_ids) == len(expected)
        assert action.asset_ids <= {asset.id for asset in config.assets}


def test_a_shard_without_a_scenario_has_the_document_of_before() -> None:
    untouched = cut_for(1)[2]
    assert "scenario" not in json.loads(line_of(untouched))
    assert line_of(untouched) == line_of(replace(untouched, scenario=None))
