"""The console's options: what is refused, and in which words."""

from pathlib import Path

import click
import pytest
import structlog
from click.testing import CliRunner

from tests.unit.access.certificates import Authority, Pair
from trioder.access.tls import ServerTls, TlsConfigurationError
from trioder.console.headend import HeadendTlsError, client_context
from trioder.console.options import ConsoleOptions, ConsoleSecurityError, configure_tls, console_options


@pytest.fixture
def server(tmp_path: Path) -> Pair:
    return Authority(tmp_path).issue("localhost")


def parsed(**variables: str) -> ConsoleOptions:
    """The options of these variables.

    Raises:
        ValueError: they are wrong usage; the text is what the user reads.
    """
    got: list[ConsoleOptions] = []

    @click.command()
    @console_options
    def command(*, options: ConsoleOptions) -> None:
        got.append(options)

    result = CliRunner().invoke(command, [], env=variables)
    if not got:
        raise ValueError(result.output)
    return got[0]


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.0.0.5", "console.example"])
def test_a_reachable_port_without_tls_is_refused(host: str) -> None:
    with pytest.raises(ConsoleSecurityError) as error:
        configure_tls(parsed(CONSOLE_HTTP_ADDR=f"{host}:3000"))
    assert f"CONSOLE_HTTP_ADDR {host}:3000 needs CONSOLE_TLS_CERT and CONSOLE_TLS_KEY" in str(error.value)
    assert "CONSOLE_INSECURE=1" in str(error.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "[::1]", "localhost"])
def test_loopback_needs_no_tls(host: str) -> None:
    assert configure_tls(parsed(CONSOLE_HTTP_ADDR=f"{host}:3000")) is None


def test_a_reachable_port_with_tls_is_served(server: Pair) -> None:
    files = {"CONSOLE_TLS_CERT": str(server.cert), "CONSOLE_TLS_KEY": str(server.key)}
    assert isinstance(configure_tls(parsed(CONSOLE_HTTP_ADDR="0.0.0.0:3000", **files)), ServerTls)


def test_a_reachable_port_without_tls_that_is_intended_is_warned_of() -> None:
    with structlog.testing.capture_logs() as lines:
        assert configure_tls(parsed(CONSOLE_HTTP_ADDR="0.0.0.0:3000", CONSOLE_INSECURE="1")) is None
    assert [line["event"] for line in lines] == ["other machines can reach the console without protection"]


@pytest.mark.parametrize("name", ["CERT", "KEY"])
def test_a_certificate_and_its_key_belong_together(name: str) -> None:
    with pytest.raises(ConsoleSecurityError, match=f"CONSOLE_TLS_{name} is set without CONSOLE_TLS_"):
        configure_tls(parsed(**{f"CONSOLE_TLS_{name}": "file"}))


def test_a_certificate_that_is_missing_is_named() -> None:
    with pytest.raises(TlsConfigurationError, match=r"a\.crt does not exist"):
        configure_tls(parsed(CONSOLE_TLS_CERT="a.crt", CONSOLE_TLS_KEY="a.key"))


def test_a_ca_of_a_plain_headend_is_refused() -> None:
    with pytest.raises(ConsoleSecurityError, match=r"HEADEND_HTTP 127\.0\.0\.1:1 is not https://"):
        configure_tls(parsed(HEADEND_HTTP="http://127.0.0.1:1", HEADEND_HTTP_CA="ca.crt"))


def test_a_ca_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(HeadendTlsError, match=r"HEADEND_HTTP_CA .*missing\.crt cannot be loaded"):
        client_context(tmp_path / "missing.crt")
    (tmp_path / "faulty.crt").write_text("nothing")
    with pytest.raises(HeadendTlsError, match=r"HEADEND_HTTP_CA .*faulty\.crt cannot be loaded"):
        client_context(tmp_path / "faulty.crt")


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"HEADEND_HTTP": "nowhere"}, "'nowhere' is not an address"),
        ({"HEADEND_HTTP": "https://127.0.0.1:1/api"}, "is not an address"),
        ({"HEADEND_HTTP_HOST": "a b"}, "'a b' is not a host"),
        ({"CONSOLE_HTTP_HOSTS": "a b"}, "'a b' is not a host"),
        ({"CONSOLE_HTTP_ADDR": "3000"}, "'3000' is not an address"),
    ],
)
def test_wrong_usage_is_named(variables: dict[str, str], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        parsed(**variables)
