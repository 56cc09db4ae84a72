from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AgentToHeadend(_message.Message):
    __slots__ = ("register", "telemetry", "heartbeat", "dispatch_ack", "event", "telemetry_batch")
    REGISTER_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    DISPATCH_ACK_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_BATCH_FIELD_NUMBER: _ClassVar[int]
    register: Register
    telemetry: Telemetry
    heartbeat: Heartbeat
    dispatch_ack: DispatchAck
    event: Event
    telemetry_batch: TelemetryBatch
    def __init__(self, register: _Optional[_Union[Register, _Mapping]] = ..., telemetry: _Optional[_Union[Telemetry, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., dispatch_ack: _Optional[_Union[DispatchAck, _Mapping]] = ..., event: _Optional[_Union[Event, _Mapping]] = ..., telemetry_batch: _Optional[_Union[TelemetryBatch, _Mapping]] = ...) -> None: ...

class HeadendToAgent(_message.Message):
    __slots__ = ("setpoint", "registered", "telemetry_ack", "setpoint_batch", "replay")
    SETPOINT_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_ACK_FIELD_NUMBER: _ClassVar[int]
    SETPOINT_BATCH_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    setpoint: Setpoint
    registered: Registered
    telemetry_ack: TelemetryAck
    setpoint_batch: SetpointBatch
    replay: Replay
    def __init__(self, setpoint: _Optional[_Union[Setpoint, _Mapping]] = ..., registered: _Optional[_Union[Registered, _Mapping]] = ..., telemetry_ack: _Optional[_Union[TelemetryAck, _Mapping]] = ..., setpoint_batch: _Optional[_Union[SetpointBatch, _Mapping]] = ..., replay: _Optional[_Union[Replay, _Mapping]] = ...) -> None: ...

class AssetDescriptor(_message.Message):
    __slots__ = ("asset_id", "site_id", "asset_name", "site_name", "location", "capacity_mwhr", "max_mw", "min_mw")
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    SITE_ID_FIELD_NUMBER: _ClassVar[int]
    ASSET_NAME_FIELD_NUMBER: _ClassVar[int]
    SITE_NAME_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_MWHR_FIELD_NUMBER: _ClassVar[int]
    MAX_MW_FIELD_NUMBER: _ClassVar[int]
    MIN_MW_FIELD_NUMBER: _ClassVar[int]
    asset_id: str
    site_id: str
    asset_name: str
    site_name: str
    location: str
    capacity_mwhr: float
    max_mw: float
    min_mw: float
    def __init__(self, asset_id: _Optional[str] = ..., site_id: _Optional[str] = ..., asset_name: _Optional[str] = ..., site_name: _Optional[str] = ..., location: _Optional[str] = ..., capacity_mwhr: _Optional[float] = ..., max_mw: _Optional[float] = ..., min_mw: _Optional[float] = ...) -> None: ...

class Register(_message.Message):
    __slots__ = ("asset_id", "site_id", "asset_name", "site_name", "gateway_id", "assets", "agent_id", "epoch", "protocol", "outbox_id", "backlog_only", "clock_unix_ms", "newest_batch_seq", "oldest_batch_seq", "replaces_outbox_id", "version")
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    SITE_ID_FIELD_NUMBER: _ClassVar[int]
    ASSET_NAME_FIELD_NUMBER: _ClassVar[int]
    SITE_NAME_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_ID_FIELD_NUMBER: _ClassVar[int]
    ASSETS_FIELD_NUMBER: _ClassVar[int]
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    OUTBOX_ID_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_ONLY_FIELD_NUMBER: _ClassVar[int]
    CLOCK_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    NEWEST_BATCH_SEQ_FIELD_NUMBER: _ClassVar[int]
    OLDEST_BATCH_SEQ_FIELD_NUMBER: _ClassVar[int]
    REPLACES_OUTBOX_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    asset_id: str
    site_id: str
    asset_name: str
    site_name: str
    gateway_id: str
    assets: _containers.RepeatedCompositeFieldContainer[AssetDescriptor]
    agent_id: str
    epoch: int
    protocol: int
    outbox_id: str
    backlog_only: bool
    clock_unix_ms: int
    newest_batch_seq: int
    oldest_batch_seq: int
    replaces_outbox_id: str
    version: str
    def __init__(self, asset_id: _Optional[str] = ..., site_id: _Optional[str] = ..., asset_name: _Optional[str] = ..., site_name: _Optional[str] = ..., gateway_id: _Optional[str] = ..., assets: _Optional[_Iterable[_Union[AssetDescriptor, _Mapping]]] = ..., agent_id: _Optional[str] = ..., epoch: _Optional[int] = ..., protocol: _Optional[int] = ..., outbox_id: _Optional[str] = ..., backlog_only: _Optional[bool] = ..., clock_unix_ms: _Optional[int] = ..., newest_batch_seq: _Optional[int] = ..., oldest_batch_seq: _Optional[int] = ..., replaces_outbox_id: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class Telemetry(_message.Message):
    __slots__ = ("asset_id", "site_id", "site_name", "timestamp", "soc_mwhr", "soc_pct", "capacity_mwhr", "current_mw", "setpoint_mw", "max_mw", "min_mw", "status", "available_discharge_mw", "available_charge_mw", "quality")
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    SITE_ID_FIELD_NUMBER: _ClassVar[int]
    SITE_NAME_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    SOC_MWHR_FIELD_NUMBER: _ClassVar[int]
    SOC_PCT_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_MWHR_FIELD_NUMBER: _ClassVar[int]
    CURRENT_MW_FIELD_NUMBER: _ClassVar[int]
    SETPOINT_MW_FIELD_NUMBER: _ClassVar[int]
    MAX_MW_FIELD_NUMBER: _ClassVar[int]
    MIN_MW_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_DISCHARGE_MW_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_CHARGE_MW_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    asset_id: str
    site_id: str
    site_name: str
    timestamp: str
    soc_mwhr: float
    soc_pct: float
    capacity_mwhr: float
    current_mw: float
    setpoint_mw: float
    max_mw: float
    min_mw: float
    status: str
    available_discharge_mw: float
    available_charge_mw: float
    quality: int
    def __init__(self, asset_id: _Optional[str] = ..., site_id: _Optional[str] = ..., site_name: _Optional[str] = ..., timestamp: _Optional[str] = ..., soc_mwhr: _Optional[float] = ..., soc_pct: _Optional[float] = ..., capacity_mwhr: _Optional[float] = ..., current_mw: _Optional[float] = ..., setpoint_mw: _Optional[float] = ..., max_mw: _Optional[float] = ..., min_mw: _Optional[float] = ..., status: _Optional[str] = ..., available_discharge_mw: _Optional[float] = ..., available_charge_mw: _Optional[float] = ..., quality: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("asset_id", "timestamp", "clock_unix_ms")
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    CLOCK_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    asset_id: str
    timestamp: str
    clock_unix_ms: int
    def __init__(self, asset_id: _Optional[str] = ..., timestamp: _Optional[str] = ..., clock_unix_ms: _Optional[int] = ...) -> None: ...

class DispatchAck(_message.Message):
    __slots__ = ("dispatch_id", "asset_id", "status", "timestamp", "reason", "setpoint_mw", "remaining_s", "reversion_mw")
    DISPATCH_ID_FIELD_NUMBER: _ClassVar[int]
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SETPOINT_MW_FIELD_NUMBER: _ClassVar[int]
    REMAINING_S_FIELD_NUMBER: _ClassVar[int]
    REVERSION_MW_FIELD_NUMBER: _ClassVar[int]
    dispatch_id: str
    asset_id: str
    status: str
    timestamp: str
    reason: str
    setpoint_mw: float
    remaining_s: float
    reversion_mw: float
    def __init__(self, dispatch_id: _Optional[str] = ..., asset_id: _Optional[str] = ..., status: _Optional[str] = ..., timestamp: _Optional[str] = ..., reason: _Optional[str] = ..., setpoint_mw: _Optional[float] = ..., remaining_s: _Optional[float] = ..., reversion_mw: _Optional[float] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("id", "asset_id", "site_id", "timestamp", "event_type", "severity", "message")
    ID_FIELD_NUMBER: _ClassVar[int]
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    SITE_ID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    id: str
    asset_id: str
    site_id: str
    timestamp: str
    event_type: str
    severity: str
    message: str
    def __init__(self, id: _Optional[str] = ..., asset_id: _Optional[str] = ..., site_id: _Optional[str] = ..., timestamp: _Optional[str] = ..., event_type: _Optional[str] = ..., severity: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class TelemetryBatch(_message.Message):
    __slots__ = ("batch_seq", "ts_unix_ms", "asset_index", "soc_mwhr", "current_mw", "setpoint_mw", "available_discharge_mw", "available_charge_mw", "gap_from_seq", "live_only", "quality", "lost_batches")
    BATCH_SEQ_FIELD_NUMBER: _ClassVar[int]
    TS_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    ASSET_INDEX_FIELD_NUMBER: _ClassVar[int]
    SOC_MWHR_FIELD_NUMBER: _ClassVar[int]
    CURRENT_MW_FIELD_NUMBER: _ClassVar[int]
    SETPOINT_MW_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_DISCHARGE_MW_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_CHARGE_MW_FIELD_NUMBER: _ClassVar[int]
    GAP_FROM_SEQ_FIELD_NUMBER: _ClassVar[int]
    LIVE_ONLY_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    LOST_BATCHES_FIELD_NUMBER: _ClassVar[int]
    batch_seq: int
    ts_unix_ms: int
    asset_index: _containers.RepeatedScalarFieldContainer[int]
    soc_mwhr: _containers.RepeatedScalarFieldContainer[float]
    current_mw: _containers.RepeatedScalarFieldContainer[float]
    setpoint_mw: _containers.RepeatedScalarFieldContainer[float]
    available_discharge_mw: _containers.RepeatedScalarFieldContainer[float]
    available_charge_mw: _containers.RepeatedScalarFieldContainer[float]
    gap_from_seq: int
    live_only: bool
    quality: _containers.RepeatedScalarFieldContainer[int]
    lost_batches: int
    def __init__(self, batch_seq: _Optional[int] = ..., ts_unix_ms: _Optional[int] = ..., asset_index: _Optional[_Iterable[int]] = ..., soc_mwhr: _Optional[_Iterable[float]] = ..., current_mw: _Optional[_Iterable[float]] = ..., setpoint_mw: _Optional[_Iterable[float]] = ..., available_discharge_mw: _Optional[_Iterable[float]] = ..., available_charge_mw: _Optional[_Iterable[float]] = ..., gap_from_seq: _Optional[int] = ..., live_only: _Optional[bool] = ..., quality: _Optional[_Iterable[int]] = ..., lost_batches: _Optional[int] = ...) -> None: ...

class Setpoint(_message.Message):
    __slots__ = ("asset_id", "mw", "duration_s", "site_id", "group_id", "dispatch_id", "reversion_mw", "valid_until_unix_ms")
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    MW_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    SITE_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    DISPATCH_ID_FIELD_NUMBER: _ClassVar[int]
    REVERSION_MW_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    asset_id: str
    mw: float
    duration_s: int
    site_id: str
    group_id: str
    dispatch_id: str
    reversion_mw: float
    valid_until_unix_ms: int
    def __init__(self, asset_id: _Optional[str] = ..., mw: _Optional[float] = ..., duration_s: _Optional[int] = ..., site_id: _Optional[str] = ..., group_id: _Optional[str] = ..., dispatch_id: _Optional[str] = ..., reversion_mw: _Optional[float] = ..., valid_until_unix_ms: _Optional[int] = ...) -> None: ...

class SetpointBatch(_message.Message):
    __slots__ = ("setpoints",)
    SETPOINTS_FIELD_NUMBER: _ClassVar[int]
    setpoints: _containers.RepeatedCompositeFieldContainer[Setpoint]
    def __init__(self, setpoints: _Optional[_Iterable[_Union[Setpoint, _Mapping]]] = ...) -> None: ...

class Registered(_message.Message):
    __slots__ = ("session_id", "committed_batch_seq", "protocol", "unknown_asset_ids", "clock_unix_ms", "committed_ts_unix_ms")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_BATCH_SEQ_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_ASSET_IDS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_TS_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    committed_batch_seq: int
    protocol: int
    unknown_asset_ids: _containers.RepeatedScalarFieldContainer[str]
    clock_unix_ms: int
    committed_ts_unix_ms: int
    def __init__(self, session_id: _Optional[str] = ..., committed_batch_seq: _Optional[int] = ..., protocol: _Optional[int] = ..., unknown_asset_ids: _Optional[_Iterable[str]] = ..., clock_unix_ms: _Optional[int] = ..., committed_ts_unix_ms: _Optional[int] = ...) -> None: ...

class TelemetryAck(_message.Message):
    __slots__ = ("batch_seq",)
    BATCH_SEQ_FIELD_NUMBER: _ClassVar[int]
    batch_seq: int
    def __init__(self, batch_seq: _Optional[int] = ...) -> None: ...

class Replay(_message.Message):
    __slots__ = ("from_batch_seq",)
    FROM_BATCH_SEQ_FIELD_NUMBER: _ClassVar[int]
    from_batch_seq: int
    def __init__(self, from_batch_seq: _Optional[int] = ...) -> None: ...
