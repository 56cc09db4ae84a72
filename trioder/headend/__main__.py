"""`python -m trioder.headend`: ports, signals and the real clock; the parts are in `service`.

The order of the `async with` blocks is the order of the shutdown, from the inside out.
"""

import random
import sys
from contextlib import AsyncExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import structlog
import trio
import trio_asyncio

from trioder.access.document import AccessFileError
from trioder.access.tls import TlsConfigurationError
from trioder.api import RestOptions, create_app, open_access_log, serve_rest
from trioder.control.alarms.probes import HostPaths
from trioder.domain.fleet import Fleet
from trioder.fleet import FleetFileError, load_fleet
from trioder.headend.options import HeadendOptions, headend_options
from trioder.headend.reloads import open_reloads
from trioder.headend.rest_options import rest_options
from trioder.headend.security import (
    Security,
    SecurityError,
    SecurityOptions,
    configure_security,
    security_options,
)
from trioder.headend.service import open_headend
from trioder.headend.stop_watchdog import open_stop_watchdog
from trioder.process.garbage_collector import open_garbage_collector
from trioder.process.logs import LogFormat, LogOutput, configure_logging, logging_options
from trioder.process.nurseries import leaf_exceptions
from trioder.process.ports import PortError, address_of, listen, on_loopback
from trioder.process.queued_output import queue_standard_error
from trioder.process.runtime_limits import (
    RESERVED_DESCRIPTORS,
    peer_descriptors,
    raise_descriptor_limit,
)
from trioder.process.signals import open_stop_signal
from trioder.process.wall_time import WallClock
from trioder.rpc import ConnectionOptions, PeerLimits, PeerOptions, serve_rpc
from trioder.store.interface import StoreConfigurationError
from trioder.store.open import open_store

# Named after the package: run as a program, this module is __main__.
log = structlog.stdlib.get_logger("trioder.headend")

# For agents and REST clients to finish after a stop signal; then the store writes its queue, and the embedded
# server stops.
_GRACE_S = 3.5
# An agent of 100,000 batteries registers with about 15 MB; one pulse of it is 4.3 MB. It has one call, and
# answers a PING every 5 s. The reasons for the numbers: docs/decisions/peer-limits.md.
_GRPC = ConnectionOptions(
    max_message_bytes=32 * 1024 * 1024,
    max_concurrent_calls=100,
    calls_at_once=2000,
    calls_per_s=100.0,
    control_frames_at_once=2000,
    control_frames_per_s=100.0,
)
# The launcher's default shard size: each agent is a connection.
_ASSETS_AN_AGENT = 25


@click.command(
    help="""Serve the fleet: agents connect over gRPC, users read and command over REST.

    On an address that other machines can reach, both ports need TLS and access control (python -m
    trioder.access). Stops on SIGTERM or SIGINT and exits 0; 2 is wrong usage or configuration, 1 anything
    else that failed."""
)
@headend_options
@security_options
@rest_options
@logging_options
def main(
    *,
    options: HeadendOptions,
    security: SecurityOptions,
    rest: RestOptions,
    log_level: str,
    log_format: LogFormat,
) -> None:
    """Read the fleet and serve it until a stop signal."""
    log_output = configure_logging(level=log_level, format=log_format)
    try:
        secured = configure_security(
            security,
            state_dir=options.state_dir,
            grpc_addr=options.grpc_addr,
            http_addr=options.http_addr,
            has_issuer=rest.verifier is not None,
        )
    except (SecurityError, TlsConfigurationError, AccessFileError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    descriptors = raise_descriptor_limit()
    try:
        fleet = load_fleet(options.assets_path)
    except FleetFileError as error:
        faults = "1 fault" if len(error.faults) == 1 else f"{len(error.faults)} faults"
        click.echo(f"Error: {faults} in the fleet file:\n{error}", err=True)
        sys.exit(2)
    _check_descriptors(descriptors, assets=len(fleet.assets))
    run = partial(
        _run,
        fleet,
        options,
        peers=PeerOptions(
            memory_bytes=options.peer_memory_mb * 1024 * 1024, max_connections=peer_descriptors(descriptors)
        ),
        security=secured,
        rest=rest,
        log_output=log_output,
    )
    refused: list[BaseException] = []
    try:
        trio.run(run)
    except* (PortError, StoreConfigurationError) as group:
        refused = leaf_exceptions(group)
    if refused:
        click.echo("\n".join(f"Error: {error}" for error in refused), err=True)
        sys.exit(2)


def _check_descriptors(limit: int, *, assets: int) -> None:
    needed = assets // _ASSETS_AN_AGENT + RESERVED_DESCRIPTORS
    if limit < needed:
        log.warning(
            "too few open files are allowed for every agent to connect (ulimit -n)",
            limit=limit,
            needed=needed,
            assets=assets,
            assets_an_agent=_ASSETS_AN_AGENT,
        )


async def _run(
    fleet: Fleet,
    options: HeadendOptions,
    *,
    peers: PeerOptions,
    security: Security,
    rest: RestOptions,
    log_output: LogOutput,
) -> None:
    async with AsyncExitStack() as ports:
        # First of all: a second headend must fail here.
        http_listeners = await listen(options.http_addr, "HEADEND_HTTP_ADDR", ports)
        grpc_listeners = await listen(options.grpc_addr, "HEADEND_GRPC_ADDR", ports)
        wall = WallClock.starting_now()
        rest = replace(rest, limits=replace(rest.limits, limit_open_access=not on_loopback(http_listeners)))
        async with (
            open_stop_signal() as stop,
            open_stop_watchdog(stop) as started,
            open_access_log(log_output, rest.access_log) as access_log,
            # psycopg has no Trio support.
            nullcontext() if options.database_url == "none" else trio_asyncio.open_loop(),
            open_store(
                options.database_url,
                state_dir=options.state_dir,
                fleet=fleet,
                wall=wall,
                retention_days=options.telemetry_retention_days,
                records_retention_days=options.records_retention_days,
            ) as store,
            open_headend(
                fleet=fleet,
                store=store,
                wall=wall,
                rng=random.SystemRandom(),
                tick_s=options.tick_s,
                stale_after_s=options.stale_after_s,
                read_fleet=partial(load_fleet, options.assets_path),
                peers=PeerLimits(peers),
                access=security.access,
                access_path=security.access_path,
                require_identities=security.require_identities,
                host=HostPaths(
                    disks=[_existing(options.state_dir)],
                    certificates=sorted({path for tls in security.tls for path in tls.certificate_paths}),
                ),
            ) as headend,
            open_reloads(headend, security.tls),
            open_garbage_collector(),
            trio.open_nursery() as edge,
        ):
            app = create_app(headend, rest, access_log=access_log)
            serve = partial(
                serve_rest,
                app,
                http_listeners,
                shutdown=headend.closing,
                hosts=options.allowed_hosts,
                counters=headend.counters,
                tls=security.http_tls,
                tls_refused=headend.audit.handshake_refused,
                fast_reads=app.fast_reads,
            )
            await edge.start(serve)
            grpc = partial(
                serve_rpc,
                grpc_listeners,
                headend.services,
                options=_GRPC,
                limits=headend.peers,
                tls=security.grpc_tls,
                access=headend.peer_access,
                drain=headend.closing,
            )
            await edge.start(grpc)
            started.set()
            log.info(
                "headend ready",
                http_addr=address_of(http_listeners),
                grpc_addr=address_of(grpc_listeners),
                assets=len(fleet.assets),
                sites=len(fleet.sites),
                database=options.database_kind,
            )
            await stop.requested.wait()
            headend.closing.set()
            edge.cancel_scope.deadline = trio.current_time() + _GRACE_S
    log.info("headend stopped")


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    absolute = path.absolute()
    return next(folder for folder in (absolute, *absolute.parents) if folder.exists())


if __name__ == "__main__":
    queue_standard_error()
    main()
