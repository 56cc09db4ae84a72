"""The bounds of one connection."""

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """What a connection may take and how long it may be silent.

    Memory: of what arrives, a call holds at most `inbound_queue_bytes` + `stream_window_bytes` of whole
    messages that nobody has received, and one unfinished message of `max_message_bytes`; all calls of a
    connection together at most `connection_window_bytes` unreceived. Of what leaves, a connection holds
    at most `outbound_bytes`, and one message a sender.

    Attributes:
        max_message_bytes: a larger one ends its call with RESOURCE_EXHAUSTED.
        max_concurrent_calls: more are refused, and may be tried again.
        stream_window_bytes: what a peer may send on one call before it is acknowledged.
        ping_interval_s: a peer that was silent for so long is sent a PING; any byte is a sign of life.
        ping_timeout_s: one that stays silent for so long after it is given up.
    """

    max_message_bytes: int = 4 * MEBIBYTE
    max_concurrent_calls: int = 4096
    inbound_queue_bytes: int = 256 * 1024
    stream_window_bytes: int = 512 * 1024
    connection_window_bytes: int = 64 * MEBIBYTE
    outbound_bytes: int = 256 * 1024
    ping_interval_s: float = 5.0
    ping_timeout_s: float = 10.0
