"""What `list` and `token list` print: the entries of the access file with their state, as JSON or a table."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from cryptography import x509

from trioder.access.document import AccessDocument, CertificateEntry, TokenEntry
from trioder.access.identity import serial_text
from trioder.process.rfc3339 import format_ms, parse_ms

_SOON = timedelta(days=30)


def format_entries(document: AccessDocument, ca: x509.Certificate, *, as_json: bool) -> str:
    """Return the CA, the agents and what they are granted, and all certificates."""
    expires_at = format_ms(int(ca.not_valid_after_utc.timestamp()) * 1000)
    if as_json:
        return _json(
            {
                "trust_domain": document.trust_domain,
                "ca": {"serial": serial_text(ca.serial_number), "expires_at": expires_at},
                "agents": [msgspec.to_builtins(entry) for entry in document.agents],
                "certificates": [
                    {**msgspec.to_builtins(entry), "state": certificate_state(entry)}
                    for entry in document.certificates
                ],
            }
        )
    agents = _table(
        ("AGENT", "TENANT", "SITES", "ASSETS"),
        [
            (entry.agent, entry.tenant, str(len(entry.site_ids)), str(len(entry.asset_ids)))
            for entry in document.agents
        ],
    )
    certificates = _table(
        ("SERIAL", "KIND", "NAME", "TENANT", "EXPIRES", "STATE"),
        [
            (entry.serial, entry.kind, entry.name, entry.tenant, entry.expires_at, certificate_state(entry))
            for entry in document.certificates
        ],
    )
    header = f"trust domain {document.trust_domain}; the CA expires at {expires_at}"
    return f"{header}\n\n{agents}\n\n{certificates}"


def format_tokens(tokens: Sequence[TokenEntry], *, as_json: bool) -> str:
    """Return all tokens, without their digests."""
    if as_json:
        return _json([_token_values(entry) for entry in tokens])
    return _table(
        ("NAME", "ROLE", "TENANT", "SITES", "CREATED", "BY", "EXPIRES", "STATE"),
        [
            (
                entry.name,
                entry.role,
                entry.tenant,
                "all" if entry.site_ids is None else str(len(entry.site_ids)),
                entry.created_at,
                entry.created_by,
                entry.expires_at or "never",
                token_state(entry),
            )
            for entry in tokens
        ],
    )


def certificate_state(entry: CertificateEntry) -> str:
    """Return `valid`, `expires soon`, `expired` or `revoked`."""
    if entry.revoked_at is not None:
        return "revoked"
    return _state(entry.expires_at)


def token_state(entry: TokenEntry) -> str:
    """Return `valid`, `expired` or `revoked`."""
    if entry.revoked_at is not None:
        return "revoked"
    expired = entry.expires_at is not None and _state(entry.expires_at) == "expired"
    return "expired" if expired else "valid"


def _state(expires_at: str) -> str:
    left = timedelta(milliseconds=parse_ms(expires_at)) - timedelta(seconds=datetime.now(UTC).timestamp())
    if left <= timedelta(0):
        return "expired"
    return "expires soon" if left < _SOON else "valid"


def _token_values(entry: TokenEntry) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(entry)
    del values["sha256"]
    return {**values, "state": token_state(entry)}


def _json(content: object) -> str:
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode()


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    )
