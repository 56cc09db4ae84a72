"""The bounds of one connection."""

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """What a connection may take and how long it may be silent.

    Memory: of what arrives, a call holds at most `inbound_queue_bytes` + `stream_window_bytes` of whole
    messages that nobody has received, and one unfinished message of `max_message_bytes`. All calls of a
    connection together hold at most `max_concurrent_calls` * `inbound_queue_bytes` +
    `connection_window_bytes` of whole messages, and `connection_window_bytes` of unfinished ones. Of what
    leaves, a connection holds at most twice `outbound_bytes`, and one message a sender.

    A connection whose rates are exceeded is sent GOAWAY (ENHANCE_YOUR_CALM) and closed.

    Attributes:
        max_message_bytes: a larger one ends its call with RESOURCE_EXHAUSTED.
        max_concurrent_calls: more are refused, and may be tried again.
        inbound_queue_bytes: of unreceived messages, what a call holds before it stops to acknowledge.
        stream_window_bytes: what a peer may send on one call before it is acknowledged.
        connection_window_bytes: what a peer may send on all calls before any of it is acknowledged; also the
            bound of all unfinished messages, and the call that exceeds it ends with RESOURCE_EXHAUSTED.
        calls_at_once: requests that a client may send at once, whatever becomes of them.
        calls_per_s: and for long.
        control_frames_at_once: RST_STREAM, PING, SETTINGS, PRIORITY and unknown frames, empty DATA frames and
            those of closed streams, that a peer may send at once.
        control_frames_per_s: and for long.
        outbound_bytes: what waits for the wire before senders wait.
        ping_interval_s: a peer that was silent for so long is sent a PING; any byte is a sign of life.
        ping_timeout_s: one that stays silent for so long after it is given up.
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
