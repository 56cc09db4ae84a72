"""The figures of a replay, and their text, JSON and CSV forms. The score is in `scripts.regulation.score`."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TextIO

from scripts.regulation.replay import Recording
from scripts.regulation.score import Score, performance_score

# A group dispatch is divided in kW at the finest; less is rounding.
_SHORTFALL_MW = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a replay came to. Energies and RMSE are of the steps that ended.

    Attributes:
        signal, step_s, speed: what was replayed, its step in its own time, and how much faster.
        minutes: of the signal's time that were replayed.
        capability_mw: what 1 per unit of the signal was.
        score: PJM's; None with `no_score` as the reason.
        rmse_mw, rmse_pct: of delivered against asked, in MW and in % of the capability.
        asked_discharge_mwh ... delivered_charge_mwh: in real time.
        sent, skipped, failed: dispatches; skipped for want of time.
        short: dispatches with a shortfall.
        readings_missed: steps whose reading is the one before.
        post_p50_ms, post_p99_ms: until a dispatch was answered.
    """

    signal: str
    step_s: float
    speed: float
    minutes: float
    capability_mw: float
    score: Score | None
    no_score: str | None
    rmse_mw: float
    rmse_pct: float
    asked_discharge_mwh: float
    asked_charge_mwh: float
    delivered_discharge_mwh: float
    delivered_charge_mwh: float
    sent: int
    skipped: int
    failed: int
    short: int
    readings_missed: int
    post_p50_ms: float
    post_p99_ms: float


def make_report(
    recording: Recording, *, signal: str, step_s: float, speed: float, capability_mw: float
) -> Report:
    """Return the figures of the steps that ended.

    Raises:
        ValueError: none ended.
    """
    if recording.steps == 0:
        raise ValueError("not one step has ended")
    asked_mw, delivered_mw = recording.asked_mw[: recording.steps], recording.delivered_mw
    score, no_score = None, None
    try:
        score = performance_score(asked_mw, delivered_mw, step_s)
    except ValueError as error:
        no_score = str(error)
    errors = (got - wanted for wanted, got in zip(asked_mw, delivered_mw, strict=True))
    rmse_mw = math.sqrt(math.fsum(error * error for error in errors) / recording.steps)
    step_h = step_s / speed / 3600.0
    took_ms = sorted(1000.0 * sent.took_s for sent in recording.sent.values())
    return Report(
        signal=signal,
        step_s=step_s,
        speed=speed,
        minutes=recording.steps * step_s / 60.0,
        capability_mw=capability_mw,
        score=score,
        no_score=no_score,
        rmse_mw=rmse_mw,
        rmse_pct=100.0 * rmse_mw / capability_mw,
        asked_discharge_mwh=step_h * _positive(asked_mw),
        asked_charge_mwh=step_h * _positive([-mw for mw in asked_mw]),
        delivered_discharge_mwh=step_h * _positive(delivered_mw),
        delivered_charge_mwh=step_h * _positive([-mw for mw in delivered_mw]),
        sent=len(recording.sent),
        skipped=recording.skipped,
        failed=len(recording.failed),
        short=sum(abs(sent.shortfall_mw) > _SHORTFALL_MW for sent in recording.sent.values()),
        readings_missed=recording.steps - len(recording.read_mw),
        post_p50_ms=_quantile(took_ms, 0.5),
        post_p99_ms=_quantile(took_ms, 0.99),
    )


def _positive(series: Sequence[float]) -> float:
    return math.fsum(value for value in series if value > 0.0)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of all do not exceed; 0 without any."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def report_text(report: Report) -> str:
    """Return the figures as lines for a terminal."""
    score = report.score
    if score is None:
        lines = [f"score        none: {report.no_score}"]
    else:
        lines = [
            f"score        {score.total:.3f} (PJM; 1 is best)",
            f"accuracy     {score.accuracy:.3f}",
            f"delay        {score.delay:.3f} (mean {score.delay_s:.1f} s)",
            f"precision    {score.precision:.3f}",
        ]
        if report.speed != 1.0:
            lines.append(
                f"             replayed {report.speed:g} times faster: delays count {report.speed:g}-fold"
            )
    lines += [
        f"RMSE         {report.rmse_mw:.3f} MW, {report.rmse_pct:.2f} % of {report.capability_mw:.1f} MW",
        f"discharged   {report.delivered_discharge_mwh:.3f} of {report.asked_discharge_mwh:.3f} MWh asked",
        f"charged      {report.delivered_charge_mwh:.3f} of {report.asked_charge_mwh:.3f} MWh asked",
        f"dispatches   {report.sent} sent, {report.skipped} skipped, {report.failed} failed",
        f"shortfalls   {report.short} dispatches",
        f"readings     {report.readings_missed} missed",
        f"POST         {report.post_p50_ms:.1f} ms median, {report.post_p99_ms:.1f} ms 99th percentile",
    ]
    return "\n".join(lines)


def report_json(report: Report) -> str:
    """Return the figures as a JSON object."""
    return json.dumps(asdict(report), indent=2) + "\n"


def write_series(recording: Recording, *, step_s: float, to: TextIO) -> None:
    """Write a CSV row for each step that ended; empty cells for what there was not."""
    rows = csv.writer(to, lineterminator="\n")
    rows.writerow(["t_s", "asked_mw", "delivered_mw", "was_read", "dispatch", "shortfall_mw", "post_ms"])
    for step, delivered_mw in enumerate(recording.delivered_mw):
        sent = recording.sent.get(step)
        fate = "sent" if sent else "failed" if step in recording.failed else "skipped"
        rows.writerow(
            [
                f"{step * step_s:g}",
                f"{recording.asked_mw[step]:.6f}",
                f"{delivered_mw:.6f}",
                int(step in recording.read_mw),
                fate,
                f"{sent.shortfall_mw:.6f}" if sent else "",
                f"{1000.0 * sent.took_s:.3f}" if sent else "",
            ]
        )
