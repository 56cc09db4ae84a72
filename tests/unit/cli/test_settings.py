"""Address and token from options, the environment and the configuration file."""

from pathlib import Path

import pytest

from trioder.cli.exit_codes import USAGE, ConfigurationError
from trioder.cli.settings import Options, config_path, load_settings

SECRET = "s3cr3t-token-0123456789"
FILE = f"""
profile = "plant"

[profiles.plant]
url = "https://plant:3001"
token = "{SECRET}"
ca = "plant.crt"

[profiles.local]
url = "http://127.0.0.1:3001"
"""


def write_config(tmp_path: Path, text: str, mode: int = 0o600) -> dict[str, str]:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    path = config_path(environ)
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(mode)
    return environ


def refused(options: Options, environ: dict[str, str]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(options, environ)
    assert caught.value.exit_code == USAGE
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_without_anything_it_is_the_headend_of_this_machine() -> None:
    settings = load_settings(Options(), {"HOME": "/nonexistent"})
    assert (settings.url, settings.token, settings.ca) == ("http://127.0.0.1:3001", None, None)


def test_the_environment(tmp_path: Path) -> None:
    environ = {"TRIODER_URL": "https://a:1", "TRIODER_TOKEN": SECRET, "TRIODER_CA": "/ca.crt"}
    settings = load_settings(Options(), environ | {"HOME": str(tmp_path)})
    assert (settings.url, settings.token, settings.ca) == ("https://a:1", SECRET, Path("/ca.crt"))


def test_the_profile_that_the_file_names(tmp_path: Path) -> None:
    settings = load_settings(Options(), write_config(tmp_path, FILE))
    assert (settings.url, settings.token) == ("https://plant:3001", SECRET)
    assert settings.ca == tmp_path / "trioder" / "plant.crt"


@pytest.mark.parametrize("given", ["option", "variable"])
def test_another_profile(given: str, tmp_path: Path) -> None:
    environ = write_config(tmp_path, FILE)
    options = Options(profile="local") if given == "option" else Options()
    if given == "variable":
        environ["TRIODER_PROFILE"] = "local"
    settings = load_settings(options, environ)
    assert (settings.url, settings.token) == ("http://127.0.0.1:3001", None)


def test_an_option_comes_before_a_variable_and_that_before_the_file(tmp_path: Path) -> None:
    environ = write_config(tmp_path, FILE) | {"TRIODER_URL": "http://variable"}
    assert load_settings(Options(), environ).url == "http://variable"
    assert load_settings(Options(url="http://option"), environ).url == "http://option"


def test_the_token_of_a_profile_is_not_sent_to_another_headend(tmp_path: Path) -> None:
    environ = write_config(tmp_path, FILE)
    assert load_settings(Options(url="https://other:3001"), environ).token is None
    assert load_settings(Options(url="https://plant:3001/"), environ).token == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_with_a_token_that_others_may_read_is_refused(mode: int, tmp_path: Path) -> None:
    message = refused(Options(), write_config(tmp_path, FILE, mode))
    assert f"its mode is {mode:04o}; only its owner may read it: chmod 600" in message


def test_a_file_without_a_token_may_be_read_by_all(tmp_path: Path) -> None:
    environ = write_config(tmp_path, FILE.replace("token", "# token"), 0o644)
    assert load_settings(Options(), environ).url == "https://plant:3001"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (f'token = "{SECRET}"', "'token' is not known"),
        (f'[profiles.a]\ntoken = "{SECRET}', "is no TOML"),
        (f'[profiles.a]\ntokn = "{SECRET}"', "'tokn' of profile 'a' is not known"),
        ("[profiles.a]\nurl = 1", "url of profile 'a' must be a string"),
        ('profile = "b"\n[profiles.a]', "has no profile 'b'; it has: a"),
        (f'profile = "a"\n[profiles.a]\ntoken = "{SECRET}\\n{SECRET}"', "must be one line of printable"),
    ],
)
def test_a_fault_in_the_file_is_named_without_the_token(text: str, part: str, tmp_path: Path) -> None:
    assert part in refused(Options(), write_config(tmp_path, text))


def test_a_profile_without_a_file(tmp_path: Path) -> None:
    assert "there is no profile 'a'" in refused(Options(profile="a"), {"XDG_CONFIG_HOME": str(tmp_path)})


def test_a_token_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    assert load_settings(Options(token_file=str(path)), {"TRIODER_TOKEN": "other"}).token == SECRET
    path.chmod(0o644)
    assert "chmod 600" in refused(Options(token_file=str(path)), {})


def test_the_token_is_not_in_the_text_of_the_settings() -> None:
    assert SECRET not in repr(load_settings(Options(), {"TRIODER_TOKEN": SECRET}))


@pytest.mark.parametrize("url", ["127.0.0.1:3001", "ftp://a", "http://a\x1b[2J"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    assert "\x1b" not in refused(Options(url=url), {})


def test_a_file_that_is_nested_without_end_is_no_toml(tmp_path: Path) -> None:
    environ = write_config(tmp_path, "a = " + 10_000 * "[")
    assert "is no TOML" in refused(Options(), environ)
