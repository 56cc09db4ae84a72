"""Draws the live table: the lines that fill a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from trioder.cli.live_assets import OLD, SORTS, LiveAsset, LiveAssets
from trioder.cli.live_values import QUALITY
from trioder.cli.printable import display_width, line_of, printable, shortened
from trioder.cli.quantities import counted, decimals_for, duration_text, moment_text, mw_text, number_text
from trioder.cli.tables import Column, Table, TableLayout, styled

_LINES_AROUND = 5
_MAX_NAME = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What of the table is shown.

    Attributes:
        sort: one of `SORTS`.
        not_good: only the assets whose values are not good.
        first: how many rows are above the first that is shown.
    """

    sort: str = "fleet"
    not_good: bool = False
    first: int = 0

    def after_key(self, key: str, *, page: int, rows: int) -> "View":
        """Return the view after a key; `page` is how many rows fit, `rows` how many there are."""
        last = max(0, rows - page)
        match key:
            case "n":
                return replace(self, not_good=not self.not_good, first=0)
            case "s":
                return replace(self, sort=SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)], first=0)
            case "\x1b[B" | "j":
                return replace(self, first=min(last, self.first + 1))
            case "\x1b[A" | "k":
                return replace(self, first=max(0, self.first - 1))
            case "\x1b[6~" | " ":
                return replace(self, first=min(last, self.first + page))
            case "\x1b[5~" | "b":
                return replace(self, first=max(0, self.first - page))
            case "\x1b[H" | "g":
                return replace(self, first=0)
            case _:
                return self


def page_rows(height: int) -> int:
    """Return how many rows of assets fit into a terminal of this height."""
    return max(1, height - _LINES_AROUND)


def frame(live: LiveAssets, view: View, *, title: str, width: int, height: int, colour: bool) -> list[str]:
    """Return the lines of a terminal of this size; each fits its width.

    Args:
        live: what is known.
        view: what of it is shown.
        title: what is followed, harmless.
        width: of the terminal.
        height: of the terminal.
        colour: whether styles are applied.
    """
    listed = live.listed(sort=view.sort, not_good=view.not_good)
    rows = page_rows(height)
    first = max(0, min(view.first, len(listed) - rows))
    shown = listed[first : first + rows]
    lost = live.lost_since is not None
    lines = [_title_line(live, title, width, colour=colour), _sums_line(live, width)]
    drawn = _table_lines(live, shown, width, colour=colour and not lost)
    if lost:
        # All of it is old: no colour says otherwise.
        drawn = [styled(line, "dim", colour=colour) for line in drawn]
    lines += ["", *drawn]
    # One line is for the keys.
    lines = lines[: height - 1]
    lines += [""] * (height - 1 - len(lines))
    lines.append(_keys_line(view, first, len(shown), len(listed), width, colour=colour))
    return lines[-height:] if height < _LINES_AROUND else lines


def _title_line(live: LiveAssets, title: str, width: int, *, colour: bool) -> str:
    now = live.now()
    if live.lost_since is not None:
        since = moment_text(datetime.fromtimestamp(live.lost_since, UTC))
        ago = duration_text(now - live.lost_since)
        text = f"FEED LOST since {since} ({ago}), all values are old: {line_of(live.lost_reason)}"
        return styled(shortened(text, width), "red", colour=colour)
    state = "live" if live.complete else "waiting for the first values"
    text = f"{title}  {state}  {moment_text(datetime.fromtimestamp(now, UTC))}"
    return styled(shortened(text, width), "bold", colour=colour)


def _sums_line(live: LiveAssets, width: int) -> str:
    parts = [f"{live.good_assets():,} of {len(live.assets):,} good"]
    sums = live.sums
    if sums is not None:
        parts += [
            f"power {mw_text(sums.current_mw, signed=True)}",
            f"setpoints {mw_text(sums.setpoint_mw, signed=True)}",
        ]
        if sums.capacity_mwhr:
            parts.append(f"SOC {number_text(100 * sums.soc_mwhr / sums.capacity_mwhr, 1)} %")
        parts.append(
            f"15 min {mw_text(sums.available.min_15.discharge_mw)} out, "
            f"{mw_text(sums.available.min_15.charge_mw)} in"
        )
    parts.append(counted(len(live.open_alarms), "alarm"))
    return shortened("  ".join(parts), width)


def _keys_line(view: View, first: int, shown: int, total: int, width: int, *, colour: bool) -> str:
    which = f"{first + 1 if shown else 0:,} to {first + shown:,} of {total:,}"
    good = " not good" if view.not_good else ""
    text = f"{which}{good}, by {view.sort}   q quits  s order  n not good  arrows, space scroll"
    return styled(shortened(text, width), "dim", colour=colour)


def _table_lines(live: LiveAssets, shown: Sequence[LiveAsset], width: int, *, colour: bool) -> list[str]:
    table = Table(columns=_columns(live), rows=[_cells(each) for each in shown])
    plain = table.lines(TableLayout(width=width))
    if max(map(display_width, plain)) > width:
        # Cut where even the most important columns do not fit.
        return [shortened(line, width) for line in plain]
    return table.lines(TableLayout(width=width, colour=True)) if colour else plain


def _columns(live: LiveAssets) -> Sequence[Column]:
    # By the nameplates, so that the columns do not move with the values.
    decimals = decimals_for(limit for asset in live.assets.values() for limit in (asset.max_mw, asset.min_mw))
    numbers = max(
        (
            len(number_text(limit, decimals, signed=True))
            for asset in live.assets.values()
            for limit in (asset.max_mw, asset.min_mw)
        ),
        default=0,
    )
    names = max((_width(asset.name) for asset in live.assets.values()), default=0)
    sites = max((_width(asset.site_name) for asset in live.assets.values()), default=0)
    power = Column(
        heading="power", unit="MW", numeric=True, signed=True, decimals=decimals, narrowest=numbers
    )
    return (
        Column(heading="asset", flexible=True, longest=_MAX_NAME, narrowest=names),
        Column(heading="site", flexible=True, longest=_MAX_NAME, narrowest=sites, expendable=7),
        power,
        replace(power, heading="setpoint", expendable=6),
        Column(heading="SOC", unit="%", numeric=True, decimals=1, narrowest=5),
        replace(QUALITY, narrowest=len("synthesized")),
        Column(heading="age", narrowest=len("59m 59s"), expendable=5),
        Column(heading="agent", narrowest=len("connected"), expendable=8),
        Column(heading="status", narrowest=len("discharging"), expendable=9),
    )


def _width(name: str) -> int:
    return min(_MAX_NAME, display_width(printable(name[: _MAX_NAME + 1])))


def _cells(live: LiveAsset) -> tuple[object, ...]:
    row = live.row
    if row is None:
        return (live.asset.name, live.asset.site_name, None, None, None, live.quality, None, None, None)
    return (
        live.asset.name,
        live.asset.site_name,
        row.current_mw,
        row.setpoint_mw,
        row.soc_pct,
        live.quality,
        duration_text(live.age_s),
        "connected" if row.connected and live.quality != OLD else "-" if live.quality == OLD else "away",
        row.status,
    )
