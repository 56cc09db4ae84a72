#!/usr/bin/env python
"""Replays a regulation signal onto a running fleet as group dispatches, and reports delivered against asked.

Usage: python scripts/follow_agc.py --signal regd --output var/agc/regd
"""

import sys
from pathlib import Path

import click
import trio

# Run as a script, the folder of the scripts is on the path, but not the one above it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

try:
    import httpx2

    from scripts.regulation.headend import FleetState, Headend, HeadendError
    from scripts.regulation.plot import draw_replay
    from scripts.regulation.replay import Recording, lease_s, replay, scaled
    from scripts.regulation.report import Report, make_report, report_json, report_text, write_series
    from scripts.regulation.signals import Signal, load_signal
    from trioder.process.signals import stop_signals
except ModuleNotFoundError as error:
    missing = str(error.name).partition(".")[0]
    if missing not in {"httpx2", "matplotlib"}:
        raise
    sys.exit(
        f"trioder: following a signal needs {missing}, which is not installed; it comes with\n"
        "  .venv/bin/python -m pip install --constraint constraints.txt --editable '.[plot]'"
    )

DEFAULT_SHARE = 0.5
PROGRESS_EVERY_S = 30.0
LAST_DISPATCH_WITHIN_S = 5.0


@click.command()
@click.option(
    "--signal", "which", default="regd", show_default=True, metavar="regd|caiso|FILE", help="What to replay."
)
@click.option("--day", help="Of the caiso signal, as 2016-05-19; the column of a FILE with several.")
@click.option(
    "--minutes", type=click.FloatRange(min=0.0, min_open=True), help="Of the signal; the whole without it."
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0.0, min_open=True),
    default=1.0,
    show_default=True,
    help="How many times faster than real time the signal runs.",
)
@click.option(
    "--mw",
    type=click.FloatRange(min=0.0, min_open=True),
    help="Regulation capability that the signal is scaled by; without it, half of what the fleet can do both "
    "ways for 15 minutes.",
)
@click.option("--headend", "url", default="http://127.0.0.1:3001", show_default=True, help="Its REST.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Folder and beginning of the names of the .png, .csv and .json; var/agc/SIGNAL without it.",
)
def main(
    *,
    which: str,
    day: str | None,
    minutes: float | None,
    speed: float,
    mw: float | None,
    url: str,
    output: Path | None,
) -> None:
    """Replay a regulation signal onto the fleet, and report delivered against asked."""
    try:
        signal = load_signal(which, day=day)
        if minutes is not None:
            signal = signal.first(minutes)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    prefix = output or Path("var/agc") / signal.name
    prefix.parent.mkdir(parents=True, exist_ok=True)
    try:
        recording, capability_mw = trio.run(follow, signal, url, mw, speed)
    except HeadendError as error:
        raise click.ClickException(f"{url}: {error}") from error
    try:
        report = make_report(
            recording, signal=signal.title, step_s=signal.step_s, speed=speed, capability_mw=capability_mw
        )
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    write(recording, report, prefix)
    print(f"\n{report_text(report)}")
    for why in [*recording.failed.values(), *recording.read_failed.values()][:1]:
        print(f"first failure: {why}")
    print(f"written      {prefix}.png, .csv, .json")


async def follow(signal: Signal, url: str, mw: float | None, speed: float) -> tuple[Recording, float]:
    """Follow the signal until it ends or SIGINT or SIGTERM comes, then ask for 0 MW.

    Returns what was recorded, and the capability in MW.

    Raises:
        HeadendError: the headend does not respond at the start, or the fleet can do nothing.
    """
    async with httpx2.AsyncClient(base_url=url) as client:
        headend = Headend(client)
        fleet = await headend.fleet()
        capability_mw = mw or DEFAULT_SHARE * fleet.both_ways_mw
        if capability_mw <= 0.0:
            raise HeadendError(
                "the fleet can do nothing both ways for 15 minutes; name a capability with --mw"
            )
        interval_s = signal.step_s / speed
        print(beginning(signal, fleet, capability_mw=capability_mw, interval_s=interval_s), flush=True)
        recording = Recording(asked_mw=scaled(signal.values, capability_mw), resting_mw=fleet.current_mw)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_at_a_signal, nursery.cancel_scope)
                nursery.start_soon(show_progress, recording, signal)
                await replay(headend, recording, interval_s=interval_s)
                nursery.cancel_scope.cancel()
        finally:
            with trio.move_on_after(LAST_DISPATCH_WITHIN_S, shield=True):
                await release(headend, duration_s=lease_s(interval_s))
    return recording, capability_mw


async def release(headend: Headend, *, duration_s: int) -> None:
    """Ask for 0 MW, so that the fleet does not wait for its last setpoint to end."""
    try:
        await headend.dispatch_fleet(0.0, duration_s=duration_s)
    except HeadendError as error:
        print(f"the last dispatch, of 0 MW: {error}; the fleet is at 0 MW in {duration_s} s", file=sys.stderr)


async def cancel_at_a_signal(scope: trio.CancelScope) -> None:
    """Cancel the scope at SIGINT or SIGTERM."""
    with trio.open_signal_receiver(*stop_signals()) as received:
        async for _number in received:
            print("\nstopping; the score so far:", flush=True)
            scope.cancel()
            return


async def show_progress(recording: Recording, signal: Signal) -> None:
    """Print a line every now and then."""
    while True:
        await trio.sleep(PROGRESS_EVERY_S)
        if recording.steps:
            step = recording.steps - 1
            print(
                f"{recording.steps * signal.step_s / 60.0:6.1f} of {signal.duration_s / 60.0:.1f} min: "
                f"asked {recording.asked_mw[step]:+9.2f} MW, "
                f"delivered {recording.delivered_mw[step]:+9.2f} MW; "
                f"{len(recording.sent)} sent, {recording.skipped} skipped, {len(recording.failed)} failed",
                flush=True,
            )


def beginning(signal: Signal, fleet: FleetState, *, capability_mw: float, interval_s: float) -> str:
    """Return what is printed before anything is asked."""
    return (
        f"{fleet.live_assets} of {fleet.assets} batteries live, at {fleet.current_mw:.2f} MW; "
        f"both ways for 15 min: {fleet.both_ways_mw:.1f} MW\n"
        f"{signal.title}: {signal.duration_s / 60.0:.1f} min in steps of {signal.step_s:g} s; "
        f"a dispatch every {interval_s:g} s, 1 per unit = {capability_mw:.1f} MW; Ctrl-C ends it in order"
    )


def write(recording: Recording, report: Report, prefix: Path) -> None:
    """Write the three files."""
    # Not with_suffix: a name such as regd-0.5 ends in no suffix.
    with Path(f"{prefix}.csv").open("w", encoding="utf-8") as file:
        write_series(recording, step_s=report.step_s, to=file)
    Path(f"{prefix}.json").write_text(report_json(report), encoding="utf-8")
    draw_replay(recording, report, Path(f"{prefix}.png"))


if __name__ == "__main__":
    main()
