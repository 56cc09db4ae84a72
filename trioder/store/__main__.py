"""`python -m trioder.store`: the embedded database's URL, and the confirmation that retention waits for."""

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click

from trioder.store.embedded.binaries import find_installation, pg_variables, pg_variables_hidden
from trioder.store.embedded.layout import DataFolder
from trioder.store.interface import StoreConfigurationError
from trioder.store.postgres.confirmation import confirm, held_telemetry

Command = TypeVar("Command", bound=Callable[..., object])


def _state_dir_option(command: Command) -> Command:
    return click.option(
        "--state-dir",
        envvar="STATE_DIR",
        type=click.Path(path_type=Path),
        default=Path("var"),
        show_default=True,
        show_envvar=True,
        help="Where the headend keeps its data.",
    )(command)


@click.group(help="Commands for the headend's database.")
def main() -> None:
    """Group the commands."""


@main.command(help="Print the URL of the embedded database, which runs while the headend does.")
@_state_dir_option
def url(*, state_dir: Path) -> None:
    """Print the URL on standard output, and the command line of the bundled psql on standard error."""
    folder = _folder(state_dir)
    click.echo(folder.url)
    try:
        psql = find_installation().bin_dir / "psql"
    except StoreConfigurationError:
        return
    # psql would read what is set for another server.
    without = ["env", *(word for name in pg_variables(os.environ) for word in ("-u", name))]
    command = [*(without if len(without) > 1 else []), str(psql), folder.url]
    click.echo(shlex.join(command), err=True)


@main.command(
    "confirm-retention",
    help="Show the old telemetry that retention holds, and approve dropping it. "
    "An embedded database needs the headend to run.",
)
@_state_dir_option
@click.option(
    "--database-url",
    envvar="DATABASE_URL",
    default="embedded",
    show_default=True,
    show_envvar=True,
    help="The same as the headend's.",
)
@click.option("--yes", is_flag=True, help="Confirm without asking.")
def confirm_retention(*, state_dir: Path, database_url: str, yes: bool) -> None:
    """Show what is held, ask, and confirm; exit 1 if something is held and not confirmed."""
    with _database(database_url, state_dir) as database, _readable_errors():
        held = held_telemetry(database)
        if held is None:
            click.echo("No telemetry waits for a confirmation.")
            return
        click.echo(
            f"{held.days} days of telemetry, from {held.first} on, are past their retention and were kept:\n"
            f"{held.reason}.\n"
            f"The newest telemetry is of {held.newest_day}. Confirmed, all telemetry dated before "
            f"{held.before} is dropped for good, also the newest of assets that have none since."
        )
        if not yes:
            click.confirm("Drop it?", abort=True)
        confirm(database, held)
        click.echo("Confirmed: the headend drops it with its next maintenance.")


def _folder(state_dir: Path) -> DataFolder:
    try:
        folder = DataFolder.below(state_dir)
    except StoreConfigurationError as error:
        raise click.UsageError(str(error)) from None
    if not folder.data.exists():
        raise click.ClickException(
            f"there is no database in {folder.root}; a headend makes it when it starts"
        )
    return folder


@contextmanager
def _database(database_url: str, state_dir: Path) -> Iterator[str]:
    if database_url != "embedded":
        yield database_url
        return
    with pg_variables_hidden():
        yield _folder(state_dir).url


@contextmanager
def _readable_errors() -> Iterator[None]:
    try:
        yield
    except StoreConfigurationError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
