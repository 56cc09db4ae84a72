"""What an agent is told at its start: one asset by variables, or a shard as one JSON document."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trioder.domain.assets import Asset
from trioder.fleet import FleetFileError, asset_from_document
from trioder.process.addresses import Address, parse_address

MEBIBYTE = 1024 * 1024
DEFAULT_OUTBOX_MB = 256
MAX_OUTBOX_MB = 1024 * 1024
MIN_TICK_S = 0.05
MAX_TICK_S = 3600.0

_MAX_FAULTS_SHOWN = 50
_MAX_NAME_LENGTH = 256
# Each variable of a single asset, and the key of the asset document that it stands for.
_TEXT_VARIABLES = {
    "ASSET_ID": "id",
    "SITE_ID": "site_id",
    "SITE_NAME": "site_name",
    "ASSET_NAME": "name",
    "ASSET_LOCATION": "location",
}
_NUMBER_VARIABLES = {
    "CAPACITY_MWHR": "capacity_mwhr",
    "MAX_MW": "max_mw",
    "MIN_MW": "min_mw",
    "EFFICIENCY": "efficiency",
    "RAMP_RATE_MW_PER_MIN": "ramp_rate_mw_per_min",
}
_VARIABLE_BY_KEY = {key: name for name, key in (_TEXT_VARIABLES | _NUMBER_VARIABLES).items()}


class ConfigError(Exception):
    """A configuration that cannot be used. Its text has one line a fault.

    Attributes:
        faults: all of them; each names the variable or field, the value and the rule.
    """

    def __init__(self, faults: list[str]) -> None:
        super().__init__(faults)
        self.faults = tuple(faults)

    def __str__(self) -> str:
        lines = list(self.faults[:_MAX_FAULTS_SHOWN])
        if len(self.faults) > _MAX_FAULTS_SHOWN:
            lines.append(f"... and {len(self.faults) - _MAX_FAULTS_SHOWN} more")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """A checked configuration.

    Attributes:
        phase: where in the tick the pulse comes, in [0, 1).
        assets: at least one, with distinct ids.
        outbox_bytes: of telemetry that is kept for the headend; beyond, the oldest is dropped.
        state_dir: where the agent's file is; without it nothing outlives the agent.
        former_states: a file with batteries' states that former agents have left; may be missing.
        comms_loss_hold_s: so long without a headend setpoints hold, then they revert; infinity for ever.
    """

    agent_id: str
    headend: Address
    tick_s: float
    phase: float
    assets: tuple[Asset, ...]
    outbox_bytes: int = DEFAULT_OUTBOX_MB * MEBIBYTE
    state_dir: Path | None = None
    former_states: Path | None = None
    comms_loss_hold_s: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryConfig:
    """What a drainer is told.

    Attributes:
        headend: where the files' batches go.
        files: to be emptied.
        former_states: where the batteries' states of all of them are gathered first; None when nobody needs
            them any more.
    """

    headend: Address
    files: tuple[Path, ...]
    former_states: Path | None = None


def config_of_one_asset(variables: Mapping[str, str | None]) -> AgentConfig:
    """Read the configuration of an agent that is one asset, named like it.

    Args:
        variables: by the names of the environment variables; None is not set.

    Raises:
        ConfigError: with every fault.
    """
    faults: list[str] = []
    document: dict[str, Any] = {
        key: text for name, key in _TEXT_VARIABLES.items() if (text := variables[name]) is not None
    }
    document.setdefault("name", document.get("id", "unnamed"))
    for name, key in _NUMBER_VARIABLES.items():
        if (text := variables[name]) is not None:
            document[key] = _number_or_text(text)
    asset = None
    try:
        asset = asset_from_document(document)
    except FleetFileError as error:
        faults += [
            f"{_VARIABLE_BY_KEY.get(fault.field, fault.field)} {fault.message}" for fault in error.faults
        ]
    headend = _headend("HEADEND_GRPC", variables["HEADEND_GRPC"], faults)
    tick_s = _tick_s("TICK_S", _number_or_text(variables["TICK_S"] or ""), faults)
    outbox_mb = _number_or_text(variables.get("OUTBOX_MAX_MB") or str(DEFAULT_OUTBOX_MB))
    outbox_bytes = _outbox_bytes("OUTBOX_MAX_MB", outbox_mb, faults)
    hold_text = variables.get("COMMS_LOSS_HOLD_S")
    hold_s = _hold_s("COMMS_LOSS_HOLD_S", None if hold_text is None else _number_or_text(hold_text), faults)
    if faults or asset is None or headend is None:
        raise ConfigError(faults)
    state_dir = variables.get("STATE_DIR")
    return AgentConfig(
        agent_id=asset.id,
        headend=headend,
        tick_s=tick_s,
        phase=0.0,
        assets=(asset,),
        outbox_bytes=outbox_bytes,
        state_dir=Path(state_dir) if state_dir else None,
        comms_loss_hold_s=hold_s,
    )


def config_of_shard(line: bytes) -> AgentConfig:
    """Read the document with which the launcher hands over a shard; keys not known here are passed over.

    Raises:
        ConfigError: with every fault.
    """
    document = _object(line, "shard")
    faults: list[str] = []
    agent_id = document.get("agent_id")
    if (
        not isinstance(agent_id, str)
        or not 0 < len(agent_id) <= _MAX_NAME_LENGTH
        or not agent_id.isprintable()
    ):
        faults.append(
            f"agent_id is {_shown(agent_id)}; it must be text of 1..{_MAX_NAME_LENGTH} printable characters"
        )
    headend = _headend("headend", document.get("headend"), faults)
    tick_s = _tick_s("tick_s", document.get("tick_s"), faults)
    phase = document.get("phase", 0.0)
    if not _is_number(phase) or not 0.0 <= phase < 1.0:
        faults.append(f"phase is {_shown(phase)}; it must be a number, 0 <= phase < 1")
    assets = _assets(document.get("assets"), faults)
    outbox_bytes = _outbox_bytes("outbox_max_mb", document.get("outbox_max_mb", DEFAULT_OUTBOX_MB), faults)
    state_dir = document.get("state_dir")
    if not (state_dir is None or (isinstance(state_dir, str) and state_dir)):
        faults.append(f"state_dir is {_shown(state_dir)}; it must be the path of a folder")
    former_states = _path("former_states", document.get("former_states"), faults)
    hold_s = _hold_s("comms_loss_hold_s", document.get("comms_loss_hold_s"), faults)
    if faults or headend is None:
        raise ConfigError(faults)
    return AgentConfig(
        agent_id=str(agent_id),
        headend=headend,
        tick_s=tick_s,
        phase=float(phase),
        assets=tuple(assets),
        outbox_bytes=outbox_bytes,
        state_dir=None if state_dir is None else Path(state_dir),
        former_states=former_states,
        comms_loss_hold_s=hold_s,
    )


def config_of_recovery(line: bytes) -> RecoveryConfig:
    """Read the document with which the launcher has the outboxes of former agents emptied.

    Raises:
        ConfigError: with every fault.
    """
    document = _object(line, "drain")
    faults: list[str] = []
    headend = _headend("headend", document.get("headend"), faults)
    files = _paths("files", document.get("files"), faults)
    former_states = _path("former_states", document.get("former_states"), faults)
    if faults or headend is None:
        raise ConfigError(faults)
    return RecoveryConfig(headend=headend, files=files, former_states=former_states)


def _object(line: bytes, kind: str) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"the {kind} document is not JSON: {error}; it begins {line[:40]!r}"]) from None
    if not isinstance(document, dict):
        raise ConfigError([f"the {kind} document is {_shown(document)}; it must be an object"])
    return document


def _paths(name: str, value: object, faults: list[str]) -> tuple[Path, ...]:
    if not isinstance(value, list) or not all(isinstance(path, str) and path for path in value):
        faults.append(f"{name} is {_shown(value)}; it must be a list of paths")
        return ()
    return tuple(map(Path, value))


def _path(name: str, value: object, faults: list[str]) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        faults.append(f"{name} is {_shown(value)}; it must be the path of a file")
        return None
    return Path(value)


def _outbox_bytes(name: str, value: object, faults: list[str]) -> int:
    if not isinstance(value, int | float) or not _is_number(value) or not 1 <= value <= MAX_OUTBOX_MB:
        faults.append(f"{name} is {_shown(value)}; it must be a number of MB, 1..{MAX_OUTBOX_MB}")
        return 0
    return int(value * MEBIBYTE)


def _assets(documents: object, faults: list[str]) -> list[Asset]:
    if not isinstance(documents, list) or not documents:
        faults.append(f"assets is {_shown(documents)}; it must be a list of at least one asset")
        return []
    assets: dict[str, Asset] = {}
    for position, document in enumerate(documents):
        place = f"assets[{position}]"
        if not isinstance(document, dict):
            faults.append(f"{place} is {_shown(document)}; it must be an object")
            continue
        try:
            asset = asset_from_document(document)
        except FleetFileError as error:
            faults += [f"{place}.{fault.field} {fault.message}" for fault in error.faults]
            continue
        if asset.id in assets:
            faults.append(f"{place}.id is {asset.id!r}; another asset has it")
        assets[asset.id] = asset
    return list(assets.values())


def _headend(name: str, value: object, faults: list[str]) -> Address | None:
    try:
        address = parse_address(value if isinstance(value, str) else _shown(value))
        if address.port == 0:
            raise ValueError(f"{value!r} has the port 0; it must be in 1..65535")
    except ValueError as error:
        faults.append(f"{name}: {error}")
        return None
    return address


def _tick_s(name: str, value: object, faults: list[str]) -> float:
    if not isinstance(value, int | float) or not _is_number(value) or not MIN_TICK_S <= value <= MAX_TICK_S:
        faults.append(
            f"{name} is {_shown(value)}; it must be a number of seconds, {MIN_TICK_S:g}..{MAX_TICK_S:g}"
        )
        return math.nan
    return float(value)


def _hold_s(name: str, value: object, faults: list[str]) -> float:
    if value is None:
        return math.inf
    if not isinstance(value, int | float) or not _is_number(value) or not value > 0:
        faults.append(f"{name} is {_shown(value)}; it must be a finite number of seconds above 0")
        return math.nan
    return float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
