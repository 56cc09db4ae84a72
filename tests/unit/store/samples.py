"""Samples of which every value is the same."""

from trioder.domain.telemetry import Samples, Source


def flat_samples(ts_unix_ms: int, rows: int = 1, source: Source = "agent") -> Samples:
    column = [1.0] * rows
    return Samples(
        ts_unix_ms=ts_unix_ms,
        source=source,
        asset_keys=range(rows),
        soc_mwhr=column,
        current_mw=column,
        setpoint_mw=column,
        available_discharge_mw=column,
        available_charge_mw=column,
    )
