"""The headend's own options: the fleet, where its data goes, where it listens, and its limits.

Those for TLS and access control are in `security`, those for REST in `rest_options`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from trioder.api import AllowedHosts
from trioder.process.addresses import Address, AddressType
from trioder.store.interface import StoreConfigurationError
from trioder.store.open import check_database_url

F = TypeVar("F", bound=Callable[..., None])

_option = partial(click.option, show_default=True, show_envvar=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadendOptions:
    """The options as given; see `headend_options`."""

    assets_path: Path
    database_url: str
    state_dir: Path
    telemetry_retention_days: int
    records_retention_days: int
    http_addr: Address
    http_hosts: AllowedHosts | None
    grpc_addr: Address
    tick_s: float
    stale_after_s: float
    peer_memory_mb: int

    @property
    def allowed_hosts(self) -> AllowedHosts:
        """The hosts that REST answers for."""
        return self.http_hosts or AllowedHosts.of_address(self.http_addr.host)

    @property
    def database_kind(self) -> str:
        """The database without the URL, which has a password."""
        return self.database_url if self.database_url in {"embedded", "none"} else "postgres"


def _checked_database(_context: click.Context, _parameter: click.Parameter, url: str) -> str:
    try:
        check_database_url(url)
    except StoreConfigurationError as error:
        raise click.BadParameter(str(error)) from None
    return url


def _checked_seconds(_context: click.Context, _parameter: click.Parameter, seconds: float) -> float:
    if not (math.isfinite(seconds) and seconds >= 0):
        raise click.BadParameter(f"{seconds} is not a finite number of seconds, 0 or more")
    return seconds


def _checked_hosts(_context: click.Context, _parameter: click.Parameter, text: str) -> AllowedHosts | None:
    hosts = [host.strip() for host in text.split(",") if host.strip()]
    try:
        return AllowedHosts(hosts) if hosts else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_OPTIONS = [
    _option(
        "--assets-path",
        envvar="ASSETS_PATH",
        type=click.Path(path_type=Path),
        default=Path("assets.yaml"),
        help="The fleet file, YAML or .json.",
    ),
    _option(
        "--database-url",
        envvar="DATABASE_URL",
        default="embedded",
        callback=_checked_database,
        help="Where telemetry is stored: 'embedded', the bundled PostgreSQL server; the URL of your own "
        "server; or 'none', which keeps only the latest values.",
    ),
    _option(
        "--state-dir",
        envvar="STATE_DIR",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("var"),
        help="The directory of the embedded database, and of the access directory.",
    ),
    _option(
        "--telemetry-retention-days",
        envvar="TELEMETRY_RETENTION_DAYS",
        type=click.IntRange(min=0),
        default=0,
        help="Telemetry older than so many days is dropped, by whole days; 0 keeps all.",
    ),
    _option(
        "--records-retention-days",
        envvar="RECORDS_RETENTION_DAYS",
        type=click.IntRange(min=0, max=36_500),
        default=400,
        help="Ended dispatches and sessions, cleared alarms and events older than so many days are deleted; "
        "0 keeps all.",
    ),
    _option(
        "--http-addr",
        envvar="HEADEND_HTTP_ADDR",
        type=AddressType(),
        default="127.0.0.1:3001",
        help="Where REST listens; port 0 takes a free one.",
    ),
    _option(
        "--http-hosts",
        envvar="HEADEND_HTTP_HOSTS",
        default="",
        callback=_checked_hosts,
        show_default=False,
        help="The hosts that REST answers for, separated by commas, each with a port or for all; "
        "to others it answers 421. By default the address that it listens on, localhost, 127.0.0.1 and "
        "[::1].",
    ),
    _option(
        "--grpc-addr",
        envvar="HEADEND_GRPC_ADDR",
        type=AddressType(),
        default="127.0.0.1:50051",
        help="Where agents connect; port 0 takes a free one.",
    ),
    _option(
        "--tick-s",
        envvar="HEADEND_TICK_S",
        type=float,
        default=4.0,
        callback=_checked_seconds,
        help="How often assets without an agent are synthesized; 0 for never.",
    ),
    _option(
        "--stale-after-s",
        envvar="STALE_AFTER_S",
        type=float,
        default=12.0,
        callback=_checked_seconds,
        help="The age from which on an agent's sample is reported as stale.",
    ),
    _option(
        "--peer-memory-mb",
        envvar="HEADEND_PEER_MEMORY_MB",
        type=click.IntRange(min=16),
        default=256,
        help="MiB that all gRPC peers together can occupy in the headend; beyond it connections are closed.",
    ),
]
_NAMES = frozenset(field.name for field in fields(HeadendOptions))


def headend_options(command: F) -> F:
    """Add the options to a command; it gets them as `options`, `HeadendOptions`."""

    @wraps(command)
    def with_headend(**given: Any) -> None:
        options = HeadendOptions(**{name: given.pop(name) for name in _NAMES})
        command(**given, options=options)

    decorated: Callable[..., None] = with_headend
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[return-value]  # with other options than `command`
