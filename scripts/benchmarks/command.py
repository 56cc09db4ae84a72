"""How every benchmark runs: its options, until its report, an error or a signal, whichever is first."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import trio

from scripts.benchmarks.report import Report
from trioder.process.signals import stop_signals

T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., object])

json_option = click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the figures to this file as well; a relative path begins at the project's folder.",
)


class BenchmarkError(Exception):
    """There is nothing to report; the text says why."""


def number(names: str, low: float, high: float | None, default: Any, text: str) -> Callable[[C], C]:
    """Return an option for whole numbers, or any if `low` is a float; for several if `default` is a tuple."""
    kind: Any = click.FloatRange(low, high) if isinstance(low, float) else click.IntRange(low, high)
    several = isinstance(default, tuple)
    return click.option(
        *names.split(), type=kind, default=default, multiple=several, show_default=True, help=text
    )


def run_benchmark(measure: Callable[[], Awaitable[Report]], *, json_path: Path | None) -> None:
    """Measure, print, write; the exit code is 1 when the figures are invalid, 130 after a signal."""
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
            # Until cleanup is over: it is bounded, and a second signal must not cut it short.
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


async def in_thread(job: Callable[..., T], *arguments: Any, within_s: float = 120.0) -> T:
    """Run a database query in a thread, which is abandoned on a signal: it ends with the server.

    Raises:
        BenchmarkError: it took too long.
    """
    with trio.move_on_after(within_s):
        return await trio.to_thread.run_sync(job, *arguments, abandon_on_cancel=True)
    raise BenchmarkError(f"the database did not respond within {within_s:g} s")
