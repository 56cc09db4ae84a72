"""`scripts/bench`: the group of all benchmarks; each is a command in a module of its own."""

import click

from scripts.benchmarks.dispatch import dispatch
from scripts.benchmarks.ingest import ingest
from scripts.benchmarks.pulse import pulse
from scripts.benchmarks.rest import rest


@click.group(
    help="Measure the parts and the whole. Each benchmark prints one table, as docs/benchmarks.md tells."
)
def main() -> None:
    """Group the commands."""


main.add_command(dispatch)
main.add_command(ingest)
main.add_command(pulse)
main.add_command(rest)

if __name__ == "__main__":
    main(prog_name="scripts/bench")
