"""What the messages mean, once decoded and checked: the values both ends work with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from trioder.domain.dispatch import Setpoint
from trioder.domain.quality import Quality

# The type of the event by which an agent reports that its clock was set.
CLOCK_STEP = "CLOCK_STEP"


class Nameplate(NamedTuple):
    """An asset's rating as its site has it, unchecked; signs and units as of `trioder.sim.model.Asset`."""

    capacity_mwhr: float
    max_mw: float
    min_mw: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """An agent's introduction.

    Attributes:
        agent_id: who holds the session; a single-asset agent without one is named by its gateway or asset.
        epoch: the agent's boot, growing; 0 when it tells none.
        protocol: 0 understands Setpoint only.
        outbox_id: names the sequence of its batches; empty when it sends none.
        replaces_outbox_id: the outbox before this one, when the agent's state was set back; else empty.
        asset_ids: distinct, canonical; the position of an id is its index in batches.
        nameplates: of the assets whose agent reports one, by asset id.
        backlog_only: it claims none of them, and only hands over what was told of them before.
        clock_unix_ms: the agent's clock when it sent this; None from an older agent.
    """

    agent_id: str
    epoch: int
    protocol: int
    outbox_id: str
    asset_ids: tuple[str, ...]
    nameplates: Mapping[str, Nameplate] = field(default_factory=dict)
    backlog_only: bool = False
    replaces_outbox_id: str = ""
    clock_unix_ms: int | None = None


# Not frozen, though nothing changes it once it is made: that would double what each costs to make.
@dataclass(slots=True, kw_only=True)
class Batch:
    """One pulse of one agent, as columns of equal length; units as in the names.

    Attributes:
        batch_seq: from 1, without gaps within an outbox.
        gap_from_seq: the batches from here to batch_seq - 1 are no longer in the outbox.
        lost_batches: how many of those were dropped unacknowledged; None when the agent does not report it.
        live_only: an early copy for the latest value; not to be persisted.
        asset_index: distinct positions in Registration.asset_ids.
        ts_unix_ms: as the agent's clock has it, within the years 1970 to 9999.
        soc_mwhr: this and the other values may be NaN or infinite.
        available_discharge_mw: magnitudes.
        available_charge_mw: magnitudes.
        quality: the device's own judgement, a `trioder.domain.quality.Quality` code a row; empty: all good.
    """

    batch_seq: int
    ts_unix_ms: int
    gap_from_seq: int | None = None
    lost_batches: int | None = None
    live_only: bool = False
    asset_index: Sequence[int]
    soc_mwhr: Sequence[float]
    current_mw: Sequence[float]
    setpoint_mw: Sequence[float]
    available_discharge_mw: Sequence[float]
    available_charge_mw: Sequence[float]
    quality: bytes = b""


class SingleSample(NamedTuple):
    """One sample in a message of its own, as agents without an outbox send it; values may be NaN or infinite.

    Attributes:
        available_discharge_mw: a magnitude, as the next.
        soc_pct: this and the nameplate's values are checked, and not stored.
        quality: the device's own judgement.
    """

    asset_id: str
    ts_unix_ms: int
    soc_mwhr: float
    current_mw: float
    setpoint_mw: float
    available_discharge_mw: float
    available_charge_mw: float
    soc_pct: float
    capacity_mwhr: float
    max_mw: float
    min_mw: float
    quality: Quality = Quality.GOOD


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """What an agent made of a dispatch; `status` is the agent's own word.

    Attributes:
        setpoint_mw: what is asked of the asset now, where the agent tells it.
        remaining_s: how long that holds on; None for ever, or where the agent does not tell.
        reversion_mw: what follows then.
    """

    dispatch_id: str
    asset_id: str
    status: str
    ts_unix_ms: int
    reason: str | None = None
    setpoint_mw: float | None = None
    remaining_s: float | None = None
    reversion_mw: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEvent:
    """Something an agent wants known."""

    event_id: str
    asset_id: str
    site_id: str
    ts_unix_ms: int
    event_type: str
    severity: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionGrant:
    """The headend's answer to a registration.

    Attributes:
        committed_batch_seq: every batch up to this one is kept; 0 when none is.
        committed_ts_unix_ms: the time of that batch, where it is on record.
        unknown_asset_ids: registered, and not in the headend's fleet; the session stands for the others.
        clock_unix_ms: the headend's clock when it sent this; None from an older headend.
    """

    session_id: str
    committed_batch_seq: int
    protocol: int
    committed_ts_unix_ms: int | None = None
    unknown_asset_ids: Sequence[str] = ()
    clock_unix_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A sign of life, for the clock that it carries; the transport has signs of life of its own.

    Attributes:
        asset_id: as sent; empty from an agent that speaks for all its assets.
        clock_unix_ms: the agent's clock when it sent this; None when it carries none that can be read.
    """

    asset_id: str
    clock_unix_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchesKept:
    """Every batch up to and including this one is kept: the outbox may drop them."""

    batch_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """Send again, in order, from this batch on."""

    from_batch_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Setpoints:
    """Dispatches in the order they were given; their values are for the asset to judge and answer."""

    dispatches: tuple[Setpoint, ...]


Uplink = Registration | SingleSample | Heartbeat | Acknowledgement | AgentEvent | Batch
Downlink = SessionGrant | BatchesKept | ReplayRequest | Setpoints
