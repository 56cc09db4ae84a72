"""Identities: SPIFFE URIs there and back, and read from certificates."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID
from hypothesis import given
from hypothesis import strategies as st

from trioder.access.identity import AgentIdentity, IdentityError, certified_agent, parse_identity

URI = "spiffe://example.org/tenant/alpha/agent/shard-1of7"
IDENTITY = AgentIdentity(trust_domain="example.org", tenant="alpha", agent="shard-1of7")
EXPIRES = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)


def certificate(*names: x509.GeneralName, serial: int = 0xABC) -> bytes:
    return signed(*([x509.SubjectAlternativeName(names)] if names else []), serial=serial)


def signed(*extensions: x509.ExtensionType, serial: int = 0xABC) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    builder = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(serial)
        .not_valid_before(EXPIRES - timedelta(days=1))
        .not_valid_after(EXPIRES)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_an_identity_has_a_uri_and_is_parsed_from_it() -> None:
    assert IDENTITY.uri == URI
    assert parse_identity(URI) == IDENTITY


@given(
    trust_domain=st.from_regex(r"[a-z0-9._-]{1,40}", fullmatch=True),
    tenant=st.from_regex(r"[a-z][a-z0-9-]{0,63}", fullmatch=True),
    agent=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True),
)
def test_every_valid_identity_survives_its_uri(trust_domain: str, tenant: str, agent: str) -> None:
    identity = AgentIdentity(trust_domain=trust_domain, tenant=tenant, agent=agent)
    assert parse_identity(identity.uri) == identity


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "does not have the form"),
        ("https://example.org/tenant/alpha/agent/a", "does not have the form"),
        ("spiffe://example.org/agent/a", "does not have the form"),
        (URI + "/x", "does not have the form"),
        (URI + "?x", "does not have the form"),
        (URI + "\n", "does not have the form|has the agent"),
        ("SPIFFE://example.org/tenant/alpha/agent/a", "does not have the form"),
        ("spiffe://Example.org/tenant/alpha/agent/a", "has the trust domain 'Example.org'; it must be"),
        ("spiffe://user@example.org/tenant/alpha/agent/a", "has the trust domain 'user@example.org'"),
        ("spiffe://example.org/tenant/*/agent/a", r"has the tenant '\*'; it must be 1 to 64"),
        ("spiffe://example.org/tenant/alpha/agent/..", r"has the agent '\.\.'; it must be 1 to 128"),
        ("spiffe://example.org/tenant/alpha/agent/a%2fb", "has the agent 'a%2fb'"),
    ],
)
def test_another_uri_is_refused_with_the_rule(uri: str, message: str) -> None:
    with pytest.raises(IdentityError, match=message):
        parse_identity(uri)


def test_a_certificate_names_its_agent() -> None:
    agent = certified_agent(
        certificate(x509.DNSName("a.example.org"), x509.UniformResourceIdentifier(URI), serial=0x0ABC)
    )
    assert agent.identity == IDENTITY
    assert agent.serial == "abc"
    assert agent.expires_ms == EXPIRES.timestamp() * 1000


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "has no URI in its subject alternative name; an agent's has spiffe://"),
        ([x509.DNSName("a.example.org")], "has no URI"),
        ([x509.UniformResourceIdentifier(URI)] * 2, "has 2 URIs"),
        ([x509.UniformResourceIdentifier("https://example.org/")], "does not have the form"),
    ],
)
def test_a_certificate_that_names_no_agent_is_refused(names: list[x509.GeneralName], message: str) -> None:
    with pytest.raises(IdentityError, match=message):
        certified_agent(certificate(*names))


def test_what_is_no_certificate_is_refused() -> None:
    with pytest.raises(IdentityError, match="cannot be parsed"):
        certified_agent(b"no certificate")


def raw_name(tag: int, content: bytes) -> bytes:
    return bytes([tag, len(content)]) + content


@pytest.mark.parametrize("tag", [0xA3, 0xA5], ids=["x400Address", "ediPartyName"])
def test_a_certificate_with_a_kind_of_name_that_cannot_be_read_is_refused(tag: int) -> None:
    names = raw_name(0x30, raw_name(0x86, URI.encode()) + raw_name(tag, raw_name(0xA1, raw_name(0x0C, b"x"))))
    extension = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, names)
    with pytest.raises(IdentityError, match="the certificate cannot be parsed"):
        certified_agent(signed(extension))


def test_a_certificate_with_an_extension_twice_is_refused() -> None:
    names = raw_name(0x30, raw_name(0x86, URI.encode()))
    once = signed(
        x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, names),
        x509.UnrecognizedExtension(ExtensionOID.ISSUER_ALTERNATIVE_NAME, names),
    )
    issuer, subject = b"\x06\x03\x55\x1d\x12", b"\x06\x03\x55\x1d\x11"
    with pytest.raises(IdentityError, match="the certificate cannot be parsed"):
        certified_agent(once.replace(issuer, subject))
