"""Takes commands: has them made, records them, and sends their members on their way.

The rest of the headend knows dispatch by this module; what becomes of members is found out in the others.
"""

import random
from collections.abc import Callable, Iterable

import structlog
import trio

from trioder.control.ack_tracker import AckTracker
from trioder.control.allocator import Allocator
from trioder.control.build import DispatchBuilder
from trioder.control.clock_step import bound_terms
from trioder.control.delivery import Delivery
from trioder.control.lifecycle import TERMINAL
from trioder.control.limits import NameplateLimits
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.reallocation import Resplitter
from trioder.control.recovery import command_of
from trioder.control.registry import LEFT_THE_FLEET, SMALL_GROUP, DispatchRegistry
from trioder.control.requests import DispatchRefusedError, GroupRequest
from trioder.domain.dispatch import DispatchRecord, DispatchRequest
from trioder.domain.fleet import Fleet, FleetChange
from trioder.domain.telemetry import Samples
from trioder.events.counters import Counters
from trioder.gateway.sessions import Session, SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.process.slices import Steps, parts_of, run_at_once, run_in_slices
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store
from trioder.wire.records import Acknowledgement

log = structlog.stdlib.get_logger(__name__)


# What it takes to make a member its asset's, and to queue its setpoint for its session.
_BEGIN_US = 6.0
_PUT_US = 2.0


class Dispatcher:
    """All commands and what becomes of them. `tend` is to be called about once a second.

    Attributes:
        limits: the nameplates that rule; those of the fleet until agents report smaller ones.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        sessions: SessionRegistry,
        latest: LatestState,
        store: Store,
        counters: Counters,
        wall: WallClock,
        rng: random.Random,
        limits: NameplateLimits | None = None,
    ) -> None:
        self.limits = NameplateLimits(fleet) if limits is None else limits
        self._fleet = fleet
        self._sessions = sessions
        self._counters = counters
        self._wall = wall
        self._asset_ids = fleet.asset_ids
        # Large groups are made one after the other: each takes memory and time while nobody knows of it.
        self._large_group = trio.Lock()
        self._lives = DispatchRegistry(fleet=fleet, store=store, counters=counters, wall=wall)
        self._delivery = Delivery(
            fleet=fleet, sessions=sessions, lives=self._lives, counters=counters, wall=wall, rng=rng
        )
        self._follower = AckTracker(
            fleet=fleet,
            limits=self.limits,
            latest=latest,
            sessions=sessions,
            lives=self._lives,
            delivery=self._delivery,
            counters=counters,
            wall=wall,
        )
        grouping = Allocator(limits=self.limits, sessions=sessions, latest=latest, wall=wall)
        self._making = DispatchBuilder(
            fleet=fleet, sessions=sessions, grouping=grouping, wall=wall, new_id=self._delivery.new_id
        )
        self._resplitter = Resplitter(
            grouping=grouping,
            delivery=self._delivery,
            lives=self._lives,
            latest=latest,
            sessions=sessions,
            counters=counters,
            wall=wall,
        )

    def dispatch(
        self,
        request: DispatchRequest,
        *,
        dry_run: bool = False,
        idempotency_key: str | None = None,
        request_digest: str | None = None,
    ) -> Dispatch:
        """Command one asset; its member is `sent` when it is on its way to a connected agent, else `queued`.

        Args:
            request: what is asked.
            dry_run: check it, and command nothing.
            idempotency_key: the user's own, to be recorded.
            request_digest: of what was asked under that key.

        Raises:
            DispatchRefusedError: unknown asset, or a value outside of what the asset takes.
        """
        try:
            command = self._making.to_one(request)
        except DispatchRefusedError as refusal:
            self._refused(refusal, asset_id=request.asset_id, mw=request.mw, duration_s=request.duration_s)
            raise
        command.idempotency_key, command.request_digest = idempotency_key, request_digest
        return command if dry_run else self._begin(command)

    def dispatch_group(
        self,
        request: GroupRequest,
        *,
        dry_run: bool = False,
        idempotency_key: str | None = None,
        request_digest: str | None = None,
    ) -> Dispatch:
        """Command many assets together; see `dispatch`. What nobody can hold is the command's shortfall.

        Raises:
            DispatchRefusedError: no asset, or a value that cannot be.
        """
        try:
            command = self._making.to_many(request)
        except DispatchRefusedError as refusal:
            self._refused(refusal, target=request.target.kind, mw=request.mw, duration_s=request.duration_s)
            raise
        command.idempotency_key, command.request_digest = idempotency_key, request_digest
        return command if dry_run else self._begin(command)

    async def dispatch_group_in_slices(
        self,
        request: GroupRequest,
        *,
        dry_run: bool = False,
        idempotency_key: str | None = None,
        request_digest: str | None = None,
    ) -> DispatchRecord:
        """Do what `dispatch_group` does without holding up the event loop, however many assets there are.

        Commands are in force in the order in which this and `dispatch` were called: what was asked of an
        asset while the group was still being made supersedes the group's share of it.

        *Cancellation*: nothing was commanded, unless the members were being handed out already. Then that is
        finished first, for it takes bounded time and waits for nobody.

        Raises:
            DispatchRefusedError: no asset, or a value that cannot be.
        """
        if len(request.keys) <= SMALL_GROUP:
            await trio.lowlevel.checkpoint_if_cancelled()
            command = self.dispatch_group(
                request, dry_run=dry_run, idempotency_key=idempotency_key, request_digest=request_digest
            )
            return self.record_of(command)
        try:
            command = self._making.for_many(request)
            command.idempotency_key, command.request_digest = idempotency_key, request_digest
            async with self._large_group:
                await run_in_slices(self._making.deal_steps(command))
                # It is given from here on, whoever may still wait for the answer.
                with trio.CancelScope(shield=not dry_run):
                    steps = command.record_steps(self._asset_ids) if dry_run else self._begin_steps(command)
                    record = await run_in_slices(steps)
        except DispatchRefusedError as refusal:
            self._refused(refusal, target=request.target.kind, mw=request.mw, duration_s=request.duration_s)
            raise
        return record

    def record_of(self, command: Dispatch) -> DispatchRecord:
        """The command as it stands."""
        return command.record(self._asset_ids)

    async def record_in_slices(self, command: Dispatch, *, whole: bool = True) -> DispatchRecord:
        """The command as it stands; what each asset has, as of the moment that it is read."""
        return await run_in_slices(command.record_steps(self._asset_ids, whole=whole))

    async def wait_answered(self, dispatch_id: str, *, within_s: float) -> bool:
        """Wait until no member waits for its agent's answer; False when that took too long."""
        command = self._lives.log.get(dispatch_id)
        if command is None:
            await trio.lowlevel.checkpoint()
            return True
        with trio.move_on_after(within_s):
            await command.answered.wait()
        return command.answered.is_set()

    def find(self, dispatch_id: str) -> DispatchRecord | None:
        """What has become of a command that is remembered here."""
        command = self._lives.log.get(dispatch_id)
        return None if command is None else command.record(self._asset_ids)

    async def find_in_slices(self, dispatch_id: str) -> DispatchRecord | None:
        """What has become of a command that is remembered here, however large."""
        command = self._lives.log.get(dispatch_id)
        return None if command is None else await self.record_in_slices(command)

    def remembers(self, dispatch_id: str) -> bool:
        """Whether `find` would find it."""
        return self._lives.log.get(dispatch_id) is not None

    def newest(
        self, limit: int, *, counts: Callable[[Dispatch], bool], whole: bool = False
    ) -> list[DispatchRecord]:
        """The last `limit` commands that count, newest first; `whole` with what each asset has."""
        commands = self._lives.log.newest(limit, counts=counts)
        return [command.record(self._asset_ids, whole=whole) for command in commands]

    def newest_dispatches(self, limit: int, *, counts: Callable[[Dispatch], bool]) -> list[Dispatch]:
        """The last `limit` commands that count, newest first; `record_in_slices` tells of each."""
        return self._lives.log.newest(limit, counts=counts)

    def in_force(self, key: int) -> AssetSetpoint | None:
        """The member that an asset is under now; None when it is under no command."""
        member = self._lives.book.current(key)
        if member is None or member.state in TERMINAL:
            return None
        return member

    def acknowledged(self, answer: Acknowledgement, *, session: Session) -> None:
        """Note an agent's answer; one that is not its to give, or comes too late, is only logged."""
        self._follower.acknowledged(answer, session=session)

    def measured(self, samples: Samples) -> None:
        """Samples came: look whether assets have reached their setpoints."""
        self._follower.measured(samples)

    def session_opened(self, session: Session) -> None:
        """An agent is there: hand it what waits for it and is still of use."""
        self._delivery.session_opened(session)

    def session_closed(self, session: Session) -> None:
        """An agent is gone: what it has not answered waits for its return."""
        self._delivery.session_closed(session)

    def clock_stepped(self, by_ms: int) -> None:
        """The wall clock was set by so much: no duration changes, and what the right time has ended, ends."""
        self._lives.clock_stepped(by_ms)
        self._delivery.clock_stepped(by_ms)
        self._follower.end_what_was_valid_until(self._wall.now_ms())
        self._lives.flush()

    def tend(self) -> None:
        """Do what is due by the clock: expire, complete, re-split, record; large groups by `flush_large`."""
        self._follower.tend()
        self._resplitter.look()
        self._lives.flush_small()

    async def flush_large(self) -> None:
        """Hand what has changed of large groups to the store."""
        await run_in_slices(self._lives.flush_steps())

    def flush(self) -> None:
        """Hand what has changed to the store."""
        self._lives.flush()

    def restore(self, records: Iterable[DispatchRecord]) -> None:
        """Go on with the commands that a headend before this one has not seen the end of."""
        for record in sorted(records, key=lambda record: record.dispatched_ms):
            command = command_of(record, self._fleet, now_ms=self._wall.now_ms())
            if command is not None:
                bound_terms(command, self._wall.now_ms())
                self._lives.restore(command)
                self._delivery.restored(command)
                if command.departed:
                    self._lives.note(command, keys=command.departed_keys)
        self._lives.flush()

    def fleet_changed(self, change: FleetChange) -> None:
        """End what is open at retired assets; a group's other members take their shares over."""
        for key in change.retired:
            member = self.in_force(key)
            if member is not None:
                self._lives.change(member, "failed", reason=LEFT_THE_FLEET)
                self._delivery.release(member)

    def setpoint_for(self, key: int, reported_mw: float, now_ms: int) -> float:
        """What the headend's model is to follow for an asset whose latest sample says `reported_mw`."""
        member = self._lives.book.current(key)
        if member is None or (member.state in TERMINAL and reported_mw != member.mw):
            return reported_mw
        if member.state in TERMINAL:
            # The model is not to go on obeying what has expired, failed or ended otherwise.
            return member.reversion_mw
        if member.sent_ms is not None and reported_mw != member.mw:
            # The agent has ended the setpoint, or has never obeyed it.
            return reported_mw
        if member.ends_ms is not None and now_ms >= member.ends_ms:
            return member.reversion_mw
        return member.mw

    def deviating(self) -> int:
        """How many members' power is not what was asked, now."""
        return self._lives.deviating()

    def _begin(self, command: Dispatch) -> Dispatch:
        run_at_once(self._begin_steps(command))
        return command

    def _begin_steps(self, command: Dispatch) -> Steps[DispatchRecord]:
        self._lives.begin(command)
        assigned: list[tuple[Session, AssetSetpoint]] = []
        for part in parts_of(tuple(command.members.values())):
            assigned += [
                (session, member)
                for member in part
                if self._lives.take(member) and (session := self._delivery.assign(member)) is not None
            ]
            yield _BEGIN_US * len(part)
        command.look_whether_answered()
        self._log_begun(command)
        # At once, not with the next `tend`: what was answered with ok is not forgotten.
        record = yield from self._lives.record_steps(command)
        # Last: each agent that has its setpoints acknowledges them, which takes turns of the event loop.
        for assignments in parts_of(assigned):
            for session, member in assignments:
                self._delivery.put(session, member)
            yield _PUT_US * len(assignments)
        command.beginning = False
        return record

    def _log_begun(self, command: Dispatch) -> None:
        if command.is_group:
            self._counters.dispatches_group += 1
            log.info(
                "group dispatch",
                dispatch_id=command.dispatch_id,
                target=command.target.kind,
                site_id=command.target.id or None,
                mw=command.mw,
                allocated_mw=command.allocated_mw,
                shortfall_mw=command.shortfall_mw,
                duration_s=command.duration_s,
                strategy=command.strategy,
                assets=len(command.members),
                left_out=len(command.left_out),
            )
        else:
            [member] = command.members.values()
            self._log_single(command, member)

    def _log_single(self, command: Dispatch, member: AssetSetpoint) -> None:
        asset = self._fleet.assets[member.key]
        session = self._sessions.session_of(member.key)
        self._counters.dispatches_queued += member.state == "queued"
        log.info(
            "dispatch",
            dispatch_id=command.dispatch_id,
            asset_id=asset.id,
            asset=asset.name,
            site=asset.site_name,
            mw=command.mw,
            min_mw=asset.min_mw,
            max_mw=asset.max_mw,
            duration_s=command.duration_s,
            connected=session is not None,
            agent_id=None if session is None else session.agent_id,
        )

    def _refused(self, refusal: DispatchRefusedError, **described: object) -> None:
        self._counters.dispatches_refused += 1
        log.warning("dispatch refused", **described, reason=refusal.message)
