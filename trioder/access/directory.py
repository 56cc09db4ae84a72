"""The access directory: what each command of `python -m trioder.access` does to its files.

The access file is changed before a certificate is written: one that exists is always on file, and can be
revoked. A command that is killed in between is run again.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from trioder.access.ca import (
    CA_CERTIFICATE,
    CA_KEY,
    AccessError,
    CertificateAuthority,
    Issued,
    agent_name,
    certificate_serial,
    host_name,
    is_current,
    make_ca,
)
from trioder.access.document import (
    ACCESS_FILE,
    LOCK_FILE,
    AccessDocument,
    AccessFileError,
    CertificateEntry,
    TokenEntry,
    access_lock,
    read_document,
    update_document,
    write_document,
)
from trioder.access.grants import AgentRequest, GrantRules
from trioder.access.identity import TRUST_DOMAIN_RULE, AgentIdentity, is_trust_domain
from trioder.access.listing import token_state
from trioder.access.private_files import NEW_SUFFIX, replace_file, replace_pair
from trioder.access.table import token_sha256
from trioder.domain.access import ALL_TENANTS, TENANT_RULE, Role, is_tenant
from trioder.domain.fleet import Fleet
from trioder.domain.text import TextError, preview, valid_name
from trioder.process.agent_files import file_stem
from trioder.process.rfc3339 import format_ms

SERVER_DAYS: Final = 365
AGENT_DAYS: Final = 365
CA_DAYS: Final = 3650
# Scanners recognise a leaked token by it.
TOKEN_PREFIX: Final = "trd_"  # noqa: S105  # the beginning of every token
_TOKEN_BYTES = 32
# What commands, and scripts/run, make in the directory.
_OWN_NAMES = frozenset({ACCESS_FILE, LOCK_FILE, CA_CERTIFICATE, CA_KEY, "server", "agents", "tokens"})
_MAX_NAMES_LISTED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """A certificate on disk.

    Attributes:
        issued: False where the present one is still good.
    """

    name: str
    certificate: Path
    key: Path
    expires_at: str
    issued: bool = True


class AccessDirectory:
    """The files of an access directory, changed by one process at a time.

    Args:
        folder: made by `initialise`.
        fleet: what sites and assets there are; None if that is not known.
        user: who runs the command.
    """

    def __init__(self, folder: Path, *, user: str, fleet: Fleet | None = None) -> None:
        self.folder = folder
        self.path = folder / ACCESS_FILE
        self._user = user
        self._rules = GrantRules(fleet=fleet, user=user)

    def initialise(self, trust_domain: str, *, days: int = CA_DAYS) -> None:
        """Make the directory, its authority and an access file without entries.

        Raises:
            AccessError: there is an authority already, the directory has other files, or the trust domain
                breaks its rule.
            OSError: the files cannot be written.
        """
        if not is_trust_domain(trust_domain):
            raise AccessError(f"the trust domain is {preview(trust_domain)}; it must be {TRUST_DOMAIN_RULE}")
        try:
            self.folder.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            # Its mode stays: it is somebody else's. What is made in it is private.
            self._refuse_others_files()
        with access_lock(self.folder):
            # Its certificate is the last file that is made: without it nothing was issued.
            if (self.folder / CA_CERTIFICATE).exists() or self._has_entries():
                raise AccessError(f"{self.folder} has a CA already; another one needs another --access-dir")
            key, certificate = make_ca(trust_domain, days=days, now=_now())
            for name in ("server", "agents"):
                (self.folder / name).mkdir(mode=0o700, exist_ok=True)
            replace_file(self.folder / CA_KEY, key)
            write_document(self.path, AccessDocument(trust_domain=trust_domain))
            replace_file(self.folder / CA_CERTIFICATE, certificate, mode=0o644)

    def _refuse_others_files(self) -> None:
        names = (file.name.removesuffix(NEW_SUFFIX) for file in self.folder.iterdir())
        others = sorted(name for name in names if name not in _OWN_NAMES)
        if others:
            more = ", ..." if len(others) > _MAX_NAMES_LISTED else ""
            raise AccessError(
                f"{self.folder} has other files: {', '.join(others[:_MAX_NAMES_LISTED])}{more}; the access "
                "directory must be one of its own: name one that does not exist, or is empty"
            )

    def _has_entries(self) -> bool:
        if not self.path.exists():
            return False
        try:
            document = read_document(self.path)
        except AccessFileError:
            # Not of this command, which writes it as a whole.
            return True
        return bool(document.agents or document.certificates or document.tokens)

    def issue_server(
        self, hosts: Sequence[str], *, days: int | None = None, if_needed: bool = False
    ) -> CertificateFiles:
        """Issue a certificate for a server that is reached by these DNS names and IP addresses.

        Args:
            hosts: at least one; the files are named after the first.
            days: how long it is valid.
            if_needed: keep the present one if it is good.

        Raises:
            AccessError: a host is none, or the authority is missing or expires before.
            AccessFileError: the access file is missing or has errors.
            OSError: a file cannot be written.
        """
        names = [host_name(host) for host in hosts]
        if len(set(names)) < len(names):
            raise AccessError("a host is given twice; each can be given once")
        with access_lock(self.folder):
            document = read_document(self.path)
            authority = CertificateAuthority.load(self.folder)
            certificate, key = self._files("server", hosts[0])
            if if_needed and is_current(certificate, key, names=names, ca=authority.certificate):
                entry = _current_entry(document, certificate)
                if entry is not None:
                    return _files_of(entry, certificate, key, issued=False)
            now = _now()
            expires_at = authority.expiry(days, default=SERVER_DAYS, now=now)
            issued = authority.issue_server(hosts, now=now, expires_at=expires_at)
            entry = self._certificate_entry(issued, kind="server", name=hosts[0])
            write_document(
                self.path,
                msgspec.structs.replace(document, certificates=(*document.certificates, entry)),
            )
            _write_pair(certificate, key, issued)
            return _files_of(entry, certificate, key)

    def issue_agents(
        self, requests: Sequence[AgentRequest], *, days: int | None = None, if_needed: bool = False
    ) -> list[CertificateFiles]:
        """Issue a certificate for each agent, and grant it what it asks for: all of them, or none.

        An agent that has one gets another; the earlier one stays valid until it expires or is revoked.

        Args:
            requests: one for each agent.
            days: how long they are valid.
            if_needed: keep the present ones that are good; grants are replaced in any case.

        Raises:
            AccessError: a request breaks a rule, or the authority is missing or expires before.
            AccessFileError: the access file is missing or has errors.
            OSError: a file cannot be written.
        """
        with access_lock(self.folder):
            document = read_document(self.path)
            authority = CertificateAuthority.load(self.folder)
            authority.require_trust_domain(document.trust_domain)
            now = _now()
            expires_at = authority.expiry(days, default=AGENT_DAYS, now=now)
            agents = {entry.agent: entry for entry in document.agents}
            former = {entry.name: entry.tenant for entry in document.certificates if entry.kind == "agent"}
            by_serial = {entry.serial: entry for entry in document.certificates}
            seen: set[str] = set()
            new: list[tuple[CertificateEntry, Issued]] = []
            files: list[CertificateFiles] = []
            for request in requests:
                if request.agent in seen:
                    raise AccessError(f"the agent {request.agent} is given twice; each can be given once")
                seen.add(request.agent)
                agents[request.agent] = self._rules.grant(
                    request, present=agents.get(request.agent), former=former
                )
                identity = AgentIdentity(
                    trust_domain=document.trust_domain, tenant=request.tenant, agent=request.agent
                )
                certificate, key = self._files("agents", request.agent)
                present = by_serial.get(certificate_serial(certificate)) if if_needed else None
                if (
                    present is not None
                    and present.revoked_at is None
                    and is_current(certificate, key, names=[agent_name(identity)], ca=authority.certificate)
                ):
                    files.append(_files_of(present, certificate, key, issued=False))
                    continue
                issued = authority.issue_agent(identity, now=now, expires_at=expires_at)
                entry = self._certificate_entry(
                    issued, kind="agent", name=request.agent, tenant=request.tenant
                )
                new.append((entry, issued))
                files.append(_files_of(entry, certificate, key))
            changed = msgspec.structs.replace(
                document,
                agents=tuple(agents.values()),
                certificates=(*document.certificates, *(entry for entry, _ in new)),
            )
            if changed != document:
                write_document(self.path, changed)
            for entry, issued in new:
                _write_pair(*self._files("agents", entry.name), issued)
            return files

    def revoke(self, what: str) -> list[CertificateEntry]:
        """Revoke one certificate, or all of an agent's and its grant; return those that were not revoked.

        Args:
            what: the serial number in hex, or the agent.

        Raises:
            AccessError: neither an agent nor a certificate has this name.
            AccessFileError: the access file is missing or has errors.
            OSError: the access file cannot be written.
        """
        serial = what.lower().replace(":", "").lstrip("0")
        with access_lock(self.folder):
            document = read_document(self.path)
            known = [entry for entry in document.certificates if entry.serial == serial]
            agents = document.agents
            if not known:
                known = [
                    entry for entry in document.certificates if entry.kind == "agent" and entry.name == what
                ]
                agents = tuple(entry for entry in agents if entry.agent != what)
                if not known and len(agents) == len(document.agents):
                    raise AccessError(
                        f"no agent and no certificate is {preview(what)}; "
                        "python -m trioder.access list has all"
                    )
            revoke = partial(msgspec.structs.replace, revoked_at=_text(_now()), revoked_by=self._user)
            revoked = {entry.serial: revoke(entry) for entry in known if entry.revoked_at is None}
            certificates = tuple(revoked.get(entry.serial, entry) for entry in document.certificates)
            write_document(
                self.path, msgspec.structs.replace(document, agents=agents, certificates=certificates)
            )
            return list(revoked.values())

    def create_token(
        self,
        name: str,
        *,
        role: Role,
        tenant: str,
        site_ids: Sequence[str] = (),
        expires_days: int | None = None,
    ) -> str:
        """Return a new token; only its digest is kept.

        Args:
            name: of no other token that can still be used.
            role: what it may do.
            tenant: whose sites it sees; `ALL_TENANTS` for all.
            site_ids: of these, the only ones; none for all of the tenant's.
            expires_days: how long it is valid; None for ever.

        Raises:
            AccessError: a value breaks a rule.
            AccessFileError: the access file is missing or has errors.
            OSError: the access file cannot be written.
        """
        try:
            valid_name("the token's name", name)
        except TextError as error:
            raise AccessError(str(error)) from None
        if tenant != ALL_TENANTS and not is_tenant(tenant):
            raise AccessError(f"the tenant is {preview(tenant)}; it must be {TENANT_RULE}, or * for all")
        self._rules.check_ids(tenant, site_ids)
        secret = TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
        now = _now()
        entry = TokenEntry(
            name=name,
            sha256=token_sha256(secret),
            role=role,
            tenant=tenant,
            site_ids=tuple(site_ids) or None,
            created_at=_text(now),
            created_by=self._user,
            expires_at=None if expires_days is None else _text(now + timedelta(days=expires_days)),
        )

        def add(document: AccessDocument) -> AccessDocument:
            for token in document.tokens:
                if token.name == name and token_state(token) == "valid":
                    raise AccessError(
                        f"the token {name} exists; use another name, or revoke it first: "
                        f"python -m trioder.access token revoke {name}"
                    )
            others = (token for token in document.tokens if token.name != name)
            return msgspec.structs.replace(document, tokens=(*others, entry))

        update_document(self.path, add)
        return secret

    def revoke_token(self, name: str) -> None:
        """Revoke a token; it stays on file, as revoked.

        Raises:
            AccessError: there is none of this name.
            AccessFileError: the access file is missing or has errors.
            OSError: the access file cannot be written.
        """

        def revoke(document: AccessDocument) -> AccessDocument:
            if all(token.name != name for token in document.tokens):
                raise AccessError(
                    f"no token is named {preview(name)}; python -m trioder.access token list has all"
                )
            revoked = partial(msgspec.structs.replace, revoked_at=_text(_now()), revoked_by=self._user)
            tokens = tuple(
                revoked(token) if token.name == name and token.revoked_at is None else token
                for token in document.tokens
            )
            return msgspec.structs.replace(document, tokens=tokens)

        update_document(self.path, revoke)

    def _files(self, kind: str, name: str) -> tuple[Path, Path]:
        stem = self.folder / kind / file_stem(name)
        return stem.with_name(stem.name + ".crt"), stem.with_name(stem.name + ".key")

    def _certificate_entry(
        self, issued: Issued, *, kind: str, name: str, tenant: str = ""
    ) -> CertificateEntry:
        return CertificateEntry(
            serial=issued.serial,
            kind="agent" if kind == "agent" else "server",
            name=name,
            tenant=tenant,
            issued_at=_text(issued.issued_at),
            expires_at=_text(issued.expires_at),
            issued_by=self._user,
        )


def _current_entry(document: AccessDocument, certificate: Path) -> CertificateEntry | None:
    serial = certificate_serial(certificate)
    return next(
        (entry for entry in document.certificates if entry.serial == serial and entry.revoked_at is None),
        None,
    )


def _files_of(
    entry: CertificateEntry, certificate: Path, key: Path, *, issued: bool = True
) -> CertificateFiles:
    return CertificateFiles(
        name=entry.name, certificate=certificate, key=key, expires_at=entry.expires_at, issued=issued
    )


def _write_pair(certificate: Path, key: Path, issued: Issued) -> None:
    certificate.parent.mkdir(mode=0o700, exist_ok=True)
    replace_pair(key, issued.key, certificate, issued.certificate)


def _now() -> datetime:
    return datetime.now(UTC)


def _text(moment: datetime) -> str:
    return format_ms(int(moment.timestamp() * 1000))
