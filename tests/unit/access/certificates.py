"""Certificates of real authorities as files, and handshakes in memory."""

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID


class Pair(NamedTuple):
    """A certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """A CA that writes what it issues to a directory.

    Attributes:
        file: its own certificate.
    """

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._name = name
        self._ca = trustme.CA()
        self.file = directory / f"{name}.crt"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, *names: str, file: str = "server", from_h: float = -1, to_h: float = 24) -> Pair:
        """Issue a certificate that is valid from and to so many hours from now; replace the files."""
        now = datetime.now(UTC)
        leaf = self._ca.issue_cert(
            *names, not_before=now + timedelta(hours=from_h), not_after=now + timedelta(hours=to_h)
        )
        return self._write(
            file, b"".join(pem.bytes() for pem in leaf.cert_chain_pems), leaf.private_key_pem.bytes()
        )

    def issue_identity(self, uri: str, *, file: str) -> Pair:
        """Issue a certificate for an agent's identity, which trustme does not; replace the files."""
        now = datetime.now(UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        authority = load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        assert isinstance(authority, ec.EllipticCurvePrivateKey)
        cert = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(x509.load_pem_x509_certificate(self._ca.cert_pem.bytes()).subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=24))
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(authority, hashes.SHA256())
        )
        return self._write(
            file,
            cert.public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )

    def _write(self, file: str, cert: bytes, key: bytes) -> Pair:
        pair = Pair(*(self._directory / f"{self._name}-{file}.{kind}" for kind in ("crt", "key")))
        _replace(pair.cert, cert)
        _replace(pair.key, key)
        return pair


def _replace(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(content)
    os.replace(new, path)  # noqa: PTH105


def der_of(cert: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(cert.read_text().partition("-----END CERTIFICATE-----\n")[0] + _END)


_END = "-----END CERTIFICATE-----\n"


class Handshake(NamedTuple):
    """How a handshake ended at each side; the client's includes its first read."""

    server: ssl.SSLError | None
    client: ssl.SSLError | None
    server_sees: bytes | None = None
    client_sees: bytes | None = None
    protocol: str | None = None


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str = "localhost") -> Handshake:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    at_server = server.wrap_bio(to_server, to_client, server_side=True)
    at_client = client.wrap_bio(to_client, to_server, server_hostname=host)
    errors: list[ssl.SSLError | None] = [None, None]
    done = [False, False]
    for _ in range(6):
        for index, side in enumerate((at_client, at_server)):
            if errors[index] is not None:
                continue
            try:
                if not done[index]:
                    side.do_handshake()
                    done[index] = True
                else:
                    side.read(1)
            except (ssl.SSLWantReadError, ssl.SSLSyscallError):
                pass
            except ssl.SSLError as error:
                errors[index] = error
    client_error, server_error = errors
    if server_error or client_error:
        return Handshake(server_error, client_error)
    return Handshake(
        None,
        None,
        at_server.getpeercert(binary_form=True),
        at_client.getpeercert(binary_form=True),
        at_server.version(),
    )
