"""`trioder headend`, `launcher` and so on: the programs of `python -m trioder.headend` and so on.

Each is the very command of its module, with its options, exit codes and completion.
"""

import copy
from collections.abc import Callable
from importlib import import_module
from typing import Any

import click

from trioder.cli.exit_codes import CommandError
from trioder.cli.lazy import LazyCommand
from trioder.cli.options import given_options

SECTION = "Programs"
PROGRAMS = {
    "headend": "Serve a fleet: gRPC for agents, REST and the live feed for users.",
    "launcher": "Keep agents alive for all assets of a fleet file.",
    "agent": "Run one battery, or a shard of many.",
    "console": "Serve the console, a web page over a headend.",
    "access": "Issue, list and revoke certificates and tokens.",
}


def program_commands() -> dict[str, LazyCommand]:
    """Return the programs by their names."""
    return {
        name: LazyCommand(module="", attribute="", summary=summary, section=SECTION, load=_loader(name))
        for name, summary in PROGRAMS.items()
    }


def load_program(name: str) -> click.Command:
    """Import a program.

    Raises:
        CommandError: what it needs is not installed.
    """
    module_name = f"trioder.{name}.__main__"
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise CommandError(
            f"trioder {name} needs the module {error.name}, which is not installed; the server's packages "
            "are installed by: pip install 'trioder[server]'"
        ) from None
    command: click.Command = module.main
    if isinstance(command, click.Group) or not hasattr(module, "queue_standard_error"):
        return command
    return _with_queued_errors(command, module.queue_standard_error)


def _loader(name: str) -> Callable[[click.Context], click.Command]:
    def load(context: click.Context) -> click.Command:
        if not context.resilient_parsing and (given := given_options(context)):
            raise click.UsageError(f"{given[0]} is for commands of the headend; {name} is a program")
        return load_program(name)

    return load


def _with_queued_errors(command: click.Command, queue_standard_error: Callable[[], object]) -> click.Command:
    """Return the command as its module runs it: a standard error that is stopped does not block it."""
    callback = command.callback

    def run(**parameters: Any) -> object:
        queue_standard_error()
        return callback and callback(**parameters)

    program = copy.copy(command)
    program.callback = run
    return program
