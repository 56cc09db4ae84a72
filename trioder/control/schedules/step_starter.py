"""Begins the steps of occurrences, each as a dispatch of its own, once; and ends those that are cancelled.

That a step is begun once rests on the id of its dispatch, which is computed: the register, the database and
the agents all recognize it. How steps follow each other without a dip: docs/decisions/schedules.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from trioder.control.dispatcher import Dispatcher
from trioder.control.model import Dispatch
from trioder.control.schedules.register import Entry, ScheduleRegister
from trioder.control.schedules.targets import target_keys
from trioder.domain.dispatch import (
    MAX_EXPIRES_IN_S,
    DispatchRefusedError,
    DispatchRequest,
    DispatchTarget,
    GroupRequest,
    StepTerms,
)
from trioder.domain.fleet import Fleet
from trioder.domain.schedules import Occurrence, OccurrenceStep, Schedule, step_dispatch_id
from trioder.process.rfc3339 import format_ms
from trioder.process.slices import Steps, parts_of, run_in_slices
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store, StoreUnavailableError

log = structlog.stdlib.get_logger(__name__)

# A setpoint lasts for so much longer than its step if another one follows, which supersedes it: the time for
# that one to arrive.
HANDOVER_MS = 10_000
# After a start of the headend, agents reconnect over 30 s: a group waits for all of its assets so long, ...
_RECONNECT_MS = 35_000
# ... but, once there is one, for this long only.
_GATHER_MS = 10_000
# The cost of finding out whether an asset is available.
_AVAILABLE_US = 2.0


class StepStarter:
    """Begins and ends steps."""

    def __init__(
        self,
        *,
        register: ScheduleRegister,
        dispatcher: Dispatcher,
        fleet: Fleet,
        store: Store,
        wall: WallClock,
    ) -> None:
        self._register = register
        self._dispatcher = dispatcher
        self._fleet = fleet
        self._store = store
        self._wall = wall
        self._started_ms = wall.now_ms()
        # Recorded as begun before the start; whether the dispatch was recorded as well is not known.
        self._unconfirmed: set[str] = set()
        # Since when an asset of a group has been available, by the dispatch that waits for the others.
        self._gathering: dict[str, int] = {}

    def restore(self) -> Mapping[str, StepTerms]:
        """Return the steps of the occurrences that ran before the start, by dispatch."""
        steps: dict[str, StepTerms] = {}
        for entry in self._register:
            for occurrence in entry.running.values():
                precedence = _precedence(entry, occurrence.start_ms)
                for dispatch_id in occurrence.dispatch_ids:
                    steps[dispatch_id] = StepTerms(dispatch_id=dispatch_id, precedence=precedence)
                self._unconfirmed.update(occurrence.dispatch_ids[-1:])
        return steps

    def clock_stepped(self, by_ms: int) -> None:
        """The wall clock was set by this."""
        self._started_ms += by_ms
        self._gathering = {key: since_ms + by_ms for key, since_ms in self._gathering.items()}

    def is_settled(self, occurrence: Occurrence, number: int) -> bool:
        """Whether a step, or a later one, was begun or refused."""
        if number == occurrence.last_step:
            return occurrence.steps[-1].dispatch_id not in self._unconfirmed
        return number < occurrence.last_step

    async def begin(self, entry: Entry, start_ms: int, number: int, *, begins_ms: int, ends_ms: int) -> bool:
        """Begin a step of a running occurrence, for what is left of it, or find that it was begun.

        *Cancellation*: it was begun or not; the next start finds out.

        Returns:
            False when it cannot be begun yet: none of its assets is available, or the database, which knows
            whether it was begun, does not answer.
        """
        dispatch_id = step_dispatch_id(entry.schedule.schedule_id, start_ms, number)
        terms = StepTerms(
            dispatch_id=dispatch_id,
            precedence=_precedence(entry, start_ms),
            former_id=_former_id(entry, start_ms, number),
            # Agents may have a part of it that is lost: they would not apply another part under the same id.
            wire_id=self._dispatcher.new_id() if begins_ms < self._started_ms else "",
        )
        try:
            is_known = await self._is_known(dispatch_id, terms)
        except StoreUnavailableError:
            return False
        if not is_known:
            keys = target_keys(entry.schedule, self._fleet)
            if not await self._may_begin(entry.schedule, dispatch_id, keys):
                # What agents have of it, if it was begun before the start, is split anew then.
                self._dispatcher.expected.add(dispatch_id)
                return False
            self._dispatcher.expected.discard(dispatch_id)
            former = self._open(terms.former_id)
            if former is not None:
                # It loses its assets one by one, which are not to be replaced.
                former.is_ending = True
            request = _request(
                entry, start_ms, number, keys, terms=terms, now_ms=self._wall.now_ms(), ends_ms=ends_ms
            )
            await self._dispatch(
                entry, start_ms, OccurrenceStep(number=number, dispatch_id=dispatch_id), request
            )
        elif (occurrence := entry.running.get(start_ms)) is not None and occurrence.last_step < number:
            self._note_begun(entry, occurrence, OccurrenceStep(number=number, dispatch_id=dispatch_id))
        self._unconfirmed.discard(dispatch_id)
        self._gathering.pop(dispatch_id, None)
        await self._complete(terms.former_id, "its step is over")
        if start_ms not in entry.running:
            # It was cancelled while its setpoints were being computed.
            await self._cancel(dispatch_id, requested_by=entry.schedule.cancelled_by)
        return True

    async def finish(self, entry: Entry, start_ms: int) -> bool:
        """End a running occurrence whose time is over; False when the database has to be asked later."""
        try:
            await self._confirm_steps(entry, start_ms)
        except StoreUnavailableError:
            return False
        occurrence = entry.running.get(start_ms)
        if occurrence is None:
            return True
        is_continued = any(other.start_ms == occurrence.end_ms for other in entry.running.values())
        dispatch_ids = occurrence.dispatch_ids
        if dispatch_ids and not is_continued:
            await self._complete(
                dispatch_ids[-1], "its occurrence is over", extended_beyond_ms=occurrence.end_ms
            )
        if start_ms not in entry.running:
            return True
        for number in range(len(entry.schedule.steps)):
            self._dispatcher.expected.discard(step_dispatch_id(occurrence.schedule_id, start_ms, number))
        refusals = [step.refusal for step in occurrence.steps if step.refusal]
        reason = refusals[-1] if refusals else ""
        if not dispatch_ids and not reason:
            reason = "none of its assets was available"
        self._register.put_occurrence(
            entry,
            replace(
                occurrence,
                state="completed" if dispatch_ids else "failed",
                reason=reason,
                changed_ms=self._wall.now_ms(),
            ),
        )
        report = log.info if dispatch_ids else log.warning
        report(
            "occurrence of a schedule is over",
            schedule_id=occurrence.schedule_id,
            start=format_ms(start_ms),
            state="completed" if dispatch_ids else "failed",
            steps=len(dispatch_ids),
            reason=reason or None,
        )
        return True

    async def cancel(self, entry: Entry, occurrence: Occurrence, *, requested_by: str) -> None:
        """End a running occurrence at 0 MW."""
        self._register.put_occurrence(
            entry,
            replace(
                occurrence,
                state="cancelled",
                reason=f"cancelled by {requested_by}",
                changed_ms=self._wall.now_ms(),
            ),
        )
        for dispatch_id in occurrence.dispatch_ids:
            await self._cancel(dispatch_id, requested_by=requested_by)

    async def _confirm_steps(self, entry: Entry, start_ms: int) -> None:
        """Find out whether steps that are over were begun before the start.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        occurrence = entry.running[start_ms]
        for step in occurrence.steps:
            if step.dispatch_id not in self._unconfirmed:
                continue
            terms = StepTerms(dispatch_id=step.dispatch_id, precedence=_precedence(entry, start_ms))
            is_known = await self._is_known(step.dispatch_id, terms)
            self._unconfirmed.discard(step.dispatch_id)
            if not is_known and (present := entry.running.get(start_ms)) is not None:
                lost = replace(step, refusal="the headend ended before its dispatch was on record")
                self._register.put_occurrence(entry, present.with_step(lost))

    async def _is_known(self, dispatch_id: str, terms: StepTerms) -> bool:
        """Whether there is a dispatch with this id; an open one that is only on record is continued.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        known = self._dispatcher.history.get(dispatch_id)
        if known is not None:
            if known.adopted:
                # Its record could not be read at the start, and its agent has reported it.
                known.priority, known.step = "schedule", terms
            return True
        if dispatch_id not in self._unconfirmed:
            # It is recorded that an occurrence begins a step before the step's dispatch is.
            return False
        record = await self._store.find_dispatch(dispatch_id=dispatch_id)
        if record is None:
            return False
        if record.is_open and self._dispatcher.history.get(dispatch_id) is None:
            self._dispatcher.recover([record], steps={dispatch_id: terms})
        return True

    async def _may_begin(self, schedule: Schedule, dispatch_id: str, keys: Sequence[int]) -> bool:
        """Whether to begin now: what a group can hold is only known of available assets."""
        if schedule.target.kind == "asset" or not keys:
            return True
        available, now_ms = await run_in_slices(self._available_steps(keys)), self._wall.now_ms()
        if not available:
            return False
        since_ms = self._gathering.setdefault(dispatch_id, now_ms)
        is_complete = available == len(keys)
        return is_complete or now_ms >= min(self._started_ms + _RECONNECT_MS, since_ms + _GATHER_MS)

    def _available_steps(self, keys: Sequence[int]) -> Steps[int]:
        available = 0
        for part in parts_of(keys):
            available += sum(map(self._dispatcher.is_available, part))
            yield _AVAILABLE_US * len(part)
        return available

    async def _dispatch(
        self,
        entry: Entry,
        start_ms: int,
        step: OccurrenceStep,
        request: DispatchRequest | GroupRequest | None,
    ) -> None:
        occurrence = entry.running.get(start_ms)
        if occurrence is None:
            return
        refusal = "its asset, or all of them, have left the fleet"
        if request is not None:
            # Before the dispatch is: see `Store.record_occurrence`.
            self._note_begun(entry, occurrence, step)
            try:
                if isinstance(request, GroupRequest):
                    await self._dispatcher.dispatch_group_in_slices(request)
                else:
                    self._dispatcher.dispatch(request)
            except DispatchRefusedError as error:
                refusal = error.message
            else:
                return
        occurrence = entry.running.get(start_ms)
        if occurrence is not None:
            self._register.put_occurrence(entry, occurrence.with_step(replace(step, refusal=refusal)))
            log.warning(
                "step of a schedule refused",
                schedule_id=occurrence.schedule_id,
                start=format_ms(start_ms),
                step=step.number,
                reason=refusal,
            )

    def _note_begun(self, entry: Entry, occurrence: Occurrence, step: OccurrenceStep) -> None:
        now_ms = self._wall.now_ms()
        begun_ms = now_ms if occurrence.begun_ms is None else occurrence.begun_ms
        self._register.put_occurrence(entry, replace(occurrence.with_step(step), begun_ms=begun_ms))
        log.info(
            "step of a schedule begins",
            schedule_id=occurrence.schedule_id,
            start=format_ms(occurrence.start_ms),
            step=step.number,
            dispatch_id=step.dispatch_id,
        )

    async def _complete(
        self, dispatch_id: str, reason: str, *, extended_beyond_ms: int | None = None
    ) -> None:
        """Complete a dispatch that is open; only if it lasts for longer than until then, if that is given."""
        dispatch = self._open(dispatch_id)
        if dispatch is None:
            return
        valid_until_ms = dispatch.valid_until_ms or 0
        if extended_beyond_ms is None or valid_until_ms > extended_beyond_ms:
            await self._dispatcher.complete_in_slices(dispatch, reason=reason)

    async def _cancel(self, dispatch_id: str, *, requested_by: str) -> None:
        dispatch = self._open(dispatch_id)
        if dispatch is not None:
            await self._dispatcher.cancel_in_slices(dispatch, requested_by=requested_by)

    def _open(self, dispatch_id: str) -> Dispatch | None:
        dispatch = self._dispatcher.history.get(dispatch_id)
        return None if dispatch is None or dispatch.ended else dispatch


def _precedence(entry: Entry, start_ms: int) -> tuple[int, int]:
    return start_ms, entry.schedule.created_ms


def _former_id(entry: Entry, start_ms: int, number: int) -> str:
    """Return the dispatch that a step continues: the one before, or that of an occurrence that ends now."""
    occurrence = entry.occurrence(start_ms)
    before = () if occurrence is None else [one for one in occurrence.steps if one.number < number]
    if not before:
        others = (*entry.running.values(), *entry.ended.values())
        before = [step for other in others if other.end_ms == start_ms for step in other.steps]
    return next((step.dispatch_id for step in reversed(before) if not step.refusal), "")


def _is_followed(entry: Entry, start_ms: int, number: int) -> bool:
    """Whether another step follows without a pause."""
    schedule = entry.schedule
    if number + 1 < len(schedule.steps):
        return True
    next_ms = schedule.end_ms(start_ms)
    return next_ms in entry.running or (next_ms in (entry.upcoming or ()) and next_ms not in schedule.skipped)


def _request(
    entry: Entry,
    start_ms: int,
    number: int,
    keys: Sequence[int],
    *,
    terms: StepTerms,
    now_ms: int,
    ends_ms: int,
) -> DispatchRequest | GroupRequest | None:
    """Return the request that a step is; None when its target has no asset any more."""
    if not keys:
        return None
    schedule = entry.schedule
    step = schedule.steps[number]
    valid_until_ms = ends_ms
    if _is_followed(entry, start_ms, number):
        valid_until_ms += HANDOVER_MS
    # Until the step is over: an agent that is away may return in the middle of it.
    expires_in_s = min(MAX_EXPIRES_IN_S, max(0.001, (ends_ms - now_ms) / 1000))
    if schedule.target.kind == "asset":
        return DispatchRequest(
            asset_id=schedule.target.id,
            mw=step.mw,
            valid_until_ms=valid_until_ms,
            expires_in_s=expires_in_s,
            tenant=schedule.tenant,
            requested_by=schedule.requested_by,
            priority="schedule",
            step=replace(terms, wire_id=""),
        )
    return GroupRequest(
        target=DispatchTarget(kind=schedule.target.kind, id=schedule.target.id),
        keys=keys,
        strategy=schedule.strategy or "headroom",
        mw=step.mw,
        valid_until_ms=valid_until_ms,
        expires_in_s=expires_in_s,
        tenant=schedule.tenant,
        requested_by=schedule.requested_by,
        priority="schedule",
        step=terms,
    )
