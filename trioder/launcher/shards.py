"""Shards of the fleet, the settings of their agents, and the document that configures one."""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from trioder.access.agent_tls import TLS_FIELDS, AgentTlsFiles
from trioder.domain.access import DEFAULT_TENANT
from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet, shard_fleet
from trioder.domain.scenario import Scenario
from trioder.fleet import asset_to_document, scenario_to_document
from trioder.launcher.restarts import RestartLimits

# Encoding one piece blocks the event loop for a few milliseconds at most.
_ASSETS_PER_PIECE = 200
DEFAULT_OUTBOX_MAX_MB = 256
AGENT_COMMAND = (sys.executable, "-m", "trioder.agent", "--stdin")
RECOVERY_COMMAND = (sys.executable, "-m", "trioder.agent", "--drain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One agent's share of the fleet.

    Attributes:
        agent_id: the same for the same assets at the same place among the shards.
        phase: of the agent within the tick, in [0, 1), so that agents do not tick at once.
        tenant: whose assets.
        scenario: what is to go wrong with them.
    """

    agent_id: str
    phase: float
    assets: tuple[Asset, ...]
    tenant: str = DEFAULT_TENANT
    scenario: Scenario | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetiredAgents:
    """The state files of retired agents.

    Attributes:
        files: without a shard.
        states_path: the file for their battery states; it may exist from an earlier start.
    """

    files: Sequence[str] = ()
    states_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSettings:
    """The settings of every agent.

    Attributes:
        headend: host:port, or https://host:port.
        tick_s: seconds between two pulses.
        state_dir: of the agents' state files.
        outbox_max_mb: bound of the telemetry that one agent stores without a headend.
        retired: agents whose shards no longer exist.
        comms_loss_hold_s: how long setpoints hold without a headend; None for ever.
        tls: files; `{agent}` in a path stands for each agent's file name.
        command: the agent program.
        recovery_command: the program that sends their outboxes.
        env: its environment.
        limits: of one agent's restarts.
    """

    headend: str
    tick_s: float = 4.0
    state_dir: str = "var"
    outbox_max_mb: int = DEFAULT_OUTBOX_MAX_MB
    retired: RetiredAgents = field(default_factory=RetiredAgents)
    comms_loss_hold_s: float | None = None
    tls: AgentTlsFiles = field(default_factory=AgentTlsFiles)
    command: Sequence[str] = AGENT_COMMAND
    recovery_command: Sequence[str] = RECOVERY_COMMAND
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    limits: RestartLimits = field(default_factory=RestartLimits)


def cut_shards(fleet: Fleet, size: int) -> tuple[Shard, ...]:
    """Return the fleet in shards of `size` assets of one tenant, their phases spread evenly."""
    parts = shard_fleet(fleet, size)
    return tuple(
        Shard(
            agent_id=_agent_id(part, number, len(parts)),
            phase=(number - 1) / len(parts),
            assets=part,
            tenant=fleet.tenant_of(fleet.index_by_id[part[0].id]),
        )
        for number, part in enumerate(parts, start=1)
    )


def with_scenario(shards: Iterable[Shard], scenario: Scenario, *, start_unix_s: float) -> tuple[Shard, ...]:
    """Return the shards, each with its part of the scenario; all of them share its start."""
    return tuple(
        replace(shard, scenario=scenario.cut(shard.assets, start_unix_s=start_unix_s)) for shard in shards
    )


def certificate_request(shard: Shard) -> str:
    """Return the line of JSON from which `python -m trioder.access issue-agents` makes its certificate."""
    return json.dumps(
        {
            "agent": shard.agent_id,
            "tenant": shard.tenant,
            "asset_ids": [asset.id for asset in shard.assets],
        }
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
    tls: AgentTlsFiles | None = None,
) -> Iterator[bytes]:
    """Yield the one JSON line that an agent reads from its standard input, in small pieces.

    Args:
        shard: of the agent.
        headend: host:port, or https://host:port.
        tick_s: seconds between two pulses.
        state_dir: of its state file.
        outbox_max_mb: bound of the telemetry that it stores without a headend.
        former_states: the file with retired agents' battery states, if any.
        comms_loss_hold_s: how long setpoints hold without a headend; None for ever.
        tls: files of all agents, of which it receives its own; None for none.
    """
    head: dict[str, object] = {
        "agent_id": shard.agent_id,
        "headend": headend,
        "tick_s": tick_s,
        "phase": shard.phase,
        "state_dir": state_dir,
        "outbox_max_mb": outbox_max_mb,
        "former_states": former_states,
        "comms_loss_hold_s": comms_loss_hold_s,
        **tls_document((tls or AgentTlsFiles()).of_agent(shard.agent_id)),
    }
    if shard.scenario is not None:
        head["scenario"] = scenario_to_document(shard.scenario, shard.assets)
    yield json.dumps(head)[:-1].encode() + b', "assets": ['
    for start in range(0, len(shard.assets), _ASSETS_PER_PIECE):
        piece = shard.assets[start : start + _ASSETS_PER_PIECE]
        separator = ", " if start else ""
        yield (separator + ", ".join(json.dumps(asset_to_document(asset)) for asset in piece)).encode()
    yield b"]}\n"


def tls_document(files: AgentTlsFiles) -> dict[str, str | None]:
    """Return the fields of an agent's document that name its TLS files."""
    return {TLS_FIELDS.cert: files.cert, TLS_FIELDS.key: files.key, TLS_FIELDS.ca: files.ca}


def _agent_id(assets: tuple[Asset, ...], number: int, count: int) -> str:
    digest = hashlib.sha256("\n".join(asset.id for asset in assets).encode()).hexdigest()
    return f"shard-{number}of{count}-{digest[:8]}"
