"""The headend as a process, with an access file that the command makes: tokens, roles, limits, audit."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import trio

from tests.integration.access.test_oidc_provider import CLIENT, log_in
from tests.integration.headend.test_main import ROOT, running, variables
from tests.unit.headend.parts import asset_id, make_fleet
from trioder.fleet import dump_fleet


@pytest.fixture
def fleet_file(tmp_path: Path) -> Path:
    path = tmp_path / "assets.yaml"
    path.write_text(dump_fleet(make_fleet(2), form="yaml"))
    return path


async def access(tmp_path: Path, *arguments: str) -> str:
    """Run `python -m trioder.access`; return what it prints."""
    done = await trio.run_process(
        [sys.executable, "-m", "trioder.access", *arguments, "--access-dir", str(tmp_path / "access")],
        cwd=ROOT,
        capture_stdout=True,
        stderr=subprocess.DEVNULL,
    )
    return done.stdout.decode().strip()


async def token(tmp_path: Path, name: str, role: str) -> str:
    return await access(tmp_path, "token", "create", name, "--role", role, "--tenant", "default")


async def ask(
    address: str, path: str, *, secret: str | None = None, body: dict[str, Any] | None = None
) -> tuple[int, Any, Any]:
    """Send a request; return the status, the body and the headers."""

    def send() -> tuple[int, Any, Any]:
        headers = {"content-type": "application/json"}
        if secret is not None:
            headers["authorization"] = f"Bearer {secret}"
        data = None if body is None else json.dumps(body).encode()
        try:
            with urlopen(Request(f"http://{address}{path}", data, headers), timeout=5) as answer:
                return answer.status, json.load(answer), answer.headers
        except HTTPError as error:
            with error:
                return error.code, json.load(error), error.headers

    return await trio.to_thread.run_sync(send)


async def until(holds: Callable[[], Any], expected: object) -> None:
    """Ask until the answer is as expected; the test's own time limit ends it otherwise."""
    while (await holds())[0] != expected:
        await trio.sleep(0.1)


async def test_tokens_are_made_used_and_revoked_while_it_runs(fleet_file: Path, tmp_path: Path) -> None:
    await access(tmp_path, "init")
    viewer = await token(tmp_path, "viewer", "viewer")
    operator = await token(tmp_path, "operator", "operator")
    env = variables(fleet_file, ACCESS_DIR=str(tmp_path / "access"))
    command = {"asset_id": asset_id(0), "mw": 1.0}
    async with running(env) as (_, addresses):
        rest = partial(ask, addresses["http"])
        status, body, headers = await rest("/assets")
        assert (status, body["error"], headers["www-authenticate"]) == (
            401,
            "unauthorized",
            'Bearer realm="trioder"',
        )
        status, rows, headers = await rest("/assets", secret=viewer)
        assert (status, len(rows), len(headers["x-request-id"])) == (200, 2, 32)
        assert (await rest("/dispatch", secret=viewer, body=command))[0] == 403
        status, made, _ = await rest("/dispatch", secret=operator, body=command)
        assert (status, made["requested_by"], made["tenant"]) == (200, "operator", "default")
        await access(tmp_path, "token", "revoke", "operator")
        admin = await token(tmp_path, "admin", "admin")
        await until(partial(rest, "/whoami", secret=admin), 200)
        assert (await rest("/dispatch", secret=operator, body=command))[0] == 401
        _, audit, _ = await rest("/audit", secret=admin)
        done = [(row["action"], row["target"], row["outcome"]) for row in audit]
        for expected in [
            ("dispatch", made["dispatch_id"], "ok"),
            ("authorize", "POST /dispatch", "refused"),
            ("token.revoke", "operator", "ok"),
            ("token.create", "admin", "ok"),
        ]:
            assert expected in done


async def test_the_first_token_closes_a_headend_that_was_started_without_an_access_file(
    fleet_file: Path, tmp_path: Path
) -> None:
    async with running(variables(fleet_file, STATE_DIR=str(tmp_path))) as (_, addresses):
        rest = partial(ask, addresses["http"])
        assert (await rest("/whoami"))[1]["kind"] == "open"
        await access(tmp_path, "init")
        viewer = await token(tmp_path, "viewer", "viewer")
        await until(partial(rest, "/whoami"), 401)
        assert (await rest("/whoami", secret=viewer))[1]["name"] == "viewer"


async def test_the_limits_of_a_token_are_options(fleet_file: Path, tmp_path: Path) -> None:
    await access(tmp_path, "init")
    viewer = await token(tmp_path, "viewer", "viewer")
    limits = {"HEADEND_REST_REQUESTS_PER_S": "1", "METRICS_OPEN": "1"}
    env = variables(fleet_file, ACCESS_DIR=str(tmp_path / "access"), **limits)
    async with running(env) as (_, addresses):
        answers = [await ask(addresses["http"], "/assets", secret=viewer) for _ in range(4)]
        statuses = [status for status, _, _ in answers]
        # A slow machine may need more than a second for four requests.
        assert statuses[:2] == [200, 200]
        assert 429 in statuses
        _, body, headers = answers[statuses.index(429)]
        assert (headers["retry-after"], body["error"]) == ("1", "too_many_requests")

        def scrape() -> int:
            with urlopen(f"http://{addresses['http']}/metrics", timeout=5) as answer:
                return int(answer.status)

        assert await trio.to_thread.run_sync(scrape) == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_tokens_of_an_openid_connect_issuer_are_accepted(fleet_file: Path) -> None:
    oidc_provider_mock = pytest.importorskip(
        "oidc_provider_mock", reason="oidc-provider-mock is not installed"
    )
    users = [
        oidc_provider_mock.User(sub="ana", claims={"groups": ["grid"]}),
        oidc_provider_mock.User(sub="bo", claims={"groups": ["grid"], "tenant": "north"}),
    ]
    with oidc_provider_mock.run_server_in_thread(user_claims=users) as server:
        issuer = f"http://localhost:{server.server_port}"
        env = variables(
            fleet_file,
            HEADEND_OIDC_ISSUER=issuer,
            HEADEND_OIDC_AUDIENCE=CLIENT,
            HEADEND_OIDC_ROLE_CLAIM="groups",
            HEADEND_OIDC_ROLES="viewer=guests,operator=grid",
        )
        async with running(env) as (_, addresses):
            rest = partial(ask, addresses["http"])
            ana, bo = await log_in(issuer, "ana"), await log_in(issuer, "bo")
            assert (await rest("/assets"))[0] == 401
            _, who, _ = await rest("/whoami", secret=ana)
            assert (who["name"], who["kind"], who["role"]) == ("ana", "oidc", "operator")
            assert who["expires_at"] is not None
            _, made, _ = await rest("/dispatch", secret=ana, body={"asset_id": asset_id(0), "mw": 1.0})
            assert made["requested_by"] == "ana"
            assert (await rest("/assets", secret=bo))[1] == []
            assert (await rest("/assets", secret=ana[:-8] + "AAAAAAAA"))[0] == 401
