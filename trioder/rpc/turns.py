"""Work of peers that is done one after another, so that many at once do not block the event loop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

_HANDSHAKES_PER_ADDRESS = 128


class PeerTurns:
    """The queues in which a server's peers wait for a slice of work; each kind has its own."""

    def __init__(self) -> None:
        self._slice = trio.Lock()
        self._first_slice = trio.Lock()
        self._handshake_step = trio.Lock()
        # By address; only those of which any is in progress.
        self._handshakes: dict[str, trio.CapacityLimiter] = {}

    async def next_slice(self) -> None:
        """Wait for the slice of work that all unregistered peers share, one a pass of the event loop."""
        await _turn(self._slice)

    async def next_first_slice(self) -> None:
        """The same for what honest peers send until they are registered: others do not delay it.

        Thousands of agents at once would otherwise all be registered in one pass.
        """
        await _turn(self._first_slice)

    async def next_handshake_step(self) -> None:
        """The same for the steps of TLS handshakes: newcomers do not delay those that have done theirs."""
        await _turn(self._handshake_step)

    @asynccontextmanager
    async def handshake(self, address: str) -> AsyncIterator[None]:
        """Wait for a peer's turn among those of its address; its TLS handshake is done in the block.

        More at once would only make each take longer: a machine of thousands of agents does few at a time.
        """
        limiter = self._handshakes.setdefault(address, trio.CapacityLimiter(_HANDSHAKES_PER_ADDRESS))
        try:
            async with limiter:
                yield
        finally:
            statistics = limiter.statistics()
            if not statistics.borrowed_tokens and not statistics.tasks_waiting:
                self._handshakes.pop(address, None)


async def _turn(lock: trio.Lock) -> None:
    # Its release wakes the next one in the pass that follows.
    async with lock:
        pass
