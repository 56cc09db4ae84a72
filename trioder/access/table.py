"""The access file in memory: grants of agents, revoked certificates, tokens; and what a newer file changes.

`trioder.access.watch` keeps it current.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from trioder.access.document import AccessDocument, AgentEntry, CertificateEntry, TokenEntry
from trioder.access.identity import AgentIdentity
from trioder.domain.access import ALL_TENANTS, Principal, Scope
from trioder.process.rfc3339 import parse_ms

_Entry = TypeVar("_Entry", AgentEntry, CertificateEntry, TokenEntry)


class TokenError(Exception):
    """A token that authenticates nobody; the text is the reason."""


class TokenUnverifiedError(Exception):
    """A token that cannot be verified for now; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentGrant:
    """What an agent may speak for, within its tenant.

    Attributes:
        site_ids: all assets of these sites.
        asset_ids: and these.
    """

    tenant: str
    site_ids: frozenset[str]
    asset_ids: frozenset[str]

    def covers(self, *, asset_id: str, site_id: str) -> bool:
        """Whether this asset of this site is granted; that the site is the tenant's is checked elsewhere."""
        return asset_id in self.asset_ids or site_id in self.site_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessChange:
    """One difference between two access files.

    Attributes:
        action: `agent.grant`, `agent.change`, `agent.remove`; `certificate.issue`, `certificate.revoke`,
            `certificate.change`, `certificate.remove`; `token.create`, `token.revoke`, `token.change`,
            `token.remove`; `trust_domain.change`.
        target: the agent; <kind>/<name>/<serial> of the certificate; the token's name; the trust domain.
        tenant: whose; empty for a server's certificate; `ALL_TENANTS` for the trust domain.
        by: who made it; empty where the file does not say.
    """

    action: str
    target: str
    tenant: str
    by: str = ""


class AccessTable:
    """Answers from the access file.

    Args:
        document: the file; without it nobody has access.
    """

    def __init__(self, document: AccessDocument | None = None) -> None:
        self._index = _Index.of(AccessDocument() if document is None else document)
        self._has_had_tokens = bool(self._index.tokens)

    @property
    def trust_domain(self) -> str:
        """The trust domain of agents' identities."""
        return self._index.document.trust_domain

    @property
    def has_tokens(self) -> bool:
        """Whether there are tokens, or were in a former file, also expired or revoked ones.

        Their end does not end access control.
        """
        return self._has_had_tokens

    def grant_of(self, identity: AgentIdentity) -> AgentGrant | None:
        """Return what the agent may speak for; None if nothing is granted to this identity."""
        if identity.trust_domain != self._index.document.trust_domain:
            return None
        return self._index.grants.get((identity.tenant, identity.agent))

    def is_revoked(self, serial: str) -> bool:
        """Whether the certificate with this serial number, in lower-case hex, is revoked."""
        return serial in self._index.revoked

    def authenticate(self, secret: str, *, now_ms: int) -> Principal:
        """Return the principal of a token.

        Args:
            secret: the token.
            now_ms: Unix time.

        Raises:
            TokenError: it is unknown, expired or revoked.
        """
        # A look-up by the digest: what its timing shows does not lead to a token.
        token = self._index.tokens.get(token_sha256(secret))
        if token is None:
            raise TokenError("the token is unknown")
        name, entry = token.principal.name, token.entry
        if entry.revoked_at is not None:
            raise TokenError(f"the token {name} was revoked at {entry.revoked_at}")
        if token.expires_ms is not None and now_ms >= token.expires_ms:
            raise TokenError(f"the token {name} expired at {entry.expires_at}")
        return token.principal

    def replace(self, document: AccessDocument) -> Sequence[AccessChange]:
        """Use a newer access file from now on; return what it changes."""
        return self.apply(self.prepare(document))

    def prepare(self, document: AccessDocument) -> "PreparedAccess":
        """Compare a newer access file with the present one, for `apply`; safe in a thread.

        It takes some hundred milliseconds for thousands of agents.
        """
        before = self._index.document
        changes = [
            *_trust_domain_changes(before.trust_domain, document.trust_domain),
            *_agent_changes(before.agents, document.agents),
            *_certificate_changes(before.certificates, document.certificates),
            *_token_changes(before.tokens, document.tokens),
        ]
        return PreparedAccess(index=_Index.of(document), changes=changes)

    def apply(self, prepared: "PreparedAccess") -> Sequence[AccessChange]:
        """Use a prepared access file from now on; return what it changes."""
        self._index = prepared.index
        self._has_had_tokens = self._has_had_tokens or bool(prepared.index.tokens)
        return prepared.changes


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedAccess:
    """An access file that a table can use at once.

    Attributes:
        index: the table's own.
        changes: against the file before.
    """

    index: "_Index"
    changes: Sequence[AccessChange]


def token_sha256(secret: str) -> str:
    """Return the digest by which the access file knows a token."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    entry: TokenEntry
    principal: Principal
    expires_ms: int | None

    @classmethod
    def of(cls, entry: TokenEntry) -> "_Token":
        site_ids = None if entry.site_ids is None else frozenset(entry.site_ids)
        expires_ms = None if entry.expires_at is None else parse_ms(entry.expires_at)
        return cls(
            entry=entry,
            principal=Principal(
                name=entry.name,
                kind="token",
                role=entry.role,
                scope=Scope(tenant=entry.tenant, site_ids=site_ids),
                expires_ms=expires_ms,
            ),
            expires_ms=expires_ms,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    document: AccessDocument
    grants: Mapping[tuple[str, str], AgentGrant]
    revoked: frozenset[str]
    tokens: Mapping[str, _Token]

    @classmethod
    def of(cls, document: AccessDocument) -> "_Index":
        return cls(
            document=document,
            grants={
                (entry.tenant, entry.agent): AgentGrant(
                    tenant=entry.tenant,
                    site_ids=frozenset(entry.site_ids),
                    asset_ids=frozenset(entry.asset_ids),
                )
                for entry in document.agents
            },
            revoked=frozenset(
                entry.serial for entry in document.certificates if entry.revoked_at is not None
            ),
            tokens={entry.sha256: _Token.of(entry) for entry in document.tokens},
        )


def _trust_domain_changes(before: str, after: str) -> Iterator[AccessChange]:
    # Every agent's certificate is of a trust domain: their sessions are checked again.
    if before != after:
        yield AccessChange(action="trust_domain.change", target=after, tenant=ALL_TENANTS)


def _agent_changes(before: Sequence[AgentEntry], after: Sequence[AgentEntry]) -> Iterator[AccessChange]:
    old, new = ({f"{entry.tenant}/{entry.agent}": entry for entry in entries} for entries in (before, after))
    for entry, earlier in _differences(old, new):
        change = partial(AccessChange, target=entry.agent, tenant=entry.tenant)
        if earlier is None:
            yield change(action="agent.grant", by=entry.granted_by)
        elif earlier is entry:
            yield change(action="agent.remove")
        elif (earlier.site_ids, earlier.asset_ids) != (entry.site_ids, entry.asset_ids):
            yield change(action="agent.change", by=entry.granted_by)


def _certificate_changes(
    before: Sequence[CertificateEntry], after: Sequence[CertificateEntry]
) -> Iterator[AccessChange]:
    old, new = ({entry.serial: entry for entry in entries} for entries in (before, after))
    for entry, earlier in _differences(old, new):
        target = f"{entry.kind}/{entry.name}/{entry.serial}"
        change = partial(AccessChange, target=target, tenant=entry.tenant)
        if earlier is None:
            yield change(action="certificate.issue", by=entry.issued_by)
        elif earlier is entry:
            yield change(action="certificate.remove")
        elif entry.revoked_at is not None and earlier.revoked_at is None:
            yield change(action="certificate.revoke", by=entry.revoked_by)
        else:
            yield change(action="certificate.change")


def _token_changes(before: Sequence[TokenEntry], after: Sequence[TokenEntry]) -> Iterator[AccessChange]:
    # By digest: a token that replaces a revoked one of the same name is another.
    old, new = ({entry.sha256: entry for entry in entries} for entries in (before, after))
    for entry, earlier in _differences(old, new):
        change = partial(AccessChange, target=entry.name, tenant=entry.tenant)
        if earlier is None:
            yield change(action="token.create", by=entry.created_by)
        elif earlier is entry:
            # It was on file as revoked, and a new token has its name.
            if entry.revoked_at is None:
                yield change(action="token.remove")
        elif entry.revoked_at is not None and earlier.revoked_at is None:
            yield change(action="token.revoke", by=entry.revoked_by)
        else:
            yield change(action="token.change")


def _differences(
    old: Mapping[str, _Entry], new: Mapping[str, _Entry]
) -> Iterator[tuple[_Entry, _Entry | None]]:
    """Yield each entry that differs, with the earlier one; None if there was none, itself if it is gone."""
    for key, entry in new.items():
        earlier = old.get(key)
        if earlier != entry:
            yield entry, earlier
    for key, entry in old.items():
        if key not in new:
            yield entry, entry
