"""The assets as the live feed shows them: their newest values, and since when the feed is lost."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from trioder.cli.live_values import UNKNOWN
from trioder.client import (
    AlarmEvent,
    BeginEvent,
    CompleteEvent,
    FeedEvent,
    FeedLost,
    FleetEvent,
    TelemetryEvent,
)
from trioder.schemas.resources import AssetRow, FleetRow
from trioder.schemas.stream import LiveRow

# At least one event comes in 2 s; without one for this long the feed is lost.
LOST_AFTER_S = 5.0
# Instead of the quality of every value, while the feed is lost.
OLD = "old"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAsset:
    """One asset now.

    Attributes:
        row: of the feed; None without a sample.
        quality: that of the row, `UNKNOWN` without one, `OLD` while the feed is lost.
        age_s: of the values; None without any.
    """

    asset: AssetRow
    row: LiveRow | None
    quality: str
    age_s: float | None


_SORTS: dict[str, Callable[[LiveAsset], Any]] = {
    "name": lambda live: live.asset.name.casefold(),
    "site": lambda live: (live.asset.site_name.casefold(), live.asset.name.casefold()),
    "power": lambda live: live.row and live.row.current_mw,
    "setpoint": lambda live: live.row and live.row.setpoint_mw,
    "soc": lambda live: live.row and live.row.soc_pct,
    "quality": lambda live: (live.quality == "good", live.quality),
    "age": lambda live: live.age_s,
}
SORTS = ("fleet", *_SORTS)


@dataclass(slots=True, kw_only=True)
class LiveAssets:
    """What is known from the feed.

    Attributes:
        now: the time of this machine, Unix time in s, for what is shown.
        monotonic: a clock that is never set, in s, for ages.
        assets: by their ids, in fleet order.
        sums: of the newest `fleet` event.
        open_alarms: the ids of alarms that are open.
        lost_since: Unix time in s when the feed was lost; None while it is live.
        lost_reason: why, for people.
        complete: whether the first snapshot is whole.
    """

    now: Callable[[], float]
    monotonic: Callable[[], float]
    assets: dict[str, AssetRow] = field(default_factory=dict)
    sums: FleetRow | None = None
    open_alarms: set[str] = field(default_factory=set)
    lost_since: float | None = None
    lost_reason: str = ""
    complete: bool = False
    _rows: dict[str, LiveRow] = field(default_factory=dict)
    _headend_s: float = 0.0
    _received_s: float = 0.0

    def __post_init__(self) -> None:
        self._received_s = self.monotonic()

    def set_assets(self, assets: Iterable[AssetRow]) -> None:
        """Take over nameplates."""
        self.assets = {row.id: row for row in assets}

    def receive(self, event: FeedEvent) -> bool:
        """Take over an event; return whether the nameplates are to be read again."""
        if isinstance(event, FeedLost):
            self._lose(event.reason)
            return False
        self._received_s = self.monotonic()
        self._headend_s = _unix_s(event.at)
        match event:
            case BeginEvent(resumed=False):
                self._rows.clear()
                self.open_alarms.clear()
                # Until the snapshot is whole nothing is shown as live. The fleet may be another one.
                was_complete, self.complete = self.complete, False
                return was_complete
            case CompleteEvent():
                self.complete = True
                self.lost_since = None
            case FleetEvent():
                self.sums = event
            case TelemetryEvent(rows=rows):
                self._rows.update((row.asset_id, row) for row in rows)
                return any(row.asset_id not in self.assets for row in rows)
            case AlarmEvent(alarm=alarm):
                (self.open_alarms.add if alarm.state == "open" else self.open_alarms.discard)(alarm.alarm_id)
        return False

    def check(self) -> None:
        """Find out whether nothing was received for too long."""
        if self.lost_since is None and self.monotonic() - self._received_s > LOST_AFTER_S:
            self._lose(f"nothing received for {LOST_AFTER_S:g} s")

    def listed(self, *, sort: str = "fleet", not_good: bool = False) -> Sequence[LiveAsset]:
        """Return the assets, in an order of `SORTS`; `not_good`: only those whose values are not good."""
        headend_now_s = self._headend_s + self.monotonic() - self._received_s
        found = [self._live(asset, headend_now_s) for asset in self.assets.values()]
        if not_good:
            found = [live for live in found if live.quality != "good"]
        if sort != "fleet":
            key = _SORTS[sort]
            # What is not known is last.
            found.sort(key=lambda live: (key(live) is None, 0 if key(live) is None else key(live)))
        return found

    def good_assets(self) -> int:
        """Return how many values are good; none while the feed is lost."""
        if self.lost_since is not None:
            return 0
        return sum(row.quality == "good" for row in self._rows.values())

    def _live(self, asset: AssetRow, headend_now_s: float) -> LiveAsset:
        row = self._rows.get(asset.id)
        if row is None:
            return LiveAsset(asset=asset, row=None, quality=UNKNOWN, age_s=None)
        age_s = max(0.0, headend_now_s - _unix_s(row.sampled_at))
        quality = row.quality if self.lost_since is None else OLD
        return LiveAsset(asset=asset, row=row, quality=quality, age_s=age_s)

    def _lose(self, reason: str) -> None:
        self.lost_reason = reason
        if self.lost_since is None:
            self.lost_since = self.now()


def _unix_s(time: str) -> float:
    return datetime.fromisoformat(time).astimezone(UTC).timestamp()
