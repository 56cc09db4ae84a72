"""The launcher's executable: options and logs around `run_launcher`."""

import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
import trio

from trioder.access.agent_tls import (
    AGENT_PLACEHOLDER,
    TLS_VARIABLES,
    AgentTlsError,
    AgentTlsFiles,
    check_agent_tls,
    check_tls_options,
)
from trioder.fleet import FleetFileError, ScenarioFileError, load_fleet, load_scenario
from trioder.launcher.display import LiveLine
from trioder.launcher.run import run_launcher
from trioder.launcher.shards import (
    DEFAULT_OUTBOX_MAX_MB,
    LaunchSettings,
    RetiredAgents,
    Shard,
    certificate_request,
    cut_shards,
    with_scenario,
)
from trioder.process.addresses import Endpoint, EndpointType
from trioder.process.agent_files import gathered_states_file, retired_files
from trioder.process.logs import LogFormat, configure_logging, logging_options
from trioder.process.queued_output import queue_standard_error
from trioder.process.runtime_limits import raise_descriptor_limit

Command = TypeVar("Command", bound=Callable[..., object])

_MAX_FAULTS_SHOWN = 50


def _seconds(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise click.BadParameter(f"{value} is not a number of seconds above 0")
    return value


def _tls_option(file: str, content: str) -> Callable[[Command], Command]:
    return click.option(
        f"--agent-tls-{file}",
        envvar=f"AGENT_TLS_{file.upper()}",
        show_envvar=True,
        help=f"PEM file: {content}",
    )


@click.command(context_settings={"max_content_width": 100})
@click.option(
    "--assets-path",
    envvar="ASSETS_PATH",
    type=click.Path(path_type=Path),
    default=Path("assets.yaml"),
    show_default=True,
    show_envvar=True,
    help="The fleet file, YAML or JSON.",
)
@click.option(
    "--headend-grpc",
    "headend",
    envvar="HEADEND_GRPC",
    type=EndpointType(),
    default="127.0.0.1:50051",
    show_default=True,
    show_envvar=True,
    help="The headend that the agents connect to: host:port; https://host:port for TLS.",
)
@_tls_option("cert", "the agent's certificate; {agent} in a path stands for each agent's file name.")
@_tls_option("key", "the private key of AGENT_TLS_CERT; {agent} as above.")
@_tls_option("ca", "the CA of the headend's certificate.  [default: those that the system trusts]")
@click.option(
    "--shard-size",
    envvar="SHARD_SIZE",
    type=click.IntRange(min=1),
    default=25,
    show_default=True,
    show_envvar=True,
    help="Assets in one agent process.",
)
@click.option(
    "--state-dir",
    envvar="STATE_DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var"),
    show_default=True,
    show_envvar=True,
    help="Folder for the agents' state.",
)
@click.option(
    "--outbox-max-mb",
    envvar="OUTBOX_MAX_MB",
    type=click.IntRange(min=1, max=1024 * 1024),
    default=DEFAULT_OUTBOX_MAX_MB,
    show_default=True,
    show_envvar=True,
    help="Bound of the telemetry that one agent stores without a headend; beyond, the oldest is dropped.",
)
@click.option(
    "--tick-s",
    envvar="TICK_S",
    type=float,
    callback=_seconds,
    default=4.0,
    show_default=True,
    show_envvar=True,
    help="Seconds between two samples of an asset.",
)
@click.option(
    "--comms-loss-hold-s",
    envvar="COMMS_LOSS_HOLD_S",
    type=float,
    callback=_seconds,
    show_envvar=True,
    help="Seconds without a headend after which an agent's setpoints revert.  [default: never]",
)
@click.option(
    "--scenario",
    "scenario_path",
    envvar="SCENARIO",
    type=click.Path(path_type=Path),
    show_envvar=True,
    help="A file that lets batteries, clocks and links misbehave at given times; see docs/scenarios.md.",
)
@click.option(
    "--print-shards",
    is_flag=True,
    help="Print a line of JSON for each agent, as python -m trioder.access issue-agents reads it, and exit.",
)
@logging_options
def main(
    *,
    assets_path: Path,
    headend: Endpoint,
    agent_tls_cert: str | None,
    agent_tls_key: str | None,
    agent_tls_ca: str | None,
    shard_size: int,
    state_dir: Path,
    outbox_max_mb: int,
    tick_s: float,
    comms_loss_hold_s: float | None,
    scenario_path: Path | None,
    print_shards: bool,
    log_level: str,
    log_format: LogFormat,
) -> None:
    """Divide the fleet into shards and keep one agent process alive for each.

    Stops all of them on SIGTERM or SIGINT and exits 0; 2 is wrong usage, or a fleet or scenario file with
    errors, 1 a fleet of which no agent can be kept alive.
    """
    # Three pipes an agent.
    raise_descriptor_limit()
    shards = _read_shards(assets_path, shard_size)
    if print_shards:
        click.echo("\n".join(map(certificate_request, shards)))
        return
    if scenario_path is not None:
        shards = _add_scenario(shards, scenario_path)
    live = LiveLine(sys.stderr) if sys.stderr.isatty() and log_format == "auto" else None
    configure_logging(level=log_level, format=log_format, stream=live)
    tls = AgentTlsFiles(cert=agent_tls_cert, key=agent_tls_key, ca=agent_tls_ca)
    _check_tls(tls, headend, shards)
    settings = LaunchSettings(
        headend=str(headend),
        tick_s=tick_s,
        state_dir=str(state_dir),
        outbox_max_mb=outbox_max_mb,
        retired=_find_retired(state_dir, shards),
        comms_loss_hold_s=comms_loss_hold_s,
        tls=tls,
        env={**os.environ, "LOG_LEVEL": log_level, "LOG_FORMAT": log_format},
    )
    sys.exit(trio.run(partial(run_launcher, shards, settings, live=live)))


def _check_tls(tls: AgentTlsFiles, headend: Endpoint, shards: Iterable[Shard]) -> None:
    """Exit with 2 if an agent would refuse its TLS files."""
    faults: dict[str, None] = {}
    try:
        check_tls_options(tls, headend, TLS_VARIABLES)
    except AgentTlsError as error:
        faults = dict.fromkeys(error.faults)
    else:
        # Agents that share their files are checked once.
        for files in dict.fromkeys(tls.of_agent(shard.agent_id) for shard in shards):
            try:
                check_agent_tls(files, headend, TLS_VARIABLES)
            except AgentTlsError as error:
                faults |= dict.fromkeys(error.faults)
    if not faults:
        return
    lines = list(faults)[:_MAX_FAULTS_SHOWN]
    if len(faults) > len(lines):
        lines.append(f"... and {len(faults) - len(lines)} more")
    click.echo("Error: the agents' TLS files cannot be used:\n" + "\n".join(lines), err=True)
    if headend.tls and AGENT_PLACEHOLDER in (tls.cert or ""):
        click.echo(
            "Certificates for all agents: python -m trioder.launcher --print-shards | "
            "python -m trioder.access issue-agents --if-needed",
            err=True,
        )
    sys.exit(2)


def _find_retired(state_dir: Path, shards: Iterable[Shard]) -> RetiredAgents:
    states = gathered_states_file(state_dir)
    try:
        files = tuple(map(str, retired_files(state_dir, (shard.agent_id for shard in shards))))
        # An earlier launcher's file may be left, which not all agents have read yet.
        return RetiredAgents(files=files, states_path=str(states) if files or states.exists() else None)
    except OSError as error:
        click.echo(f"{state_dir}: the agents' files there cannot be listed: {error.strerror}", err=True)
        sys.exit(1)


def _read_shards(assets_path: Path, shard_size: int) -> tuple[Shard, ...]:
    try:
        fleet = load_fleet(assets_path)
    except FleetFileError as error:
        for fault in error.faults:
            click.echo(str(fault), err=True)
        sys.exit(2)
    if not fleet.assets:
        click.echo(f"{assets_path}: assets is empty; there is nothing to launch", err=True)
        sys.exit(2)
    return cut_shards(fleet, shard_size)


def _add_scenario(shards: tuple[Shard, ...], path: Path) -> tuple[Shard, ...]:
    try:
        scenario = load_scenario(path, [asset for shard in shards for asset in shard.assets])
    except ScenarioFileError as error:
        for fault in error.faults:
            click.echo(str(fault), err=True)
        sys.exit(2)
    return with_scenario(shards, scenario, start_unix_s=time.time())


if __name__ == "__main__":
    queue_standard_error()
    main()
