"""Ports for servers that a test stops and starts again under the same address."""

import random
import socket

# Below what Linux and macOS assign for port 0 and for outgoing connections: a port that is free for a
# moment is not taken meanwhile by whatever else runs, be it another process of the suite.
_LOWEST, _HIGHEST = 20_000, 32_000
# Not the seeded generator of the tests: each process would try the same ports.
_rng = random.SystemRandom()


def free_port() -> int:
    """Return a port of loopback on which nothing listens."""
    while True:
        port = _rng.randint(_LOWEST, _HIGHEST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
