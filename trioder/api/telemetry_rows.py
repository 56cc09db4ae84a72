"""Rows of `/telemetry`, each encoded once per sample; what changes with time is appended to it.

Age, quality and the remaining duration of a setpoint are of the moment of the request.
"""

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import NamedTuple

import msgspec

from trioder.api.context import Headend
from trioder.control.model import AssetSetpoint
from trioder.domain.dispatch import Priority
from trioder.ingest.latest_values import LatestView
from trioder.process.rfc3339 import format_ms
from trioder.schemas.resources import TelemetryRow

# About 400 bytes each. All are dropped at once when there are more.
_MAX_ROWS = 25_000
_SEPARATOR = b',"age_s":'

_encode = msgspec.json.Encoder().encode


class _Row(NamedTuple):
    """The part of a row that does not change with time, and what the rest depends on."""

    version: int
    beginning: bytes
    made_ms: int
    code: int


class TelemetryRows:
    """The latest sample of each asset as JSON."""

    def __init__(self, headend: Headend) -> None:
        self._fleet = headend.fleet
        self._latest = headend.latest
        self._dispatcher = headend.dispatcher
        self._wall = headend.wall
        self._rows: dict[int, _Row] = {}
        self._fleet_version = headend.fleet.version

    def row(self, key: int, now_ms: int) -> bytes | None:
        """Return the row of an asset; None without a sample."""
        self._drop_if_reloaded()
        row = self._rows.get(key)
        if row is None or row.version != self._latest.sample_versions[key]:
            row = self._encoded(key, now_ms)
            if row is None:
                return None
        return row.beginning + self._tail(row.made_ms, row.code, now_ms, self._dispatcher.in_force(key))

    def rows(self, keys: Sequence[int], now_ms: int) -> Sequence[bytes]:
        """Return the rows of these assets; those without a sample are omitted."""
        self._drop_if_reloaded()
        cached, versions, in_force = self._rows, self._latest.sample_versions, self._dispatcher.in_force
        # The samples of a batch have the same age.
        tails: dict[tuple[int, int], bytes] = {}
        found = []
        for key in keys:
            row = cached.get(key)
            if row is None or row.version != versions[key]:
                row = self._encoded(key, now_ms)
                if row is None:
                    continue
            _, beginning, made_ms, code = row
            setpoint = in_force(key)
            if setpoint is not None:
                found.append(beginning + self._tail(made_ms, code, now_ms, setpoint))
                continue
            tail = tails.get((made_ms, code))
            if tail is None:
                tail = tails[made_ms, code] = self._tail(made_ms, code, now_ms, None)
            found.append(beginning + tail)
        return found

    def parts(self, keys: Sequence[int], *, rows_a_part: int) -> Iterator[Sequence[bytes]]:
        """Return the rows in parts, each as of the moment when it is asked for."""
        for start in range(0, len(keys), rows_a_part):
            yield self.rows(keys[start : start + rows_a_part], self._wall.now_ms())

    def _drop_if_reloaded(self) -> None:
        if self._fleet_version != self._fleet.version:
            # Nameplates have changed, and keys of retired assets are never used again.
            self._fleet_version = self._fleet.version
            self._rows.clear()

    def _encoded(self, key: int, now_ms: int) -> _Row | None:
        view = self._latest.view(key, now_ms)
        if view is None:
            return None
        # Quotes within a text are escaped: this is the field and nothing else.
        beginning, separator, _ = _encode(telemetry_row(view, None, now_ms)).partition(_SEPARATOR)
        if len(self._rows) >= _MAX_ROWS:
            self._rows.clear()
        version = self._latest.sample_versions[key]
        row = self._rows[key] = _Row(version, beginning + separator, *self._latest.age_of(key))
        return row

    def _tail(self, made_ms: int, code: int, now_ms: int, setpoint: AssetSetpoint | None) -> bytes:
        age_s = max(0, now_ms - made_ms) / 1000.0
        quality = self._latest.quality_at(code, age_s)
        if setpoint is None:
            return b'%b,"quality":"%b","dispatch_id":null,"remaining_s":null,"priority":null}' % (
                _encode(age_s),
                quality.encode(),
            )
        dispatch_id, remaining_s, priority = _dispatch_of(setpoint, now_ms)
        return b'%b,"quality":"%b","dispatch_id":%b,"remaining_s":%b,"priority":%b}' % (
            _encode(age_s),
            quality.encode(),
            _encode(dispatch_id),
            _encode(remaining_s),
            _encode(priority),
        )


def telemetry_row(view: LatestView, setpoint: AssetSetpoint | None, now_ms: int) -> TelemetryRow:
    """Return the row of a sample, and of the setpoint that is in force at its asset."""
    telemetry = view.telemetry
    dispatch_id, remaining_s, priority = _dispatch_of(setpoint, now_ms)
    return TelemetryRow(
        asset_id=telemetry.asset_id,
        site_id=telemetry.site_id,
        site_name=telemetry.site_name,
        timestamp=format_ms(telemetry.ts_unix_ms),
        soc_mwhr=finite(telemetry.soc_mwhr),
        soc_pct=finite(telemetry.soc_pct),
        capacity_mwhr=telemetry.capacity_mwhr,
        current_mw=finite(telemetry.current_mw),
        setpoint_mw=finite(telemetry.setpoint_mw),
        max_mw=telemetry.max_mw,
        min_mw=telemetry.min_mw,
        status=telemetry.status if isfinite(telemetry.current_mw) else None,
        available_discharge_mw=finite(telemetry.available_discharge_mw),
        available_charge_mw=finite(telemetry.available_charge_mw),
        source=view.source,
        age_s=view.age_s,
        quality=view.quality,
        dispatch_id=dispatch_id,
        remaining_s=remaining_s,
        priority=priority,
    )


def finite(value: float) -> float | None:
    """Return None for the values that JSON cannot represent."""
    return value if isfinite(value) else None


def _dispatch_of(
    setpoint: AssetSetpoint | None, now_ms: int
) -> tuple[str | None, float | None, Priority | None]:
    """Return the dispatch of a setpoint, how long it still lasts, in s, and its priority."""
    if setpoint is None:
        return None, None, None
    dispatch, ends_ms = setpoint.dispatch, setpoint.ends_ms
    remaining_s = None if ends_ms is None else max(0, ends_ms - now_ms) / 1000
    return dispatch.dispatch_id, remaining_s, dispatch.priority
