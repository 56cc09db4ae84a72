"""A token of an OpenID Connect provider that is not ours, from its log-in to the principal."""

import time
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import trio

from trioder.access.oidc import OidcSettings, OidcVerifier
from trioder.access.table import TokenError
from trioder.domain.access import Scope

oidc_provider_mock = pytest.importorskip("oidc_provider_mock", reason="oidc-provider-mock is not installed")

CLIENT = "trioder"


async def log_in(issuer: str, subject: str) -> str:
    """Return the ID token that the provider gives `subject` by the authorization code flow."""
    redirect = "http://localhost/callback"
    query = {
        "client_id": CLIENT,
        "redirect_uri": redirect,
        "response_type": "code",
        "scope": "openid",
    }
    async with httpx2.AsyncClient() as client:
        allowed = await client.post(f"{issuer}/oauth2/authorize", params=query, data={"sub": subject})
        [code] = parse_qs(urlsplit(allowed.headers["location"]).query)["code"]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect}
        given = await client.post(f"{issuer}/oauth2/token", data=form, auth=(CLIENT, "secret"))
        token: str = given.json()["id_token"]
        return token


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_who_has_logged_in_there_has_the_role_that_it_says() -> None:
    users = [
        oidc_provider_mock.User(sub="ana", claims={"roles": ["operator"], "tenant": "north"}),
        oidc_provider_mock.User(sub="bo", claims={}),
    ]
    with trio.fail_after(30), oidc_provider_mock.run_server_in_thread(user_claims=users) as server:
        issuer = f"http://localhost:{server.server_port}"
        verifier = OidcVerifier(OidcSettings(issuer=issuer, audience=CLIENT))
        now_ms = int(time.time() * 1000)
        ana, bo = await log_in(issuer, "ana"), await log_in(issuer, "bo")
        principal = await verifier.authenticate(ana, now_ms=now_ms)
        assert (principal.name, principal.role, principal.scope) == ("ana", "operator", Scope(tenant="north"))
        with pytest.raises(TokenError, match="grants no role"):
            await verifier.authenticate(bo, now_ms=now_ms)
        with pytest.raises(TokenError, match="expired"):
            await verifier.authenticate(ana, now_ms=now_ms + 2 * 3_600_000)
        for_others = OidcVerifier(OidcSettings(issuer=issuer, audience="another"))
        with pytest.raises(TokenError, match="aud"):
            await for_others.authenticate(ana, now_ms=now_ms)
