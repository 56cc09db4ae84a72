"""The latest values of the assets that any stream shows, encoded once for all of them when they change."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from math import isfinite

import msgspec

from trioder.control.dispatcher import Dispatcher
from trioder.domain.assets import soc_pct
from trioder.domain.fleet import Fleet
from trioder.domain.quality import LatestQuality
from trioder.domain.quality import Quality as Code
from trioder.domain.telemetry import status_of
from trioder.gateway.sessions import SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.process.rfc3339 import format_ms
from trioder.process.slices import Steps, parts_of
from trioder.schemas.stream import LiveRow

# About 200 kB of JSON.
ROWS_AN_EVENT = 500
# The cost of encoding a row, and of checking its age.
_ROW_US = 6.0
_CHECK_US = 0.1
_QUALITIES: dict[int, LatestQuality] = {
    Code.GOOD: "good",
    Code.SUSPECT: "suspect",
    Code.BAD: "bad",
    Code.SYNTHESIZED: "synthesized",
    Code.WRONG_TIME: "suspect",
}
_encode = msgspec.json.Encoder().encode
# Most rows of a tick are of a few batches.
_time = lru_cache(maxsize=256)(format_ms)


class LiveRows:
    """Encoded rows by asset key, each with the tick of its last change.

    Rows exist of assets that are watched and have a sample.
    """

    def __init__(
        self, *, fleet: Fleet, latest: LatestState, sessions: SessionRegistry, dispatcher: Dispatcher
    ) -> None:
        self._fleet = fleet
        self._latest = latest
        self._sessions = sessions
        self._dispatcher = dispatcher
        self._rows: dict[int, bytes] = {}
        self._ticks: dict[int, int] = {}
        # How many groups of streams show the row of each asset.
        self._watched: Counter[int] = Counter()
        # The rows that are marked as stale.
        self._stale: set[int] = set()

    def watch(self, keys: Iterable[int]) -> None:
        """One more group shows these assets; `refresh` those without a row next."""
        self._watched.update(keys)

    def unwatch(self, keys: Iterable[int]) -> None:
        """One group less shows these assets."""
        self._watched.subtract(keys)
        for key in keys:
            if not self._watched[key]:
                del self._watched[key]
                self._rows.pop(key, None)
                self._ticks.pop(key, None)
                self._stale.discard(key)

    def watched(self, keys: Collection[int]) -> set[int]:
        """Return those of the assets that any stream shows."""
        return self._watched.keys() & keys

    def unknown(self, keys: Iterable[int]) -> list[int]:
        """Return those of the assets that have no row."""
        return [key for key in keys if key not in self._rows]

    def stale_steps(self, now_ms: int) -> Steps[list[int]]:
        """Return the assets whose sample has become stale since their row was encoded, in steps."""
        found: list[int] = []
        for part in parts_of(tuple(self._rows)):
            stale = self._latest.stale_keys(part, now_ms)
            found += [key for key in stale if key not in self._stale]
            yield _CHECK_US * len(part)
        return found

    def refresh(self, keys: Iterable[int], *, tick: int, now_ms: int) -> Steps[None]:
        """Encode the rows of these assets as of now, in steps."""
        for part in parts_of(tuple(keys)):
            for key in part:
                row = self._encoded(key, now_ms)
                # It may not be watched any more.
                if row is not None and key in self._watched:
                    self._rows[key] = row
                    self._ticks[key] = tick
            yield _ROW_US * len(part)

    def of(self, keys: Iterable[int]) -> list[bytes]:
        """Return the rows of those of the assets that have one."""
        rows = self._rows
        return [rows[key] for key in keys if key in rows]

    def changed_since(self, keys: Iterable[int], tick: int) -> list[int]:
        """Return those of the assets whose rows have changed after a tick."""
        ticks = self._ticks
        return [key for key in keys if ticks.get(key, -1) > tick]

    def _encoded(self, key: int, now_ms: int) -> bytes | None:
        sample = self._latest.columns(key)
        if sample is None:
            return None
        asset, state = self._fleet.assets[key], sample.state
        quality = _QUALITIES[sample.code]
        if quality == "good" and now_ms - sample.made_ms > self._latest.stale_after_s * 1000:
            quality = "stale"
            self._stale.add(key)
        else:
            self._stale.discard(key)
        setpoint = self._dispatcher.in_force(key)
        ends_ms = None if setpoint is None else setpoint.ends_ms
        return _encode(
            # Values that are not finite become null.
            LiveRow(
                asset.id,
                _time(sample.ts_ms),
                _time(sample.made_ms),
                state.soc_mwhr,
                soc_pct(asset, state.soc_mwhr),
                state.current_mw,
                state.setpoint_mw,
                state.available_discharge_mw,
                state.available_charge_mw,
                status_of(state.current_mw) if isfinite(state.current_mw) else None,
                "agent" if sample.is_agents else "synthesized",
                quality,
                self._sessions.session_of(key) is not None,
                None if setpoint is None else setpoint.dispatch.dispatch_id,
                None if ends_ms is None else _time(ends_ms),
                None if setpoint is None else setpoint.dispatch.priority,
            )
        )


def telemetry_events(rows: Sequence[bytes], at: bytes) -> Iterator[bytes]:
    """Yield the data of events with these rows; `at` is the time, as JSON."""
    for start in range(0, len(rows), ROWS_AN_EVENT):
        yield b'{"at":%b,"rows":[%b]}' % (at, b",".join(rows[start : start + ROWS_AN_EVENT]))
