"""The options of `python -m trioder.headend` for TLS and access control.

A port that other machines can reach has both, or the headend does not start.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar

import click
import structlog

from trioder.access.document import ACCESS_FILE, read_document
from trioder.access.private_files import warn_of_exposed
from trioder.access.table import AccessTable
from trioder.access.tls import MinVersion, ServerTls
from trioder.process.addresses import Address

log = structlog.stdlib.get_logger(__name__)

F = TypeVar("F", bound=Callable[..., None])

_option = partial(click.option, show_default=True, show_envvar=True)
_file_option = partial(_option, type=click.Path(path_type=Path), default=None, show_default=False)


class SecurityError(Exception):
    """Options that contradict each other, or that leave a port unprotected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityOptions:
    """The options as given; see `security_options`."""

    access_dir: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    tls_min_version: MinVersion = "1.3"
    http_tls_cert: Path | None = None
    http_tls_key: Path | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """How the ports are protected.

    Attributes:
        grpc_tls: of the gRPC port; None: plain.
        http_tls: of the REST port; None: plain.
        access: the access file in memory; empty without one, which may be made while the headend runs.
        access_path: the access file.
        require_identities: agents authenticate with certificates of the client CA.
    """

    grpc_tls: ServerTls | None
    http_tls: ServerTls | None
    access: AccessTable
    access_path: Path
    require_identities: bool

    @property
    def tls(self) -> list[ServerTls]:
        """The TLS of all ports."""
        return [tls for tls in (self.grpc_tls, self.http_tls) if tls is not None]


def security_options(command: F) -> F:
    """Add the options to a command; it gets them as `security`, `SecurityOptions`."""

    @_option(
        "--access-dir",
        envvar="ACCESS_DIR",
        type=click.Path(path_type=Path, file_okay=False),
        default=None,
        show_default=False,
        help="The directory of the access file, access.json; by default access in the state directory.",
    )
    @_file_option("--tls-cert", envvar="HEADEND_TLS_CERT", help="The gRPC port's certificate; makes it TLS.")
    @_file_option("--tls-key", envvar="HEADEND_TLS_KEY", help="The private key of --tls-cert.")
    @_file_option(
        "--tls-client-ca",
        envvar="HEADEND_TLS_CLIENT_CA",
        help="The CA of agents' certificates, which then are required.",
    )
    @_option(
        "--tls-min-version",
        envvar="HEADEND_TLS_MIN_VERSION",
        type=click.Choice(["1.3", "1.2"]),
        default="1.3",
        help="The lowest version of TLS that the ports accept.",
    )
    @_file_option(
        "--http-tls-cert", envvar="HEADEND_HTTP_TLS_CERT", help="The REST port's certificate; makes it TLS."
    )
    @_file_option("--http-tls-key", envvar="HEADEND_HTTP_TLS_KEY", help="The private key of --http-tls-cert.")
    @_option(
        "--insecure",
        envvar="HEADEND_INSECURE",
        is_flag=True,
        help="Start on addresses that other machines can reach even without TLS and access control.",
    )
    @wraps(command)
    def with_security(
        *,
        access_dir: Path | None,
        tls_cert: Path | None,
        tls_key: Path | None,
        tls_client_ca: Path | None,
        tls_min_version: MinVersion,
        http_tls_cert: Path | None,
        http_tls_key: Path | None,
        insecure: bool,
        **options: Any,
    ) -> None:
        security = SecurityOptions(
            access_dir=access_dir,
            tls_cert=tls_cert,
            tls_key=tls_key,
            tls_client_ca=tls_client_ca,
            tls_min_version=tls_min_version,
            http_tls_cert=http_tls_cert,
            http_tls_key=http_tls_key,
            insecure=insecure,
        )
        command(**options, security=security)

    return with_security  # type: ignore[return-value]  # with other options than `command`


def configure_security(
    options: SecurityOptions,
    *,
    state_dir: Path,
    grpc_addr: Address,
    http_addr: Address,
    has_issuer: bool = False,
) -> Security:
    """Read the certificates and the access file, and check that no port is unprotected unless intended.

    Args:
        options: as given.
        state_dir: has the access directory, by default.
        grpc_addr: where agents connect.
        http_addr: where REST listens.
        has_issuer: whether REST needs tokens of an OpenID Connect issuer, if none of the access file.

    Raises:
        SecurityError: the text is one sentence, and says what to change.
        TlsConfigurationError: a certificate, key or CA cannot be used.
        AccessFileError: the access file breaks a rule, or is missing though its directory is given, or agents
            need certificates.
    """
    _check_consistent(options)
    access_path = (options.access_dir or state_dir / "access") / ACCESS_FILE
    # What agents may speak for is in the access file: client certificates need it. And who names a directory
    # has made one: a wrong path must not open the headend.
    needed = options.tls_client_ca is not None or options.access_dir is not None or _may_be_there(access_path)
    access = AccessTable(read_document(access_path) if needed else None)
    warn_of_exposed(key for key in (options.tls_key, options.http_tls_key, access_path) if key is not None)
    _check_reachable(options, access=access, grpc_addr=grpc_addr, http_addr=http_addr, has_issuer=has_issuer)
    return Security(
        grpc_tls=_server_tls(
            options.tls_cert, options.tls_key, options.tls_client_ca, options.tls_min_version, alpn="h2"
        ),
        http_tls=_server_tls(
            options.http_tls_cert, options.http_tls_key, None, options.tls_min_version, alpn="http/1.1"
        ),
        access=access,
        access_path=access_path,
        require_identities=options.tls_client_ca is not None,
    )


def _server_tls(
    cert: Path | None, key: Path | None, client_ca: Path | None, min_version: MinVersion, *, alpn: str
) -> ServerTls | None:
    if cert is None or key is None:
        return None
    return ServerTls(cert, key, client_ca, min_version=min_version, alpn=[alpn])


def _check_consistent(options: SecurityOptions) -> None:
    pairs = [
        ("HEADEND_TLS", options.tls_cert, options.tls_key),
        ("HEADEND_HTTP_TLS", options.http_tls_cert, options.http_tls_key),
    ]
    for name, cert, key in pairs:
        if (cert is None) != (key is None):
            given, missing = ("_CERT", "_KEY") if key is None else ("_KEY", "_CERT")
            raise SecurityError(f"{name}{given} is set without {name}{missing}; set both or neither")
    if options.tls_client_ca is not None and options.tls_cert is None:
        raise SecurityError(
            "HEADEND_TLS_CLIENT_CA is set without HEADEND_TLS_CERT and HEADEND_TLS_KEY; set all three"
        )


def _check_reachable(
    options: SecurityOptions,
    *,
    access: AccessTable,
    grpc_addr: Address,
    http_addr: Address,
    has_issuer: bool,
) -> None:
    grpc = {
        "HEADEND_TLS_CERT and HEADEND_TLS_KEY": options.tls_cert is not None,
        "HEADEND_TLS_CLIENT_CA": options.tls_client_ca is not None,
    }
    http = {
        "HEADEND_HTTP_TLS_CERT and HEADEND_HTTP_TLS_KEY": options.http_tls_cert is not None,
        "a token (python -m trioder.access token create) or HEADEND_OIDC_ISSUER": access.has_tokens
        or has_issuer,
    }
    ports = [("HEADEND_GRPC_ADDR", grpc_addr, grpc), ("HEADEND_HTTP_ADDR", http_addr, http)]
    unprotected = [
        f"{variable} {address} needs {', '.join(name for name, is_set in protection.items() if not is_set)}"
        for variable, address, protection in ports
        if not _is_loopback(address.host) and not all(protection.values())
    ]
    if unprotected and not options.insecure:
        raise SecurityError(
            "other machines could reach the headend without protection: "
            f"{' and '.join(unprotected)} (python -m trioder.access makes certificates); "
            "configure that, listen on 127.0.0.1, or set HEADEND_INSECURE=1 if this is intended"
        )
    if unprotected:
        log.warning("other machines can reach the headend without protection", reason="; ".join(unprotected))
    elif not any((*grpc.values(), *http.values())):
        log.info("the headend is open to every program on this machine: no TLS, no access control")


def _may_be_there(path: Path) -> bool:
    """Whether a file exists, also as a link that leads nowhere, or cannot be examined."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return path.parent.is_symlink()
    except OSError:
        pass
    return True


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host; a name but localhost may become any address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
