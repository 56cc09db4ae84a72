"""`trioder`: the commands, how they end, and the exit code."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

import trioder
from trioder.cli.exit_codes import EXIT_CODES, INTERRUPTED, OUTPUT_CLOSED
from trioder.cli.lazy import LazyCommand, LazyGroup
from trioder.cli.options import MAX_CONTENT_WIDTH, connection_options
from trioder.cli.programs import program_commands

_FLEET, _COMMAND, _RECORD = "The fleet", "Commands to the fleet", "Alarms and records"
_OTHER = "Other"
# By click's rule, from the name of the program.
COMPLETION_VARIABLE = "_TRIODER_COMPLETE"


def _command(module: str, summary: str, section: str, attribute: str | None = None) -> LazyCommand:
    return LazyCommand(
        module=f"trioder.cli.commands.{module}",
        attribute=attribute or module,
        summary=summary,
        section=section,
    )


COMMANDS: dict[str, LazyCommand] = {
    "fleet": _command("fleet", "Show the sums over the fleet.", _FLEET),
    "sites": _command("fleet", "List the sites.", _FLEET, "sites"),
    "assets": _command("assets", "List the assets and their latest values.", _FLEET),
    "asset": _command("assets", "Show one asset.", _FLEET, "asset"),
    "watch": _command("watch", "Follow the assets, live.", _FLEET),
    "history": _command("history", "List an asset's recorded values.", _FLEET),
    "dispatch": _command("dispatch", "Dispatch assets; show, list and cancel dispatches.", _COMMAND),
    "stop": _command("stops", "Stop assets in an emergency: 0 MW, until they are resumed.", _COMMAND, "stop"),
    "resume": _command("stops", "End a stop.", _COMMAND, "resume"),
    "schedule": _command("schedule", "Create, list, show, skip and cancel schedules.", _COMMAND),
    "alarms": _command("alarms", "List alarms, or acknowledge one.", _RECORD),
    "events": _command("alarms", "List what agents reported, and transitions of alarms.", _RECORD, "events"),
    "agents": _command("headend", "List the agents, and the assets that they drive.", _RECORD, "agents"),
    "audit": _command("headend", "List commands and refused attempts.", _RECORD, "audit"),
    "health": _command("headend", "Show the headend's health.", _OTHER, "health"),
    "whoami": _command("headend", "Show who the token authenticates.", _OTHER, "whoami"),
    "completion": _command("completion", "Print a shell's completion script.", _OTHER),
    **program_commands(),
}


class _Root(LazyGroup):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        """Write the exit codes below the commands."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])


@click.group("trioder", cls=_Root, lazy=COMMANDS, context_settings={"max_content_width": MAX_CONTENT_WIDTH})
@connection_options
@click.version_option(trioder.__version__, prog_name="trioder")
def root() -> None:
    """Operate a fleet of grid batteries through its headend, and run the programs of one.

    Assets and sites are named by their exact name, their id, or its first four or more characters. + MW
    discharges to the grid, - MW charges. The options below may also follow the command.
    """


def main() -> NoReturn:
    """Run `trioder` with the arguments of the process, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            # Where the encoding is not UTF-8, a name is no error.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run `trioder` with these arguments and return the exit code."""
    if COMPLETION_VARIABLE in os.environ:
        from trioder.cli.completing import install_completion  # noqa: PLC0415  # for shells only

        install_completion()
    try:
        code = root.main(list(arguments), prog_name="trioder", standalone_mode=False)
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        _show(error)
        return error.exit_code
    except BrokenPipeError:
        return OUTPUT_CLOSED
    return code if isinstance(code, int) else 0


def _show(error: click.ClickException) -> None:
    try:
        error.show()
    except OSError:
        # Standard error is closed or full: the exit code remains.
        sys.stderr = None
