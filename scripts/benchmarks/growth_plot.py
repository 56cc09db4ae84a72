"""The picture of `growth`: what a sample costs, by the size of the fleet. Needs matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from matplotlib.figure import Figure

_HEADEND, _POSTGRES = "#0b6e99", "#9aa5b1"
_INK, _GRID = "#2b2f36", "#e3e7ec"


class Cost(Protocol):
    """One size; CPU seconds a million committed samples."""

    @property
    def assets(self) -> int:
        """Of the fleet."""

    @property
    def headend_cost_s(self) -> float:
        """Of the headend."""

    @property
    def postgres_cost_s(self) -> float:
        """Of the database server."""


def draw_costs(sizes: Sequence[Cost], path: Path, *, title: str) -> None:
    """Write a PNG: a bar a size, the database's part on top of the headend's."""
    figure = Figure(figsize=(8.0, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    names = [f"{size.assets:,}" for size in sizes]
    headend_s = [size.headend_cost_s for size in sizes]
    axes.bar(names, headend_s, width=0.6, color=_HEADEND, label="headend")
    axes.bar(
        names,
        [size.postgres_cost_s for size in sizes],
        width=0.6,
        bottom=headend_s,
        color=_POSTGRES,
        label="PostgreSQL",
    )
    axes.set_xlabel("assets")
    axes.set_ylabel("CPU seconds a million samples")
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK)
    # Above the bars.
    axes.margins(y=0.2)
    axes.legend(loc="upper right", ncols=2, frameon=False)
    figure.savefig(path)
