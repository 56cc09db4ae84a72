"""An agent's configuration: one asset from environment variables, or a shard from a JSON document."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trioder.access.agent_tls import (
    TLS_FIELDS,
    TLS_VARIABLES,
    AgentTlsError,
    AgentTlsFiles,
    TlsNames,
    check_tls_options,
    open_agent_tls,
)
from trioder.access.tls import ClientTls
from trioder.domain.assets import Asset
from trioder.domain.scenario import Scenario
from trioder.domain.text import MAX_NAME_LENGTH, preview
from trioder.fleet import (
    FleetFileError,
    ScenarioFileError,
    asset_from_document,
    load_scenario,
    scenario_from_document,
)
from trioder.process.addresses import Endpoint, parse_endpoint

MEBIBYTE = 1024 * 1024
DEFAULT_OUTBOX_MB = 256
MAX_OUTBOX_MB = 1024 * 1024
MIN_TICK_S = 0.05
MAX_TICK_S = 3600.0

_MAX_FAULTS_SHOWN = 50
# In place of an endpoint with a fault, which is raised.
_NOWHERE = Endpoint("", 0)
# The variables of a single asset, and their keys in an asset document.
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
    """A configuration that cannot be used. Its text has one line per error.

    Attributes:
        faults: all errors; each has the variable or field, the value and the rule.
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
        phase: of the pulse within the tick, in [0, 1).
        assets: at least one, with distinct ids.
        outbox_bytes: bound of unacknowledged telemetry; beyond, the oldest is dropped.
        state_dir: of the agent's state file; without it no state survives a restart.
        former_states: the file with retired agents' battery states; may be missing.
        comms_loss_hold_s: how long setpoints hold without a headend, then they revert; infinity for ever.
        tls: of the connections to the headend; None: plain.
        scenario: what is to go wrong, as far as it concerns this agent.
    """

    agent_id: str
    headend: Endpoint
    tick_s: float
    phase: float
    assets: tuple[Asset, ...]
    outbox_bytes: int = DEFAULT_OUTBOX_MB * MEBIBYTE
    state_dir: Path | None = None
    former_states: Path | None = None
    comms_loss_hold_s: float = math.inf
    tls: ClientTls | None = None
    scenario: Scenario | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryConfig:
    """The configuration of an outbox recovery.

    Attributes:
        headend: receives the files' batches.
        files: of retired agents.
        former_states: the file that receives their battery states first; None when no agent needs them.
        tls: the files of each agent's TLS; `{agent}` stands for its file name.
    """

    headend: Endpoint
    files: tuple[Path, ...]
    former_states: Path | None = None
    tls: AgentTlsFiles = field(default_factory=AgentTlsFiles)


def config_of_one_asset(variables: Mapping[str, str | None]) -> AgentConfig:
    """Read the configuration of an agent of one asset; the asset's id is the agent's.

    Args:
        variables: by the names of the environment variables; None is not set.

    Raises:
        ConfigError: with every error.
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
    files = AgentTlsFiles(
        cert=variables.get("AGENT_TLS_CERT"),
        key=variables.get("AGENT_TLS_KEY"),
        ca=variables.get("AGENT_TLS_CA"),
    )
    tls = _tls(files, headend, TLS_VARIABLES, faults)
    scenario = _scenario_file(variables.get("SCENARIO"), asset, faults)
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
        tls=tls,
        scenario=scenario,
    )


def config_of_shard(line: bytes) -> AgentConfig:
    """Read the launcher's shard document; unknown keys are ignored.

    Raises:
        ConfigError: with every error.
    """
    document = _object(line, "shard")
    faults: list[str] = []
    agent_id = document.get("agent_id")
    if not (isinstance(agent_id, str) and 0 < len(agent_id) <= MAX_NAME_LENGTH and agent_id.isprintable()):
        rule = f"text of 1..{MAX_NAME_LENGTH} printable characters"
        faults.append(_fault("agent_id", agent_id, rule))
    headend = _headend("headend", document.get("headend"), faults)
    assets = _assets(document.get("assets"), faults)
    config = AgentConfig(
        agent_id=str(agent_id),
        headend=headend or _NOWHERE,
        tick_s=_tick_s("tick_s", document.get("tick_s"), faults),
        phase=_phase("phase", document.get("phase", 0.0), faults),
        assets=assets,
        outbox_bytes=_outbox_bytes("outbox_max_mb", document.get("outbox_max_mb", DEFAULT_OUTBOX_MB), faults),
        state_dir=_path("state_dir", document.get("state_dir"), "folder", faults),
        former_states=_path("former_states", document.get("former_states"), "file", faults),
        comms_loss_hold_s=_hold_s("comms_loss_hold_s", document.get("comms_loss_hold_s"), faults),
        tls=_tls(_tls_files(document, faults), headend, TLS_FIELDS, faults),
        scenario=_scenario(document.get("scenario"), assets, faults),
    )
    if faults:
        raise ConfigError(faults)
    return config


def config_of_recovery(line: bytes) -> RecoveryConfig:
    """Read the launcher's document for the recovery of retired agents' outboxes.

    Raises:
        ConfigError: with every error.
    """
    document = _object(line, "drain")
    faults: list[str] = []
    headend = _headend("headend", document.get("headend"), faults)
    files = document.get("files")
    if not isinstance(files, list) or not all(isinstance(path, str) and path for path in files):
        faults.append(_fault("files", files, "a list of paths"))
    former_states = _path("former_states", document.get("former_states"), "file", faults)
    tls = _tls_files(document, faults)
    if headend is not None:
        try:
            check_tls_options(tls, headend, TLS_FIELDS)
        except AgentTlsError as error:
            faults += error.faults
    if faults or headend is None or not isinstance(files, list):
        raise ConfigError(faults)
    return RecoveryConfig(
        headend=headend, files=tuple(map(Path, files)), former_states=former_states, tls=tls
    )


def _object(line: bytes, kind: str) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"the {kind} document is not JSON: {error}; it begins {line[:40]!r}"]) from None
    if not isinstance(document, dict):
        raise ConfigError([f"the {kind} document is {preview(document)}; it must be an object"])
    return document


def _path(name: str, value: object, kind: str, faults: list[str]) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        faults.append(_fault(name, value, f"the path of a {kind}"))
        return None
    return Path(value)


def _assets(documents: object, faults: list[str]) -> tuple[Asset, ...]:
    if not isinstance(documents, list) or not documents:
        faults.append(_fault("assets", documents, "a list of at least one asset"))
        return ()
    assets: dict[str, Asset] = {}
    for position, document in enumerate(documents):
        place = f"assets[{position}]"
        if not isinstance(document, dict):
            faults.append(_fault(place, document, "an object"))
            continue
        try:
            asset = asset_from_document(document)
        except FleetFileError as error:
            faults += [f"{place}.{fault.field} {fault.message}" for fault in error.faults]
            continue
        if asset.id in assets:
            faults.append(f"{place}.id is {asset.id!r}; another asset has it")
        assets[asset.id] = asset
    return tuple(assets.values())


def _scenario(document: object, assets: tuple[Asset, ...], faults: list[str]) -> Scenario | None:
    # Its assets are positions, which mean nothing if an asset has errors.
    if document is None or faults:
        return None
    try:
        return scenario_from_document(document, assets)
    except ScenarioFileError as error:
        faults += map(str, error.faults)
        return None


def _scenario_file(path: str | None, asset: Asset | None, faults: list[str]) -> Scenario | None:
    if not path:
        return None
    assets = () if asset is None else (asset,)
    try:
        return load_scenario(Path(path), assets, must_match=False).cut(assets)
    except ScenarioFileError as error:
        faults += [f"SCENARIO {fault}" for fault in error.faults]
        return None


def _headend(name: str, value: object, faults: list[str]) -> Endpoint | None:
    try:
        return parse_endpoint(value if isinstance(value, str) else preview(value))
    except ValueError as error:
        faults.append(f"{name}: {error}")
        return None


def _tls_files(document: dict[str, Any], faults: list[str]) -> AgentTlsFiles:
    cert, key, ca = (
        None if (path := _path(name, document.get(name), "file", faults)) is None else str(path)
        for name in (TLS_FIELDS.cert, TLS_FIELDS.key, TLS_FIELDS.ca)
    )
    return AgentTlsFiles(cert=cert, key=key, ca=ca)


def _tls(
    files: AgentTlsFiles, headend: Endpoint | None, names: TlsNames, faults: list[str]
) -> ClientTls | None:
    if headend is None:
        return None
    try:
        return open_agent_tls(files, headend, names)
    except AgentTlsError as error:
        faults += error.faults
        return None


def _number(
    name: str, value: object, faults: list[str], is_valid: Callable[[float], bool], rule: str
) -> float:
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and is_valid(value)
    ):
        return float(value)
    faults.append(_fault(name, value, rule))
    return 0.0


def _phase(name: str, value: object, faults: list[str]) -> float:
    return _number(name, value, faults, lambda phase: 0.0 <= phase < 1.0, "a number, 0 <= phase < 1")


def _tick_s(name: str, value: object, faults: list[str]) -> float:
    rule = f"a number of seconds, {MIN_TICK_S:g}..{MAX_TICK_S:g}"
    return _number(name, value, faults, lambda tick_s: MIN_TICK_S <= tick_s <= MAX_TICK_S, rule)


def _hold_s(name: str, value: object, faults: list[str]) -> float:
    if value is None:
        return math.inf
    return _number(name, value, faults, lambda hold_s: hold_s > 0, "a finite number of seconds above 0")


def _outbox_bytes(name: str, value: object, faults: list[str]) -> int:
    rule = f"a number of MB, 1..{MAX_OUTBOX_MB}"
    return int(_number(name, value, faults, lambda size_mb: 1 <= size_mb <= MAX_OUTBOX_MB, rule) * MEBIBYTE)


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _fault(name: str, value: object, rule: str) -> str:
    return f"{name} is {preview(value)}; it must be {rule}"
