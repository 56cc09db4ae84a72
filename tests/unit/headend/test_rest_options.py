"""The options of REST: limits, and what an OpenID Connect issuer's claims mean."""

import click
import pytest
from click.testing import CliRunner, Result

from trioder.access.limits import Rate
from trioder.access.oidc import OidcVerifier
from trioder.api import RestOptions
from trioder.headend.rest_options import rest_options

given: list[RestOptions] = []


@click.command()
@rest_options
def command(rest: RestOptions) -> None:
    given.append(rest)


def run(**env: str) -> Result:
    given.clear()
    return CliRunner().invoke(command, [], env=env)


def test_by_default_there_are_limits_and_no_issuer() -> None:
    assert run().exit_code == 0
    [rest] = given
    assert rest == RestOptions()


def test_limits_come_from_the_environment() -> None:
    limits = {"HEADEND_REST_REQUESTS_PER_S": "5", "HEADEND_REST_DISPATCHES_PER_MIN": "30"}
    assert run(**limits, HEADEND_REST_OPEN_STREAMS="3", METRICS_OPEN="1").exit_code == 0
    [rest] = given
    assert rest.limits.requests == Rate(per_s=5, burst=10)
    assert rest.limits.dispatches == Rate(per_s=0.5, burst=30)
    assert (rest.limits.open_streams, rest.metrics_open) == (3, True)


@pytest.mark.parametrize(
    "name",
    ["HEADEND_REST_REQUESTS_PER_S", "HEADEND_REST_DISPATCHES_PER_MIN", "HEADEND_REST_OPEN_STREAMS"],
)
def test_a_limit_of_nothing_is_refused(name: str) -> None:
    result = run(**{name: "0"})
    assert (result.exit_code, name in result.output) == (2, True)


def test_an_issuers_roles_are_mapped() -> None:
    roles = "operator=grid, viewer=guests,viewer=staff"
    result = run(
        HEADEND_OIDC_ISSUER="https://login.example",
        HEADEND_OIDC_AUDIENCE="trioder",
        HEADEND_OIDC_ROLE_CLAIM="realm.groups",
        HEADEND_OIDC_ROLES=roles,
    )
    assert result.exit_code == 0, result.output
    [rest] = given
    assert isinstance(rest.verifier, OidcVerifier)
    settings = rest.verifier._settings
    assert settings.role_claim == "realm.groups"
    assert settings.roles == {
        "viewer": frozenset({"guests", "staff"}),
        "operator": frozenset({"grid"}),
        "admin": frozenset(),
    }


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"HEADEND_OIDC_ISSUER": "https://login.example"}, "the audience is empty"),
        (
            {"HEADEND_OIDC_ISSUER": "http://login.example", "HEADEND_OIDC_AUDIENCE": "x"},
            "it must be an https URL",
        ),
        ({"HEADEND_OIDC_ROLES": "boss=grid"}, "'boss=grid' is not role=value"),
        ({"HEADEND_OIDC_ROLES": "operator"}, "'operator' is not role=value"),
    ],
)
def test_a_wrong_issuer_or_mapping_is_refused(env: dict[str, str], reason: str) -> None:
    result = run(**env)
    assert result.exit_code == 2
    assert reason in result.output


def test_the_request_log_can_be_of_errors_alone() -> None:
    assert run(ACCESS_LOG="Errors").exit_code == 0
    [rest] = given
    assert rest.access_log == "errors"


def test_an_unknown_request_log_is_refused() -> None:
    result = run(ACCESS_LOG="none")
    assert result.exit_code == 2
    assert "ACCESS_LOG" in result.output
    assert "'none' is not one of 'all', 'errors'" in result.output
