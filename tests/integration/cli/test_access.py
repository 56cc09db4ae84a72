"""The command line against a real headend with TLS and access control; `trioder access` makes both."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.cli.headends import Trioder, running_headend, write_fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """A headend with TLS, and a viewer's token."""

    trioder: Trioder
    ca: Path
    token: str


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    write_fleet(folder)
    access = folder / "access"
    unused = Trioder(url="http://127.0.0.1:9", home=folder)
    options = ["--access-dir", str(access)]
    assert unused("access", "init", *options).code == 0
    assert unused("access", "issue-server", "127.0.0.1", *options).code == 0
    created = unused(
        "access", "token", "create", "reader", "--role", "viewer", "--tenant", "default", *options
    )
    [certificate] = access.glob("server/*.crt")
    env = {
        "ACCESS_DIR": str(access),
        "HEADEND_HTTP_TLS_CERT": str(certificate),
        "HEADEND_HTTP_TLS_KEY": str(certificate.with_suffix(".key")),
    }
    with running_headend(folder, database="none", env=env) as ready:
        trioder = Trioder(url=f"https://{ready['http_addr']}", home=folder)
        yield Secured(trioder=trioder, ca=access / "ca.crt", token=created.out.strip())


def test_a_viewer_reads_and_is_not_permitted_to_stop(secured: Secured) -> None:
    env = {"TRIODER_CA": str(secured.ca), "TRIODER_TOKEN": secured.token}
    caller = secured.trioder("whoami", "--json", env=env).json
    assert (caller["name"], caller["role"]) == ("reader", "viewer")
    refused = secured.trioder("stop", "fleet", "--yes", env=env)
    assert refused.code == 4
    assert refused.err.startswith("Error: forbidden: ")


def test_without_a_token_it_is_unauthorized(secured: Secured) -> None:
    result = secured.trioder("fleet", env={"TRIODER_CA": str(secured.ca)})
    assert result.code == 4
    assert "set TRIODER_TOKEN" in result.err


def test_a_wrong_token_is_unauthorized_and_not_shown(secured: Secured) -> None:
    env = {"TRIODER_CA": str(secured.ca), "TRIODER_TOKEN": "wrong-token-0123456789"}
    result = secured.trioder("watch", env=env)
    assert result.code == 4
    assert "wrong-token" not in result.err


def test_a_ca_that_is_not_known_is_unreachable(secured: Secured) -> None:
    result = secured.trioder("health", env={"TRIODER_TOKEN": secured.token})
    assert result.code == 3
    assert "--ca or TRIODER_CA" in result.err


def test_a_ca_that_cannot_be_read_is_usage(secured: Secured, tmp_path: Path) -> None:
    assert secured.trioder("--ca", str(tmp_path / "none.crt"), "health").code == 2
    (tmp_path / "empty.crt").touch()
    assert secured.trioder("--ca", str(tmp_path / "empty.crt"), "health").code == 2


def test_a_profile_has_address_token_and_ca(secured: Secured, tmp_path: Path) -> None:
    config = tmp_path / "trioder" / "config.toml"
    config.parent.mkdir()
    config.touch(mode=0o600)
    config.write_text(
        f'profile = "plant"\n[profiles.plant]\nurl = "{secured.trioder.url}"\n'
        f'token = "{secured.token}"\nca = "{secured.ca}"\n'
    )
    result = secured.trioder("whoami", "--json", env={"XDG_CONFIG_HOME": str(tmp_path), "TRIODER_URL": ""})
    assert result.json["name"] == "reader"


def test_the_access_command_has_its_own_exit_codes(secured: Secured) -> None:
    result = secured.trioder("access", "token", "revoke", "nobody", "--access-dir", str(secured.ca.parent))
    assert result.code == 2
    assert "nobody" in result.err
