"""The bounds of one connection, and of all connections of a server together."""

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """How much one connection may hold and do, and how long it may be silent.

    Memory: inbound, a call holds at most `inbound_queue_bytes` + `stream_window_bytes` of whole messages that
    its handler has not received, and one unfinished message of `max_message_bytes`. All calls of a
    connection together hold at most `max_concurrent_calls` * `inbound_queue_bytes` +
    `connection_window_bytes` of whole messages, and `connection_window_bytes` of unfinished ones. Outbound,
    a connection holds at most twice `outbound_bytes`, and one message a sender.

    A connection whose rates are exceeded is sent GOAWAY (ENHANCE_YOUR_CALM) and closed.

    Attributes:
        max_message_bytes: a larger one ends its call with RESOURCE_EXHAUSTED.
        max_concurrent_calls: more are refused, and may be retried.
        inbound_queue_bytes: of unreceived messages, above which a call stops acknowledging data.
        stream_window_bytes: flow-control window of a call.
        connection_window_bytes: flow-control window of the connection; also the bound of all unfinished
            messages, and the call that exceeds it ends with RESOURCE_EXHAUSTED.
        calls_at_once: requests that a client may send in a burst, whatever their outcome.
        calls_per_s: and sustained.
        control_frames_at_once: RST_STREAM, PING, SETTINGS, PRIORITY and unknown frames, empty DATA frames and
            those of closed streams, that a peer may send in a burst.
        control_frames_per_s: and sustained.
        outbound_bytes: pending data above which senders wait.
        ping_interval_s: a peer that was silent for so long is sent a PING; any byte counts.
        ping_timeout_s: the connection is closed when the peer stays silent for so long after it.
    """

    max_message_bytes: int = 4 * MEBIBYTE
    max_concurrent_calls: int = 1024
    inbound_queue_bytes: int = 64 * 1024
    stream_window_bytes: int = 256 * 1024
    connection_window_bytes: int = 64 * MEBIBYTE
    calls_at_once: int = 20_000
    calls_per_s: float = 10_000.0
    control_frames_at_once: int = 10_000
    control_frames_per_s: float = 1_000.0
    outbound_bytes: int = 256 * 1024
    ping_interval_s: float = 5.0
    ping_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerOptions:
    """What all connections of a server may use.

    Attributes:
        memory_bytes: what peers together can make the process hold.
        max_connections: more wait in the listener's backlog.
        max_unregistered: of them, unregistered ones; more wait in the backlog.
        max_unregistered_per_address: served at once for one address (IPv6: one /64); more wait in order,
            accepted but unread.
        unregistered_bytes: messages and calls that one unregistered connection may hold, beside the
            first message of a method that declares a larger bound, and the frame that is arriving.
        register_within_s: from when a connection is served until it must have registered.
    """

    memory_bytes: int = 256 * MEBIBYTE
    max_connections: int = 1 << 30
    max_unregistered: int = 1000
    max_unregistered_per_address: int = 64
    unregistered_bytes: int = 64 * 1024
    register_within_s: float = 10.0
