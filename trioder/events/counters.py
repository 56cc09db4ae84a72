"""Counters since the start of the headend; the `help` of each field is the metric's help text."""

from dataclasses import dataclass, field


def _counter(text: str) -> int:
    count: int = field(default=0, metadata={"help": text})
    return count


@dataclass(slots=True)
class Counters:
    """One field per counter; all start at 0 and only increase."""

    sessions_opened: int = _counter("Agent sessions opened.")
    sessions_superseded: int = _counter("Agent sessions ended by a newer session of the same agent.")
    sessions_refused: int = _counter("Registrations refused: unknown assets, claimed assets, an old epoch.")
    wire_errors: int = _counter("Sessions ended by a message that violates the protocol.")

    samples_received: int = _counter("Samples received from agents, including backfill and repeats.")
    samples_unknown: int = _counter("Samples dropped because their assets are not in the fleet.")
    assets_unknown: int = _counter("Assets registered by agents that are not in the fleet.")
    samples_suspect: int = _counter(
        "Implausible samples received: not finite, beyond the nameplate, or a step faster than the ramp rate."
    )
    samples_bad: int = _counter("Samples received that the device flagged as bad.")
    samples_wrong_time: int = _counter(
        "Samples received with a time more than 60 s in the future or before 2000; never the latest."
    )
    samples_repeated: int = _counter("Repeated samples of agents without an outbox, dropped.")
    samples_synthesized: int = _counter("Samples synthesized by the headend's model.")
    batches_received: int = _counter("Telemetry batches received.")
    batches_taken: int = _counter("Telemetry batches passed to the store in sequence.")
    batches_repeated: int = _counter("Repeated telemetry batches, dropped.")
    batches_out_of_sequence: int = _counter(
        "Telemetry batches received out of order: a predecessor is missing."
    )
    batches_refused: int = _counter("Telemetry batches refused because the store's queue was full.")
    batches_lost: int = _counter("Telemetry batches dropped by agents before they were acknowledged.")
    outboxes_replaced: int = _counter(
        "Agents that continued with a new outbox because their state was reset."
    )
    replays_requested: int = _counter("Requests to agents to resend batches.")

    dispatches_refused: int = _counter("Dispatches refused: unknown asset or out of bounds.")
    dispatches_group: int = _counter("Group dispatches.")
    dispatches_queued: int = _counter("Members of dispatches queued for a disconnected agent.")
    dispatches_sent: int = _counter("Members of dispatches sent to a connected agent, including repeats.")
    dispatches_delivered_late: int = _counter("Queued members sent to an agent that reconnected in time.")
    dispatches_acknowledged: int = _counter("Acknowledgements of dispatches by agents.")
    dispatches_acknowledged_unknown: int = _counter("Acknowledgements with an unknown status.")
    dispatches_accepted: int = _counter("Members accepted by an agent.")
    dispatches_clamped: int = _counter("Members accepted by an agent and clamped to the battery's limits.")
    dispatches_rejected: int = _counter("Members rejected by an agent.")
    dispatches_tracking: int = _counter("Members that reached their setpoint.")
    dispatches_deviating: int = _counter("Times a member's power started to deviate from its setpoint.")
    dispatches_limited: int = _counter(
        "Times a member's power was limited by what its battery reports as available."
    )
    dispatches_completed: int = _counter("Members that ended after they had tracked their setpoint.")
    dispatches_not_tracked: int = _counter("Members that ended without having tracked their setpoint.")
    dispatches_superseded: int = _counter("Members replaced by a newer dispatch.")
    dispatches_expired: int = _counter("Members that expired before they were delivered.")
    dispatches_failed: int = _counter("Members that failed: not acknowledged, dropped out, or released.")
    dispatches_resplit: int = _counter("Times the shares of a group dispatch were reallocated.")
    dispatches_joined: int = _counter("Assets that joined a group dispatch later, or again.")

    rest_requests_refused: int = _counter(
        "REST requests refused before any route: malformed, too slow, too large, for another host."
    )
    rest_connections_refused: int = _counter(
        "REST connections refused because the maximum number was in use."
    )
    rest_connections_closed_idle: int = _counter("Idle REST connections closed to make room for new ones.")

    fleet_reloads: int = _counter("Reloads of the fleet file.")
    fleet_reloads_refused: int = _counter("Reloads of the fleet file refused because it has errors.")

    clock_steps: int = _counter("Steps of the headend's clock: it was set, or the machine was suspended.")
    agent_clock_steps: int = _counter("Clock steps reported by agents.")
    clock_skew_alarms: int = _counter("Clock skew alarms: an agent's clock is off by more than 2 s.")
    leases_bounded: int = _counter("Setpoints whose end, as reported by the agent, is later than dispatched.")

    heartbeats_received: int = _counter("Heartbeats received.")
    events_received: int = _counter("Events received from agents.")
    log_lines_suppressed: int = _counter("Log lines not written: an agent caused too many of their kind.")
    ticks: int = _counter("Iterations of the tick loop.")
