import json
import re
from dataclasses import replace
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.launcher.fleets import fleet_of, shards_of
from trioder.domain.fleet import Fleet
from trioder.fleet import asset_from_document
from trioder.launcher.shards import certificate_request, cut_shards, shard_document


@given(st.integers(1, 60), st.integers(1, 70))
def test_every_asset_is_in_one_shard_in_file_order(count: int, size: int) -> None:
    fleet = fleet_of(count)
    shards = cut_shards(fleet, size)
    assert [asset for shard in shards for asset in shard.assets] == fleet.assets
    assert all(1 <= len(shard.assets) <= size for shard in shards)


def test_a_shard_is_of_one_tenant() -> None:
    fleet = fleet_of(4)
    other = replace(fleet.sites[0], id=str(UUID(int=2)), tenant="beta")
    assets = [
        replace(asset, site_id=(fleet.sites[0], other)[n % 2].id) for n, asset in enumerate(fleet.assets)
    ]
    shards = cut_shards(Fleet(sites=(*fleet.sites, other), assets=assets), 10)
    assert [(shard.tenant, list(shard.assets)) for shard in shards] == [
        ("default", assets[::2]),
        ("beta", assets[1::2]),
    ]


def test_a_certificate_is_requested_for_the_agent_and_its_assets() -> None:
    [shard] = shards_of(assets=2, size=2)
    assert json.loads(certificate_request(shard)) == {
        "agent": shard.agent_id,
        "tenant": "default",
        "asset_ids": [asset.id for asset in shard.assets],
    }


def test_the_phases_are_spread_evenly() -> None:
    assert [shard.phase for shard in shards_of(assets=7, size=2)] == [0.0, 0.25, 0.5, 0.75]


def test_an_agent_keeps_its_id_over_restarts_of_the_launcher() -> None:
    first, second = shards_of(assets=7, size=2), shards_of(assets=7, size=2)
    assert [shard.agent_id for shard in first] == [shard.agent_id for shard in second]
    assert re.fullmatch(r"shard-1of4-[0-9a-f]{8}", first[0].agent_id)


def test_other_assets_make_another_id() -> None:
    assert shards_of(assets=4, size=2)[0].agent_id != shards_of(assets=4, size=3)[0].agent_id
    hashes = {shard.agent_id.rsplit("-", 1)[1] for shard in shards_of(assets=40, size=1)}
    assert len(hashes) == 40


@given(st.integers(1, 450))
def test_the_document_is_one_json_line_that_holds_the_shard(count: int) -> None:
    shard = shards_of(assets=count, size=500)[0]
    pieces = list(shard_document(shard, headend="a:1", tick_s=4.0, state_dir="var"))
    line = b"".join(pieces)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    document = json.loads(line)
    assert tuple(asset_from_document(asset) for asset in document.pop("assets")) == shard.assets
    assert document == {
        "agent_id": shard.agent_id,
        "headend": "a:1",
        "tick_s": 4.0,
        "phase": 0.0,
        "state_dir": "var",
        "outbox_max_mb": 256,
        "former_states": None,
        "comms_loss_hold_s": None,
        "tls_cert": None,
        "tls_key": None,
        "tls_ca": None,
    }


def test_how_long_setpoints_hold_without_a_headend_is_passed_on() -> None:
    [shard] = shards_of(assets=1, size=1)
    pieces = shard_document(shard, headend="a:1", tick_s=4.0, state_dir="var", comms_loss_hold_s=30.0)
    assert json.loads(b"".join(pieces))["comms_loss_hold_s"] == 30.0


def test_a_large_document_is_split_into_small_pieces() -> None:
    shard = shards_of(assets=2000, size=2000)[0]
    pieces = list(shard_document(shard, headend="a:1", tick_s=4.0, state_dir="var"))
    assert max(map(len, pieces)) < 128 * 1024
