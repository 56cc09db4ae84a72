"""`python -m trioder.store url`: how to reach the embedded database with psql and the like."""

import os
import shlex
from pathlib import Path

import click

from trioder.store.embedded.binaries import find_installation
from trioder.store.embedded.environment import pg_variables
from trioder.store.embedded.layout import DataFolder
from trioder.store.interface import StoreConfigurationError


@click.group(help="The embedded database, for people.")
def main() -> None:
    """Group the commands."""


@main.command(help="Print the URL of the embedded database; it answers while the headend runs.")
@click.option(
    "--state-dir",
    envvar="STATE_DIR",
    type=click.Path(path_type=Path),
    default=Path("var"),
    show_default=True,
    show_envvar=True,
    help="Where the headend keeps its data.",
)
def url(*, state_dir: Path) -> None:
    """Print the URL on standard output, and on standard error how the bundled psql takes it."""
    try:
        folder = DataFolder.below(state_dir)
    except StoreConfigurationError as error:
        raise click.UsageError(str(error)) from None
    if not folder.data.exists():
        raise click.ClickException(
            f"there is no database in {folder.root}; a headend makes it when it starts"
        )
    click.echo(folder.url)
    try:
        psql = find_installation().bin_dir / "psql"
    except StoreConfigurationError:
        return
    # What is set here for another server would reach psql as well.
    without = ["env", *(word for name in pg_variables(os.environ) for word in ("-u", name))]
    command = [*(without if len(without) > 1 else []), str(psql), folder.url]
    click.echo(shlex.join(command), err=True)


if __name__ == "__main__":
    main()
