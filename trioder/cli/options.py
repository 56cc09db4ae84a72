"""The options that all commands of the headend share, on each of them and before the command's name."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from trioder.cli.output import Output, open_output
from trioder.cli.quantities import protect_negative_numbers
from trioder.cli.settings import (
    CA_VARIABLE,
    DEFAULT_URL,
    PROFILE_VARIABLE,
    TOKEN_VARIABLE,
    URL_VARIABLE,
    Options,
    Settings,
    load_settings,
)

Command = TypeVar("Command", bound=Callable[..., object])

_META = "trioder.cli"
MAX_CONTENT_WIDTH = 100


def connection_options(command: Command) -> Command:
    """Add the options that say which headend, and how output is printed."""
    for option in reversed(_options()):
        command = option(command)
    return command


def _options() -> list[Callable[[Command], Command]]:
    def option(*names: str, **settings: Any) -> Callable[[Command], Command]:
        # Their values are for whatever needs them, not for the command itself.
        return click.option(*names, expose_value=False, callback=_remember, **settings)

    return [
        option("--json", "as_json", is_flag=True, default=None, help="Print JSON."),
        option(
            "--url", metavar="URL", help=f"The headend.  [env var: {URL_VARIABLE}; default: {DEFAULT_URL}]"
        ),
        option(
            "--token-file",
            metavar="FILE",
            help="A file with the token, readable by its owner only; - is standard input.  "
            f"[env var: {TOKEN_VARIABLE}, the token itself]",
        ),
        option(
            "--ca",
            metavar="FILE",
            help=f"PEM file: the CA of the headend's certificate.  [env var: {CA_VARIABLE}]",
        ),
        option(
            "--profile",
            metavar="NAME",
            help=f"A profile of the configuration file.  [env var: {PROFILE_VARIABLE}]",
        ),
    ]


def _remember(context: click.Context, parameter: click.Parameter, value: object) -> None:
    # Shared with the contexts of subcommands, whose own options come later and before these.
    if value is not None:
        context.meta.setdefault(_META, {})[parameter.name] = value


def settings_of(context: click.Context) -> Settings:
    """Return how the headend is reached; see `load_settings`."""
    given = context.meta.get(_META, {})
    return load_settings(
        Options(
            url=given.get("url"),
            token_file=given.get("token_file"),
            ca=given.get("ca"),
            profile=given.get("profile"),
        ),
        os.environ,
    )


def given_options(context: click.Context) -> list[str]:
    """Return the names of the shared options that are given."""
    return ["--" + name.removeprefix("as_").replace("_", "-") for name in context.meta.get(_META, {})]


def output_of(context: click.Context) -> Output:
    """Return where the command prints, and how."""
    return open_output(as_json=bool(context.meta.get(_META, {}).get("as_json")))


class HeadendCommand(click.Command):
    """A command of the headend: negative numbers are values, and help is as wide as the tables."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments, of which negative numbers are powers."""
        return super().parse_args(ctx, protect_negative_numbers(args))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options before those that all commands share."""
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                (own if parameter.callback is not _remember else shared).append(record)
        for section, records in (("Options", own), ("Options of all commands", shared)):
            with formatter.section(section):
                formatter.write_dl(records)


def headend_command(name: str, **settings: Any) -> Callable[[Callable[..., object]], click.Command]:
    """Make a command that asks the headend: with the shared options, and the context as first argument."""

    def decorate(function: Callable[..., object]) -> click.Command:
        with_options = connection_options(click.pass_context(function))
        return click.command(name, cls=HeadendCommand, **settings)(with_options)

    return decorate
