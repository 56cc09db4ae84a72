"""The private certificate authority: makes its own certificate, and those of servers and agents.

It touches no file but its own two; `trioder.access.directory` keeps the rest.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trioder.access.identity import AgentIdentity, serial_text
from trioder.domain.text import preview

CA_CERTIFICATE: Final = "ca.crt"
CA_KEY: Final = "ca.key"
EXPIRES_SOON: Final = timedelta(days=30)
# Clocks of peers may be behind.
_BACKDATED = timedelta(minutes=5)
# X.520 bounds a common name; verification goes by the subject alternative name.
_MAX_COMMON_NAME = 64
_DNS_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS_NAME = re.compile(rf"(\*\.)?{_DNS_LABEL}(\.{_DNS_LABEL})*", re.ASCII)
_CURVE = ec.SECP256R1


class AccessError(ValueError):
    """A request that cannot be met; one sentence that names the value and the rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A new certificate and its private key, in PEM.

    Attributes:
        serial: lower-case hex without leading zeros.
    """

    serial: str
    key: bytes
    certificate: bytes
    issued_at: datetime
    expires_at: datetime


def host_name(host: str) -> x509.GeneralName:
    """Return a host as a certificate names it.

    Raises:
        AccessError: it is neither a DNS name nor an IP address.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    # A text of digits and dots is a mistyped address.
    if len(host) > 253 or _DNS_NAME.fullmatch(host) is None or host.replace(".", "").isdigit():
        raise AccessError(f"the host is {preview(host)}; it must be a DNS name or an IP address")
    return x509.DNSName(host.lower())


def agent_name(identity: AgentIdentity) -> x509.GeneralName:
    """Return an agent as its certificate names it."""
    return x509.UniformResourceIdentifier(identity.uri)


def make_ca(trust_domain: str, *, days: int, now: datetime) -> tuple[bytes, bytes]:
    """Return the key and the certificate of a new authority, in PEM.

    It can issue certificates of TLS servers and clients only, no further authorities, and of identities
    only those of its trust domain. Host names are not constrained: they are not known yet.
    """
    key = ec.generate_private_key(_CURVE())
    serial = x509.random_serial_number()
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain[:_MAX_COMMON_NAME]),
            # Distinct, for the time when a new one replaces it.
            x509.NameAttribute(NameOID.COMMON_NAME, f"trioder CA {serial_text(serial)[:8]}"),
        ]
    )
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder(issuer_name=subject, subject_name=subject, public_key=public)
        .serial_number(serial)
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(
            x509.NameConstraints(
                permitted_subtrees=[x509.UniformResourceIdentifier(trust_domain)], excluded_subtrees=None
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _key_pem(key), certificate.public_bytes(serialization.Encoding.PEM)


class CertificateAuthority:
    """A certificate authority that can issue.

    Attributes:
        certificate: its own.
    """

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self._key = key

    @classmethod
    def load(cls, folder: Path) -> "CertificateAuthority":
        """Read the authority of an access directory.

        Raises:
            AccessError: there is none, or its files cannot be used.
        """
        certificate = load_ca_certificate(folder)
        path = folder / CA_KEY
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise AccessError(
                f"{path} cannot be read: {error.strerror}; certificates are issued where the CA's key is"
            ) from None
        except (ValueError, TypeError):
            raise AccessError(f"{path} is not a private key in PEM without a password") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise AccessError(f"{path} is not the key of {folder / CA_CERTIFICATE}")
        return cls(certificate, key)

    def require_trust_domain(self, trust_domain: str) -> None:
        """Check that agents of this trust domain can have certificates of this authority.

        Raises:
            AccessError: its name constraints do not permit it.
        """
        try:
            constraints = self.certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        except x509.ExtensionNotFound:
            return
        hosts = [
            name.value
            for name in constraints.permitted_subtrees or ()
            if isinstance(name, x509.UniformResourceIdentifier)
        ]
        if hosts and trust_domain not in hosts:
            raise AccessError(
                f"the access file has the trust domain {trust_domain}; the CA permits {', '.join(hosts)} only"
            )

    def expiry(self, days: int | None, *, default: int, now: datetime) -> datetime:
        """Return when a certificate expires that is to be valid for `days`.

        Without `days` it is `default` days, or as long as the authority's own.

        Raises:
            AccessError: the authority has expired, or expires before.
        """
        end = self.certificate.not_valid_after_utc
        if now >= end:
            raise AccessError(
                f"the CA expired at {end:%Y-%m-%dT%H:%M:%SZ}; make a new one (docs/security.md says how)"
            )
        expires_at = (now + timedelta(days=default if days is None else days)).replace(microsecond=0)
        if days is None:
            return min(expires_at, end)
        if expires_at > end:
            raise AccessError(
                f"--days is {days}; the CA expires at {end:%Y-%m-%dT%H:%M:%SZ}, in {(end - now).days} days, "
                "and no certificate outlives it"
            )
        return expires_at

    def issue_server(self, hosts: Sequence[str], *, now: datetime, expires_at: datetime) -> Issued:
        """Return a certificate for a server that is reached by these names and addresses.

        Raises:
            AccessError: one of them is neither a DNS name nor an IP address.
        """
        names = [host_name(host) for host in hosts]
        return self._issue(hosts[0], names, ExtendedKeyUsageOID.SERVER_AUTH, now=now, expires_at=expires_at)

    def issue_agent(self, identity: AgentIdentity, *, now: datetime, expires_at: datetime) -> Issued:
        """Return a certificate for an agent."""
        return self._issue(
            identity.agent,
            [agent_name(identity)],
            ExtendedKeyUsageOID.CLIENT_AUTH,
            now=now,
            expires_at=expires_at,
        )

    def _issue(
        self,
        common_name: str,
        names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        *,
        now: datetime,
        expires_at: datetime,
    ) -> Issued:
        key = ec.generate_private_key(_CURVE())
        public = key.public_key()
        serial = x509.random_serial_number()
        identifier = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        certificate = (
            x509.CertificateBuilder(
                issuer_name=self.certificate.subject,
                subject_name=x509.Name(
                    [x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_MAX_COMMON_NAME])]
                ),
                public_key=public,
            )
            .serial_number(serial)
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(expires_at)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        return Issued(
            serial=serial_text(serial),
            key=_key_pem(key),
            certificate=certificate.public_bytes(serialization.Encoding.PEM),
            issued_at=now,
            expires_at=expires_at,
        )


def load_ca_certificate(folder: Path) -> x509.Certificate:
    """Return the certificate of an access directory's authority; the first, where the file has several.

    Raises:
        AccessError: there is none, or it cannot be used.
    """
    path = folder / CA_CERTIFICATE
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        raise AccessError(
            f"{path} does not exist; run python -m trioder.access init, which makes it"
        ) from None
    except OSError as error:
        raise AccessError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise AccessError(f"{path} is not a certificate in PEM") from None


def is_current(
    path: Path, key_path: Path, *, names: Sequence[x509.GeneralName], ca: x509.Certificate
) -> bool:
    """Whether a certificate file is of this authority, has these names and expires neither soon nor earlier.

    Soon is within 30 days, or in the last third of its time if that is shorter.
    """
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        certificate.verify_directly_issued_by(ca)
        own = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # noqa: BLE001  # whatever it is, another one is issued
        return False
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return (
        key.public_key() == certificate.public_key()
        and list(own) == list(names)
        and end - datetime.now(UTC) > min(EXPIRES_SOON, (end - begin) / 3)
    )


def certificate_serial(path: Path) -> str:
    """Return the serial number of a certificate file; empty if there is none."""
    try:
        return serial_text(x509.load_pem_x509_certificate(path.read_bytes()).serial_number)
    except (OSError, ValueError):
        return ""


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
