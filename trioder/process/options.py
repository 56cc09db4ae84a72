"""The command-line options that all three executables share."""

from collections.abc import Callable
from typing import TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])


def logging_options(command: Command) -> Command:
    """Add --log-level and --log-format; the command takes `log_level` and `log_format`."""
    level = click.option(
        "--log-level",
        envvar="LOG_LEVEL",
        type=click.Choice(["debug", "info", "warning", "error", "critical"], case_sensitive=False),
        default="info",
        show_default=True,
        show_envvar=True,
        help="The least serious level that is logged.",
    )
    line_format = click.option(
        "--log-format",
        envvar="LOG_FORMAT",
        type=click.Choice(["auto", "console", "json"], case_sensitive=False),
        default="auto",
        show_default=True,
        show_envvar=True,
        help="json: one object a line; console: plain text; auto: that, in colour on a terminal.",
    )
    return level(line_format(command))
