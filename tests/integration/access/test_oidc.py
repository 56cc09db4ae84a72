"""Tokens of an OpenID Connect issuer: signatures, claims, roles, rotation of keys, an issuer that is away."""

import base64
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import trio
from joserfc.jwk import RSAKey

from tests.integration.access.issuer import NOW_MS, Issuer, new_key, open_issuer, sign
from trioder.access import oidc
from trioder.access.oidc import IssuerUnavailableError, OidcSettings, OidcVerifier
from trioder.access.table import TokenError
from trioder.domain.access import Scope

SITE = "7b1f0d6e-8a55-5c3a-9a0f-0d3f7f1f2a10"


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    with trio.fail_after(30):
        async with open_issuer() as opened:
            yield opened


def verifier_of(issuer: Issuer, **settings: Any) -> OidcVerifier:
    return OidcVerifier(OidcSettings(issuer=issuer.url, audience="trioder", **settings))


async def test_a_token_names_a_principal_with_its_role(issuer: Issuer) -> None:
    principal = await verifier_of(issuer).authenticate(issuer.token(), now_ms=NOW_MS)
    assert (principal.name, principal.kind, principal.role) == ("ana", "oidc", "viewer")
    assert principal.scope == Scope(tenant="default")


@pytest.mark.parametrize(
    ("claims", "role", "scope"),
    [
        ({"roles": ["viewer", "operator"]}, "operator", Scope(tenant="default")),
        ({"roles": "openid admin"}, "admin", Scope(tenant="default")),
        ({"tenant": "north"}, "viewer", Scope(tenant="north")),
        ({"tenant": "*"}, "viewer", Scope(tenant="*")),
        ({"sites": [SITE.upper()]}, "viewer", Scope(tenant="default", site_ids=frozenset({SITE}))),
        ({"sites": []}, "viewer", Scope(tenant="default", site_ids=frozenset())),
        ({"aud": ["other", "trioder"]}, "viewer", Scope(tenant="default")),
    ],
)
async def test_claims_give_role_tenant_and_sites(
    issuer: Issuer, claims: dict[str, Any], role: str, scope: Scope
) -> None:
    principal = await verifier_of(issuer).authenticate(issuer.token(**claims), now_ms=NOW_MS)
    assert (principal.role, principal.scope) == (role, scope)


async def test_roles_are_mapped_from_a_claim_within_an_object(issuer: Issuer) -> None:
    verifier = verifier_of(
        issuer, role_claim="realm_access.roles", roles={"operator": frozenset({"grid-operators"})}
    )
    token = issuer.token(roles=None, realm_access={"roles": ["grid-operators", "offline_access"]})
    assert (await verifier.authenticate(token, now_ms=NOW_MS)).role == "operator"
    with pytest.raises(TokenError, match=r"realm_access\.roles grants no role"):
        await verifier.authenticate(issuer.token(roles=["operator"]), now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": NOW_MS // 1000 - 61}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"exp": 253_402_300_800}, "exp is after the year 9999"),
        ({"exp": 1e306}, "exp is after the year 9999"),
        ({"nbf": NOW_MS // 1000 + 61}, "not yet valid"),
        ({"iss": "http://127.0.0.1:1"}, "iss"),
        ({"iss": None}, "iss"),
        ({"aud": "another"}, "aud"),
        ({"aud": None}, "aud"),
        ({"sub": None}, "sub"),
        ({"sub": "a\nb"}, "sub"),
        ({"sub": 7}, "sub"),
        ({"roles": None}, "no role"),
        ({"roles": ["VIEWER"]}, "no role"),
        ({"roles": {"viewer": True}}, "no role"),
        ({"tenant": "North"}, "tenant"),
        ({"tenant": ["north"]}, "tenant"),
        ({"sites": SITE}, "sites"),
        ({"sites": ["here"]}, "sites"),
    ],
)
async def test_a_token_whose_claims_do_not_fit_is_refused(
    issuer: Issuer, claims: dict[str, Any], reason: str
) -> None:
    with pytest.raises(TokenError, match=reason):
        await verifier_of(issuer).authenticate(issuer.token(**claims), now_ms=NOW_MS)


def encoded(part: bytes | dict[str, Any]) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def with_public_key_as_secret(issuer: Issuer, claims: dict[str, Any]) -> str:
    signed = f"{encoded({'alg': 'HS256', 'kid': issuer.key.kid})}.{encoded(claims)}"
    secret = issuer.key.as_pem(private=False)
    return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), 'sha256'))}"


async def test_only_the_issuers_private_key_signs(issuer: Issuer) -> None:
    verifier = verifier_of(issuer)
    claims = issuer.claims(roles=["admin"])
    whole = issuer.token()
    head, _, signature = whole.split(".")
    forged = {
        "another's key": sign(new_key("first"), claims),
        "no signature": f"{encoded({'alg': 'none'})}.{encoded(claims)}.",
        "the public key as the secret": with_public_key_as_secret(issuer, claims),
        "other claims": f"{head}.{encoded(claims)}.{signature}",
        "cut": whole[:-1],
        "no token": "a.b.c",
        "an empty one": "..",
        "not ASCII": "ä.ö.ü",
        "a surrogate": "\ud800.b.c",
        "long": "a" * 20_000,
    }
    accepted = []
    for name, token in forged.items():
        with suppress(TokenError):
            await verifier.authenticate(token, now_ms=NOW_MS)
            accepted.append(name)
    assert accepted == []
    assert (await verifier.authenticate(whole, now_ms=NOW_MS)).role == "viewer"


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"ES256","crit":5}',
        b'{"alg":"ES256","crit":["b64"],"b64":false}',
        b'{"alg":["ES256"]}',
        b'{"alg":"ES256","kid":[]}',
        b'{"alg":"ES256","x":' + b"[" * 10_000,
        b"[]",
        b"\xff",
    ],
    ids=range(7),
)
async def test_whatever_the_header_of_a_forged_token_is_it_is_refused(issuer: Issuer, header: bytes) -> None:
    with pytest.raises(TokenError, match="not by a key of the issuer"):
        await verifier_of(issuer).authenticate(f"{encoded(header)}.{encoded({})}.AAAA", now_ms=NOW_MS)


async def test_a_rotated_key_is_fetched_once_it_is_used(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = verifier_of(issuer)
    await verifier.authenticate(issuer.token(), now_ms=NOW_MS)
    issuer.key = RSAKey.generate_key(2048, {"kid": "second", "use": "sig"})
    issuer.publish(issuer.key)
    token = sign(issuer.key, issuer.claims(sub="bo"), algorithm="RS256")
    with pytest.raises(TokenError):
        await verifier.authenticate(token, now_ms=NOW_MS)  # the keys were fetched a moment ago
    assert issuer.fetches == 1
    monkeypatch.setattr(oidc, "_KEYS_AT_LEAST_S", 0.0)
    assert (await verifier.authenticate(token, now_ms=NOW_MS)).name == "bo"
    assert issuer.fetches == 2


async def test_a_flood_of_forged_tokens_fetches_the_keys_once(issuer: Issuer) -> None:
    verifier = verifier_of(issuer)
    refused = 0

    async def try_one(number: int) -> None:
        nonlocal refused
        with pytest.raises(TokenError):
            await verifier.authenticate(sign(new_key(f"key {number}"), issuer.claims()), now_ms=NOW_MS)
        refused += 1

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(try_one, number)
    assert (refused, issuer.fetches) == (20, 1)


async def test_without_the_issuer_known_keys_are_used_and_unknown_ones_cannot_be_judged(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_reached, reached = verifier_of(issuer), verifier_of(issuer)
    await reached.authenticate(issuer.token(), now_ms=NOW_MS)
    issuer.away = True
    with pytest.raises(IssuerUnavailableError, match="cannot be fetched"):
        await never_reached.authenticate(issuer.token(), now_ms=NOW_MS)
    monkeypatch.setattr(oidc, "_KEYS_FRESH_S", 0.0)
    monkeypatch.setattr(oidc, "_KEYS_AT_LEAST_S", 0.0)
    assert (await reached.authenticate(issuer.token(sub="bo"), now_ms=NOW_MS)).name == "bo"
    monkeypatch.setattr(oidc, "_KEYS_AT_MOST_S", 0.0)
    with pytest.raises(IssuerUnavailableError):
        await reached.authenticate(issuer.token(sub="cy"), now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/.well-known/openid-configuration", None),
        ("/.well-known/openid-configuration", b"<html>"),
        ("/.well-known/openid-configuration", b"[]"),
        ("/.well-known/openid-configuration", {"issuer": "https://evil.example", "jwks_uri": "x"}),
        ("/keys", {"keys": []}),
        ("/keys", {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}),
        ("/keys", {"keys": [{"kty": "EC", "crv": "P-256"}]}),
        ("/keys", {}),
        ("/keys", b" " * 2_000_000),
    ],
)
async def test_an_issuer_that_answers_wrongly_is_unavailable(
    issuer: Issuer, path: str, answer: object
) -> None:
    issuer.answers[path] = answer
    with pytest.raises(IssuerUnavailableError):
        await verifier_of(issuer).authenticate(issuer.token(), now_ms=NOW_MS)


async def test_keys_are_not_fetched_in_the_clear_from_elsewhere(issuer: Issuer) -> None:
    issuer.answers["/.well-known/openid-configuration"]["jwks_uri"] = "http://keys.example/keys"
    with pytest.raises(IssuerUnavailableError, match="https"):
        await verifier_of(issuer).authenticate(issuer.token(), now_ms=NOW_MS)


async def test_a_verified_token_ends_with_its_expiry(issuer: Issuer) -> None:
    verifier = verifier_of(issuer)
    token = issuer.token(exp=NOW_MS // 1000 + 5)
    await verifier.authenticate(token, now_ms=NOW_MS)
    with pytest.raises(TokenError, match="expired"):
        await verifier.authenticate(token, now_ms=NOW_MS + 66_000)


@pytest.mark.parametrize(
    "url", ["http://issuer.example", "ftp://127.0.0.1", "issuer.example", "https://", "", "http://[::2]:80"]
)
def test_an_issuer_is_reached_over_tls(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        OidcSettings(issuer=url, audience="trioder")


def test_an_audience_must_be_set() -> None:
    with pytest.raises(ValueError, match="audience"):
        OidcSettings(issuer="https://issuer.example", audience="")
