"""Finds the principal of a bearer token: in the access file, or by an OpenID Connect issuer's keys."""

from collections.abc import Sequence
from typing import Protocol

from trioder.access.table import AccessTable, TokenError
from trioder.api.errors import ApiError
from trioder.domain.access import Principal
from trioder.process.wall_time import WallClock

# In a JSON Web Token of an issuer; tokens of the access file have none.
_DOTS = 2


CHALLENGE = 'Bearer realm="trioder"'
# Named in messages; anything else before a space may be a secret.
_OTHER_SCHEMES = frozenset({"basic", "digest", "negotiate", "ntlm", "apikey", "token"})


class TokenVerifier(Protocol):
    """Verifies JSON Web Tokens; see `trioder.access.oidc`."""

    async def authenticate(self, token: str, *, now_ms: int) -> Principal:
        """Return the principal.

        Raises:
            TokenError: the token authenticates nobody.
            TokenUnverifiedError: that cannot be known now.
        """

    def verified(self, token: str, *, now_ms: int) -> Principal | None:
        """Return the principal of a token that was verified of late; None where it has to be verified."""


class Authenticator:
    """Authenticates bearer tokens.

    Args:
        table: the access file.
        verifier: of an issuer's tokens; None without one.
        wall: for the validity of tokens.
    """

    def __init__(self, table: AccessTable, *, verifier: TokenVerifier | None = None, wall: WallClock) -> None:
        self._table = table
        self._verifier = verifier
        self._wall = wall

    @property
    def is_on(self) -> bool:
        """Whether requests need a token. Once there are any, they do until the headend stops."""
        return self._verifier is not None or self._table.has_tokens

    def authenticate_now(self, bearer: str) -> Principal | None:
        """Return the principal; None if there is none, or `authenticate` has to find out."""
        now_ms = self._wall.now_ms()
        if self._verifier is not None and bearer.count(".") == _DOTS:
            return self._verifier.verified(bearer, now_ms=now_ms)
        try:
            return self._table.authenticate(bearer, now_ms=now_ms)
        except TokenError:
            return None

    async def authenticate(self, bearer: str) -> Principal:
        """Return the principal.

        Raises:
            TokenError: the token authenticates nobody; the text says why, without the token.
            TokenUnverifiedError: that cannot be known now.
        """
        now_ms = self._wall.now_ms()
        if self._verifier is not None and bearer.count(".") == _DOTS:
            return await self._verifier.authenticate(bearer, now_ms=now_ms)
        return self._table.authenticate(bearer, now_ms=now_ms)


def bearer_in(values: Sequence[str]) -> str:
    """Return the token in the Authorization headers of a request.

    Raises:
        ApiError: 401: there is not one with a token.
    """
    if not values:
        raise ApiError(
            401,
            "there is no Authorization header; this needs 'Authorization: Bearer <token>'",
            challenge=CHALLENGE,
        )
    if len(values) > 1:
        raise ApiError(
            401, f"there are {len(values)} Authorization headers; there must be one", challenge=CHALLENGE
        )
    scheme, _, bearer = values[0].strip().partition(" ")
    bearer = bearer.strip()
    if scheme.lower() != "bearer":
        found = f"the scheme {scheme}" if scheme.lower() in _OTHER_SCHEMES else "no scheme that is known"
        raise ApiError(
            401,
            f"the Authorization header has {found}; it must be 'Bearer <token>'",
            challenge=CHALLENGE,
        )
    if not bearer:
        raise ApiError(
            401, "the Authorization header has no token; it must be 'Bearer <token>'", challenge=CHALLENGE
        )
    return bearer
