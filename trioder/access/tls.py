"""SSL contexts of servers and agents, from PEM files that are read again when they change.

What a failed handshake means is in `tls_errors`.
"""

import re
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

import structlog
import trio

from trioder.access.certificate_fields import CertificateFields, read_certificate
from trioder.access.tls_errors import explain

__all__ = ["ClientTls", "MinVersion", "ServerTls", "TlsConfigurationError", "explain"]

log = structlog.stdlib.get_logger(__name__)

MinVersion = Literal["1.3", "1.2"]
_VERSIONS: Final[dict[MinVersion, ssl.TLSVersion]] = {
    "1.3": ssl.TLSVersion.TLSv1_3,
    "1.2": ssl.TLSVersion.TLSv1_2,
}
_CHECK_EVERY_S: Final = 1.0
_PEM_CERTIFICATE: Final = re.compile(
    r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.ASCII | re.DOTALL
)


class TlsConfigurationError(Exception):
    """Files that TLS cannot be configured with; the text names the file and the reason."""


class _Stamp(NamedTuple):
    """What changes when a file is written or replaced."""

    modified_ns: int
    size: int
    inode: int


class _ReloadedContext(ABC):
    """The current context of some files.

    Args:
        files: that the context is made of.
        clock: seconds, never set back; for tests.

    Raises:
        TlsConfigurationError: a context cannot be made of the files.
    """

    def __init__(self, files: Sequence[Path], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._files = files
        self._clock = clock
        self._checked_s = clock()
        # Before the files are read: what changes meanwhile is read again.
        self._stamps = self._read_stamps()
        self._context = self._build()

    @property
    def context(self) -> ssl.SSLContext:
        """The context of the files as they are; they are checked at most once a second."""
        now_s = self._clock()
        if now_s - self._checked_s >= _CHECK_EVERY_S:
            self._checked_s = now_s
            if self._read_stamps() != self._stamps:
                self.reload()
        return self._context

    def reload(self) -> None:
        """Read the files again. Files with faults change nothing, and are logged with the reason."""
        self._stamps = self._read_stamps()
        files = [str(file) for file in self._files]
        try:
            self._context = self._build()
        except TlsConfigurationError as error:
            log.warning("TLS files are faulty; those read before stay in use", reason=str(error))
        else:
            log.info("TLS files were read again", files=files)

    async def watch(self) -> None:
        """Read the files again within a second of a change, until cancelled."""
        while True:
            await trio.sleep(_CHECK_EVERY_S)
            _ = self.context

    @abstractmethod
    def _build(self) -> ssl.SSLContext:
        """Make a context of the files.

        Raises:
            TlsConfigurationError: why not.
        """

    def _read_stamps(self) -> list[_Stamp | None]:
        stamps: list[_Stamp | None] = []
        for file in self._files:
            try:
                status = file.stat()
            except OSError:
                stamps.append(None)
            else:
                stamps.append(_Stamp(status.st_mtime_ns, status.st_size, status.st_ino))
        return stamps


class ServerTls(_ReloadedContext):
    """The TLS of a listening port.

    Sessions are not resumed: each connection is checked against the certificates and revocations in force.

    Args:
        cert: PEM: the server's certificate, and those of intermediate CAs.
        key: PEM: its private key, not encrypted.
        client_ca: PEM: the CAs of client certificates, which then are required; None for none.
        min_version: of TLS.
        alpn: the application protocols.
        clock: seconds, never set back; for tests.

    Raises:
        TlsConfigurationError: see above.
    """

    def __init__(
        self,
        cert: Path,
        key: Path,
        client_ca: Path | None = None,
        *,
        min_version: MinVersion = "1.3",
        alpn: Sequence[str] = ("h2",),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cert = cert
        self._key = key
        self._client_ca = client_ca
        self._min_version = min_version
        self._alpn = alpn
        super().__init__([cert, key, *([client_ca] if client_ca else [])], clock=clock)

    @property
    def certificate_paths(self) -> Sequence[Path]:
        """The files of the server's certificate, and of the CA of clients, if any."""
        return (self._cert,) if self._client_ca is None else (self._cert, self._client_ca)

    def _build(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[self._min_version]
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.num_tickets = 0
        context.set_alpn_protocols(list(self._alpn))
        _load_certificate(context, self._cert, self._key)
        if self._client_ca is not None:
            _load_ca(context, self._client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class ClientTls(_ReloadedContext):
    """The TLS of an agent's connections. The server's certificate must be valid for the host connected to.

    Args:
        cert: PEM: the agent's certificate; None to present none.
        key: PEM: its private key, not encrypted; with `cert`.
        ca: PEM: the CAs of server certificates; None for those that the system trusts.
        min_version: of TLS.
        clock: seconds, never set back; for tests.

    Raises:
        TlsConfigurationError: see above.
    """

    def __init__(
        self,
        cert: Path | None,
        key: Path | None,
        ca: Path | None,
        *,
        min_version: MinVersion = "1.3",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if (cert is None) != (key is None):
            raise TlsConfigurationError(
                f"a TLS certificate and its key belong together; {cert or key} is given alone"
            )
        self._cert = cert
        self._key = key
        self._ca = ca
        self._min_version = min_version
        super().__init__([file for file in (cert, key, ca) if file is not None], clock=clock)

    def _build(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = _VERSIONS[self._min_version]
        context.set_alpn_protocols(["h2"])
        if self._ca is None:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        else:
            _load_ca(context, self._ca)
        if self._cert is not None and self._key is not None:
            _load_certificate(context, self._cert, self._key)
        return context


def _load_certificate(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    certificates = _read_certificates(cert, "certificate")
    _read(key, "key")

    def refuse_encrypted() -> str:
        raise TlsConfigurationError(f"the TLS key {key} is encrypted; it must be stored without a password")

    try:
        context.load_cert_chain(cert, key, password=refuse_encrypted)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or str(error)
        if reason in {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"}:
            raise TlsConfigurationError(
                f"the TLS key {key} does not belong to the certificate {cert}"
            ) from None
        if reason in {"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"}:
            raise TlsConfigurationError(
                f"the TLS certificate {cert} is too weak for OpenSSL: {reason}"
            ) from None
        raise TlsConfigurationError(f"the TLS key {key} is no private key in PEM format: {reason}") from None
    _warn_of_validity(cert, certificates[0])


def _load_ca(context: ssl.SSLContext, ca: Path) -> None:
    for certificate in _read_certificates(ca, "CA"):
        _warn_of_validity(ca, certificate)
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise TlsConfigurationError(f"the TLS CA {ca} cannot be loaded: {reason}") from None


def _read_certificates(file: Path, kind: str) -> list[CertificateFields]:
    blocks = _PEM_CERTIFICATE.findall(_read(file, kind))
    try:
        certificates = [read_certificate(ssl.PEM_cert_to_DER_cert(block)) for block in blocks]
    except ValueError as error:
        raise TlsConfigurationError(f"the TLS {kind} {file} is faulty: {error}") from None
    if not certificates:
        raise TlsConfigurationError(f"the TLS {kind} {file} has no certificate in PEM format")
    return certificates


def _read(file: Path, kind: str) -> str:
    try:
        # A named pipe would block the event loop for ever.
        if file.exists() and not file.is_file():
            raise TlsConfigurationError(f"the TLS {kind} {file} cannot be read: it is not a regular file")
        return file.read_text("latin-1")
    except FileNotFoundError:
        raise TlsConfigurationError(f"the TLS {kind} {file} does not exist") from None
    except OSError as error:
        raise TlsConfigurationError(f"the TLS {kind} {file} cannot be read: {error.strerror}") from None


def _warn_of_validity(file: Path, certificate: CertificateFields) -> None:
    now_s = time.time()
    if now_s > certificate.not_after_s:
        state, at_s = "it expired at", certificate.not_after_s
    elif now_s < certificate.not_before_s:
        state, at_s = "it is valid from", certificate.not_before_s
    else:
        return
    log.warning(
        "a TLS certificate is not valid now; peers will refuse it",
        file=str(file),
        serial=certificate.serial,
        reason=f"{state} {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(at_s))}",
    )
