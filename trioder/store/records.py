"""What the headend hands to a store, and what it gets back: plain values, assets by integer key.

An asset's key is its position in `Fleet.assets`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trioder.sim.model import Telemetry

Source = Literal["agent", "synthesized"]

DispatchState = Literal["sent", "queued", "replaced", "dropped", "acknowledged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """One instant of some assets, as columns of equal length; units as in the names.

    Attributes:
        source: who says so: an agent, or the headend's own model.
        asset_keys: distinct.
        available_discharge_mw: magnitudes, >= 0.
        available_charge_mw: magnitudes, >= 0.
    """

    ts_unix_ms: int
    source: Source
    asset_keys: Sequence[int]
    soc_mwhr: Sequence[float]
    current_mw: Sequence[float]
    setpoint_mw: Sequence[float]
    available_discharge_mw: Sequence[float]
    available_charge_mw: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """One agent's session, as it opened."""

    session_id: str
    agent_id: str
    epoch: int
    peer: str
    asset_keys: Sequence[int]
    connected_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchRecord:
    """One dispatch and what has become of it so far; a later record of the same id replaces this.

    Attributes:
        sent_ms: when it was handed to the session of its agent.
        answer: the agent's own word, once it has answered.
        reason: why it was replaced or dropped, or the agent's reason.
    """

    dispatch_id: str
    asset_key: int
    mw: float
    duration_s: int | None
    dispatched_ms: int
    state: DispatchState
    sent_ms: int | None = None
    answer: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PastSample:
    """One row of an asset's history."""

    telemetry: Telemetry
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class PastSession:
    """One session as it is remembered.

    Attributes:
        assets: how many it drove.
        disconnected_ms: None while it is open.
        reason: why it ended; None while it is open.
    """

    session_id: str
    agent_id: str
    epoch: int
    peer: str
    assets: int
    connected_ms: int
    disconnected_ms: int | None
    reason: str | None
