"""Counters and gauges of a store, as plain numbers; `help` of each field is the metric's help text."""

from dataclasses import dataclass, field


def _count(kind: str, text: str) -> int:
    number: int = field(default=0, metadata={"kind": kind, "help": text})
    return number


def _seconds(kind: str, text: str) -> float:
    number: float = field(default=0.0, metadata={"kind": kind, "help": text})
    return number


@dataclass(slots=True)
class StoreStats:
    """One field per metric; `kind` is counter (only grows) or gauge."""

    queue_rows: int = _count("gauge", "Samples waiting to be committed.")
    queue_bytes: int = _count("gauge", "Memory of the samples waiting to be committed, in bytes.")
    records_waiting: int = _count("gauge", "Records of all kinds waiting, such as sessions and dispatches.")
    retention_days_held: int = _count(
        "gauge", "Days of telemetry past retention, kept until an operator confirms."
    )
    commit_seconds_last: float = _seconds("gauge", "Duration of the last telemetry transaction.")
    commit_seconds_max: float = _seconds("gauge", "Duration of the slowest telemetry transaction.")

    groups_committed: int = _count("counter", "Telemetry transactions committed.")
    rows_committed: int = _count("counter", "Samples committed.")
    batches_committed: int = _count("counter", "Telemetry batches committed.")
    commit_seconds: float = _seconds("counter", "Time spent in telemetry transactions.")
    database_failures: int = _count("counter", "Failed operations and connection attempts.")
    batches_refused: int = _count("counter", "Telemetry batches refused because the store's queue was full.")
    batches_unwritable: int = _count("counter", "Telemetry batches dropped: the database refuses their data.")
    samples_dropped: int = _count("counter", "Samples without an outbox dropped because the queue was full.")
    shares_dropped: int = _count(
        "counter", "Assets' shares of ended dispatches dropped because the record queue was full."
    )
    records_dropped: int = _count(
        "counter", "Sessions, dispatches, alarms dropped: no room, or refused as data."
    )
    audit_records_dropped: int = _count("counter", "Audit records dropped: no room, or refused as data.")
    event_records_dropped: int = _count("counter", "Events dropped: no room, or refused as data.")
    retention_days_dropped: int = _count("counter", "Days of telemetry dropped by retention.")
    partition_failures: int = _count(
        "counter", "Failed attempts to create or drop a day's partition; they are retried."
    )
