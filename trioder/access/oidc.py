"""JSON Web Tokens of an OpenID Connect issuer: signature, claims, and the principal that they name.

The issuer's keys are found by OpenID Connect Discovery 1.0, fetched when they are first needed, and cached.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import msgspec
import structlog
import trio
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from trioder.access.table import TokenError, TokenUnverifiedError
from trioder.domain.access import (
    ALL_TENANTS,
    DEFAULT_TENANT,
    ROLES,
    TENANT_RULE,
    Principal,
    Role,
    Scope,
    is_tenant,
)
from trioder.domain.text import CANONICAL_UUID, MAX_NAME_LENGTH, preview

log = structlog.stdlib.get_logger(__name__)

# Signatures by the issuer's private key only: a public key must never serve as the secret of an HMAC.
_ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512"),
    *("PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512"),
    *("Ed25519", "EdDSA"),
)
_CLOCK_LEEWAY_S = 60
# The first time that cannot be written (RFC 3339).
_YEAR_10000_S: Final = 253_402_300_800
_FETCH_WITHIN_S = 5.0
_MAX_FETCH_BYTES = 1024 * 1024
# Keys are fetched again after this, and earlier for a token whose key is unknown, but not more often than
# once in _KEYS_AT_LEAST_S: anybody can send tokens with unknown keys. While the issuer cannot be reached,
# the keys are used for up to _KEYS_AT_MOST_S.
_KEYS_FRESH_S = 600.0
_KEYS_AT_LEAST_S = 10.0
_KEYS_AT_MOST_S = 24 * 3600.0
# A valid token is not verified again within this time (0.3 ms each).
_VERIFIED_S = 30.0
_MAX_VERIFIED = 10_000
_MAX_TOKEN_LENGTH = 16 * 1024


class IssuerUnavailableError(TokenUnverifiedError):
    """The issuer's keys cannot be fetched, so that its tokens cannot be verified; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """The issuer that is trusted, and what its claims mean here.

    Attributes:
        issuer: its URL, https unless it is on loopback; equal to the claim `iss`.
        audience: must be among the claim `aud`.
        role_claim: the claim with roles or groups, a text or a list of texts; a dot descends into an object.
        roles: of each role, the values of that claim which grant it.
        tenant_claim: the claim with the tenant. A token without it has `DEFAULT_TENANT`.
        sites_claim: the claim with a list of site ids. A token without it has all sites of its tenant.

    Raises:
        ValueError: the issuer's URL cannot be used.
    """

    issuer: str
    audience: str
    role_claim: str = "roles"
    roles: Mapping[Role, frozenset[str]] = field(
        default_factory=lambda: {role: frozenset({role}) for role in ROLES}
    )
    tenant_claim: str = "tenant"
    sites_claim: str = "sites"

    def __post_init__(self) -> None:
        if not self.audience:
            raise ValueError(
                "the audience is empty; without it tokens for other services would be valid here"
            )
        _check_url("the issuer", self.issuer)


class OidcVerifier:
    """Verifies the issuer's tokens."""

    def __init__(self, settings: OidcSettings) -> None:
        self._settings = settings
        self._keys = KeySet([])
        self._fetched_s = -float("inf")
        self._attempted_s = -float("inf")
        self._failure = "not fetched yet"
        self._fetching = trio.Lock()
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    async def authenticate(self, token: str, *, now_ms: int) -> Principal:
        """Return the principal of a token.

        Args:
            token: a JSON Web Token in compact form.
            now_ms: Unix time, for its validity.

        Raises:
            TokenError: it is not valid, or grants no role.
            IssuerUnavailableError: it cannot be verified now.
        """
        if len(token) > _MAX_TOKEN_LENGTH:
            raise TokenError(f"the token has {len(token)} characters; at most {_MAX_TOKEN_LENGTH} are read")
        known = self.verified(token, now_ms=now_ms)
        if known is not None:
            return known
        claims = await self._verify(token)
        self._check_claims(claims, now_ms)
        principal = self._principal_of(claims)
        digest = _digest_of(token)
        self._verified[digest] = _Verified(
            principal=principal,
            expires_ms=int(claims["exp"] * 1000),
            until_s=trio.current_time() + _VERIFIED_S,
        )
        self._verified.move_to_end(digest)
        if len(self._verified) > _MAX_VERIFIED:
            self._verified.popitem(last=False)
        return principal

    def verified(self, token: str, *, now_ms: int) -> Principal | None:
        """Return the principal of a token that was verified of late; None where it has to be verified."""
        found = self._verified.get(_digest_of(token))
        return found.principal if found is not None and found.holds(now_ms) else None

    async def _verify(self, token: str) -> dict[str, Any]:
        await self._refresh(within_s=_KEYS_FRESH_S)
        claims = self._decode(token)
        # The issuer may have rotated its keys.
        if claims is None and await self._refresh(within_s=_KEYS_AT_LEAST_S):
            claims = self._decode(token)
        if claims is None:
            raise TokenError("the token's signature is not by a key of the issuer")
        return claims

    def _decode(self, token: str) -> dict[str, Any] | None:
        """Return the token's claims; None if it is not signed by one of the present keys."""
        try:
            claims: object = jwt.decode(token, self._keys, algorithms=_ALGORITHMS).claims
        except Exception as error:  # noqa: BLE001
            # Anybody can send one, and for some the library raises more than its own errors: TypeError for a
            # header `crit` that is no list.
            log.debug("a token is not signed by the issuer", reason=repr(error))
            return None
        if not isinstance(claims, dict):
            raise TokenError("the token's claims are not an object")
        return claims

    def _check_claims(self, claims: dict[str, Any], now_ms: int) -> None:
        registry = jwt.JWTClaimsRegistry(
            now=now_ms // 1000,
            leeway=_CLOCK_LEEWAY_S,
            iss={"essential": True, "value": self._settings.issuer},
            aud={"essential": True, "value": self._settings.audience},
            exp={"essential": True},
            sub={"essential": True},
        )
        try:
            registry.validate(claims)
        except JoseError as error:
            raise TokenError(f"the token is refused: {error.description or error.error}") from None
        if not isinstance(claims["exp"], int | float):
            raise TokenError("the token's claim exp is not a number")
        if claims["exp"] >= _YEAR_10000_S:
            raise TokenError("the token's claim exp is after the year 9999")

    def _principal_of(self, claims: dict[str, Any]) -> Principal:
        settings = self._settings
        subject = claims["sub"]
        if not (isinstance(subject, str) and 0 < len(subject) <= MAX_NAME_LENGTH and subject.isprintable()):
            raise TokenError(f"the token's claim sub is {preview(subject)}; it must be a printable text")
        granted = _texts(_claim(claims, settings.role_claim))
        roles = [role for role in ROLES if not settings.roles.get(role, frozenset()).isdisjoint(granted)]
        if not roles:
            raise TokenError(f"the token's claim {settings.role_claim} grants no role here")
        tenant = _claim(claims, settings.tenant_claim)
        tenant = DEFAULT_TENANT if tenant is None else tenant
        if not (isinstance(tenant, str) and (tenant == ALL_TENANTS or is_tenant(tenant))):
            raise TokenError(
                f"the token's claim {settings.tenant_claim} is {preview(tenant)}; it must be {TENANT_RULE}"
            )
        return Principal(
            name=subject,
            kind="oidc",
            role=roles[-1],
            scope=Scope(tenant=tenant, site_ids=self._sites_of(claims)),
            expires_ms=int(claims["exp"] * 1000),
        )

    def _sites_of(self, claims: dict[str, Any]) -> frozenset[str] | None:
        name = self._settings.sites_claim
        sites = _claim(claims, name)
        if sites is None:
            return None
        if not (isinstance(sites, list) and all(isinstance(site, str) for site in sites)):
            raise TokenError(f"the token's claim {name} is {preview(sites)}; it must be a list of site ids")
        ids = frozenset(site.lower() for site in sites)
        for site in ids:
            if not CANONICAL_UUID.fullmatch(site):
                raise TokenError(f"the token's claim {name} has {preview(site)}; it must be a UUID")
        return ids

    async def _refresh(self, *, within_s: float) -> bool:
        """Fetch the keys unless they were fetched within this time; False if they are still the same.

        Raises:
            IssuerUnavailableError: there are no keys that may be used.
        """
        async with self._fetching:
            now_s = trio.current_time()
            if now_s - self._fetched_s < within_s:
                return False
            if now_s - self._attempted_s >= _KEYS_AT_LEAST_S:
                self._attempted_s = now_s
                try:
                    with trio.fail_after(_FETCH_WITHIN_S):
                        self._keys = await self._fetch_keys()
                except (httpx2.HTTPError, trio.TooSlowError, ValueError, JoseError) as error:
                    self._failure = str(error) or f"no answer within {_FETCH_WITHIN_S:g} s"
                    log.warning(
                        "keys of the OpenID Connect issuer cannot be fetched",
                        issuer=self._settings.issuer,
                        reason=self._failure,
                    )
                else:
                    self._fetched_s = trio.current_time()
                    self._verified.clear()
                    return True
            if now_s - self._fetched_s > _KEYS_AT_MOST_S:
                raise IssuerUnavailableError(
                    f"the keys of {self._settings.issuer} cannot be fetched: {self._failure}"
                )
            return False

    async def _fetch_keys(self) -> KeySet:
        issuer = self._settings.issuer
        async with httpx2.AsyncClient(timeout=_FETCH_WITHIN_S, follow_redirects=False) as client:
            metadata = await _fetch_object(client, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            if metadata.get("issuer") != issuer:
                found = preview(metadata.get("issuer"))
                raise ValueError(f"the issuer's configuration is of {found}; it must be of {issuer}")
            jwks_uri = str(metadata.get("jwks_uri"))
            _check_url("the issuer's jwks_uri", jwks_uri)
            return _signing_keys(await _fetch_object(client, jwks_uri))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verified:
    principal: Principal
    expires_ms: int
    until_s: float

    def holds(self, now_ms: int) -> bool:
        return now_ms < self.expires_ms and trio.current_time() < self.until_s


def _digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _signing_keys(document: dict[str, Any]) -> KeySet:
    keys = document.get("keys")
    usable = [key for key in keys if _is_signing_key(key)] if isinstance(keys, list) else []
    if not usable:
        raise ValueError("the issuer's key set has no key for signatures")
    return KeySet.import_key_set({"keys": usable})


def _is_signing_key(key: object) -> bool:
    # Other kinds of keys, which a set may have as well, are no error.
    return (
        isinstance(key, dict) and key.get("kty") in {"RSA", "EC", "OKP"} and key.get("use") in {None, "sig"}
    )


async def _fetch_object(client: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    body = bytearray()
    async with client.stream("GET", url) as response:
        response.raise_for_status()
        # The rest of a longer body is received and dropped: httpcore's generators are not to be left.
        async for part in response.aiter_bytes():
            body += part[: _MAX_FETCH_BYTES + 1 - len(body)]
    if len(body) > _MAX_FETCH_BYTES:
        raise ValueError(f"{url} answers with more than {_MAX_FETCH_BYTES} bytes")
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ValueError(f"{url} does not answer with a JSON object: {error}") from None


def _check_url(name: str, url: str) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" and host:
        return
    if parts.scheme != "http" or not _is_loopback(host):
        raise ValueError(f"{name} is {preview(url)}; it must be an https URL (http only on loopback)")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _claim(claims: Mapping[str, Any], name: str) -> object:
    """Return a claim by its name, or by a path of names with dots; None where there is none."""
    if name in claims:
        return claims[name]
    value: object = claims
    for step in name.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def _texts(value: object) -> Sequence[str]:
    if isinstance(value, str):
        # Scopes are one text, separated by spaces.
        return value.split()
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
