"""A certificate authority for tests, and TLS contexts of what it issues."""

import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from trioder.access.tls import ServerTls

HOST = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Certified:
    """A certificate and its key.

    Attributes:
        serial: as the access file has it.
        der: the certificate.
        pem: certificate and key.
    """

    serial: str
    der: bytes
    pem: bytes


class TestAuthority:
    """Issues certificates; each authority is a stranger to every other."""

    __test__ = False

    def __init__(self, name: str = "test CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(self._name, self._key.public_key(), expires=_days(30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(Encoding.PEM).decode()

    def issue_agent(self, uri: str, *, expired: bool = False, lasts_s: float = 86_400.0) -> Certified:
        """Issue the certificate of an agent."""
        expires = _days(-1) if expired else datetime.now(UTC) + timedelta(seconds=lasts_s)
        return self._issue(x509.UniformResourceIdentifier(uri), expires=expires)

    def issue_server(self) -> Certified:
        """Issue the certificate of a server on loopback."""
        return self._issue(x509.IPAddress(ip_address(HOST)), expires=_days(1))

    def server_tls(self) -> ServerTls:
        """Return a server's TLS that requires client certificates of this authority."""
        with tempfile.TemporaryDirectory() as folder:
            certificate, authority = Path(folder, "server.pem"), Path(folder, "ca.pem")
            certificate.touch(mode=0o600)
            certificate.write_bytes(self.issue_server().pem)
            authority.write_text(self.pem)
            return ServerTls(certificate, certificate, authority)

    def client_context(self, certified: Certified | None) -> ssl.SSLContext:
        """Return a client's context that trusts this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.pem)
        context.set_alpn_protocols(["h2"])
        if certified is not None:
            _load(context, certified)
        return context

    def _issue(self, name: x509.GeneralName, *, expires: datetime) -> Certified:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(x509.Name([]), key.public_key(), expires=expires)
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Certified(
            serial=f"{certificate.serial_number:x}",
            der=certificate.public_bytes(Encoding.DER),
            pem=certificate.public_bytes(Encoding.PEM) + private,
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, expires: datetime
    ) -> x509.CertificateBuilder:
        return x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key,
            serial_number=x509.random_serial_number(),
            not_valid_before=_days(-2),
            not_valid_after=expires,
        )


def _days(count: int) -> datetime:
    return datetime.now(UTC) + timedelta(days=count)


def _load(context: ssl.SSLContext, certified: Certified) -> None:
    # The ssl module loads certificates from files alone.
    with _file(certified.pem) as path:
        context.load_cert_chain(path)


@contextmanager
def _file(data: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "certificate.pem")
        path.touch(mode=0o600)
        path.write_bytes(data)
        yield path
