"""The console's options: where it listens, where the headend is, and the TLS of both."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar

import click
import structlog

from trioder.access.tls import MinVersion, ServerTls
from trioder.api.http.access_log import AccessLogScope
from trioder.api.http.hosts import AllowedHosts, parse_host
from trioder.process.addresses import Address, AddressType, Endpoint, EndpointType

log = structlog.stdlib.get_logger("trioder.console")

F = TypeVar("F", bound=Callable[..., None])

_option = partial(click.option, show_default=True, show_envvar=True)
_file_option = partial(_option, type=click.Path(path_type=Path), default=None, show_default=False)


class ConsoleSecurityError(Exception):
    """Options that contradict each other, or that leave the port unprotected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleOptions:
    """The options as given; see `console_options`."""

    http_addr: Address
    http_hosts: AllowedHosts | None
    tls_cert: Path | None
    tls_key: Path | None
    tls_min_version: MinVersion
    headend_http: Endpoint
    headend_http_host: str
    headend_http_ca: Path | None
    access_log: AccessLogScope
    insecure: bool

    @property
    def allowed_hosts(self) -> AllowedHosts:
        """The hosts that the console answers for."""
        return self.http_hosts or AllowedHosts.of_address(self.http_addr.host)


def _checked_hosts(_context: click.Context, _parameter: click.Parameter, text: str) -> AllowedHosts | None:
    hosts = [host.strip() for host in text.split(",") if host.strip()]
    try:
        return AllowedHosts(hosts) if hosts else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _checked_host(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    try:
        if text:
            parse_host(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return text


_OPTIONS = [
    _option(
        "--http-addr",
        envvar="CONSOLE_HTTP_ADDR",
        type=AddressType(),
        default="127.0.0.1:3000",
        help="Where the console listens; port 0 takes a free one.",
    ),
    _option(
        "--http-hosts",
        envvar="CONSOLE_HTTP_HOSTS",
        default="",
        callback=_checked_hosts,
        show_default=False,
        help="The hosts that the console answers for, separated by commas, each with a port or for all; "
        "to others it answers 421. By default the address that it listens on, localhost, 127.0.0.1 and "
        "[::1].",
    ),
    _file_option(
        "--tls-cert", envvar="CONSOLE_TLS_CERT", help="The console's certificate; makes its port TLS."
    ),
    _file_option("--tls-key", envvar="CONSOLE_TLS_KEY", help="The private key of --tls-cert."),
    _option(
        "--tls-min-version",
        envvar="CONSOLE_TLS_MIN_VERSION",
        type=click.Choice(["1.3", "1.2"]),
        default="1.3",
        help="The lowest version of TLS that the port accepts.",
    ),
    _option(
        "--headend-http",
        envvar="HEADEND_HTTP",
        type=EndpointType(),
        default="127.0.0.1:3001",
        help="Where the headend's REST is; with https:// over TLS.",
    ),
    _option(
        "--headend-http-host",
        envvar="HEADEND_HTTP_HOST",
        default="",
        callback=_checked_host,
        show_default=False,
        help="The headend's name in its certificate and in the Host header, where --headend-http is another.",
    ),
    _file_option(
        "--headend-http-ca",
        envvar="HEADEND_HTTP_CA",
        help="The CA of the headend's certificate, or that certificate; by default the system's CAs.",
    ),
    _option(
        "--access-log",
        envvar="ACCESS_LOG",
        type=click.Choice(["all", "errors"], case_sensitive=False),
        default="all",
        help="Which requests have a log line, at level info: all, or those answered with 4xx and 5xx.",
    ),
    _option(
        "--insecure",
        envvar="CONSOLE_INSECURE",
        is_flag=True,
        help="Start on an address that other machines can reach even without TLS.",
    ),
]
_NAMES = frozenset(field.name for field in fields(ConsoleOptions))


def console_options(command: F) -> F:
    """Add the options to a command; it gets them as `options`, `ConsoleOptions`."""

    @wraps(command)
    def with_console(**given: Any) -> None:
        options = ConsoleOptions(**{name: given.pop(name) for name in _NAMES})
        command(**given, options=options)

    decorated: Callable[..., None] = with_console
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[return-value]  # with other options than `command`


def configure_tls(options: ConsoleOptions) -> ServerTls | None:
    """Read the console's certificate, and check that the port is not unprotected unless intended.

    Raises:
        ConsoleSecurityError: the text is one sentence, and says what to change.
        TlsConfigurationError: the certificate or key cannot be used.
    """
    cert, key = options.tls_cert, options.tls_key
    if (cert is None) != (key is None):
        given, missing = ("_CERT", "_KEY") if key is None else ("_KEY", "_CERT")
        raise ConsoleSecurityError(
            f"CONSOLE_TLS{given} is set without CONSOLE_TLS{missing}; set both or neither"
        )
    if options.headend_http_ca is not None and not options.headend_http.tls:
        raise ConsoleSecurityError(
            f"HEADEND_HTTP_CA is set, but HEADEND_HTTP {options.headend_http} is not https://"
        )
    tls = None
    if cert is not None and key is not None:
        tls = ServerTls(cert, key, min_version=options.tls_min_version, alpn=["http/1.1"])
    elif not _is_loopback(options.http_addr.host):
        unprotected = f"CONSOLE_HTTP_ADDR {options.http_addr} needs CONSOLE_TLS_CERT and CONSOLE_TLS_KEY"
        if not options.insecure:
            raise ConsoleSecurityError(
                "other machines could reach the console without protection: "
                f"{unprotected} (python -m trioder.access makes certificates); "
                "configure that, listen on 127.0.0.1, or set CONSOLE_INSECURE=1 if this is intended"
            )
        log.warning("other machines can reach the console without protection", reason=unprotected)
    return tls


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host; a name but localhost may become any address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
