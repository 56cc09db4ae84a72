"""Finds the principal of a bearer token: in the access file, or by an OpenID Connect issuer's keys."""

from typing import Protocol

from trioder.access.table import AccessTable
from trioder.domain.access import Principal
from trioder.process.wall_time import WallClock

# In a JSON Web Token of an issuer; tokens of the access file have none.
_DOTS = 2


class TokenVerifier(Protocol):
    """Verifies JSON Web Tokens; see `trioder.access.oidc`."""

    async def authenticate(self, token: str, *, now_ms: int) -> Principal:
        """Return the principal.

        Raises:
            TokenError: the token authenticates nobody.
            TokenUnverifiedError: that cannot be known now.
        """


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
