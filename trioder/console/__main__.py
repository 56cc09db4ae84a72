"""`python -m trioder.console`: the port and signals; the parts are in `app`.

The order of the `async with` blocks is the order of the shutdown, from the inside out.
"""

import ssl
import sys
from contextlib import AsyncExitStack
from functools import partial

import click
import structlog
import trio

from trioder.access.private_files import warn_of_exposed
from trioder.access.tls import ServerTls, TlsConfigurationError
from trioder.api.http.access_log import open_access_log
from trioder.api.http.serving import serve_rest
from trioder.console.app import EDGE, ConsoleApp
from trioder.console.headend import HeadendTlsError, client_context, open_headend_client
from trioder.console.options import (
    ConsoleOptions,
    ConsoleSecurityError,
    configure_tls,
    console_options,
)
from trioder.process.garbage_collector import open_garbage_collector
from trioder.process.logs import LogFormat, LogOutput, configure_logging, logging_options
from trioder.process.nurseries import leaf_exceptions, open_background_nursery
from trioder.process.ports import PortError, address_of, listen
from trioder.process.queued_output import queue_standard_error
from trioder.process.runtime_limits import raise_descriptor_limit
from trioder.process.signals import open_stop_signal

# Named after the package: run as a program, this module is __main__.
log = structlog.stdlib.get_logger("trioder.console")

# For requests in progress after a stop signal.
_GRACE_S = 3.5


@click.command(
    help="""Serve the console: a web page that shows and commands the fleet by the headend's REST API.

    On an address that other machines can reach, the port needs TLS (python -m trioder.access makes
    certificates). Stops on SIGTERM or SIGINT and exits 0; 2 is wrong usage or configuration, 1 anything else
    that failed."""
)
@console_options
@logging_options
def main(*, options: ConsoleOptions, log_level: str, log_format: LogFormat) -> None:
    """Serve the page until a stop signal."""
    log_output = configure_logging(level=log_level, format=log_format)
    try:
        tls = configure_tls(options)
        context = client_context(options.headend_http_ca) if options.headend_http.tls else None
    except (ConsoleSecurityError, TlsConfigurationError, HeadendTlsError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    if options.tls_key is not None:
        warn_of_exposed([options.tls_key])
    raise_descriptor_limit()
    refused: list[BaseException] = []
    try:
        trio.run(partial(_run, options, tls=tls, context=context, log_output=log_output))
    except* PortError as group:
        refused = leaf_exceptions(group)
    if refused:
        click.echo("\n".join(f"Error: {error}" for error in refused), err=True)
        sys.exit(2)


async def _run(
    options: ConsoleOptions, *, tls: ServerTls | None, context: ssl.SSLContext | None, log_output: LogOutput
) -> None:
    closing = trio.Event()
    async with AsyncExitStack() as ports:
        # First of all: a second console must fail here.
        listeners = await listen(options.http_addr, "CONSOLE_HTTP_ADDR", ports)
        async with (
            open_stop_signal() as stop,
            open_access_log(log_output, options.access_log) as access_log,
            open_headend_client(
                options.headend_http, host=options.headend_http_host, context=context
            ) as headend,
            open_garbage_collector(),
            open_background_nursery() as background,
            trio.open_nursery() as edge,
        ):
            if tls is not None:
                background.start_soon(tls.watch)
            app = ConsoleApp(headend, access_log=access_log)
            serve = partial(
                serve_rest,
                app,
                listeners,
                shutdown=closing,
                hosts=options.allowed_hosts,
                tls=tls,
                edge=EDGE,
            )
            await edge.start(serve)
            log.info(
                "console ready",
                http_addr=address_of(listeners),
                headend=str(options.headend_http),
                tls=tls is not None,
            )
            await stop.requested.wait()
            app.end_feeds()
            closing.set()
            edge.cancel_scope.deadline = trio.current_time() + _GRACE_S
    log.info("console stopped")


if __name__ == "__main__":
    queue_standard_error()
    main()
