"""Access files for tests."""

from pathlib import Path
from typing import Any

import msgspec

from trioder.access.document import AccessDocument, AgentEntry, CertificateEntry, TokenEntry
from trioder.access.table import token_sha256

SITE = "00000000-0000-4000-8000-0000000000aa"
OTHER_SITE = "00000000-0000-4000-8000-0000000000bb"
ASSET = "00000000-0000-4000-8000-000000000001"
OTHER_ASSET = "00000000-0000-4000-8000-000000000002"
EARLIER = "2026-01-01T00:00:00.000Z"
LATER = "2027-01-01T00:00:00.000Z"
SECRET = "trd_secret"


def agent_entry(**values: Any) -> AgentEntry:
    return AgentEntry(**({"tenant": "alpha", "agent": "a1", "site_ids": (SITE,)} | values))


def certificate_entry(**values: Any) -> CertificateEntry:
    given = {"serial": "abc1", "kind": "agent", "name": "a1", "tenant": "alpha"}
    return CertificateEntry(**(given | {"issued_at": EARLIER, "expires_at": LATER} | values))


def token_entry(**values: Any) -> TokenEntry:
    given = {"name": "console", "sha256": token_sha256(SECRET), "role": "viewer", "tenant": "alpha"}
    return TokenEntry(**(given | {"created_at": EARLIER, "created_by": "ann"} | values))


def document_of(*entries: AgentEntry | CertificateEntry | TokenEntry) -> AccessDocument:
    return AccessDocument(
        trust_domain="example.org",
        agents=tuple(entry for entry in entries if isinstance(entry, AgentEntry)),
        certificates=tuple(entry for entry in entries if isinstance(entry, CertificateEntry)),
        tokens=tuple(entry for entry in entries if isinstance(entry, TokenEntry)),
    )


def write(path: Path, document: AccessDocument) -> None:
    path.write_bytes(msgspec.json.encode(document))
