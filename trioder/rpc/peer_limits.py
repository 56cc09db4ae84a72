"""Limits on what all peers of a server together may use: memory and connections.

A peer is *unregistered* until a handler calls `ServerCall.register_peer`. The numbers and the reasons for
them are in docs/decisions/peer-limits.md.
"""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import structlog
import trio
from h2.errors import ErrorCodes

from trioder.process.addresses import network_of
from trioder.rpc.options import PeerOptions
from trioder.rpc.peer import Peer
from trioder.rpc.refusals import Refusals
from trioder.rpc.status import RpcError, StatusCode
from trioder.rpc.turns import PeerTurns

log = structlog.stdlib.get_logger(__name__)

# Measured with 1,000 connections that have done nothing but connect, and 1,000 calls that wait.
CONNECTION_BYTES = 48 * 1024
CALL_BYTES = 4 * 1024
# And with 600 handshakes that were half done, each 52 kB; longer chains of certificates take more.
TLS_BYTES = 64 * 1024

_SWEEP_EVERY_S = 0.25
# An unregistered peer that others wait for is closed after so long without a byte from it.
_SILENT_S = 5.0
_EVICTED_A_SWEEP = 64


@dataclass(slots=True, eq=False, kw_only=True)
class PeerBudget:
    """The memory that one connection is charged for, and whether its peer is registered.

    Attributes:
        limited: False for a client's connection, and for a server without limits.
        extra_bytes: by how much the first message of a call that it has open may exceed its bound.
        call_bytes: messages in inboxes, unfinished messages, calls.
        unfinished_bytes: of them, unfinished messages.
        buffer_bytes: frames that are arriving, and what is pending to be sent.
        base_bytes: the connection itself, while its peer is unregistered: how many registered ones there are
            is up to the fleet.
        connection_bytes: what that is.
        since_s: when its time to register began: as it was accepted, and again as it was admitted.
        last_received_s: when its last byte arrived.
        queued: it has sent something, and others of its address are admitted before it.
        admitted: it counts against `max_unregistered_per_address`.
        scope: the connection is served in it; cancelled where `terminate_connection` is not set yet.
    """

    limits: "PeerLimits"
    address: str = ""
    limited: bool = True
    since_s: float = 0.0
    last_received_s: float = 0.0
    extra_bytes: int = 0
    call_bytes: int = 0
    unfinished_bytes: int = 0
    buffer_bytes: int = 0
    base_bytes: int = 0
    connection_bytes: int = CONNECTION_BYTES
    registrations: int = 0
    queued: bool = False
    admitted: bool = False
    closed: bool = False
    terminate_connection: Callable[[RpcError, ErrorCodes], None] | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    admission: trio.Event = field(default_factory=trio.Event)

    @property
    def unregistered(self) -> bool:
        """Whether the bounds of unregistered peers apply."""
        return self.limited and self.registrations == 0

    @property
    def used_bytes(self) -> int:
        """All that the connection is charged for."""
        return self.call_bytes + self.buffer_bytes + self.base_bytes

    def accepts_call(self) -> bool:
        """Whether the bound of an unregistered peer permits one call more."""
        return not self.unregistered or self.call_bytes + CALL_BYTES <= self._bound

    def check_bounds(self, *, unfinished_bytes: int) -> None:
        """Check the bound of unfinished messages, and that of an unregistered peer's calls.

        Raises:
            RpcError: RESOURCE_EXHAUSTED; the call that exceeded it has to end.
        """
        if self.unfinished_bytes > unfinished_bytes:
            raise RpcError(
                StatusCode.RESOURCE_EXHAUSTED, f"more than {unfinished_bytes} bytes of unfinished messages"
            )
        if self.unregistered and self.call_bytes > self._bound:
            count = self.limits.options.unregistered_bytes
            raise RpcError(StatusCode.RESOURCE_EXHAUSTED, f"an unregistered peer may hold {count} bytes")

    @property
    def _bound(self) -> int:
        return self.limits.options.unregistered_bytes + self.extra_bytes

    def charge(self, count: int) -> None:
        """Charge bytes of calls, or release them (negative)."""
        self.call_bytes += count
        self.limits.used_bytes += count

    def charge_unfinished(self, growth: int) -> None:
        """Charge bytes of unfinished messages, or release them (negative)."""
        self.unfinished_bytes += growth
        self.charge(growth)

    def charge_buffers(self, count: int) -> None:
        """Set what the connection's own buffers hold."""
        self.limits.used_bytes += count - self.buffer_bytes
        self.buffer_bytes = count

    def charge_base(self, count: int) -> None:
        """Set what the connection itself is charged for."""
        self.limits.used_bytes += count - self.base_bytes
        self.base_bytes = count

    def begin_handshake(self) -> None:
        """Charge the TLS session of an unregistered peer; its time limits begin again."""
        self.connection_bytes += TLS_BYTES
        self.charge_base(self.connection_bytes)
        self.since_s = self.last_received_s = trio.current_time()

    async def next_handshake_step(self) -> None:
        """Wait for the slice of work in which the peer's last bytes are processed."""
        await self.limits.turns.next_handshake_step()
        # What it waited for us is no silence of the peer.
        self.last_received_s = trio.current_time()

    def register(self) -> None:
        """A handler has registered the peer; to be paired with `unregister` when its call ends."""
        self.registrations += 1
        if self.limited and self.registrations == 1:
            # How many TLS sessions of registered peers there are is up to the fleet, like the connections.
            self.connection_bytes = CONNECTION_BYTES
            self.limits.mark_registered(self)

    def unregister(self) -> None:
        """The call that registered the peer has ended; its time to register begins again."""
        self.registrations -= 1
        if self.limited and self.registrations == 0:
            self.limits.mark_unregistered(self)

    def refuse(self, reason: str, detail: str) -> None:
        """Count and log that the peer broke a limit, for a reason in `refusals.REASONS`."""
        if self.limited:
            self.limits.refusals.add(reason, address=self.address, detail=detail)
        else:
            log.info("connection ended", reason=detail)

    def refuse_peer(self, reason: Literal["tls", "certificate"], peer: Peer, detail: str) -> None:
        """Count and report that the peer's TLS or certificate was refused."""
        if self.limited:
            self.limits.refusals.add_peer(reason, peer, detail)
        else:
            log.info("connection ended", reason=detail)

    def terminate(self, reason: str, error: RpcError, error_code: ErrorCodes) -> None:
        """End the connection, for a reason in `refusals.REASONS`."""
        self.refuse(reason, error.message)
        self.limits.mark_terminating(self)
        if self.terminate_connection is None:
            self.scope.cancel()
        else:
            self.terminate_connection(error, error_code)


@dataclass(slots=True)
class _Address:
    admitted: int = 0
    queued: deque[PeerBudget] = field(default_factory=deque)


class PeerLimits:
    """The budgets of a server's connections.

    Attributes:
        used_bytes: what all peers hold now.
        connections: how many are open.
        refusals: connections and calls ended or refused, by reason.
        turns: in which unregistered peers' work is done.
    """

    def __init__(self, options: PeerOptions | None = None) -> None:
        self.options = options or PeerOptions()
        self.used_bytes = 0
        self.connections = 0
        self.refusals = Refusals()
        self.turns = PeerTurns()
        self._unregistered: dict[PeerBudget, None] = {}
        self._registered: dict[PeerBudget, None] = {}
        # No longer counted, and not closed yet.
        self._terminating: set[PeerBudget] = set()
        self._addresses: dict[str, _Address] = {}
        self._unregistered_added = trio.Event()
        self._acceptors = trio.lowlevel.ParkingLot()

    @property
    def registered_count(self) -> int:
        """Connections whose peer is registered."""
        return len(self._registered)

    @property
    def unregistered_count(self) -> int:
        """Connections whose peer is not, including queued ones."""
        return len(self._unregistered)

    async def wait_for_capacity(self) -> None:
        """Wait until one more connection may be accepted."""
        while (
            self.connections >= self.options.max_connections
            or self.unregistered_count >= self.options.max_unregistered
        ):
            await self._acceptors.park()

    def open_budget(self, address: str) -> PeerBudget:
        """Return the budget of a connection that was just accepted; to be given to `serving`."""
        budget = PeerBudget(limits=self, address=network_of(address))
        self.connections += 1
        budget.charge_base(budget.connection_bytes)
        self._add_unregistered(budget)
        return budget

    @asynccontextmanager
    async def handshaking(self, budget: PeerBudget) -> AsyncIterator[None]:
        """Wait for the peer's turn among those of its address; its TLS handshake is done in the block."""
        # No time limit runs meanwhile.
        budget.queued = True
        try:
            async with self.turns.handshake(budget.address):
                budget.queued = False
                budget.begin_handshake()
                yield
        finally:
            budget.queued = False

    @asynccontextmanager
    async def serving(
        self, budget: PeerBudget, *, before_admission: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[None]:
        """Wait for what precedes the peer's admission, then for that; the budget is closed at the end.

        Before its admission the first byte is awaited, and the TLS handshake: a peer that has connected and
        is not scheduled (thousands of agents at once, one busy machine) takes no place from others.
        """
        try:
            if before_admission is not None:
                await before_admission()
            await self._wait_for_admission(budget)
            yield
        finally:
            budget.closed = True
            self._remove_unregistered(budget)
            self._registered.pop(budget, None)
            self._terminating.discard(budget)
            budget.charge(-budget.call_bytes)
            budget.charge_buffers(0)
            budget.charge_base(0)
            self.connections -= 1
            self._acceptors.unpark_all()

    def mark_registered(self, budget: PeerBudget) -> None:
        """Move a budget to the registered ones."""
        self._remove_unregistered(budget)
        self._registered[budget] = None
        budget.charge_base(0)

    def mark_unregistered(self, budget: PeerBudget) -> None:
        """Move a budget back to the unregistered ones; it is admitted without waiting."""
        self._registered.pop(budget, None)
        if not budget.closed and budget not in self._terminating:
            budget.charge_base(budget.connection_bytes)
            self._addresses.setdefault(budget.address, _Address()).admitted += 1
            budget.admitted = True
            self._add_unregistered(budget)

    def _remove_unregistered(self, budget: PeerBudget) -> None:
        if budget in self._unregistered:
            del self._unregistered[budget]
            self._acceptors.unpark_all()
        if budget.admitted:
            budget.admitted = False
            self._admit_next(budget.address)

    def mark_terminating(self, budget: PeerBudget) -> None:
        """Take a budget out of the counts: its connection is being closed."""
        self._remove_unregistered(budget)
        self._registered.pop(budget, None)
        self._terminating.add(budget)

    def shed_load(self) -> None:
        """Close connections until the rest fits: unregistered ones first, the largest first."""
        excess = self.used_bytes - self.options.memory_bytes - sum(b.used_bytes for b in self._terminating)
        while excess > 0 and (candidates := self._unregistered or self._registered):
            largest = max(candidates, key=lambda budget: budget.used_bytes)
            excess -= largest.used_bytes
            largest.terminate(
                "memory",
                RpcError(
                    StatusCode.RESOURCE_EXHAUSTED,
                    f"all peers together hold more than {self.options.memory_bytes} bytes",
                ),
                ErrorCodes.ENHANCE_YOUR_CALM,
            )

    async def sweep(self) -> None:
        """Close unregistered connections whose time is over, until cancelled."""
        while True:
            if not self._unregistered:
                self._unregistered_added = trio.Event()
                await self._unregistered_added.wait()
            await trio.sleep(_SWEEP_EVERY_S)
            self._terminate_late()
            self._terminate_silent()

    async def _wait_for_admission(self, budget: PeerBudget) -> None:
        address = self._addresses.setdefault(budget.address, _Address())
        if address.admitted < self.options.max_unregistered_per_address:
            address.admitted += 1
            budget.admitted = True
        else:
            address.queued.append(budget)
            budget.queued = True
            try:
                await budget.admission.wait()
            finally:
                if budget.queued:
                    budget.queued = False
                    address.queued.remove(budget)
        budget.since_s = budget.last_received_s = trio.current_time()

    def _add_unregistered(self, budget: PeerBudget) -> None:
        budget.since_s = budget.last_received_s = trio.current_time()
        self._unregistered[budget] = None
        self._unregistered_added.set()

    def _admit_next(self, name: str) -> None:
        address = self._addresses[name]
        address.admitted -= 1
        while address.queued and address.admitted < self.options.max_unregistered_per_address:
            following = address.queued.popleft()
            following.queued = False
            following.admitted = True
            following.admission.set()
            address.admitted += 1
        if not address.admitted:
            del self._addresses[name]

    def _terminate_late(self) -> None:
        limit_s = self.options.register_within_s
        before_s = trio.current_time() - limit_s
        late = [b for b in self._unregistered if b.since_s <= before_s and not b.queued]
        for budget in late:
            error = RpcError(StatusCode.DEADLINE_EXCEEDED, f"the peer did not register within {limit_s:g} s")
            budget.terminate("register_timeout", error, ErrorCodes.NO_ERROR)

    def _terminate_silent(self) -> None:
        before_s = trio.current_time() - _SILENT_S
        wanted = {name: len(address.queued) for name, address in self._addresses.items() if address.queued}
        anywhere = _EVICTED_A_SWEEP if len(self._acceptors) else 0
        if not wanted and not anywhere:
            return
        silent = [b for b in self._unregistered if b.last_received_s <= before_s and not b.queued]
        for budget in silent:
            if anywhere:
                anywhere -= 1
            elif budget.admitted and wanted.get(budget.address, 0) > 0:
                wanted[budget.address] -= 1
            else:
                continue
            error = RpcError(
                StatusCode.UNAVAILABLE, f"others wait, and the peer was silent for {_SILENT_S:g} s"
            )
            budget.terminate("silent", error, ErrorCodes.NO_ERROR)


def unlimited_budget() -> PeerBudget:
    """The budget of a connection that only its own options bound."""
    return PeerBudget(limits=PeerLimits(PeerOptions(memory_bytes=1 << 62)), limited=False)
