"""The final check: what the database has of each asset against what the asset's agent made."""

import hashlib
from collections import defaultdict

from tests.simulation.world import World
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.records import Batch
from trioder.wire.uplink import read_uplink

Sample = tuple[int, float, float, float, float, float]


def check_exactly_once(world: World) -> None:
    """Compare every sample of every asset, in order.

    Raises:
        AssertionError: one is missing, there twice, in the wrong place, or not what was made.
    """
    # No agent took itself for one whose state was set back.
    assert set(world.server.batches) <= {agent.memory.outbox_id for agent in world.agents}
    made = _made_by_asset(world)
    stored = _stored_by_asset(world)
    assert made.keys() == stored.keys()
    for key, samples in made.items():
        if stored[key] != samples:
            missing, extra = set(samples) - set(stored[key]), set(stored[key]) - set(samples)
            first = min([*missing, *extra], default="none, but their order")
            raise AssertionError(
                f"asset {key}: {len(samples)} samples made, {len(stored[key])} stored, "
                f"{len(missing)} missing, {len(extra)} never made, first: {first}"
            )
    world.report.rows = sum(map(len, stored.values()))
    world.report.digest = _digest_of(world)


def _made_by_asset(world: World) -> dict[int, list[Sample]]:
    made: dict[int, list[Sample]] = defaultdict(list)
    for agent in world.agents:
        keys = [world.storm.fleet.index_by_id[asset.id] for asset in agent.config.assets]
        journal = agent.memory.batches.journal
        assert list(journal) == list(range(1, len(journal) + 1))
        for payload in journal.values():
            batch = read_uplink(pb.AgentToHeadend.FromString(payload), asset_count=len(keys))
            assert isinstance(batch, Batch)
            for position, *values in zip(
                batch.asset_index,
                batch.soc_mwhr,
                batch.current_mw,
                batch.setpoint_mw,
                batch.available_discharge_mw,
                batch.available_charge_mw,
                strict=True,
            ):
                made[keys[position]].append((batch.ts_unix_ms, *values))
    return made


def _stored_by_asset(world: World) -> dict[int, list[Sample]]:
    stored: dict[int, list[Sample]] = defaultdict(list)
    for batches in world.server.batches.values():
        for batch in batches:
            # Agents' batches alone: what one reports at once is of one instant.
            [ts_unix_ms] = batch.run_ts_unix_ms
            for key, *values in zip(
                batch.asset_keys,
                batch.soc_mwhr,
                batch.current_mw,
                batch.setpoint_mw,
                batch.available_discharge_mw,
                batch.available_charge_mw,
                strict=True,
            ):
                stored[key].append((ts_unix_ms, *values))
    return stored


def _digest_of(world: World) -> str:
    """Return a fingerprint of all that the database has."""
    fingerprint = hashlib.sha256()
    for outbox_id, batches in sorted(world.server.batches.items()):
        for batch in batches:
            fingerprint.update(f"{outbox_id} {batch.batch_seq} {list(batch.run_ts_unix_ms)}".encode())
            fingerprint.update(batch.soc_mwhr.tobytes())
    fingerprint.update(repr(sorted(world.server.sessions.items())).encode())
    return fingerprint.hexdigest()
