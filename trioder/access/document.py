"""The access file: agents and what they may speak for, certificates, tokens; read, checked, and replaced.

Private keys and tokens are not in it: of a token it has the SHA-256. `trioder.access.table` answers from it.
"""

import fcntl
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec

from trioder.access.identity import AGENT_RULE, TRUST_DOMAIN_RULE, is_agent, is_trust_domain
from trioder.access.private_files import replace_file
from trioder.domain.access import ALL_TENANTS, TENANT_RULE, Role, is_tenant
from trioder.domain.text import CANONICAL_UUID, TextError, preview, valid_name
from trioder.process.rfc3339 import parse_ms

DEFAULT_TRUST_DOMAIN: Final = "trioder.internal"
ACCESS_FILE: Final = "access.json"
VERSION: Final = 1
LOCK_FILE: Final = ".lock"
_SHA256 = re.compile("[0-9a-f]{64}")
_SERIAL = re.compile("[1-9a-f][0-9a-f]*")
_UUID_RULE = "a UUID in lower case, such as 77558995-c1ce-598e-8292-221ed23b6a1d"


class AccessFileError(ValueError):
    """An access file that cannot be used; the text names the file, the field, the value and the rule."""


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the file."""


class AgentEntry(_Entry, frozen=True, kw_only=True):
    """What an agent may speak for.

    Attributes:
        tenant: whose assets.
        agent: its agent_id; unique in a headend.
        site_ids: it may speak for all assets of these sites.
        asset_ids: and for these.
        granted_by: who ran the command.
    """

    tenant: str
    agent: str
    site_ids: tuple[str, ...] = ()
    asset_ids: tuple[str, ...] = ()
    granted_by: str = ""


class CertificateEntry(_Entry, frozen=True, kw_only=True):
    """An issued certificate. Times are RFC 3339, UTC.

    Attributes:
        serial: lower-case hex without leading zeros.
        name: the agent, or the first host of a server.
        tenant: of an agent; empty for a server.
        revoked_at: None while it is not.
        issued_by: who ran the command.
        revoked_by: who ran the command.
    """

    serial: str
    kind: Literal["server", "agent"]
    name: str
    tenant: str = ""
    issued_at: str
    expires_at: str
    revoked_at: str | None = None
    issued_by: str = ""
    revoked_by: str = ""


class TokenEntry(_Entry, frozen=True, kw_only=True):
    """A token for REST. Times are RFC 3339, UTC.

    A revoked one stays on file, so that revoking the last does not end access control.

    Attributes:
        name: unique.
        sha256: of the token, lower-case hex.
        tenant: whose sites; `ALL_TENANTS` for all.
        site_ids: of these, the only ones; None for all of the tenant's.
        created_by: who ran the command.
        expires_at: None for never.
        revoked_at: None while it is not.
        revoked_by: who ran the command.
    """

    name: str
    sha256: str
    role: Role
    tenant: str
    site_ids: tuple[str, ...] | None = None
    created_at: str
    created_by: str = ""
    expires_at: str | None = None
    revoked_at: str | None = None
    revoked_by: str = ""


class AccessDocument(_Entry, frozen=True, kw_only=True):
    """The access file as a whole.

    Attributes:
        trust_domain: of agents' identities.
    """

    version: int = VERSION
    trust_domain: str = DEFAULT_TRUST_DOMAIN
    agents: tuple[AgentEntry, ...] = ()
    certificates: tuple[CertificateEntry, ...] = ()
    tokens: tuple[TokenEntry, ...] = ()


_DECODER = msgspec.json.Decoder(AccessDocument)


def read_document(path: Path) -> AccessDocument:
    """Return the checked access file.

    Raises:
        AccessFileError: it is missing, unreadable, or breaks a rule.
    """
    try:
        # A named pipe would be read for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise AccessFileError(f"{path} cannot be read: it is not a regular file")
        data = path.read_bytes()
    except FileNotFoundError:
        raise AccessFileError(
            f"{path} does not exist; run python -m trioder.access init, which makes it"
        ) from None
    except OSError as error:
        raise AccessFileError(f"{path} cannot be read: {error.strerror}") from None
    try:
        document = _DECODER.decode(data)
        check_document(document)
        _check_keys(data)
    except (msgspec.DecodeError, UnicodeDecodeError, _RuleError) as error:
        # msgspec gives the place, such as `$.tokens[0].role`.
        raise AccessFileError(f"{path}: {error}") from None
    return document


def update_document(path: Path, change: Callable[[AccessDocument], AccessDocument]) -> AccessDocument:
    """Replace the access file by what `change` makes of it; return that.

    One process at a time; others wait. The file is replaced as a whole or not at all, also if the machine
    loses its power. What `change` raises leaves the file as it is.

    Raises:
        AccessFileError: the file cannot be read or breaks a rule, or the changed document does.
    """
    with access_lock(path.parent):
        document = read_document(path)
        changed = change(document)
        if changed != document:
            write_document(path, changed)
        return changed


def write_document(path: Path, document: AccessDocument) -> None:
    """Write the access file; the caller holds the lock.

    Raises:
        AccessFileError: the document breaks a rule.
        OSError: it cannot be written.
    """
    try:
        check_document(document)
    except _RuleError as error:
        raise AccessFileError(f"{path}: {error}") from None
    replace_file(path, msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


@contextmanager
def access_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of an access directory; waits while another process has it.

    Raises:
        AccessFileError: the directory is missing or cannot be written to.
    """
    try:
        lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise AccessFileError(
            f"{folder} does not exist; run python -m trioder.access init, which makes it"
        ) from None
    except OSError as error:
        raise AccessFileError(f"{folder} cannot be written to: {error.strerror}") from None
    try:
        # The system releases it with the last descriptor, also of a killed process.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _check_keys(data: bytes) -> None:
    """Check what the decoder lets pass: a key given twice, of which it takes the last, and no version.

    An object without one is rather another file, or one that was emptied, than an access file.
    """

    def names(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict.fromkeys(name for name, _ in pairs)
        if len(found) < len(pairs):
            twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
            raise _RuleError(f"the key {preview(twice)} is given more than once in one object")
        return found

    if "version" not in json.loads(data, object_pairs_hook=names):
        raise _RuleError(f"version is missing; it must be {VERSION}")


class _RuleError(ValueError):
    """A rule that is broken: the field, the value and the rule."""


def check_document(document: AccessDocument) -> None:
    """Check what the types do not.

    Raises:
        ValueError: the text names the field, the value and the rule.
    """
    if document.version != VERSION:
        raise _RuleError(f"version is {document.version}; this version of trioder knows {VERSION}")
    _require(is_trust_domain(document.trust_domain), "trust_domain", document.trust_domain, TRUST_DOMAIN_RULE)
    for number, agent in enumerate(document.agents):
        _check_agent(f"agents[{number}]", agent)
    for number, certificate in enumerate(document.certificates):
        _check_certificate(f"certificates[{number}]", certificate)
    for number, token in enumerate(document.tokens):
        _check_token(f"tokens[{number}]", token)
    _check_unique("agents", "agent", [agent.agent for agent in document.agents])
    _check_unique("certificates", "serial", [certificate.serial for certificate in document.certificates])
    _check_unique("tokens", "name", [token.name for token in document.tokens])
    _check_unique("tokens", "sha256", [token.sha256 for token in document.tokens])


def _check_agent(place: str, entry: AgentEntry) -> None:
    _require(is_tenant(entry.tenant), f"{place}.tenant", entry.tenant, TENANT_RULE)
    _require(is_agent(entry.agent), f"{place}.agent", entry.agent, AGENT_RULE)
    _check_ids(f"{place}.site_ids", entry.site_ids)
    _check_ids(f"{place}.asset_ids", entry.asset_ids)


def _check_certificate(place: str, entry: CertificateEntry) -> None:
    _require(
        _SERIAL.fullmatch(entry.serial) is not None,
        f"{place}.serial",
        entry.serial,
        "lower-case hex without leading zeros",
    )
    if entry.kind == "agent":
        _require(is_tenant(entry.tenant), f"{place}.tenant", entry.tenant, TENANT_RULE)
        _require(is_agent(entry.name), f"{place}.name", entry.name, AGENT_RULE)
    _check_name(f"{place}.name", entry.name)
    _check_times(place, issued_at=entry.issued_at, expires_at=entry.expires_at, revoked_at=entry.revoked_at)


def _check_token(place: str, entry: TokenEntry) -> None:
    _check_name(f"{place}.name", entry.name)
    _require(
        _SHA256.fullmatch(entry.sha256) is not None,
        f"{place}.sha256",
        entry.sha256,
        "64 lower-case hex digits",
    )
    _require(
        entry.tenant == ALL_TENANTS or is_tenant(entry.tenant),
        f"{place}.tenant",
        entry.tenant,
        f"{TENANT_RULE}, or * for all",
    )
    _check_ids(f"{place}.site_ids", entry.site_ids or ())
    _check_times(place, created_at=entry.created_at, expires_at=entry.expires_at, revoked_at=entry.revoked_at)


def _check_ids(field: str, ids: Sequence[str]) -> None:
    for number, value in enumerate(ids):
        # Formats the field of a faulty one only: there are many.
        if CANONICAL_UUID.fullmatch(value) is None:
            _require(False, f"{field}[{number}]", value, _UUID_RULE)


def _check_times(place: str, **times: str | None) -> None:
    for field, text in times.items():
        if text is None:
            continue
        try:
            parse_ms(text)
        except ValueError:
            _require(False, f"{place}.{field}", text, "an RFC 3339 time such as 2026-01-02T03:04:05.678Z")


def _check_name(field: str, value: str) -> None:
    try:
        valid_name(field, value)
    except TextError as error:
        raise _RuleError(str(error)) from None


def _check_unique(listing: str, field: str, values: Iterable[str]) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            raise _RuleError(f"{listing} has the {field} {preview(value)} {count} times; it must be unique")


def _require(valid: bool, field: str, value: str, rule: str) -> None:
    if not valid:
        raise _RuleError(f"{field} is {preview(value)}; it must be {rule}")
