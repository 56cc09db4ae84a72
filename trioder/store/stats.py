"""What a store has done since it was opened, and what waits in it, as plain numbers.

How they are shown (`/metrics`) is decided elsewhere; `help` of each field is what is told there.
"""

from dataclasses import dataclass, field


def _figure(kind: str, text: str) -> int:
    number: int = field(default=0, metadata={"kind": kind, "help": text})
    return number


def _seconds(kind: str, text: str) -> float:
    number: float = field(default=0.0, metadata={"kind": kind, "help": text})
    return number


@dataclass(slots=True)
class StoreStats:
    """One field a figure; `kind` is counter (only grows) or gauge."""

    queue_rows: int = _figure("gauge", "Samples that wait to be committed.")
    queue_bytes: int = _figure("gauge", "Memory of the samples that wait to be committed.")
    notes_waiting: int = _figure("gauge", "Sessions and dispatches that wait to be written.")
    retention_days_held: int = _figure(
        "gauge", "Days of telemetry past retention that are kept until an operator confirms."
    )
    commit_seconds_last: float = _seconds("gauge", "How long the last transaction of samples took.")
    commit_seconds_max: float = _seconds("gauge", "How long the slowest transaction of samples took.")

    groups_committed: int = _figure("counter", "Transactions of samples committed.")
    rows_committed: int = _figure("counter", "Samples committed.")
    batches_committed: int = _figure("counter", "Telemetry batches committed.")
    commit_seconds: float = _seconds("counter", "Time spent in transactions of samples.")
    database_failures: int = _figure("counter", "Times the database failed or could not be reached.")
    batches_refused: int = _figure("counter", "Telemetry batches that the store's queue had no room for.")
    batches_unwritable: int = _figure(
        "counter", "Telemetry batches dropped: the database refuses their data."
    )
    samples_dropped: int = _figure("counter", "Samples without an outbox dropped: there was no room.")
    shares_dropped: int = _figure(
        "counter", "Assets' shares of ended dispatches dropped from their records: there was no room."
    )
    notes_dropped: int = _figure("counter", "Sessions and dispatches dropped: no room, or refused as data.")
    retention_days_dropped: int = _figure("counter", "Days of telemetry that retention dropped.")
    partition_failures: int = _figure(
        "counter", "Attempts to make or drop a day's partition that failed; they are repeated."
    )
