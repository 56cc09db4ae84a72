"""Identities of agents: SPIFFE URIs, and the certificates that carry them.

The TLS handshake has verified the certificate; here its identity is read. What it may do is in
`trioder.access.table`.
"""

import re
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from trioder.domain.access import TENANT_RULE, is_tenant
from trioder.domain.text import preview

IDENTITY_FORM: Final = "spiffe://<trust domain>/tenant/<tenant>/agent/<agent>"
# https://spiffe.io/docs/latest/spiffe-specs/spiffe-id/, sections 2.1 and 2.2
TRUST_DOMAIN_RULE: Final = "1 to 255 lower-case letters, digits, dots, hyphens and underscores"
AGENT_RULE: Final = (
    "1 to 128 letters, digits, dots, hyphens and underscores, beginning with a letter or digit"
)
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_AGENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# Not all of what `cryptography` raises for a certificate that OpenSSL accepts is a ValueError.
_UNREADABLE: Final = (
    ValueError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_IDENTITY = re.compile(r"spiffe://([^/?#]*)/tenant/([^/?#]*)/agent/([^/?#]*)")


class IdentityError(ValueError):
    """A certificate or URI that identifies no agent; the text says what is missing."""


def is_trust_domain(name: str) -> bool:
    """Whether this is the name of a trust domain, by `TRUST_DOMAIN_RULE`."""
    return _TRUST_DOMAIN.fullmatch(name) is not None


def is_agent(name: str) -> bool:
    """Whether a certificate can name this agent, by `AGENT_RULE`."""
    return _AGENT.fullmatch(name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentIdentity:
    """An agent as its certificate names it.

    Attributes:
        trust_domain: of the CA.
        tenant: that it works for.
        agent: its agent_id.
    """

    trust_domain: str
    tenant: str
    agent: str

    @property
    def uri(self) -> str:
        """The SPIFFE URI."""
        return f"spiffe://{self.trust_domain}/tenant/{self.tenant}/agent/{self.agent}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedAgent:
    """What a certificate says about its agent.

    Attributes:
        serial: of the certificate, lower-case hex without leading zeros.
        expires_ms: Unix time.
    """

    identity: AgentIdentity
    serial: str
    expires_ms: int


def parse_identity(uri: str) -> AgentIdentity:
    """Return the identity of a SPIFFE URI.

    Raises:
        IdentityError: it does not have the form of an agent's, or a part breaks its rule.
    """
    match = _IDENTITY.fullmatch(uri)
    if match is None:
        raise IdentityError(f"{preview(uri)} does not have the form {IDENTITY_FORM}")
    trust_domain, tenant, agent = match.groups()
    for name, value, valid, rule in (
        ("trust domain", trust_domain, is_trust_domain(trust_domain), TRUST_DOMAIN_RULE),
        ("tenant", tenant, is_tenant(tenant), TENANT_RULE),
        ("agent", agent, is_agent(agent), AGENT_RULE),
    ):
        if not valid:
            raise IdentityError(f"{preview(uri)} has the {name} {preview(value)}; it must be {rule}")
    return AgentIdentity(trust_domain=trust_domain, tenant=tenant, agent=agent)


def serial_text(serial: int) -> str:
    """Return a certificate's serial number as the access file has it."""
    return f"{serial:x}"


def certified_agent(der: bytes) -> CertifiedAgent:
    """Return the agent that a verified certificate names.

    Args:
        der: the certificate, as `SSLObject.getpeercert(binary_form=True)` returns it.

    Raises:
        IdentityError: it names no agent, or more than one.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    except _UNREADABLE as error:
        raise IdentityError(f"the certificate cannot be parsed: {error}") from None
    if not uris:
        raise IdentityError(
            f"the certificate has no URI in its subject alternative name; an agent's has {IDENTITY_FORM}"
        )
    if len(uris) > 1:
        raise IdentityError(
            f"the certificate has {len(uris)} URIs in its subject alternative name; an agent's has one"
        )
    return CertifiedAgent(
        identity=parse_identity(uris[0]),
        serial=serial_text(certificate.serial_number),
        expires_ms=int(certificate.not_valid_after_utc.timestamp()) * 1000,
    )
