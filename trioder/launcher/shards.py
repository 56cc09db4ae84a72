"""Shards of the fleet, and the document that configures an agent with one."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet, shard_fleet
from trioder.fleet import asset_to_document

# Encoding one piece blocks the event loop for a few milliseconds at most.
_ASSETS_PER_PIECE = 200
DEFAULT_OUTBOX_MAX_MB = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One agent's share of the fleet.

    Attributes:
        agent_id: the same for the same assets at the same place among the shards.
        phase: of the agent within the tick, in [0, 1), so that agents do not tick at once.
    """

    agent_id: str
    phase: float
    assets: tuple[Asset, ...]


def cut_shards(fleet: Fleet, size: int) -> tuple[Shard, ...]:
    """Return the fleet in shards of `size` assets, their phases spread evenly."""
    parts = shard_fleet(fleet, size)
    return tuple(
        Shard(agent_id=_agent_id(part, number, len(parts)), phase=(number - 1) / len(parts), assets=part)
        for number, part in enumerate(parts, start=1)
    )


def shard_document(
    shard: Shard,
    *,
    headend: str,
    tick_s: float,
    state_dir: str,
    outbox_max_mb: int = DEFAULT_OUTBOX_MAX_MB,
    former_states: str | None = None,
    comms_loss_hold_s: float | None = None,
) -> Iterator[bytes]:
    """Yield the one JSON line that an agent reads from its standard input, in small pieces.

    Args:
        shard: of the agent.
        headend: host:port.
        tick_s: seconds between two pulses.
        state_dir: of its state file.
        outbox_max_mb: bound of the telemetry that it stores without a headend.
        former_states: the file with retired agents' battery states, if any.
        comms_loss_hold_s: how long setpoints hold without a headend; None for ever.
    """
    head = {
        "agent_id": shard.agent_id,
        "headend": headend,
        "tick_s": tick_s,
        "phase": shard.phase,
        "state_dir": state_dir,
        "outbox_max_mb": outbox_max_mb,
        "former_states": former_states,
        "comms_loss_hold_s": comms_loss_hold_s,
    }
    yield json.dumps(head)[:-1].encode() + b', "assets": ['
    for start in range(0, len(shard.assets), _ASSETS_PER_PIECE):
        piece = shard.assets[start : start + _ASSETS_PER_PIECE]
        separator = ", " if start else ""
        yield (separator + ", ".join(json.dumps(asset_to_document(asset)) for asset in piece)).encode()
    yield b"]}\n"


def _agent_id(assets: tuple[Asset, ...], number: int, count: int) -> str:
    digest = hashlib.sha256("\n".join(asset.id for asset in assets).encode()).hexdigest()
    return f"shard-{number}of{count}-{digest[:8]}"
