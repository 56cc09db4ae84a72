"""Certificates as TLS itself judges them: real handshakes in memory, and OpenSSL's command line."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from trioder.access.ca import CertificateAuthority, Issued, make_ca
from trioder.access.identity import AgentIdentity, certified_agent

NOW = datetime.now(UTC)
OWN = AgentIdentity(trust_domain="example.org", tenant="alpha", agent="a1")
FOREIGN = AgentIdentity(trust_domain="example.com", tenant="alpha", agent="a1")
HOSTS = ["headend.example.net", "127.0.0.1", "::1"]

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="the command line of OpenSSL is not installed"
)


@dataclass(frozen=True)
class Authority:
    folder: Path
    ca: CertificateAuthority

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.crt"

    def agent(self, identity: AgentIdentity = OWN, *, days: int = 1) -> Issued:
        return self.ca.issue_agent(identity, now=NOW, expires_at=NOW + timedelta(days=days))

    def server(self) -> Issued:
        return self.ca.issue_server(HOSTS, now=NOW, expires_at=NOW + timedelta(days=1))


def make(folder: Path) -> Authority:
    folder.mkdir()
    key, certificate = make_ca("example.org", days=10, now=NOW)
    (folder / "ca.key").write_bytes(key)
    (folder / "ca.crt").write_bytes(certificate)
    return Authority(folder, CertificateAuthority.load(folder))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make(tmp_path / "ca")


@pytest.fixture
def other(tmp_path: Path) -> Authority:
    return make(tmp_path / "other")


def context(side: ssl._SSLMethod, trusted: Path, own: Issued) -> ssl.SSLContext:
    made = ssl.SSLContext(side)
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_verify_locations(trusted)
    pair = trusted.with_name(f"{own.serial}.pem")
    pair.write_bytes(own.key + own.certificate)
    made.load_cert_chain(pair)
    return made


def handshake(authority: Authority, *, server: Issued, agent: Issued, host: str = HOSTS[0]) -> bytes:
    """Do a mutual handshake; return the agent's certificate as the server has verified it."""
    to_server, to_agent = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = context(ssl.PROTOCOL_TLS_SERVER, authority.certificate, server).wrap_bio(
        to_server, to_agent, server_side=True
    )
    dialing = context(ssl.PROTOCOL_TLS_CLIENT, authority.certificate, agent).wrap_bio(
        to_agent, to_server, server_hostname=host
    )
    pending = [dialing, serving]
    for _ in range(10):
        for side in list(pending):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            pending.remove(side)
        if not pending:
            certificate = serving.getpeercert(binary_form=True)
            assert certificate is not None
            return certificate
    raise AssertionError("the handshake does not end")


@pytest.mark.parametrize("host", HOSTS)
def test_agent_and_server_verify_each_other(authority: Authority, host: str) -> None:
    der = handshake(authority, server=authority.server(), agent=authority.agent(), host=host)
    assert certified_agent(der).identity == OWN


def test_another_host_is_refused(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(authority, server=authority.server(), agent=authority.agent(), host="other.example.net")


def test_an_agent_of_a_foreign_trust_domain_is_refused(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        handshake(authority, server=authority.server(), agent=authority.agent(FOREIGN))


def test_an_agent_of_another_authority_is_refused(authority: Authority, other: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(authority, server=authority.server(), agent=other.agent())


def test_an_agents_certificate_is_none_of_a_server(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"unsuitable certificate purpose|unsupported"):
        handshake(authority, server=authority.agent(), agent=authority.agent())


def test_a_servers_certificate_is_none_of_an_agent(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"unsuitable certificate purpose|unsupported"):
        handshake(authority, server=authority.server(), agent=authority.server())


def test_an_agents_certificate_issues_no_others(authority: Authority) -> None:
    agent = authority.agent()
    (authority.folder / "ca.key").write_bytes(agent.key)
    (authority.folder / "ca.crt").write_bytes(agent.certificate)
    forged = CertificateAuthority.load(authority.folder).issue_agent(
        OWN, now=NOW, expires_at=NOW + timedelta(days=1)
    )
    forged = Issued(
        serial=forged.serial,
        key=forged.key,
        certificate=forged.certificate + agent.certificate,
        issued_at=forged.issued_at,
        expires_at=forged.expires_at,
    )
    server = authority.server()
    authority.certificate.write_bytes(_pem_of(authority))
    with pytest.raises(ssl.SSLCertVerificationError, match="invalid CA certificate"):
        handshake(authority, server=server, agent=forged)


def _pem_of(authority: Authority) -> bytes:
    der = authority.ca.certificate.public_bytes(Encoding.DER)
    return ssl.DER_cert_to_PEM_cert(der).encode()


def openssl_verify(authority: Authority, issued: Issued, *, purpose: str) -> subprocess.CompletedProcess[str]:
    certificate = authority.folder / "leaf.crt"
    certificate.write_bytes(issued.certificate)
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        "-purpose",
        purpose,
        "-CAfile",
        str(authority.certificate),
    ]
    return subprocess.run(
        [*command, str(certificate)], capture_output=True, text=True, timeout=30, check=False
    )


@needs_openssl
def test_openssl_accepts_an_agents_certificate(authority: Authority) -> None:
    done = openssl_verify(authority, authority.agent(), purpose="sslclient")
    assert (done.returncode, done.stderr) == (0, "")


@needs_openssl
def test_openssl_accepts_a_servers_certificate(authority: Authority) -> None:
    done = openssl_verify(authority, authority.server(), purpose="sslserver")
    assert (done.returncode, done.stderr) == (0, "")


@needs_openssl
def test_openssl_refuses_an_agent_of_a_foreign_trust_domain(authority: Authority) -> None:
    done = openssl_verify(authority, authority.agent(FOREIGN), purpose="sslclient")
    assert done.returncode != 0
    assert "permitted subtree violation" in done.stderr


def test_the_authority_can_have_no_authorities_below_it(authority: Authority) -> None:
    constraints = authority.ca.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
