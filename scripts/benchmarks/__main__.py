"""`scripts/bench`: the group of all benchmarks; each is a command in a module of its own."""

import click

from scripts.benchmarks.console import console
from scripts.benchmarks.dispatch import dispatch
from scripts.benchmarks.fleet import fleet
from scripts.benchmarks.growth import growth
from scripts.benchmarks.history import history
from scripts.benchmarks.ingest import ingest
from scripts.benchmarks.pulse import pulse
from scripts.benchmarks.rest import rest
from scripts.benchmarks.stop import stop
from scripts.benchmarks.storm import storm
from scripts.benchmarks.stream import stream

main = click.Group(
    commands=[console, dispatch, fleet, growth, history, ingest, pulse, rest, stop, storm, stream],
    help="Measure the parts and the whole. Each benchmark prints one table, described in docs/benchmarks.md.",
)

if __name__ == "__main__":
    main(prog_name="scripts/bench")
