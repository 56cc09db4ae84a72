"""The messages once decoded and validated: the records that both ends work with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from trioder.domain.dispatch import Setpoint
from trioder.domain.quality import Quality

# The type of the event by which an agent reports that its clock was set.
CLOCK_STEP = "CLOCK_STEP"
# No outbox has more batches: 54 years of an agent's shortest pulse, 20 a second.
MAX_BATCH_SEQ = 2**35


class Nameplate(NamedTuple):
    """An asset's rating as the agent reports it, unchecked; signs and units as in `trioder.domain.assets`."""

    capacity_mwhr: float
    max_mw: float
    min_mw: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """The first message of a session.

    Attributes:
        agent_id: of a single-asset agent that sends none, the id of its gateway or asset.
        names_agent: whether it sends an agent_id.
        epoch: counts the agent's boots; 0 when it sends none.
        protocol: 0 supports Setpoint only.
        outbox_id: identifies the sequence of its batches; empty when it sends none.
        replaces_outbox_id: the outbox before its state was restored from an older copy; empty if it was not.
        asset_ids: distinct, canonical; the position of an id is its index in batches.
        nameplates: of the assets for which the agent reports one, by asset id.
        backlog_only: it claims none of the assets, and only delivers stored batches.
        clock_unix_ms: the agent's clock when it sent this; None from an older agent.
        newest_batch_seq: the newest batch that its outbox ever held, 0 for none; None from an older agent.
        version: of the agent's software, for people; empty from an older agent.
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
    names_agent: bool = True
    newest_batch_seq: int | None = None
    version: str = ""


# Not frozen, though never changed: that would double the cost of making one.
@dataclass(slots=True, kw_only=True)
class Batch:
    """One pulse of one agent, as columns of equal length; units as in the names.

    Attributes:
        batch_seq: from 1, without gaps within an outbox.
        gap_from_seq: the batches from here to batch_seq - 1 are no longer in the outbox.
        lost_batches: how many of those were dropped unacknowledged; None when the agent does not report it.
        live_only: an early copy for the latest value; not persisted.
        asset_index: distinct positions in Registration.asset_ids.
        ts_unix_ms: by the agent's clock, within the years 1970 to 9999.
        soc_mwhr: this and the other values may be NaN or infinite.
        available_discharge_mw: magnitudes.
        available_charge_mw: magnitudes.
        quality: as the device reports it, a `trioder.domain.quality.Quality` code a row; empty: all good.
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
        available_discharge_mw: a magnitude, like available_charge_mw.
        soc_pct: this and the nameplate's values are validated, and not stored.
        quality: as the device reports it.
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
    """An agent's acknowledgement of a setpoint; `status` is the agent's own text.

    Attributes:
        setpoint_mw: the asset's setpoint now, if the agent reports it.
        remaining_s: how long it remains in force; None for ever, or if the agent does not report it.
        reversion_mw: the setpoint after that.
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
    """An event that an agent reports."""

    event_id: str
    asset_id: str
    site_id: str
    ts_unix_ms: int
    event_type: str
    severity: str
    message: str


# What an agent reports of a battery apart from telemetry.
AgentMessage = Acknowledgement | AgentEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionGrant:
    """The headend's response to a registration.

    Attributes:
        committed_batch_seq: every batch up to this one is committed; 0 when none is.
        committed_ts_unix_ms: the time of that batch, if recorded.
        unknown_asset_ids: registered, and not in the headend's fleet; the session is open for the others.
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
    """A reading of the agent's clock; liveness is checked by the transport.

    Attributes:
        asset_id: as sent; empty from an agent that sends one for all its assets.
        clock_unix_ms: the agent's clock when it sent this; None when it carries none that can be parsed.
    """

    asset_id: str
    clock_unix_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAck:
    """Every batch up to and including this one is committed: the outbox may drop them."""

    batch_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """A request to send again, in order, from this batch on."""

    from_batch_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Setpoints:
    """Setpoints in the order of dispatch; the asset validates the values and acknowledges each."""

    setpoints: tuple[Setpoint, ...]


Uplink = Registration | SingleSample | Heartbeat | Acknowledgement | AgentEvent | Batch
Downlink = SessionGrant | BatchAck | ReplayRequest | Setpoints
