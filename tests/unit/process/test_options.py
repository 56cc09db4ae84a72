import click
import pytest
from click.testing import CliRunner

from trioder.process.logs import logging_options


@click.command()
@logging_options
def command(log_level: str, log_format: str) -> None:
    click.echo(f"{log_level} {log_format}")


@pytest.mark.parametrize(
    ("arguments", "env", "output"),
    [
        ([], {}, "info auto\n"),
        (["--log-level", "DEBUG", "--log-format", "json"], {}, "debug json\n"),
        ([], {"LOG_LEVEL": "Error", "LOG_FORMAT": "CONSOLE"}, "error console\n"),
        (["--log-level", "debug"], {"LOG_LEVEL": "error"}, "debug auto\n"),
    ],
)
def test_options_go_before_the_environment(arguments: list[str], env: dict[str, str], output: str) -> None:
    assert (
        CliRunner().invoke(command, arguments, env={"LOG_LEVEL": None, "LOG_FORMAT": None} | env).output
        == output
    )


def test_an_unknown_level_is_a_usage_error() -> None:
    result = CliRunner().invoke(command, [], env={"LOG_LEVEL": "loud"})
    assert result.exit_code == 2
    assert "'loud' is not one of" in result.output
