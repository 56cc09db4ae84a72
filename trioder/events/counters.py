"""Counters of events since the headend started.

They are exported by `/metrics`, each with its field's `help`.
"""

from collections import Counter
from dataclasses import dataclass, field


def _counter(text: str) -> int:
    count: int = field(default=0, metadata={"help": text})
    return count


@dataclass(frozen=True, slots=True)
class TenantCounters:
    """Counters by tenant: their keys are of principals and fleet files, and so few.

    Attributes:
        dispatches: dispatches requested, by the tenant of the assets.
        refusals: REST requests that were not permitted, by the tenant of the principal, empty when unknown,
            and by the status of the response.
    """

    dispatches: Counter[str] = field(default_factory=Counter)
    refusals: Counter[tuple[str, int]] = field(default_factory=Counter)


@dataclass(slots=True)
class Counters:
    """One field per counter; all start at 0 and only increase."""

    sessions_opened: int = _counter("Agent sessions opened.")
    sessions_superseded: int = _counter("Agent sessions ended by a newer session of the same agent.")
    sessions_refused: int = _counter("Registrations refused: unknown assets, claimed assets, an old epoch.")
    agents_refused_certificate: int = _counter(
        "Agents refused because they presented no valid certificate of an agent, or a revoked one."
    )
    agents_refused_identity: int = _counter(
        "Agents refused because of their certificate's trust domain, agent_id, or a missing grant."
    )
    agents_refused_assets: int = _counter(
        "Agents refused because they registered assets not granted to them."
    )
    agents_refused_binding: int = _counter(
        "Agents refused because their agent_id or outbox belongs to another identity."
    )
    sessions_revoked: int = _counter(
        "Agent sessions ended because a certificate was revoked or has expired, or a grant has changed."
    )
    wire_errors: int = _counter("Sessions ended because a message violated the protocol.")

    samples_received: int = _counter("Samples received from agents, including backfill and repeats.")
    samples_unknown: int = _counter("Samples dropped because their assets are not in the fleet.")
    assets_unknown: int = _counter("Assets registered by agents that are not in the fleet.")
    samples_suspect: int = _counter(
        "Samples received with impossible values: not finite, beyond the nameplate, or faster than its ramp."
    )
    samples_bad: int = _counter("Samples received that the device flagged as bad.")
    samples_wrong_time: int = _counter(
        "Samples received with a time more than 60 s in the future or before 2000; never the latest."
    )
    samples_repeated: int = _counter("Samples received again from agents without an outbox, and dropped.")
    samples_synthesized: int = _counter("Samples synthesized by the headend's own model.")
    batches_received: int = _counter("Telemetry batches received.")
    batches_taken: int = _counter("Telemetry batches submitted to the store in sequence.")
    batches_repeated: int = _counter("Telemetry batches received again and dropped.")
    batches_out_of_sequence: int = _counter(
        "Telemetry batches received out of order: a predecessor is missing."
    )
    batches_impossible: int = _counter(
        "Telemetry batches whose number is beyond what their outbox can have; their sessions were ended."
    )
    batches_refused: int = _counter("Telemetry batches refused: the store had no capacity.")
    batches_lost: int = _counter("Telemetry batches that agents dropped before they were acknowledged.")
    outboxes_replaced: int = _counter(
        "Agents that continued in a new outbox: their state was restored from an older copy."
    )
    replays_requested: int = _counter("Replays of telemetry batches requested from agents.")

    dispatches_refused: int = _counter("Dispatches refused: unknown asset or out of bounds.")
    dispatches_stops: int = _counter("Emergency stops.")
    dispatches_group: int = _counter("Dispatches to many assets together.")
    dispatches_queued: int = _counter("Setpoints that waited for their agent.")
    dispatches_sent: int = _counter("Setpoints sent to a connected agent, repeats included.")
    dispatches_delivered_late: int = _counter("Queued setpoints sent to an agent that reconnected in time.")
    dispatches_acknowledged: int = _counter("Acknowledgements of setpoints by agents.")
    dispatches_acknowledged_unknown: int = _counter("Acknowledgements with an unknown status.")
    dispatches_accepted: int = _counter("Setpoints accepted by an agent.")
    dispatches_clamped: int = _counter("Setpoints accepted by an agent and clamped to its limits.")
    dispatches_rejected: int = _counter("Setpoints rejected by an agent.")
    dispatches_tracking: int = _counter("Setpoints that the power has reached.")
    dispatches_deviating: int = _counter("Times the power deviated from a setpoint.")
    dispatches_limited: int = _counter(
        "Times the power was limited to what the battery reports as available."
    )
    dispatches_completed: int = _counter("Setpoints that have ended and were tracked.")
    dispatches_not_tracked: int = _counter("Setpoints that have ended without having been tracked.")
    dispatches_superseded: int = _counter("Setpoints superseded by a newer dispatch.")
    dispatches_expired: int = _counter("Setpoints that expired before they were delivered.")
    dispatches_failed: int = _counter("Setpoints that failed: unacknowledged, dropped out, or given up.")
    dispatches_cancelled: int = _counter("Setpoints cancelled by a user, those of resumed stops included.")
    dispatches_deferred: int = _counter("Setpoints deferred by a dispatch with a higher priority.")
    dispatches_resplit: int = _counter("Reallocations of group dispatches.")
    dispatches_joined: int = _counter("Assets that joined a group dispatch later, or again.")

    rest_requests_refused: int = _counter(
        "REST requests refused before any route: malformed, too slow, too large, for another host."
    )
    rest_connections_refused: int = _counter("REST connections refused: the limit was reached.")
    rest_connections_closed_idle: int = _counter("Idle REST connections closed to make room for new ones.")

    streams_opened: int = _counter("Live feeds opened by clients.")
    streams_resumed: int = _counter("Live feeds that continued where the client's Last-Event-ID was.")
    streams_dropped: int = _counter("Live feeds ended because their clients read nothing for 30 s.")
    streams_revoked: int = _counter("Live feeds ended because their tokens were revoked, or expired.")
    stream_snapshots: int = _counter("Snapshots sent on live feeds.")
    stream_events: int = _counter("Events written to live feeds.")
    stream_bytes: int = _counter("Bytes of events written to live feeds.")
    stream_updates_conflated: int = _counter(
        "Updates of live feeds merged into later ones: their clients were still reading earlier ones."
    )

    fleet_reloads: int = _counter("Reloads of the fleet file.")
    fleet_reloads_refused: int = _counter("Reloads of the fleet file refused because it has errors.")

    clock_steps: int = _counter("Steps of the headend's own clock: it was set, or its machine was suspended.")
    agent_clock_steps: int = _counter("Steps of their clocks that agents reported.")
    clock_skew_alarms: int = _counter("Times an agent's clock was found to be off by more than 2 s.")
    leases_bounded: int = _counter("Setpoints whose agent reported a later end than was dispatched.")

    alarms_raised: int = _counter("Alarms raised.")
    alarms_cleared: int = _counter("Alarms cleared.")
    alarms_acknowledged: int = _counter("Acknowledgements of alarms by users.")
    alarm_conditions_dropped: int = _counter("Conditions that could not become alarms: too many at once.")
    agent_events_dropped: int = _counter("Events of agents not recorded: an agent sent too many.")

    heartbeats_received: int = _counter("Heartbeats received.")
    events_received: int = _counter("Events received from agents.")
    event_handler_failures: int = _counter("Exceptions raised by handlers of facts, and logged.")
    log_lines_suppressed: int = _counter("Log lines suppressed: an agent caused too many of their kind.")
    ticks: int = _counter("Iterations of the tick loop.")
