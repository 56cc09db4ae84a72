"""Limits on what all peers of a server together may use: memory, connections, turns of the event loop.

A peer is *unregistered* until a handler calls `ServerCall.register_peer`. The numbers and the reasons for
them are in docs/decisions/peer-limits.md.
"""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Protocol

import structlog
import trio
from h2.errors import ErrorCodes

from trioder.rpc.options import MEBIBYTE
from trioder.rpc.refusals import Refusals
from trioder.rpc.status import RpcError, StatusCode

log = structlog.stdlib.get_logger(__name__)

# Measured with 1,000 connections that have done nothing but connect, and 1,000 calls that wait.
CONNECTION_BYTES = 48 * 1024
CALL_BYTES = 4 * 1024

_SWEEP_EVERY_S = 0.25
# An unregistered peer that others wait for is closed after so long without a byte from it.
_SILENT_S = 5.0
_EVICTED_A_SWEEP = 64


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


class Dismissible(Protocol):
    """What ends a connection."""

    def dismiss(self, error: RpcError, error_code: ErrorCodes) -> None:
        """End the calls with `error`, release what they hold, and close soon."""


@dataclass(slots=True, eq=False, kw_only=True)
class PeerAccount:
    """What one connection holds, and whether its peer is registered.

    Attributes:
        limited: False for a client's connection, and for a server without limits.
        larger_by: by how much the first message of a call that it has open may exceed its bound.
        call_bytes: messages that nobody has received, unfinished messages, calls.
        buffer_bytes: a frame that is arriving, and what waits to be sent.
        base_bytes: the connection itself, while its peer is unregistered: how many registered ones there are
            is up to the fleet.
        since_s: when its time to register began: as it was accepted, and again as it was served.
        heard_s: when its last byte arrived.
        waiting: it has spoken, and others of its address are served before it.
        placed: it counts among those of its address that are served.
        scope: what serves the connection runs in here; cancelled where there is no `connection` yet.
    """

    limits: "PeerLimits"
    address: str = ""
    limited: bool = True
    since_s: float = 0.0
    heard_s: float = 0.0
    larger_by: int = 0
    call_bytes: int = 0
    buffer_bytes: int = 0
    base_bytes: int = 0
    registrations: int = 0
    waiting: bool = False
    placed: bool = False
    closed: bool = False
    connection: Dismissible | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    turn: trio.Event = field(default_factory=trio.Event)

    @property
    def unregistered(self) -> bool:
        """Whether the bounds of unregistered peers apply."""
        return self.limited and self.registrations == 0

    @property
    def held_bytes(self) -> int:
        """All that the connection holds."""
        return self.call_bytes + self.buffer_bytes + self.base_bytes

    def takes_call(self) -> bool:
        """Whether an unregistered peer may hold one call more."""
        return not self.unregistered or self.call_bytes + CALL_BYTES <= self._bound

    def check_bound(self) -> None:
        """Check the bound of what the calls of an unregistered peer hold.

        Raises:
            RpcError: RESOURCE_EXHAUSTED; the call that got more has to end.
        """
        if self.unregistered and self.call_bytes > self._bound:
            count = self.limits.options.unregistered_bytes
            raise RpcError(StatusCode.RESOURCE_EXHAUSTED, f"an unregistered peer may hold {count} bytes")

    @property
    def _bound(self) -> int:
        return self.limits.options.unregistered_bytes + self.larger_by

    def hold(self, count: int) -> None:
        """Count bytes of calls: held (positive) or released (negative)."""
        self.call_bytes += count
        self.limits.held_bytes += count

    def hold_buffers(self, count: int) -> None:
        """Set what the connection's own buffers hold."""
        self.limits.held_bytes += count - self.buffer_bytes
        self.buffer_bytes = count

    def hold_base(self, count: int) -> None:
        """Set what the connection itself counts for."""
        self.limits.held_bytes += count - self.base_bytes
        self.base_bytes = count

    def register(self) -> None:
        """A handler knows the peer; to be paired with `unregister` when its call ends."""
        self.registrations += 1
        if self.limited and self.registrations == 1:
            self.limits.registered(self)

    def unregister(self) -> None:
        """The call that registered the peer has ended; the peer has its time to register again."""
        self.registrations -= 1
        if self.limited and self.registrations == 0:
            self.limits.unregistered(self)

    def refuse(self, reason: str, detail: str) -> None:
        """Count and log that the peer broke a limit, for a reason in `refusals.REASONS`."""
        if self.limited:
            self.limits.refusals.add(reason, address=self.address, detail=detail)
        else:
            log.info("connection ended", reason=detail)

    def dismiss(self, reason: str, error: RpcError, error_code: ErrorCodes) -> None:
        """End the connection, for a reason in `refusals.REASONS`."""
        self.refuse(reason, error.message)
        self.limits.dismissed(self)
        if self.connection is None:
            self.scope.cancel()
        else:
            self.connection.dismiss(error, error_code)


@dataclass(slots=True)
class _Address:
    placed: int = 0
    waiting: deque[PeerAccount] = field(default_factory=deque)


class PeerLimits:
    """The accounts of a server's connections.

    Attributes:
        held_bytes: what all peers hold now.
        connections: open ones.
        refusals: connections and calls ended or refused, by reason.
    """

    def __init__(self, options: PeerOptions | None = None) -> None:
        self.options = options or PeerOptions()
        self.held_bytes = 0
        self.connections = 0
        self.refusals = Refusals()
        self._unregistered: dict[PeerAccount, None] = {}
        self._registered: dict[PeerAccount, None] = {}
        # Closing, which takes a moment.
        self._dismissed: set[PeerAccount] = set()
        self._addresses: dict[str, _Address] = {}
        self._listed = trio.Event()
        self._acceptors = trio.lowlevel.ParkingLot()
        self._turn = trio.Lock()

    @property
    def registered_count(self) -> int:
        """Connections whose peer is registered."""
        return len(self._registered)

    @property
    def unregistered_count(self) -> int:
        """Connections whose peer is not, waiting ones included."""
        return len(self._unregistered)

    async def room(self) -> None:
        """Wait until one more connection may be accepted."""
        while (
            self.connections >= self.options.max_connections
            or self.unregistered_count >= self.options.max_unregistered
        ):
            await self._acceptors.park()

    def accepted(self, address: str) -> PeerAccount:
        """Return the account of a connection that was just accepted; to be given to `serving`."""
        account = PeerAccount(limits=self, address=_network(address))
        self.connections += 1
        account.hold_base(CONNECTION_BYTES)
        self._list(account)
        return account

    @asynccontextmanager
    async def serving(
        self, account: PeerAccount, *, first_byte: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[None]:
        """Wait for the peer's first byte and for the turn of its address; the account is closed at the end.

        One that has connected and was not scheduled since (thousands of agents at once, one busy machine)
        keeps no place from those that speak.
        """
        try:
            if first_byte is not None:
                await first_byte()
            await self._wait_for_turn(account)
            yield
        finally:
            account.closed = True
            self.forget(account)
            self._registered.pop(account, None)
            self._dismissed.discard(account)
            account.hold(-account.call_bytes)
            account.hold_buffers(0)
            account.hold_base(0)
            self.connections -= 1
            self._acceptors.unpark_all()

    async def next_turn(self) -> None:
        """Wait until it is this unregistered peer's turn: one of all of them, each pass of the event loop."""
        async with self._turn:
            pass

    def registered(self, account: PeerAccount) -> None:
        """Count an account among the registered ones."""
        self.forget(account)
        self._registered[account] = None
        account.hold_base(0)

    def unregistered(self, account: PeerAccount) -> None:
        """Count an account among the unregistered ones again; it does not wait for its turn."""
        self._registered.pop(account, None)
        if not account.closed and account not in self._dismissed:
            account.hold_base(CONNECTION_BYTES)
            self._addresses.setdefault(account.address, _Address()).placed += 1
            account.placed = True
            self._list(account)

    def forget(self, account: PeerAccount) -> None:
        """Take an account out of the unregistered ones, and serve the next of its address."""
        if account in self._unregistered:
            del self._unregistered[account]
            self._acceptors.unpark_all()
        if account.placed:
            account.placed = False
            self._leave(account.address)

    def dismissed(self, account: PeerAccount) -> None:
        """Count an account no longer: it is being closed."""
        self.forget(account)
        self._registered.pop(account, None)
        self._dismissed.add(account)

    def relieve(self) -> None:
        """End connections until the rest is within the budget: unregistered ones first, the largest first."""
        excess = self.held_bytes - self.options.memory_bytes - sum(a.held_bytes for a in self._dismissed)
        while excess > 0 and (candidates := self._unregistered or self._registered):
            largest = max(candidates, key=lambda account: account.held_bytes)
            excess -= largest.held_bytes
            largest.dismiss(
                "memory",
                RpcError(
                    StatusCode.RESOURCE_EXHAUSTED,
                    f"all peers together hold more than {self.options.memory_bytes} bytes",
                ),
                ErrorCodes.ENHANCE_YOUR_CALM,
            )

    async def sweep(self) -> None:
        """End unregistered connections whose time is over, until cancelled."""
        while True:
            if not self._unregistered:
                self._listed = trio.Event()
                await self._listed.wait()
            await trio.sleep(_SWEEP_EVERY_S)
            self._end_late()
            self._end_silent()

    async def _wait_for_turn(self, account: PeerAccount) -> None:
        address = self._addresses.setdefault(account.address, _Address())
        if address.placed < self.options.max_unregistered_per_address:
            address.placed += 1
            account.placed = True
        else:
            address.waiting.append(account)
            account.waiting = True
            try:
                await account.turn.wait()
            finally:
                if account.waiting:
                    account.waiting = False
                    address.waiting.remove(account)
        account.since_s = account.heard_s = trio.current_time()

    def _list(self, account: PeerAccount) -> None:
        account.since_s = account.heard_s = trio.current_time()
        self._unregistered[account] = None
        self._listed.set()

    def _leave(self, name: str) -> None:
        address = self._addresses[name]
        address.placed -= 1
        while address.waiting and address.placed < self.options.max_unregistered_per_address:
            following = address.waiting.popleft()
            following.waiting = False
            following.placed = True
            following.turn.set()
            address.placed += 1
        if not address.placed:
            del self._addresses[name]

    def _end_late(self) -> None:
        limit_s = self.options.register_within_s
        before_s = trio.current_time() - limit_s
        late = [a for a in self._unregistered if a.since_s <= before_s and not a.waiting]
        for account in late:
            error = RpcError(StatusCode.DEADLINE_EXCEEDED, f"the peer did not register within {limit_s:g} s")
            account.dismiss("register_timeout", error, ErrorCodes.NO_ERROR)

    def _end_silent(self) -> None:
        before_s = trio.current_time() - _SILENT_S
        wanted = {name: len(address.waiting) for name, address in self._addresses.items() if address.waiting}
        anywhere = _EVICTED_A_SWEEP if len(self._acceptors) else 0
        if not wanted and not anywhere:
            return
        silent = [a for a in self._unregistered if a.heard_s <= before_s and not a.waiting]
        for account in silent:
            if anywhere:
                anywhere -= 1
            elif account.placed and wanted.get(account.address, 0) > 0:
                wanted[account.address] -= 1
            else:
                continue
            error = RpcError(
                StatusCode.UNAVAILABLE, f"others wait, and the peer was silent for {_SILENT_S:g} s"
            )
            account.dismiss("silent", error, ErrorCodes.NO_ERROR)


def unlimited_account() -> PeerAccount:
    """The account of a connection that only its own options bound."""
    return PeerAccount(limits=PeerLimits(PeerOptions(memory_bytes=1 << 62)), limited=False)


def _network(address: str) -> str:
    """Return what shares a bound: the address, of IPv6 the /64 that a site is given as a whole."""
    if ":" not in address:
        return address
    try:
        host = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if host.ipv4_mapped is not None:
        return str(host.ipv4_mapped)
    return f"{IPv6Address(int(host) >> 64 << 64)}/64"
