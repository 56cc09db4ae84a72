"""The access file in memory: who may do what, and what a newer file changes."""

import msgspec
import pytest

from tests.unit.access.documents import (
    ASSET,
    EARLIER,
    LATER,
    OTHER_ASSET,
    OTHER_SITE,
    SECRET,
    SITE,
    agent_entry,
    certificate_entry,
    document_of,
    token_entry,
)
from trioder.access.document import AccessDocument
from trioder.access.identity import AgentIdentity
from trioder.access.table import AccessChange, AccessTable, TokenError, token_sha256
from trioder.domain.access import Principal, Scope
from trioder.process.rfc3339 import parse_ms

A1 = AgentIdentity(trust_domain="example.org", tenant="alpha", agent="a1")
NOW_MS = parse_ms(EARLIER)


def test_an_agent_speaks_for_its_sites_and_its_assets() -> None:
    grant = AccessTable(document_of(agent_entry(asset_ids=(OTHER_ASSET,)))).grant_of(A1)
    assert grant is not None
    assert grant.tenant == "alpha"
    assert grant.covers(asset_id=ASSET, site_id=SITE)
    assert grant.covers(asset_id=OTHER_ASSET, site_id=OTHER_SITE)
    assert not grant.covers(asset_id=ASSET, site_id=OTHER_SITE)


@pytest.mark.parametrize(
    "identity",
    [
        AgentIdentity(trust_domain="example.com", tenant="alpha", agent="a1"),
        AgentIdentity(trust_domain="example.org", tenant="beta", agent="a1"),
        AgentIdentity(trust_domain="example.org", tenant="alpha", agent="a2"),
    ],
)
def test_another_identity_has_no_grant(identity: AgentIdentity) -> None:
    assert AccessTable(document_of(agent_entry())).grant_of(identity) is None


def test_a_certificate_is_revoked_by_its_serial() -> None:
    table = AccessTable(
        document_of(certificate_entry(), certificate_entry(serial="abc2", revoked_at=EARLIER))
    )
    assert [table.is_revoked(serial) for serial in ("abc1", "abc2", "abc3")] == [False, True, False]


def test_a_token_authenticates_its_principal() -> None:
    table = AccessTable(document_of(token_entry(role="operator", site_ids=(SITE,))))
    assert table.authenticate(SECRET, now_ms=NOW_MS) == Principal(
        name="console",
        kind="token",
        role="operator",
        scope=Scope(tenant="alpha", site_ids=frozenset({SITE})),
    )


def test_a_token_without_sites_sees_all_of_its_tenant() -> None:
    table = AccessTable(document_of(token_entry(tenant="*")))
    assert table.authenticate(SECRET, now_ms=NOW_MS).scope == Scope(tenant="*", site_ids=None)


@pytest.mark.parametrize("secret", ["", "trd_", SECRET + "x", SECRET.upper(), token_sha256(SECRET), "\udcff"])
def test_an_unknown_token_is_refused(secret: str) -> None:
    with pytest.raises(TokenError, match="the token is unknown"):
        AccessTable(document_of(token_entry())).authenticate(secret, now_ms=NOW_MS)


def test_a_token_is_valid_until_the_millisecond_of_its_expiry() -> None:
    table = AccessTable(document_of(token_entry(expires_at=LATER)))
    table.authenticate(SECRET, now_ms=parse_ms(LATER) - 1)
    with pytest.raises(TokenError, match=f"the token console expired at {LATER}"):
        table.authenticate(SECRET, now_ms=parse_ms(LATER))


def test_a_revoked_token_is_refused() -> None:
    table = AccessTable(document_of(token_entry(revoked_at=EARLIER)))
    with pytest.raises(TokenError, match=f"the token console was revoked at {EARLIER}"):
        table.authenticate(SECRET, now_ms=NOW_MS)


def test_revoking_the_last_token_does_not_end_access_control() -> None:
    assert AccessTable(document_of(token_entry(revoked_at=EARLIER))).has_tokens
    assert not AccessTable(document_of(agent_entry())).has_tokens


def test_nor_does_a_file_without_tokens() -> None:
    table = AccessTable(document_of(token_entry()))
    table.replace(document_of())
    assert table.has_tokens


def test_a_table_without_a_file_grants_nothing() -> None:
    table = AccessTable()
    assert not table.has_tokens
    assert table.grant_of(A1) is None


def test_a_newer_file_counts_at_once() -> None:
    table = AccessTable(document_of(agent_entry(), certificate_entry(), token_entry()))
    table.replace(document_of(certificate_entry(revoked_at=EARLIER)))
    assert table.grant_of(A1) is None
    assert table.is_revoked("abc1")
    with pytest.raises(TokenError):
        table.authenticate(SECRET, now_ms=NOW_MS)


AGENT = agent_entry(granted_by="ann")
CERTIFICATE = certificate_entry(issued_by="ann")
TOKEN = token_entry()


@pytest.mark.parametrize(
    ("before", "after", "action", "target", "by"),
    [
        (document_of(), document_of(AGENT), "agent.grant", "a1", "ann"),
        (document_of(AGENT), document_of(), "agent.remove", "a1", ""),
        (
            document_of(AGENT),
            document_of(agent_entry(site_ids=(OTHER_SITE,), granted_by="bob")),
            "agent.change",
            "a1",
            "bob",
        ),
        (document_of(), document_of(CERTIFICATE), "certificate.issue", "agent/a1/abc1", "ann"),
        (
            document_of(CERTIFICATE),
            document_of(certificate_entry(issued_by="ann", revoked_at=EARLIER, revoked_by="bob")),
            "certificate.revoke",
            "agent/a1/abc1",
            "bob",
        ),
        (document_of(CERTIFICATE), document_of(), "certificate.remove", "agent/a1/abc1", ""),
        (document_of(), document_of(TOKEN), "token.create", "console", "ann"),
        (
            document_of(TOKEN),
            document_of(token_entry(revoked_at=EARLIER, revoked_by="bob")),
            "token.revoke",
            "console",
            "bob",
        ),
        (document_of(TOKEN), document_of(token_entry(role="admin")), "token.change", "console", ""),
        (document_of(TOKEN), document_of(), "token.remove", "console", ""),
        (
            document_of(token_entry(revoked_at=EARLIER)),
            document_of(token_entry(sha256="0" * 64, created_by="bob")),
            "token.create",
            "console",
            "bob",
        ),
    ],
)
def test_each_change_is_returned_for_the_audit(
    before: AccessDocument, after: AccessDocument, action: str, target: str, by: str
) -> None:
    assert AccessTable(before).replace(after) == [
        AccessChange(action=action, target=target, tenant="alpha", by=by)
    ]


def test_a_renewal_by_another_user_changes_no_grant() -> None:
    assert AccessTable(document_of(AGENT)).replace(document_of(agent_entry(granted_by="bob"))) == []


def test_the_same_file_changes_nothing() -> None:
    document = document_of(AGENT, CERTIFICATE, TOKEN)
    assert AccessTable(document).replace(document) == []


def test_another_trust_domain_is_a_change() -> None:
    before = document_of(AGENT)
    after = msgspec.structs.replace(before, trust_domain="other.example")
    assert AccessTable(before).replace(after) == [
        AccessChange(action="trust_domain.change", target="other.example", tenant="*")
    ]
