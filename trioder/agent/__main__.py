"""`python -m trioder.agent`: options, standard streams, signals, the real clock; the rest is in `service`."""

import atexit
import json
import random
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import TypeVar
from uuid import uuid4

import click
import structlog
import trio

from trioder.access.agent_tls import TLS_VARIABLES, open_agent_tls
from trioder.access.tls import ClientTls
from trioder.agent.config import (
    AgentConfig,
    ConfigError,
    RecoveryConfig,
    config_of_one_asset,
    config_of_recovery,
    config_of_shard,
)
from trioder.agent.headend_client import Dial, LinkReport
from trioder.agent.launcher_pipe import STDIN_RULE, LauncherPipe, open_launcher_pipe
from trioder.agent.outbox_recovery import GATHERED, recover_outboxes
from trioder.agent.persistence.retired_state import read_states
from trioder.agent.persistence.sqlite_store import open_state_store
from trioder.agent.persistence.state_file import StateFileInUseError, StateFileUnusableError
from trioder.agent.scenario import make_layer
from trioder.agent.service import run_agent
from trioder.process.addresses import Endpoint
from trioder.process.agent_files import agent_file
from trioder.process.clock_discipline import discipline_clock
from trioder.process.logs import LogFormat, configure_logging, logging_options
from trioder.process.queued_output import OutputQueue, queue_standard_error
from trioder.process.runtime_limits import freeze_gc
from trioder.process.signals import open_stop_signal
from trioder.process.wall_time import WallClock
from trioder.rpc import connect

log = structlog.stdlib.get_logger(__name__)

Command = TypeVar("Command", bound=Callable[..., object])
Result = TypeVar("Result")

# Old status lines are dropped if the launcher does not read; the newest is complete.
_MAX_STATUS_BYTES = 64 * 1024

# Variable, default, help. Read as text, so that all errors are reported together.
_VARIABLES = (
    ("ASSET_ID", None, "UUID of the asset, as in the headend's fleet file.  [required]"),
    ("SITE_ID", None, "UUID of its site.  [required]"),
    ("SITE_NAME", None, "Name of its site."),
    ("ASSET_NAME", None, "Name of the asset; its id, unless given."),
    ("ASSET_LOCATION", None, "Its location."),
    ("CAPACITY_MWHR", None, "Energy capacity, > 0.  [required]"),
    ("MAX_MW", None, "Discharge limit, >= 0.  [required]"),
    ("MIN_MW", None, "Charge limit, <= 0.  [required]"),
    ("EFFICIENCY", None, "One-way efficiency, in (0, 1].  [required]"),
    ("RAMP_RATE_MW_PER_MIN", None, "Ramp rate, > 0.  [required]"),
    ("HEADEND_GRPC", "127.0.0.1:50051", "The headend, as host:port; https://host:port for TLS."),
    ("AGENT_TLS_CERT", None, "PEM file: the agent's certificate, which it presents to the headend."),
    ("AGENT_TLS_KEY", None, "PEM file: the private key of AGENT_TLS_CERT."),
    (
        "AGENT_TLS_CA",
        None,
        "PEM file: the CA of the headend's certificate.  [default: those that the system trusts]",
    ),
    ("TICK_S", "4.0", "Seconds from one pulse to the next."),
    ("STATE_DIR", "var", "Folder for the agent's state: its outbox and its battery."),
    (
        "OUTBOX_MAX_MB",
        "256",
        "Bound of the telemetry stored without a headend; beyond, the oldest is dropped.",
    ),
    (
        "COMMS_LOSS_HOLD_S",
        None,
        "Seconds without a headend after which the setpoint reverts.  [default: never]",
    ),
    ("SCENARIO", None, "A file that lets the battery, its clock and its link misbehave at given times."),
)


def _variable_options(command: Command) -> Command:
    for name, default, text in reversed(_VARIABLES):
        command = click.option(
            "--" + name.lower().replace("_", "-"),
            name.lower(),
            envvar=name,
            default=default,
            show_default=default is not None,
            show_envvar=True,
            help=text,
        )(command)
    return command


@click.command(help="Run one battery, or with --stdin a shard of many, that the headend commands.")
@_variable_options
@click.option(
    "--stdin",
    "from_stdin",
    is_flag=True,
    help="Read the shard as one JSON line from standard input, which stays open; its end stops the agent. "
    "All other options but those of the log are then ignored.",
)
@click.option(
    "--drain",
    is_flag=True,
    help="Run no battery: send the unacknowledged batches of retired agents, and delete their files. "
    "Standard input is as with --stdin, and lists the files.",
)
@logging_options
def main(
    *, from_stdin: bool, drain: bool, log_level: str, log_format: LogFormat, **texts: str | None
) -> None:
    """Read the configuration and run the agent until it is stopped."""
    configure_logging(level=log_level, format=log_format)
    try:
        if from_stdin or drain:
            # Checked before Trio runs, which would use the free descriptor.
            if sys.stdin is None:
                raise ConfigError([f"standard input is closed; {STDIN_RULE}"])
            trio.run(_run_recovery if drain else _run_shard)
        else:
            config = config_of_one_asset({name.upper(): text for name, text in texts.items()})
            trio.run(_run_one_asset, config)
    except ConfigError as error:
        click.echo(f"Error: the configuration cannot be used:\n{error}", err=True)
        sys.exit(2)
    except (StateFileInUseError, StateFileUnusableError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


async def _run_one_asset(config: AgentConfig) -> None:
    async with open_stop_signal() as stop:
        await _run(config, stop.requested.wait)


async def _run_shard() -> None:
    async with open_stop_signal() as stop, open_launcher_pipe() as pipe:
        line = await _run_unless(stop.requested, pipe.read_line)
        if line is None:
            return
        config = config_of_shard(line)
        del line
        await _run(config, partial(_wait_either, stop.requested, pipe))


async def _run_recovery() -> None:
    async with open_stop_signal() as stop, open_launcher_pipe() as pipe:
        line = await _run_unless(stop.requested, pipe.read_line)
        if line is None:
            return
        config = config_of_recovery(line)
        async with trio.open_nursery() as nursery:

            async def _watch() -> None:
                await _wait_either(stop.requested, pipe)
                nursery.cancel_scope.cancel()

            wall = WallClock.starting_now()
            nursery.start_soon(_watch)
            nursery.start_soon(partial(discipline_clock, wall, stepped=lambda _: None))
            await recover_outboxes(
                config,
                dial_for=partial(_dial_for, config),
                wall=wall,
                rng=random.SystemRandom(),
                gathered=partial(_print, _open_status_output(), {"state": GATHERED}),
            )
            nursery.cancel_scope.cancel()


async def _run(config: AgentConfig, wait_stop: Callable[[], Awaitable[None]]) -> None:
    stopping = trio.Event()

    async def _watch() -> None:
        await wait_stop()
        stopping.set()

    with ExitStack() as stack:
        store = None
        if config.state_dir is not None:
            asset_ids = [asset.id for asset in config.assets]
            path = agent_file(config.state_dir, config.agent_id)
            store = stack.enter_context(
                open_state_store(path, agent_id=config.agent_id, asset_ids=asset_ids, outbox_id=str(uuid4()))
            )
            if config.former_states is not None:
                store.adopt(read_states(config.former_states, asset_ids))
        output = _open_status_output()
        wall = WallClock.starting_now()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch)
            await run_agent(
                config,
                dial=partial(_dial, config.headend, config.tls),
                wall=wall,
                rng=random.SystemRandom(),
                scenario=make_layer(config.scenario, config.assets, agent_id=config.agent_id, wall=wall),
                report=lambda status: _print(output, _status_document(status)),
                store=store,
                stopping=stopping,
                on_ready=freeze_gc,
            )
            nursery.cancel_scope.cancel()


async def _dial(headend: Endpoint, tls: ClientTls | None) -> trio.abc.Stream:
    # Certificates that were renewed are used from the next connection on.
    return await connect(headend.host, headend.port, ssl_context=None if tls is None else tls.context)


def _dial_for(config: RecoveryConfig, agent_id: str) -> Dial:
    tls = open_agent_tls(config.tls.of_agent(agent_id), config.headend, TLS_VARIABLES)
    return partial(_dial, config.headend, tls)


async def _wait_either(requested: trio.Event, pipe: LauncherPipe) -> None:
    async with trio.open_nursery() as nursery:

        async def _watch_pipe() -> None:
            await pipe.wait_closed()
            log.info("the launcher is gone, stopping")
            nursery.cancel_scope.cancel()

        nursery.start_soon(_watch_pipe)
        await requested.wait()
        nursery.cancel_scope.cancel()


async def _run_unless(event: trio.Event, act: Callable[[], Awaitable[Result]]) -> Result | None:
    """Return what `act` returns; None if the event is set before."""
    result: Result | None = None
    error: ConfigError | None = None
    async with trio.open_nursery() as nursery:

        async def _watch() -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(_watch)
        try:
            result = await act()
        except ConfigError as caught:
            error = caught
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error
    return result


def _open_status_output() -> OutputQueue | None:
    """Return the queue for status lines to standard output; None when that is closed."""
    if sys.stdout is None:
        return None
    queue = OutputQueue(sys.stdout.fileno(), max_bytes=_MAX_STATUS_BYTES)
    queue.describe = lambda _: ""
    atexit.register(queue.flush)
    return queue


def _status_document(status: LinkReport) -> dict[str, object]:
    document: dict[str, object] = {"state": status.state, "assets": status.assets}
    return document if status.reason is None else document | {"reason": status.reason}


def _print(output: OutputQueue | None, document: dict[str, object]) -> None:
    if output is not None:
        output.put(json.dumps(document).encode() + b"\n")


if __name__ == "__main__":
    queue_standard_error()
    main()
