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
    samples_unknown: int = _counter("Samples dropped: their assets are not in the fleet.")
    assets_unknown: int = _counter("Assets that agents registered and that are not in the fleet.")
    samples_suspect: int = _counter(
        "Samples received that cannot be: not finite, beyond the nameplate, or a step faster than its ramp."
    )
    samples_bad: int = _counter("Samples received that the device itself flagged as bad.")
    samples_wrong_time: int = _counter(
        "Samples received whose time is more than 60 s in the future, or before 2000: never the latest."
    )
    samples_repeated: int = _counter("Samples received again from agents without an outbox, and dropped.")
    samples_synthesized: int = _counter("Samples made by the headend's own model.")
    batches_received: int = _counter("Telemetry batches received.")
    batches_taken: int = _counter("Telemetry batches handed to the store in their turn.")
    batches_repeated: int = _counter("Telemetry batches received again and dropped.")
    batches_out_of_sequence: int = _counter("Telemetry batches that came before one that is missing.")
    batches_refused: int = _counter("Telemetry batches that the store had no room for.")
    batches_lost: int = _counter("Telemetry batches that agents dropped before they were acknowledged.")
    outboxes_replaced: int = _counter("Agents that continued in a new outbox: their state was set back.")
    replays_requested: int = _counter("Times an agent was asked to send batches again.")

    dispatches_refused: int = _counter("Dispatches refused: unknown asset or out of bounds.")
    dispatches_group: int = _counter("Dispatches to many assets together.")
    dispatches_queued: int = _counter("Members of dispatches that waited for their agent.")
    dispatches_sent: int = _counter("Members of dispatches handed to a connected agent, repeats included.")
    dispatches_delivered_late: int = _counter("Queued members handed to an agent that came back in time.")
    dispatches_acknowledged: int = _counter("Answers of agents to dispatches.")
    dispatches_acknowledged_unknown: int = _counter("Answers with a status that is not in the contract.")
    dispatches_accepted: int = _counter("Members that an agent obeys.")
    dispatches_clamped: int = _counter("Members that an agent obeys as far as its limits go.")
    dispatches_rejected: int = _counter("Members that an agent will not obey.")
    dispatches_tracking: int = _counter("Members that have reached their setpoint.")
    dispatches_deviating: int = _counter("Times the power of a member was not, or no longer, what was asked.")
    dispatches_limited: int = _counter("Times a member fell short by what its battery reports as available.")
    dispatches_completed: int = _counter("Members whose time is over, and that were seen to track.")
    dispatches_not_tracked: int = _counter("Members that ended without having been seen to track.")
    dispatches_superseded: int = _counter("Members that a newer dispatch has replaced.")
    dispatches_expired: int = _counter("Members that were never delivered: their time ran out.")
    dispatches_failed: int = _counter("Members that failed: unanswered, dropped out, or given up.")
    dispatches_resplit: int = _counter("Times the shares of a group dispatch were dealt anew.")
    dispatches_joined: int = _counter("Assets that took part in a group dispatch later, or again.")

    rest_requests_refused: int = _counter(
        "REST requests refused before any route: malformed, too slow, too large, for another host."
    )
    rest_connections_refused: int = _counter("REST connections refused: as many as may be were in use.")
    rest_connections_closed_idle: int = _counter("Idle REST connections closed to make room for new ones.")

    fleet_reloads: int = _counter("Times the fleet file was reloaded.")
    fleet_reloads_refused: int = _counter("Reloads of the fleet file refused: it had errors.")

    clock_steps: int = _counter("Steps of the headend's own clock: it was set, or its machine was suspended.")
    agent_clock_steps: int = _counter("Steps of their clocks that agents reported.")
    clock_skew_alarms: int = _counter("Times an agent's clock was found to be off by more than 2 s.")
    leases_bounded: int = _counter("Ends of setpoints that agents reported to be later than was dispatched.")

    heartbeats_received: int = _counter("Heartbeats received.")
    events_received: int = _counter("Events received from agents.")
    event_handler_failures: int = _counter("Exceptions raised by handlers of facts, and logged.")
    log_lines_suppressed: int = _counter("Log lines not written: an agent caused too many of their kind.")
    ticks: int = _counter("Turns of the tick loop.")
