"""Authentication of requests, roles, limits of callers, and what they are answered."""

import json
from typing import Any

import pytest
import trio
from quart import Blueprint
from structlog.testing import capture_logs
from werkzeug.datastructures import Headers

from tests.unit.access.documents import document_of, token_entry
from tests.unit.api.rest import make_fleet, open_rest, uuid_of
from tests.unit.api.tenants import (
    EXPIRED,
    NO_LIMITS,
    WRONG,
    asset_ids,
    bearer,
    open_tenants,
    secret_of,
    site_id,
    tenants_table,
)
from trioder.access.limits import Rate
from trioder.access.table import AccessTable, TokenError, TokenUnverifiedError, token_sha256
from trioder.api import RestLimits, RestOptions, create_app
from trioder.api.access import WRONG_TOKENS, RoleNotStatedError
from trioder.api.openapi import documented
from trioder.domain.access import Principal
from trioder.schemas.resources import IndexResponse

VIEWER = secret_of("viewer", "alpha")
OPERATOR = secret_of("operator", "alpha")


@pytest.mark.parametrize(
    ("header", "reason", "error"),
    [
        (None, "there is no Authorization header", ""),
        ("Basic YWxwaGE6c2VjcmV0", "has the scheme Basic", ""),
        (VIEWER, "has no scheme that is known", ""),
        ("Bearer", "has no token", ""),
        ("Bearer ", "has no token", ""),
        (f"Bearer {WRONG}", "the token is unknown", "invalid_token"),
        (f"Bearer {VIEWER}x", "the token is unknown", "invalid_token"),
        (f"Bearer {EXPIRED}", "alpha-expired expired at 2025-12-31", "invalid_token"),
        ("Bearer \xe9\xff", "the token is unknown", "invalid_token"),
    ],
)
async def test_a_request_without_a_valid_token_gets_what_is_missing(
    autojump_clock: object, header: str | None, reason: str, error: str
) -> None:
    async with open_tenants() as tenants:
        headers = {} if header is None else {"Authorization": header}
        response = await tenants.raw("GET", "/assets", secret=None, headers=headers)
        body = await response.get_json()
        assert (response.status_code, body["error"]) == (401, "unauthorized")
        assert reason in body["message"]
        challenge = response.headers["www-authenticate"]
        assert challenge.startswith("Bearer ")
        assert error in challenge
        if header is not None and header.partition(" ")[2].strip():
            assert header.partition(" ")[2] not in json.dumps(body, ensure_ascii=False)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_not_case_sensitive(autojump_clock: object, scheme: str) -> None:
    async with open_tenants() as tenants:
        headers = {"Authorization": f"{scheme} {VIEWER}"}
        assert (await tenants.raw("GET", "/assets", secret=None, headers=headers)).status_code == 200


async def test_two_authorization_headers_are_refused(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        headers = Headers([("Authorization", f"Bearer {VIEWER}"), ("Authorization", f"Bearer {OPERATOR}")])
        status, body = await tenants.rest.ask("GET", "/assets", headers=headers)
        assert (status, "2 Authorization headers" in body["message"]) == (401, True)


async def test_a_role_that_is_too_low_is_named_with_the_one_that_is_needed(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        status, body = await tenants.dispatch(secret=VIEWER, asset_id=asset_ids("alpha")[0])
        assert (status, body) == (
            403,
            {
                "error": "forbidden",
                "message": "this needs the role operator; token 'alpha-viewer' has the role viewer",
            },
        )


async def test_a_dry_run_needs_the_role_of_a_dispatch(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        status, _ = await tenants.dispatch(secret=VIEWER, asset_id=asset_ids("alpha")[0], dry_run=True)
        assert status == 403


async def test_a_secret_is_neither_logged_nor_recorded(autojump_clock: object) -> None:
    with capture_logs() as lines:
        async with open_tenants() as tenants:
            for secret in (VIEWER, WRONG, EXPIRED):
                await tenants.ask("GET", f"/assets?{secret}", secret=secret)
                await tenants.dispatch(secret=secret, asset_id=asset_ids("alpha")[0])
            audit = await tenants.get("/audit", secret=secret_of("admin", "*"))
    for secret in (VIEWER, WRONG, EXPIRED):
        assert secret not in repr(lines)
        assert secret not in json.dumps(audit)


async def test_wrong_tokens_of_an_address_are_limited_and_right_ones_pass(autojump_clock: object) -> None:
    async with open_tenants() as tenants:

        async def ask(secret: str, address: str) -> Any:
            return await tenants.rest.raw(
                "GET", "/assets", headers=bearer(secret), scope_base={"client": (address, 1)}
            )

        for _ in range(WRONG_TOKENS.burst):
            assert (await ask(WRONG, "10.9.9.9")).status_code == 401
        limited = await ask(WRONG, "10.9.9.9")
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "10")
        assert (await ask(VIEWER, "10.9.9.9")).status_code == 200
        assert (await ask(WRONG, "10.9.9.8")).status_code == 401
        await trio.sleep(10)
        assert (await ask(WRONG, "10.9.9.9")).status_code == 401


async def test_without_an_access_file_everything_is_open(autojump_clock: object) -> None:
    async with open_rest() as rest:
        who = await rest.get("/whoami")
        assert (who["name"], who["kind"], who["role"], who["tenant"]) == ("anonymous", "open", "admin", "*")
        assert (await rest.get("/health"))["assets"] == 4
        # A token is not checked then.
        assert (await rest.raw("GET", "/assets", headers=bearer(WRONG))).status_code == 200


async def test_access_control_is_on_with_the_first_token_and_stays_on(autojump_clock: object) -> None:
    table = AccessTable(document_of())
    async with open_rest(access=table) as rest:
        assert (await rest.raw("GET", "/assets")).status_code == 200
        table.replace(document_of(token_entry(sha256=token_sha256(VIEWER))))
        assert (await rest.raw("GET", "/assets")).status_code == 401
        assert (await rest.raw("GET", "/assets", headers=bearer(VIEWER))).status_code == 200
        table.replace(document_of())
        assert (await rest.raw("GET", "/assets")).status_code == 401
        assert (await rest.raw("GET", "/assets", headers=bearer(VIEWER))).status_code == 401


async def test_a_token_ends_while_the_headend_runs(autojump_clock: object) -> None:
    entry = token_entry(sha256=token_sha256(VIEWER), expires_at="2026-01-01T00:00:30.000Z")
    async with open_rest(access=AccessTable(document_of(entry))) as rest:
        assert (await rest.raw("GET", "/whoami", headers=bearer(VIEWER))).status_code == 200
        await trio.sleep(31)
        assert (await rest.raw("GET", "/whoami", headers=bearer(VIEWER))).status_code == 401


async def test_whoami_shows_what_the_token_authenticates(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        assert await tenants.get("/whoami", secret=secret_of("site", "alpha")) == {
            "name": "alpha-site",
            "kind": "token",
            "role": "operator",
            "tenant": "alpha",
            "sites": [site_id("alpha")],
            "expires_at": "2026-06-01T00:00:00.000Z",
        }
        everything = await tenants.get("/whoami", secret=secret_of("viewer", "*"))
        assert (everything["tenant"], everything["sites"], everything["expires_at"]) == ("*", None, None)


class OneUser:
    """Verifies the tokens of an issuer that has one user."""

    def verified(self, token: str, *, now_ms: int) -> Principal | None:
        return None

    async def authenticate(self, token: str, *, now_ms: int) -> Principal:
        await trio.sleep(1)
        match token:
            case "a.valid.token":
                return Principal(name="ann", kind="oidc", role="viewer", expires_ms=now_ms)
            case "a.new.token":
                raise TokenUnverifiedError("the issuer does not answer")
        raise TokenError("nobody has this token")


@pytest.mark.parametrize("table", [None, tenants_table()])
async def test_tokens_of_an_issuer_are_verified_beside_those_of_the_file(
    autojump_clock: object, table: AccessTable | None
) -> None:
    async with open_rest(access=table, options=RestOptions(verifier=OneUser())) as rest:

        async def ask(token: str) -> tuple[int, Any]:
            return await rest.ask("GET", "/whoami", headers=bearer(token))

        status, who = await ask("a.valid.token")
        assert (status, who["name"], who["kind"]) == (200, "ann", "oidc")
        assert who["expires_at"] == "2026-01-01T00:00:00.000Z"
        refused = 401, {"error": "unauthorized", "message": "nobody has this token; a valid one is needed"}
        assert await ask("not.valid.token") == refused
        assert (await rest.raw("GET", "/whoami")).status_code == 401
        assert (await ask(VIEWER))[0] == (401 if table is None else 200)
        status, body = await ask("a.new.token")
        assert (status, body["message"]) == (
            503,
            "the token cannot be verified now: the issuer does not answer",
        )


async def test_a_route_without_a_stated_role_is_not_served(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_rest() as rest:
        blueprint = Blueprint("more", __name__)

        @blueprint.get("/more")
        async def more() -> str:
            return "more"

        monkeypatch.setattr("trioder.api.app.access_blueprint", lambda _headend: blueprint)
        with pytest.raises(RoleNotStatedError, match=r"more\.more"):
            create_app(rest.headend)
        documented(IndexResponse, role="viewer")(more)
        create_app(rest.headend)


async def test_a_route_that_is_added_later_is_for_admins(autojump_clock: object) -> None:
    async with open_tenants() as tenants:

        @tenants.rest.app.get("/later")
        async def later() -> str:
            return "later"

        assert (await tenants.raw("GET", "/later", secret=OPERATOR)).status_code == 403


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_head_request_needs_what_a_get_needs(autojump_clock: object, method: str) -> None:
    async with open_tenants() as tenants:
        assert (await tenants.raw(method, "/assets", secret=None)).status_code == 401
        assert (await tenants.raw(method, "/audit", secret=VIEWER)).status_code == 403


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("PUT", "/assets", 405)])
async def test_what_is_not_there_needs_no_token(
    autojump_clock: object, method: str, path: str, status: int
) -> None:
    async with open_tenants() as tenants:
        assert (await tenants.raw(method, path, secret=None)).status_code == status


async def test_requests_of_a_principal_are_limited(autojump_clock: object) -> None:
    limits = RestLimits(requests=Rate(per_s=2.0, burst=3), dispatches=NO_LIMITS.dispatches)
    async with open_tenants(options=RestOptions(limits=limits)) as tenants:
        for _ in range(3):
            assert (await tenants.raw("GET", "/assets", secret=VIEWER)).status_code == 200
        refused = await tenants.raw("GET", "/assets", secret=VIEWER)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert (await refused.get_json())["message"] == "'alpha-viewer' is limited to 2 requests a second"
        # Each principal has a limit of its own.
        assert (await tenants.raw("GET", "/assets", secret=secret_of("viewer", "beta"))).status_code == 200
        await trio.sleep(0.5)
        assert (await tenants.raw("GET", "/assets", secret=VIEWER)).status_code == 200


@pytest.mark.parametrize(("caller", "status"), [(OPERATOR, 200), (VIEWER, 429)])
async def test_an_emergency_stop_is_not_limited_for_those_who_may_stop(
    autojump_clock: object, caller: str, status: int
) -> None:
    limits = RestLimits(requests=Rate(per_s=0.1, burst=2), dispatches=NO_LIMITS.dispatches)
    async with open_tenants(options=RestOptions(limits=limits)) as tenants:
        while (await tenants.raw("GET", "/assets", secret=caller)).status_code != 429:
            pass
        body, headers = b'{"fleet": true}', {"content-type": "application/json"}
        answer = await tenants.raw("POST", "/stop", secret=caller, data=body, headers=headers)
        assert answer.status_code == status
        answer = await tenants.raw("POST", "/resume", secret=caller, data=body, headers=headers)
        assert answer.status_code == 429


async def test_dispatches_of_a_principal_are_limited(autojump_clock: object) -> None:
    limits = RestLimits(requests=NO_LIMITS.requests, dispatches=Rate(per_s=0.1, burst=2))
    async with open_tenants(options=RestOptions(limits=limits)) as tenants:
        # One was requested when the tenants were made.
        asset_id = asset_ids("alpha")[0]
        assert (await tenants.dispatch(secret=OPERATOR, asset_id=asset_id, dry_run=True))[0] == 200
        status, body = await tenants.dispatch(secret=OPERATOR, asset_id=asset_id)
        assert (status, body["message"]) == (429, "'alpha-operator' is limited to 6 dispatches a minute")
        assert (await tenants.raw("GET", "/assets", secret=OPERATOR)).status_code == 200


async def test_open_streams_of_a_principal_are_limited(autojump_clock: object) -> None:
    # Of so many assets the test client's buffer holds a part.
    fleet = make_fleet(sites=1, assets_a_site=3_000)
    table = AccessTable(document_of(token_entry(sha256=token_sha256(VIEWER), tenant="default")))
    options = RestOptions(limits=RestLimits(open_streams=1))
    async with open_rest(fleet=fleet, access=table, options=options) as rest:

        async def ask(path: str) -> int:
            return (await rest.raw("GET", path, headers=bearer(VIEWER))).status_code

        client = rest.app.test_client()
        async with client.request("/assets", headers=Headers(bearer(VIEWER))) as connection:
            await connection.send_complete()
            await connection.receive()
            assert await ask("/assets") == 429
            assert await ask("/assets?limit=1") == 200
            assert await ask("/agents") == 200
            await connection.disconnect()
        assert await ask("/assets?limit=501") == 200


async def test_open_access_is_not_limited_on_loopback(autojump_clock: object) -> None:
    limits = RestLimits(requests=Rate(per_s=1.0, burst=1), dispatches=Rate(per_s=1.0, burst=1))
    async with open_rest(options=RestOptions(limits=limits)) as rest:
        for _ in range(3):
            assert (await rest.post(b'{"mw": 1, "asset_id": "%s"}' % uuid_of(1000).encode()))[0] == 200


async def test_open_access_is_limited_by_address_elsewhere(autojump_clock: object) -> None:
    limits = RestLimits(requests=Rate(per_s=1.0, burst=1), limit_open_access=True)
    async with open_rest(options=RestOptions(limits=limits)) as rest:
        statuses = [
            (await rest.raw("GET", "/assets", scope_base={"client": (address, port)})).status_code
            for port, address in enumerate(["10.0.0.1", "10.0.0.1", "10.0.0.2"])
        ]
        assert statuses == [200, 429, 200]


async def test_a_response_has_the_id_of_its_request(autojump_clock: object) -> None:
    async with open_tenants() as tenants:
        with capture_logs() as lines:
            given = await tenants.raw("GET", "/assets", secret=VIEWER, headers={"X-Request-Id": "abc-1.2:3"})
            new = await tenants.raw("GET", "/assets", secret=VIEWER)
        assert given.headers["x-request-id"] == "abc-1.2:3"
        assert len(new.headers["x-request-id"]) == 32
        logged = [(line["request_id"], line["principal"]) for line in lines if line["event"] == "request"]
        assert logged == [
            ("abc-1.2:3", "alpha-viewer"),
            (new.headers["x-request-id"], "alpha-viewer"),
        ]


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "\x7f", "<script>", "-x", "ä"])
async def test_an_odd_request_id_is_replaced(autojump_clock: object, given: str) -> None:
    async with open_tenants() as tenants:
        response = await tenants.raw("GET", "/", secret=None, headers={"X-Request-Id": given})
        assert response.headers["x-request-id"] != given
        assert len(response.headers["x-request-id"]) == 32
