"""The picture of a replay: asked and delivered power, and the error below. Needs matplotlib."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.regulation.replay import Recording
from scripts.regulation.report import Report

_ASKED, _DELIVERED, _ERROR = "#9aa5b1", "#0b6e99", "#b4472e"
_INK, _FAINT, _GRID = "#2b2f36", "#5a626d", "#e3e7ec"


def draw_replay(recording: Recording, report: Report, path: Path) -> None:
    """Write a PNG of the steps that ended."""
    delivered_mw = recording.delivered_mw
    asked_mw = recording.asked_mw[: len(delivered_mw)]
    minutes = [step * report.step_s / 60.0 for step in range(len(delivered_mw))]
    figure = Figure(figsize=(12.0, 6.75), dpi=150, layout="constrained")
    power, error = figure.subplots(2, 1, sharex=True, height_ratios=[3.0, 1.0])

    power.step(minutes, asked_mw, where="post", color=_ASKED, linewidth=2.6, label="asked")
    power.step(minutes, delivered_mw, where="post", color=_DELIVERED, linewidth=1.1, label="delivered")
    power.set_ylabel("power, MW (+ discharges)")
    power.legend(loc="upper right", ncols=2, frameon=False)
    # Room for the legend above the curves.
    low_mw, high_mw = min(*asked_mw, *delivered_mw), max(*asked_mw, *delivered_mw)
    span_mw = (high_mw - low_mw) or 1.0
    power.set_ylim(low_mw - 0.05 * span_mw, high_mw + 0.14 * span_mw)

    errors_mw = [got - wanted for wanted, got in zip(asked_mw, delivered_mw, strict=True)]
    error.fill_between(minutes, errors_mw, step="post", color=_ERROR, alpha=0.25, linewidth=0.0)
    error.step(minutes, errors_mw, where="post", color=_ERROR, linewidth=0.9)
    error.set_ylabel("delivered - asked, MW")
    error.set_xlabel(
        "minutes" if report.speed == 1.0 else f"minutes of the signal, {report.speed:g}x as fast"
    )

    for axes in (power, error):
        _dress(axes, report)
    figure.align_ylabels()
    power.set_title(_title(report), loc="left", fontsize=15, fontweight="bold", color=_INK, pad=28)
    power.text(0.0, 1.03, _subtitle(report), transform=power.transAxes, fontsize=10.5, color=_FAINT)
    figure.savefig(path)


def _dress(axes: Axes, report: Report) -> None:
    axes.axhline(0.0, color=_INK, linewidth=0.7)
    axes.grid(visible=True, color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=9.5)
    axes.margins(x=0.0)
    axes.set_xlim(0.0, report.minutes)


def _title(report: Report) -> str:
    score = "no score" if report.score is None else f"PJM performance score {report.score.total:.3f}"
    return f"{report.signal}, {report.capability_mw:.1f} MW: {score}"


def _subtitle(report: Report) -> str:
    rmse = f"RMSE {report.rmse_mw:.2f} MW ({report.rmse_pct:.1f} % of the capability)"
    if report.score is None:
        return f"{rmse}; {report.no_score}"
    score = report.score
    return (
        f"accuracy {score.accuracy:.3f}, delay {score.delay:.3f} ({score.delay_s:.1f} s), "
        f"precision {score.precision:.3f};  {rmse}"
    )
