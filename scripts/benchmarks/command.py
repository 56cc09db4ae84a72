"""How every benchmark runs: until its report, a fault or a signal, whichever is first; and what it leaves.

The processes that it starts are those of `programs`.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import click
import trio

from scripts.benchmarks.report import Report
from trioder.process.signals import stop_signals

json_option = click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the figures to this file as well; a relative path begins at the project's folder.",
)


class BenchmarkError(Exception):
    """There is nothing to report; the text says why."""


def run_benchmark(measure: Callable[[], Awaitable[Report]], *, json_path: Path | None) -> None:
    """Measure, print, write; the exit code is 1 when the figures are worthless, 130 after a signal."""
    try:
        report = trio.run(_until_signalled, measure)
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from None
    if report is None:
        click.echo("stopped", err=True)
        sys.exit(130)
    click.echo(report.as_text())
    if json_path is not None:
        json_path.write_text(report.as_json(), encoding="utf-8")
    if report.faults:
        raise click.ClickException("; ".join(report.faults))


async def _until_signalled(measure: Callable[[], Awaitable[Report]]) -> Report | None:
    report: Report | None = None
    error: Exception | None = None
    scope = trio.CancelScope()
    with trio.open_signal_receiver(*stop_signals()) as signals:
        async with trio.open_nursery() as nursery:
            # For as long as cleaning up takes: it is bounded, and a second signal must not cut it short.
            nursery.start_soon(_cancel_at, signals, scope)
            with scope:
                try:
                    report = await measure()
                except Exception as caught:  # noqa: BLE001  # raised below: the nursery would wrap it
                    error = caught
            nursery.cancel_scope.cancel()
    if error is not None:
        raise error
    return report


async def _cancel_at(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()
