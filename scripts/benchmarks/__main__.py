"""`scripts/bench`: the group of all benchmarks; each is a command in a module of its own."""

import click

from scripts.benchmarks.ingest import ingest
from scripts.benchmarks.pulse import pulse


@click.group(
    help="Measure the parts and the whole. Each benchmark prints one table, as docs/benchmarks.md tells."
)
def main() -> None:
    """Group the commands."""


main.add_command(ingest)
main.add_command(pulse)

if __name__ == "__main__":
    main(prog_name="scripts/bench")
