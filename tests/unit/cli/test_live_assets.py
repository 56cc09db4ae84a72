"""What `trioder watch` knows and draws: ages, the loss of the feed, order, and lines that fit."""

import re
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from trioder.cli.live_assets import LiveAssets
from trioder.cli.live_frame import View, frame
from trioder.cli.printable import display_width
from trioder.client import AlarmEvent, BeginEvent, CompleteEvent, FeedLost, TelemetryEvent
from trioder.schemas.resources import AssetRow
from trioder.schemas.stream import LiveRow

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(slots=True)
class Clock:
    """A clock that is set by hand, in s."""

    now_s: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def live(clock: Clock) -> LiveAssets:
    live = LiveAssets(now=clock, monotonic=clock)
    live.set_assets([asset("a", "Alpha"), asset("b", "Beta"), asset("c", "Gamma")])
    live.receive(begin())
    live.receive(telemetry(row("a", current_mw=5.0), row("b", current_mw=-2.0, quality="stale")))
    live.receive(CompleteEvent(at="2026-01-02T03:04:05.000Z"))
    return live


def asset(asset_id: str, name: str) -> AssetRow:
    numbers = dict.fromkeys(
        [
            *["capacity_mwhr", "max_mw", "min_mw", "efficiency", "ramp_rate_mw_per_min", "charge_efficiency"],
            *["discharge_efficiency", "min_soc_pct", "max_soc_pct", "aux_load_mw"],
            "self_discharge_pct_per_day",
        ],
        1.0,
    )
    texts = {"id": asset_id, "site_id": "s", "site_name": f"Site of {name}", "name": name, "location": ""}
    return msgspec.convert({**numbers, **texts}, AssetRow)


def row(asset_id: str, **values: Any) -> LiveRow:
    columns = {
        **dict.fromkeys(LiveRow.__struct_fields__),
        "asset_id": asset_id,
        "timestamp": "2026-01-02T03:04:02.000Z",
        "sampled_at": "2026-01-02T03:04:02.000Z",
        "soc_mwhr": 1.0,
        "soc_pct": 50.0,
        "current_mw": 0.0,
        "setpoint_mw": 0.0,
        "available_discharge_mw": 1.0,
        "available_charge_mw": 1.0,
        "status": "idle",
        "source": "agent",
        "quality": "good",
        "connected": True,
        **values,
    }
    return LiveRow(**columns)


def telemetry(*rows: LiveRow) -> TelemetryEvent:
    return TelemetryEvent(at="2026-01-02T03:04:05.000Z", rows=[*rows])


def begin(*, resumed: bool = False) -> BeginEvent:
    return BeginEvent(
        at="2026-01-02T03:04:05.000Z", resumed=resumed, reason="", topics=[], assets=3, heartbeat_s=2.0
    )


def alarm(state: str) -> AlarmEvent:
    columns: dict[str, Any] = {
        **dict.fromkeys(["agent_id", "site_id", "asset_id", "value", "cleared_at", "acknowledged_at"]),
        "alarm_id": "1",
        "kind": "away",
        "severity": "major",
        "state": state,
        "source_kind": "headend",
        "source_id": "",
        "detail": "",
        "tenant": "",
        "assets": 1,
        "reason": "",
        "comment": "",
        "raised_at": "2026-01-02T03:04:05.000Z",
        "acknowledged_by": None,
    }
    transition = "raised" if state == "open" else "cleared"
    return msgspec.convert(
        {"at": "2026-01-02T03:04:05.000Z", "transition": transition, "alarm": columns}, AlarmEvent
    )


def drawn(live: LiveAssets, view: View | None = None, *, width: int = 120, height: int = 12) -> list[str]:
    return frame(live, view or View(), title="headend", width=width, height=height, colour=False)


def test_ages_are_by_the_headends_clock_and_grow(live: LiveAssets, clock: Clock) -> None:
    clock.now_s += 2
    assert [each.age_s for each in live.listed()] == [5.0, 5.0, None]


def test_an_asset_without_a_sample_has_no_value(live: LiveAssets) -> None:
    assert [each.quality for each in live.listed()] == ["good", "stale", "no value"]


def test_what_is_not_good_is_listed_alone(live: LiveAssets) -> None:
    assert [each.asset.id for each in live.listed(not_good=True)] == ["b", "c"]


@pytest.mark.parametrize(
    ("sort", "ids"), [("fleet", "abc"), ("name", "abc"), ("power", "bac"), ("quality", "cba")]
)
def test_the_order(sort: str, ids: str, live: LiveAssets) -> None:
    assert "".join(each.asset.id for each in live.listed(sort=sort)) == ids


def test_a_feed_that_says_nothing_for_5_s_is_lost(live: LiveAssets, clock: Clock) -> None:
    clock.now_s += 4.9
    live.check()
    assert live.lost_since is None
    clock.now_s += 0.2
    live.check()
    assert live.lost_since == clock.now_s
    assert [each.quality for each in live.listed()] == ["old", "old", "no value"]


def test_a_lost_feed_is_live_again_when_the_snapshot_is_whole(live: LiveAssets, clock: Clock) -> None:
    live.receive(FeedLost(reason="cut", retry_s=1.0))
    lost_at = live.lost_since
    clock.now_s += 3
    live.receive(FeedLost(reason="still", retry_s=1.0))
    live.receive(begin())
    live.receive(telemetry(row("a")))
    assert live.lost_since == lost_at
    live.receive(CompleteEvent(at="2026-01-02T03:04:05.000Z"))
    assert live.lost_since is None
    assert [each.quality for each in live.listed()] == ["good", "no value", "no value"]


def test_a_feed_that_is_resumed_keeps_what_is_known(live: LiveAssets) -> None:
    live.receive(FeedLost(reason="cut", retry_s=1.0))
    live.receive(begin(resumed=True))
    live.receive(CompleteEvent(at="2026-01-02T03:04:05.000Z"))
    assert [each.quality for each in live.listed()] == ["good", "stale", "no value"]


def test_an_asset_that_is_new_is_reported(live: LiveAssets) -> None:
    assert live.receive(telemetry(row("d")))
    assert not live.receive(telemetry(row("a")))


def test_open_alarms_are_counted(live: LiveAssets) -> None:
    live.receive(alarm("open"))
    assert "1 alarm" in drawn(live)[1]
    live.receive(alarm("cleared"))
    assert "0 alarms" in drawn(live)[1]


@pytest.mark.parametrize("width", [1, 10, 40, 80, 300])
@pytest.mark.parametrize("height", [1, 2, 4, 5, 6, 50])
@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("lost", [True, False])
def test_a_frame_fills_the_terminal_and_no_line_is_wider(
    width: int, height: int, colour: bool, lost: bool, live: LiveAssets
) -> None:
    live.set_assets([asset("a", "電池" * 20), asset("b", "\x1b[2J" + "x" * 5000), asset("c", "Gamma")])
    if lost:
        live.receive(FeedLost(reason="x" * 500, retry_s=1.0))
    lines = frame(live, View(), title="headend", width=width, height=height, colour=colour)
    assert len(lines) == height
    assert max(display_width(_STYLE.sub("", line)) for line in lines) <= width
    assert colour or not any("\x1b" in line for line in lines)


def test_a_lost_feed_is_said_without_colour(live: LiveAssets, clock: Clock) -> None:
    live.receive(FeedLost(reason="cut", retry_s=1.0))
    clock.now_s += 7
    lines = drawn(live)
    assert re.match(r"FEED LOST since 1970-01-12 \S+ \S+ \(7s\), all values are old: cut", lines[0])
    assert [line.split()[0] for line in lines if " old " in line] == ["Alpha", "Beta"]


def test_scrolling_stops_at_the_end(live: LiveAssets) -> None:
    view = View()
    for key in ["\x1b[B"] * 5 + [" "]:
        view = view.after_key(key, page=1, rows=3)
    assert view.first == 2
    lines = drawn(live, view, height=6)
    assert [line.split()[0] for line in lines[4:]] == ["Gamma", "3"]


@pytest.mark.parametrize(
    ("key", "view"),
    [
        ("n", View(not_good=True)),
        ("s", View(sort="name")),
        (" ", View(first=10)),
        ("\x1b[5~", View()),
        ("g", View()),
        ("x", View(first=4)),
    ],
)
def test_keys(key: str, view: View) -> None:
    assert View(first=4).after_key(key, page=10, rows=20) == view


def test_the_nameplates_are_read_again_when_the_feed_begins_anew(live: LiveAssets) -> None:
    assert not live.receive(begin(resumed=True))
    assert live.receive(begin())
    # They were read just now.
    assert not live.receive(begin())
