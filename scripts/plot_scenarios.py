"""Draws the shipped scenarios: each is run in virtual time, with its operator's dispatches, and recorded.

Usage: python -m scripts.plot_scenarios [--output docs/images] [NAME ...]

The runs are those of tests/simulation/test_scenarios.py. Needs matplotlib, and what the tests need:
`.venv/bin/python -m pip install --constraint constraints.txt --editable '.[dev,plot]'`.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import click
import structlog
import trio
import trio.testing
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from tests.simulation.scenario_runs import STORIES, Recording, run_scenario

_ASKED, _REAL, _REPORTED, _AVAILABLE = "#9aa5b1", "#0b6e99", "#d9822b", "#5b8c5a"
_ACTION, _ALARM, _EVENT, _STATE, _SESSION = "#e0a458", "#b4472e", "#6b4fa0", "#3d4752", "#8a6d3b"
_INK, _GRID, _SHADE = "#2b2f36", "#e3e7ec", "#faf1e6"
_MIN_S = 60.0
_DASHES = (0, (3, 2))
_STATES_SHOWN = ("rejected", "deviating", "failed", "not_tracked")


class _Row(NamedTuple):
    """A row of the time line: marks have a beginning and, for what lasts, an end, in seconds."""

    label: str
    colour: str
    marks: Sequence[tuple[float, float | None]]


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("docs/images"),
    show_default=True,
    help="Folder of the pictures.",
)
@click.argument("names", nargs=-1, type=click.Choice(sorted(STORIES)))
def main(output: Path, names: Sequence[str]) -> None:
    """Draw the scenarios of these names; all without any."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    output.mkdir(parents=True, exist_ok=True)
    for name in names or sorted(STORIES):
        clock = trio.testing.MockClock(autojump_threshold=0)
        recording = trio.run(partial(run_scenario, name), clock=clock)
        path = output / f"scenario_{name}.png"
        draw(recording, path, _DETAILS[name])
        click.echo(path)


def draw(recording: Recording, path: Path, detail: Callable[[Recording, Axes], None]) -> None:
    """Write a PNG: the fleet's power, a detail of the scenario, and what the headend noticed."""
    rows = _timeline(recording)
    figure = Figure(figsize=(11.0, 6.2 + 0.26 * len(rows)), dpi=110, layout="constrained")
    heights = [2.6, 2.6, 0.3 + 0.26 * len(rows)]
    power, second, third = figure.subplots(3, 1, sharex=True, height_ratios=heights)
    _draw_power(recording, power)
    detail(recording, second)
    _draw_timeline(rows, third)
    for axes in (power, second):
        axes.axhline(0.0, color=_INK, linewidth=0.7)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), frameon=False, fontsize=9)
    for axes in (power, second, third):
        _shade(recording, axes)
        axes.grid(visible=True, color=_GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=_INK, labelsize=9)
    length_min = recording.story.ends_s / _MIN_S
    third.set_xlim(0.0, length_min)
    third.xaxis.set_major_locator(MultipleLocator(5.0 if length_min <= 60.0 else 30.0))
    third.set_xlabel("minutes after the scenario's start")
    power.set_title(recording.scenario.name, loc="left", fontsize=14, fontweight="bold", color=_INK, pad=10)
    figure.align_ylabels([power, second])
    figure.savefig(path)


def _draw_power(recording: Recording, axes: Axes) -> None:
    minutes = _minutes(recording)
    asked_mw = [_asked_mw(recording, sample.at_s) for sample in recording.samples]
    _step(axes, minutes, asked_mw, _ASKED, "dispatched", linewidth=3.0)
    real_mw = [sum(sample.real_mw) for sample in recording.samples]
    _step(axes, minutes, real_mw, _REAL, "at the meters")
    good_mw = [sample.good_mw for sample in recording.samples]
    _step(axes, minutes, good_mw, _REPORTED, "good values at\nthe headend", linestyle=_DASHES)
    # A dispatch that has ended keeps the shortfall that it had.
    short_mw = [
        sample.shortfall_mw if asked else 0.0
        for sample, asked in zip(recording.samples, asked_mw, strict=True)
    ]
    if any(short_mw):
        axes.fill_between(
            minutes, short_mw, step="post", color=_ALARM, linewidth=0.0, label="shortfall,\nas it answers"
        )
    axes.set_ylabel("fleet, MW (+ discharges)")


def _asked_mw(recording: Recording, at_s: float) -> float:
    """The latest dispatch's power, until its end."""
    mw = 0.0
    for order in recording.story.orders:
        if order.at_s <= at_s:
            mw = order.mw if at_s < order.at_s + order.duration_s else 0.0
    return mw


def _step(
    axes: Axes,
    minutes: Sequence[float],
    values: Sequence[float],
    colour: str,
    label: str,
    *,
    linewidth: float = 1.4,
    linestyle: str | tuple[int, tuple[int, int]] = "-",
) -> None:
    axes.step(
        minutes, values, where="post", color=colour, linewidth=linewidth, linestyle=linestyle, label=label
    )


def _site_detail(recording: Recording, axes: Axes) -> None:
    minutes = _minutes(recording)
    crimson = [name for name in recording.names if name.startswith("Crimson")]
    others = [name for name in recording.names if name not in crimson]
    _step(axes, minutes, _sums(recording, crimson, "real_mw"), _ALARM, "Crimson, 2 units")
    _step(axes, minutes, _sums(recording, others, "real_mw"), _REAL, "the other 7 units")
    available_mw = _sums(recording, others, "available_mw")
    _step(axes, minutes, available_mw, _AVAILABLE, "available from\nthe other 7", linestyle=":")
    axes.set_ylabel("power, MW")


def _gateway_detail(recording: Recording, axes: Axes) -> None:
    minutes = _minutes(recording)
    lost = ["Elkhorn ELKHO", "Gateway GTWAY"]
    _step(axes, minutes, _sums(recording, lost, "real_mw"), _REAL, "at the meters")
    label = "at the headend:\nlast value, or its\nown model's"
    _step(axes, minutes, _sums(recording, lost, "reported_mw"), _REPORTED, label, linestyle=_DASHES)
    axes.set_ylabel("the gateway's 2 units, MW")


def _heat_detail(recording: Recording, axes: Axes) -> None:
    minutes = _minutes(recording)
    desert = ["Crimson SWSH1", "Crimson SWSH2", "McCoy MCST1", "Sunlight SUNS1"]
    coast = ["Moss BAT1", "Moss BAT2", "Elkhorn ELKHO"]
    for names, colour, label in ((desert, _ALARM, "desert, 4 units"), (coast, _REAL, "coast, 3 units")):
        available_mw = _sums(recording, names, "available_mw")
        _step(axes, minutes, available_mw, colour, f"{label}: available", linestyle=":")
        _step(axes, minutes, _sums(recording, names, "real_mw"), colour, f"{label}: power")
    axes.set_ylabel("power, MW")


def _liar_detail(recording: Recording, axes: Axes) -> None:
    minutes = _minutes(recording)
    place = recording.names.index("Diablo DIBLO")
    _step(axes, minutes, _sums(recording, ["Diablo DIBLO"], "real_mw"), _REAL, "at the meter")
    reported_mw = _sums(recording, ["Diablo DIBLO"], "reported_mw")
    _step(axes, minutes, reported_mw, _REPORTED, "as reported\n(NaN: a gap)", linestyle=_DASHES)
    for quality, marker in (("suspect", "x"), ("bad", "+")):
        points = [
            (minute, mw)
            for minute, mw, sample in zip(minutes, reported_mw, recording.samples, strict=True)
            if sample.quality[place] == quality
        ]
        axes.plot(*zip(*points, strict=True), marker, color=_ALARM, markersize=4, label=f"quality {quality}")
    axes.set_ylabel("Diablo, MW")


def _network_detail(recording: Recording, axes: Axes) -> None:
    """Every session counts, also one that is lost for a second."""
    changes = [
        (each.at_s, (1 if each.kind == "session opened" else -1) * recording.units_of(each.about))
        for each in recording.happenings
        if each.kind in {"session opened", "session closed"}
    ]
    times, counts = [0.0], [0]
    for at_s, by in changes:
        times.append(at_s / _MIN_S)
        counts.append(counts[-1] + by)
    _step(
        axes, [*times, recording.story.ends_s / _MIN_S], [*counts, counts[-1]], _AVAILABLE, "with a session"
    )
    axes.set_ylim(0, len(recording.names) + 0.5)
    axes.set_ylabel("units")


_DETAILS: dict[str, Callable[[Recording, Axes], None]] = {
    "site_trips": _site_detail,
    "gateway_drops": _gateway_detail,
    "hot_afternoon": _heat_detail,
    "lying_inverter": _liar_detail,
    "bad_network": _network_detail,
}


def _timeline(recording: Recording) -> list[_Row]:
    return [
        *_action_rows(recording),
        *_session_rows(recording),
        *_event_rows(recording),
        *_alarm_rows(recording),
        *_dispatch_rows(recording),
    ]


def _action_rows(recording: Recording) -> Iterator[_Row]:
    ends_s = recording.story.ends_s
    for name in dict.fromkeys(action.name for action in recording.scenario.actions):
        spans = {
            (action.at_s, min(action.at_s + action.for_s + action.back_s, ends_s))
            for action in recording.scenario.actions
            if action.name == name
        }
        fades = any(action.back_s for action in recording.scenario.actions if action.name == name)
        yield _Row(f"do: {name}" + (", and back" if fades else ""), _ACTION, sorted(spans))


def _session_rows(recording: Recording) -> Iterator[_Row]:
    for agent_id in sorted({about for _, about in recording.of("session closed")}):
        opened = [at_s for at_s, about in recording.of("session opened") if about == agent_id]
        closed = [at_s for at_s, about in recording.of("session closed") if about == agent_id]
        yield _Row(f"no session: {agent_id}", _SESSION, _spans(closed, opened, recording.story.ends_s))


def _event_rows(recording: Recording) -> Iterator[_Row]:
    for kind in _kinds(recording, "event "):
        yield _Row(kind, _EVENT, [(at_s, None) for at_s, _ in recording.of(kind)])


def _alarm_rows(recording: Recording) -> Iterator[_Row]:
    for kind in _kinds(recording, "alarm "):
        raised = [at_s for at_s, _ in recording.of(kind)]
        cleared = [at_s for at_s, _ in recording.of(kind.replace("alarm ", "cleared "))]
        yield _Row(kind, _ALARM, _spans(raised, cleared, recording.story.ends_s))


def _dispatch_rows(recording: Recording) -> Iterator[_Row]:
    for state in _STATES_SHOWN:
        if marks := recording.of(state):
            yield _Row(f"setpoint {state}", _STATE, [(at_s, None) for at_s, _ in marks])
    resplits = [
        (each.at_ms / 1000.0 - recording.start_unix_s, None)
        for dispatch in recording.dispatches
        for each in dispatch.resplits
    ]
    if resplits:
        yield _Row("dispatch split again", _REAL, resplits)


def _kinds(recording: Recording, prefix: str) -> list[str]:
    return list(dict.fromkeys(each.kind for each in recording.happenings if each.kind.startswith(prefix)))


def _spans(begins: Sequence[float], ends: Sequence[float], last_s: float) -> list[tuple[float, float | None]]:
    return [(at_s, min((end_s for end_s in ends if end_s > at_s), default=last_s)) for at_s in begins]


def _draw_timeline(rows: Sequence[_Row], axes: Axes) -> None:
    for place, row in enumerate(rows):
        for begin_s, end_s in row.marks:
            if end_s is None:
                axes.plot([begin_s / _MIN_S], [place], "D", color=row.colour, markersize=4.5)
            else:
                # A line at least.
                axes.barh(
                    place,
                    (end_s - begin_s) / _MIN_S,
                    left=begin_s / _MIN_S,
                    height=0.55,
                    color=row.colour,
                    edgecolor=row.colour,
                    linewidth=0.8,
                )
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)


def _shade(recording: Recording, axes: Axes) -> None:
    for action in recording.scenario.actions:
        end_s = min(action.at_s + action.for_s, recording.story.ends_s)
        axes.axvspan(action.at_s / _MIN_S, end_s / _MIN_S, color=_SHADE, linewidth=0.0, zorder=0)


def _minutes(recording: Recording) -> list[float]:
    return [sample.at_s / _MIN_S for sample in recording.samples]


def _sums(
    recording: Recording,
    names: Sequence[str],
    column: Literal["real_mw", "reported_mw", "available_mw"],
) -> list[float]:
    places = [recording.names.index(name) for name in names]
    return [sum(getattr(sample, column)[place] for place in places) for sample in recording.samples]


if __name__ == "__main__":
    main()
