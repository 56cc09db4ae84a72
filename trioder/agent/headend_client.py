"""The agent's connection to the headend: dial, register, send and receive, and reconnect when it is lost.

The batteries run on; their messages wait in the send queue meanwhile.
"""

import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import structlog
import trio

from trioder.agent.persistence.outbox import Outbox
from trioder.agent.persistence.state_store import StateStore
from trioder.agent.send_queue import SendQueue
from trioder.domain.dispatch import Setpoint
from trioder.process.backoff import Backoff
from trioder.process.nurseries import leaf_exceptions
from trioder.process.wall_time import WallClock
from trioder.rpc import ClientCall, RpcError, StatusCode, open_channel
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.downlink import read_downlink
from trioder.wire.records import AgentEvent, BatchAck, ReplayRequest, SessionGrant, Setpoints
from trioder.wire.service import AGENT_LINK_STREAM, PROTOCOL
from trioder.wire.uplink import write_heartbeat

log = structlog.stdlib.get_logger(__name__)

AgentCall = ClientCall[pb.AgentToHeadend, pb.HeadendToAgent]
Dial = Callable[[], Awaitable[trio.abc.Stream]]
LinkState = Literal["connected", "disconnected", "refused"]

DIAL_WITHIN_S = 10.0
REGISTERED_WITHIN_S = 30.0
HEALTHY_AFTER_S = 10.0
HEARTBEAT_EVERY_S = 15.0
# A larger difference of the clocks is logged, less the uncertainty of the round trip.
CLOCK_DIFFERS_S = 2.0
FIRST_RETRY_S = 0.5
MAX_RETRY_S = 30.0

# The headend was reached, and refuses this agent as it is.
_REFUSALS = frozenset(
    {
        StatusCode.INVALID_ARGUMENT,
        StatusCode.NOT_FOUND,
        StatusCode.ALREADY_EXISTS,
        StatusCode.PERMISSION_DENIED,
        StatusCode.FAILED_PRECONDITION,
        StatusCode.UNIMPLEMENTED,
        StatusCode.UNAUTHENTICATED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReport:
    """The connection has changed, or another attempt has failed.

    Attributes:
        assets: connected now.
        reason: why there is no connection; None when there is.
    """

    state: LinkState
    assets: int
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The agent that registers.

    Attributes:
        assets: their number.
        headend: the call's `:authority`, and for the log.
        registration: the message that opens a session; the client sets what differs per session.
    """

    agent_id: str
    assets: int
    headend: str
    registration: pb.AgentToHeadend


class HeadendClient:
    """Keeps one session with the headend for as long as `run` runs.

    Attributes:
        connected: there is a session.
        ended: set when `run` has returned.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        dial: Dial,
        store: StateStore,
        outbox: Outbox,
        queue: SendQueue,
        deliver: Callable[[Iterable[Setpoint]], None],
        report: Callable[[LinkReport], None],
        wall: WallClock,
        rng: random.Random,
    ) -> None:
        """Do nothing yet.

        Args:
            identity: of the agent.
            dial: connects to the headend, before a TLS handshake; raises OSError when it cannot.
            store: saves the id of a renewed outbox.
            outbox: telemetry to send.
            queue: all messages to send, with the outbox's.
            deliver: receives setpoints.
            report: called on every change of the connection; must not block.
            wall: the agent's wall time, which the headend compares with its own.
            rng: for the jitter of retries and of handshakes' time limits, and ids.
        """
        self.connected = False
        self.ended = trio.Event()
        self._identity = identity
        self._dial = dial
        self._store = store
        self._outbox = outbox
        self._queue = queue
        self._deliver = deliver
        self._report = report
        self._wall = wall
        self._rng = rng
        self._heartbeat_due = False
        self._backoff = Backoff(first_s=FIRST_RETRY_S, max_s=MAX_RETRY_S, rng=rng)
        self._finishing = trio.Event()

    def finish(self) -> None:
        """Send what may be sent, close the stream, and let `run` return."""
        self._finishing.set()
        self._queue.wakeup.wake()

    def send_heartbeat(self) -> None:
        """Send this agent's time ahead of all other messages, or in the next session."""
        self._heartbeat_due = True
        self._queue.wakeup.wake()

    async def run(self) -> None:
        """Connect, and reconnect with back-off, until `finish` or cancelled. No error of a peer ends it."""
        try:
            while not self._finishing.is_set():
                state, reason = await self._connect_once()
                if self._finishing.is_set():
                    break
                delay_s = self._backoff.next_delay_s()
                log.warning(
                    "refused by the headend" if state == "refused" else "not connected to the headend",
                    agent_id=self._identity.agent_id,
                    headend=self._identity.headend,
                    reason=reason,
                    retry_in_s=round(delay_s, 1),
                )
                self._report(LinkReport(state=state, assets=0, reason=reason))
                with trio.move_on_after(delay_s):
                    await self._finishing.wait()
        finally:
            self.ended.set()

    async def _connect_once(self) -> tuple[LinkState, str]:
        """Hold one session from dialling to its end; return how and why it ended."""
        try:
            with trio.fail_after(DIAL_WITHIN_S):
                stream = await self._dial()
            async with (
                stream,
                open_channel(stream, authority=self._identity.headend, rng=self._rng) as channel,
                channel.open_call(AGENT_LINK_STREAM) as call,
            ):
                await self._register(call)
                await self._exchange(call)
        except trio.TooSlowError:
            return "disconnected", f"no connection within {DIAL_WITHIN_S:g} s"
        except RpcError as error:
            return "refused" if error.status in _REFUSALS else "disconnected", _status_text(error)
        except OSError as error:
            return "disconnected", _dial_error(error)
        except Exception as error:  # One session's crash must not stop the batteries.
            log.exception("the headend client crashed", agent_id=self._identity.agent_id)
            return "disconnected", f"the headend client crashed: {error!r}"
        finally:
            self.connected = False
            self._outbox.disconnected()
        return "disconnected", "the headend ended the stream"

    async def _register(self, call: AgentCall) -> None:
        identity = self._identity
        sent_s = trio.current_time()
        with trio.move_on_after(REGISTERED_WITHIN_S) as waiting:
            register = identity.registration.register
            register.oldest_batch_seq, register.newest_batch_seq = self._outbox.bounds()
            register.clock_unix_ms = self._wall.now_ms()
            await call.send(identity.registration)
            try:
                first = await call.receive()
            except trio.EndOfChannel:
                raise RpcError(StatusCode.UNAVAILABLE, "the stream ended before Registered") from None
        if waiting.cancelled_caught:
            raise RpcError(
                StatusCode.UNAVAILABLE, f"no answer to the registration within {REGISTERED_WITHIN_S:g} s"
            )
        grant = read_downlink(first)
        if not isinstance(grant, SessionGrant):
            raise RpcError(
                StatusCode.FAILED_PRECONDITION,
                f"the first message was {first.WhichOneof('msg')}; a headend of protocol {PROTOCOL} sends "
                "registered",
            )
        if self._outbox.is_set_back(grant.committed_batch_seq, grant.committed_ts_unix_ms):
            register.replaces_outbox_id = register.outbox_id
            register.outbox_id = self._renew_outbox(grant.committed_batch_seq)
            raise RpcError(
                StatusCode.ABORTED,
                f"the agent's state was set back: outbox {register.replaces_outbox_id} is at batch "
                f"{grant.committed_batch_seq} in the headend; it goes on as outbox {register.outbox_id}",
            )
        register.replaces_outbox_id = ""
        self._compare_clocks(grant, sent_s)
        self._outbox.registered(grant.committed_batch_seq)
        self.connected = True
        log.info(
            "connected to the headend",
            agent_id=identity.agent_id,
            headend=identity.headend,
            session_id=grant.session_id,
            assets=identity.assets,
            batch_seq=grant.committed_batch_seq,
        )
        if grant.unknown_asset_ids:
            log.warning(
                "the headend does not have some of the assets in its fleet; it drops what they report",
                agent_id=identity.agent_id,
                assets=len(grant.unknown_asset_ids),
                first=grant.unknown_asset_ids[0],
            )
        self._report(LinkReport(state="connected", assets=identity.assets - len(grant.unknown_asset_ids)))

    def _renew_outbox(self, committed_seq: int) -> str:
        """Continue in a new outbox with this process's batches; return its id.

        The agent's state was set back to an older copy. In the old outbox the headend would take new batches
        for duplicates, and acknowledge them unwritten. The copy's batches are committed: they were sent
        before it was taken.
        """
        before, replaced = self._outbox.batches, self._store.outbox_id
        kept = self._outbox.restart()
        outbox_id = self._new_id()
        self._store.renew_outbox(outbox_id)
        log.warning(
            "agent state was set back",
            agent_id=self._identity.agent_id,
            committed_batch_seq=committed_seq,
            replaced_outbox_id=replaced,
            outbox_id=outbox_id,
            batches_taken_as_committed=before - kept,
            batches_kept=kept,
        )
        self._queue.put(
            AgentEvent(
                event_id=self._new_id(),
                asset_id="",
                site_id="",
                ts_unix_ms=self._wall.now_ms(),
                event_type="STATE_SET_BACK",
                severity="warning",
                message=f"state was set back to an older copy: the headend has batch {committed_seq} of "
                f"outbox {replaced}; {before - kept} batches of the copy are taken as committed, "
                f"{kept} continue in outbox {outbox_id}",
            )
        )
        return outbox_id

    def _new_id(self) -> str:
        return str(UUID(int=self._rng.getrandbits(128), version=4))

    def _compare_clocks(self, grant: SessionGrant, sent_s: float) -> None:
        if grant.clock_unix_ms is None:
            return
        error_s = (trio.current_time() - sent_s) / 2
        # The headend read its clock within the round trip; its middle is wrong by at most half of it.
        ahead_s = grant.clock_unix_ms / 1000 - self._wall.unix_s(sent_s + error_s)
        if abs(ahead_s) - error_s > CLOCK_DIFFERS_S:
            log.warning(
                "the headend's clock differs from this agent's",
                agent_id=self._identity.agent_id,
                headend=self._identity.headend,
                headend_ahead_s=round(ahead_s, 3),
                error_s=round(error_s, 3),
            )

    async def _exchange(self, call: AgentCall) -> None:
        failure: RpcError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, call)
            nursery.start_soon(self._reset_backoff)
            nursery.start_soon(self._send_heartbeats)
            try:
                async for message in call:
                    self._handle(message)
            except RpcError as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _send(self, call: AgentCall) -> None:
        # The receiving side reports the end of the call, with its reason.
        try:
            while True:
                if self._heartbeat_due:
                    self._heartbeat_due = False
                    await call.send(write_heartbeat(self._wall.now_ms()))
                message = self._queue.take_next()
                if message is not None:
                    await call.send(message)
                elif self._finishing.is_set():
                    await call.done_sending()
                    return
                else:
                    await self._queue.wakeup.wait()
        except RpcError:
            log.debug("sending ended with the call", agent_id=self._identity.agent_id)

    async def _send_heartbeats(self) -> None:
        # The first at once: with Registered it makes a round trip, which bounds the headend's clock error.
        while True:
            self.send_heartbeat()
            await trio.sleep(HEARTBEAT_EVERY_S)

    async def _reset_backoff(self) -> None:
        await trio.sleep(HEALTHY_AFTER_S)
        self._backoff.reset()

    def _handle(self, message: pb.HeadendToAgent) -> None:
        match read_downlink(message):
            case Setpoints(setpoints=setpoints):
                self._deliver(setpoints)
            case BatchAck(batch_seq=batch_seq):
                self._outbox.acknowledged(batch_seq)
                self._backoff.reset()
                self._queue.wakeup.wake()
            case ReplayRequest(from_batch_seq=from_batch_seq):
                self._outbox.replay_from(from_batch_seq)
                self._queue.wakeup.wake()
            case SessionGrant():
                log.warning("registered twice on one stream", agent_id=self._identity.agent_id)
            case None:
                log.debug("unknown message ignored", agent_id=self._identity.agent_id)


def _status_text(error: RpcError) -> str:
    return f"{error.status.name}: {error.message}" if error.message else error.status.name


def _dial_error(error: OSError) -> str:
    # Trio's error has no reason; those of the attempts have.
    cause = leaf_exceptions(error.__cause__)[0] if error.__cause__ else None
    return f"{error}: {cause.strerror}" if isinstance(cause, OSError) and cause.strerror else str(error)
