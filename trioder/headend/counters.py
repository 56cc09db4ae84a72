"""What has happened since the headend started, as plain numbers that only grow.

How they are shown (`/metrics`) is decided elsewhere; the `help` of each field is what is told there.
"""

from dataclasses import dataclass, field


def _counter(text: str) -> int:
    count: int = field(default=0, metadata={"help": text})
    return count


@dataclass(slots=True)
class Counters:
    """One field a counter; all start at 0."""

    sessions_opened: int = _counter("Agent sessions opened.")
    sessions_superseded: int = _counter("Agent sessions ended by a newer session of the same agent.")
    sessions_refused: int = _counter("Registrations refused: unknown assets, claimed assets, an old epoch.")
    wire_errors: int = _counter("Sessions ended because a message broke the contract.")

    samples_received: int = _counter("Samples received from agents, backfill and repeats included.")
    samples_unknown: int = _counter("Samples of a backlog dropped: their assets are not in the fleet.")
    samples_synthesized: int = _counter("Samples made by the headend's own model.")
    batches_received: int = _counter("Telemetry batches received.")
    batches_taken: int = _counter("Telemetry batches handed to the store in their turn.")
    batches_repeated: int = _counter("Telemetry batches received again and dropped.")
    batches_out_of_sequence: int = _counter("Telemetry batches that came before one that is missing.")
    batches_refused: int = _counter("Telemetry batches that the store had no room for.")
    batches_lost: int = _counter("Telemetry batches that agents no longer had when their turn came.")
    replays_requested: int = _counter("Times an agent was asked to send batches again.")

    dispatches_sent: int = _counter("Dispatches handed to a connected agent when they were made.")
    dispatches_queued: int = _counter("Dispatches made while the agent was away.")
    dispatches_refused: int = _counter("Dispatches refused: unknown asset or out of bounds.")
    dispatches_delivered_late: int = _counter("Queued dispatches handed to an agent that came back in time.")
    dispatches_replaced: int = _counter("Dispatches replaced by a newer one before they left the headend.")
    dispatches_dropped: int = _counter(
        "Queued dispatches dropped: the agent stayed away, or their time ran out."
    )
    dispatches_acknowledged: int = _counter("Answers of agents to dispatches.")
    dispatches_rejected: int = _counter("Answers of agents that they will not obey a dispatch.")

    heartbeats_received: int = _counter("Heartbeats received.")
    events_received: int = _counter("Events received from agents.")
    ticks: int = _counter("Turns of the tick loop.")
