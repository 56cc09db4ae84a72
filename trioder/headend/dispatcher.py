"""Dispatch: a request is checked against its asset, recorded, and sent to the agent or queued for it.

The newest order of each asset is kept here, so that the headend's model can obey it while the agent is away.
"""

import math
import random
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

import structlog

from trioder.fleet import Fleet
from trioder.headend.counters import Counters
from trioder.headend.sessions import Session, SessionRegistry
from trioder.process.wall_time import WallClock
from trioder.sim.model import Dispatch, DispatchRequest
from trioder.store.interface import Store
from trioder.store.records import DispatchRecord, DispatchState
from trioder.wire.records import Acknowledgement

log = structlog.stdlib.get_logger(__name__)

Delivery = Literal["sent", "queued"]
RefusalCode = Literal["bad_request", "not_found", "out_of_bounds"]

# An agent that comes back later than this has long settled; a setpoint out of the past would surprise it.
QUEUED_FOR_S = 60.0
# What is remembered of single dispatches; the store has them all.
RECENT_DISPATCHES = 10_000
# The words with which agents refuse; every other answer is taken for consent.
_REJECTIONS = frozenset({"rejected", "refused", "failed", "error"})
# A year: longer is a setpoint without an end, or a mistake.
MAX_DURATION_S = 366 * 86_400


class DispatchRefusedError(Exception):
    """A request that must not be sent; the message names the value and the rule."""

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.code: RefusalCode = code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched:
    """A dispatch that was accepted, and whether its agent was there to be told."""

    dispatch: Dispatch
    delivery: Delivery


@dataclass(slots=True, kw_only=True)
class _Order:
    """The newest dispatch of one asset."""

    dispatch: Dispatch
    dispatched_ms: int
    ends_ms: int | None
    delivered: bool


class Dispatcher:
    """Takes requests, keeps each asset's newest order, and follows what becomes of the recent ones."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        sessions: SessionRegistry,
        store: Store,
        counters: Counters,
        wall: WallClock,
        rng: random.Random,
    ) -> None:
        self._fleet = fleet
        self._sessions = sessions
        self._store = store
        self._counters = counters
        self._wall = wall
        self._rng = rng
        self._orders: dict[int, _Order] = {}
        # The assets whose order waits for their agent, longest first.
        self._queue: dict[int, None] = {}
        self._recent: OrderedDict[str, DispatchRecord] = OrderedDict()

    def dispatch(self, request: DispatchRequest) -> Dispatched:
        """Accept a request: `sent` when it is on its way to a connected agent, else `queued`.

        Raises:
            DispatchRefusedError: unknown asset, or a value outside of what the asset takes.
        """
        try:
            key = self._check(request)
        except DispatchRefusedError as refusal:
            self._counters.dispatches_refused += 1
            log.warning(
                "dispatch refused",
                asset_id=request.asset_id,
                mw=request.mw,
                duration_s=request.duration_s,
                reason=refusal.message,
            )
            raise
        now_ms = self._wall.now_ms()
        dispatch = Dispatch(
            dispatch_id=str(UUID(int=self._rng.getrandbits(128), version=4)),
            asset_id=request.asset_id,
            mw=request.mw,
            duration_s=request.duration_s,
        )
        ends_ms = None if request.duration_s is None else now_ms + request.duration_s * 1000
        if key in self._queue:
            del self._queue[key]
            self._replaced(self._orders[key].dispatch, by=dispatch)
        self._orders[key] = order = _Order(
            dispatch=dispatch, dispatched_ms=now_ms, ends_ms=ends_ms, delivered=False
        )
        session = self._sessions.session_of(key)
        if session is None:
            self._queue[key] = None
            self._counters.dispatches_queued += 1
        else:
            self._hand_over(session, order, dispatch)
            self._counters.dispatches_sent += 1
        self._update(
            DispatchRecord(
                dispatch_id=dispatch.dispatch_id,
                asset_key=key,
                mw=dispatch.mw,
                duration_s=dispatch.duration_s,
                dispatched_ms=now_ms,
                state="queued" if session is None else "sent",
                sent_ms=None if session is None else now_ms,
            )
        )
        asset = self._fleet.assets[key]
        log.info(
            "dispatch",
            dispatch_id=dispatch.dispatch_id,
            asset_id=asset.id,
            asset=asset.name,
            site=asset.site_name,
            mw=dispatch.mw,
            min_mw=asset.min_mw,
            max_mw=asset.max_mw,
            duration_s=dispatch.duration_s,
            connected=session is not None,
            agent_id=None if session is None else session.agent_id,
        )
        return Dispatched(dispatch=dispatch, delivery="queued" if session is None else "sent")

    def record_of(self, dispatch_id: str) -> DispatchRecord | None:
        """What has become of a recent dispatch."""
        return self._recent.get(dispatch_id)

    def acknowledged(self, acknowledgement: Acknowledgement, *, session: Session) -> None:
        """Note an agent's answer; one that is not its to give, or comes too late, is only logged."""
        rejected = acknowledgement.status.lower() in _REJECTIONS
        self._counters.dispatches_acknowledged += 1
        self._counters.dispatches_rejected += rejected
        note = log.warning if rejected else log.info
        note(
            "dispatch answered",
            dispatch_id=acknowledgement.dispatch_id,
            asset_id=acknowledgement.asset_id,
            agent_id=session.agent_id,
            status=acknowledgement.status,
            reason=acknowledgement.reason,
        )
        record = self._recent.get(acknowledgement.dispatch_id)
        if record is not None and self._sessions.session_of(record.asset_key) is session:
            self._update(
                replace(
                    record,
                    state="acknowledged",
                    answer=acknowledgement.status,
                    reason=acknowledgement.reason,
                )
            )

    def session_opened(self, session: Session) -> None:
        """An agent is there: hand it the orders that wait for it and are still of use."""
        now_ms = self._wall.now_ms()
        for key in session.asset_keys:
            order = self._orders.get(key)
            if order is None or order.delivered:
                continue
            if key not in self._queue:
                # Only the headend's model has obeyed it; from now on the agent's setpoint is the asset's.
                del self._orders[key]
            elif (reason := _overdue(order, now_ms)) is not None:
                self._drop(key, reason)
                del self._orders[key]
            else:
                del self._queue[key]
                self._counters.dispatches_delivered_late += 1
                self._deliver(session, order, now_ms)

    def session_closed(self, session: Session) -> None:
        """An agent is gone: what may not have been sent goes to its newer session, or waits for one."""
        now_ms = self._wall.now_ms()
        for dispatch in session.mailbox.unsent():
            key = self._fleet.index_by_id[dispatch.asset_id]
            order = self._orders.get(key)
            if order is None or order.dispatch.dispatch_id != dispatch.dispatch_id:
                continue
            newer = self._sessions.session_of(key)
            if newer is not None:
                self._deliver(newer, order, now_ms)
            else:
                order.delivered = False
                self._queue[key] = None
                self._settle(order.dispatch, "queued", reason="the agent left before it was sent")

    def drop_overdue(self) -> None:
        """Let go of the orders whose agent stayed away too long; the headend's model goes on obeying them."""
        now_ms = self._wall.now_ms()
        while self._queue:
            key = next(iter(self._queue))
            reason = _overdue(self._orders[key], now_ms)
            if reason is None:
                return
            self._drop(key, reason)

    def setpoint_for(self, key: int, reported_mw: float, now_ms: int) -> float:
        """What the headend's model is to follow for an asset whose latest sample says `reported_mw`."""
        order = self._orders.get(key)
        if order is None or (order.delivered and reported_mw != order.dispatch.mw):
            # The agent has ended the order, or has never obeyed it.
            return reported_mw
        if order.ends_ms is not None and now_ms >= order.ends_ms:
            return 0.0
        return order.dispatch.mw

    def _check(self, request: DispatchRequest) -> int:
        key = self._fleet.index_by_id.get(request.asset_id)
        if key is None:
            raise DispatchRefusedError("not_found", f"there is no asset {request.asset_id} in the fleet")
        if not math.isfinite(request.mw):
            raise DispatchRefusedError("bad_request", f"mw is {request.mw}; it must be a finite number")
        asset = self._fleet.assets[key]
        if not asset.min_mw <= request.mw <= asset.max_mw:
            raise DispatchRefusedError(
                "out_of_bounds",
                f"mw is {request.mw}; asset {asset.id} takes {asset.min_mw} to {asset.max_mw} MW",
            )
        if request.duration_s is not None and not 1 <= request.duration_s <= MAX_DURATION_S:
            raise DispatchRefusedError(
                "bad_request", f"duration_s is {request.duration_s}; it must be 1 to {MAX_DURATION_S} s"
            )
        return key

    def _deliver(self, session: Session, order: _Order, now_ms: int) -> None:
        # The duration counts from when the dispatch was made: what is left of it goes out.
        remaining_s = None if order.ends_ms is None else max(1, math.ceil((order.ends_ms - now_ms) / 1000))
        self._hand_over(session, order, replace(order.dispatch, duration_s=remaining_s))
        self._settle(order.dispatch, "sent", reason=None)
        log.info(
            "queued dispatch sent",
            dispatch_id=order.dispatch.dispatch_id,
            asset_id=order.dispatch.asset_id,
            agent_id=session.agent_id,
            mw=order.dispatch.mw,
            remaining_s=remaining_s,
        )

    def _hand_over(self, session: Session, order: _Order, dispatch: Dispatch) -> None:
        order.delivered = True
        replaced = session.mailbox.put_dispatch(dispatch)
        if replaced is not None:
            self._replaced(replaced, by=dispatch)

    def _replaced(self, dispatch: Dispatch, *, by: Dispatch) -> None:
        self._counters.dispatches_replaced += 1
        self._settle(dispatch, "replaced", reason=f"replaced by {by.dispatch_id}")

    def _drop(self, key: int, reason: str) -> None:
        del self._queue[key]
        dispatch = self._orders[key].dispatch
        self._counters.dispatches_dropped += 1
        self._settle(dispatch, "dropped", reason=reason)
        log.warning(
            "dispatch dropped",
            dispatch_id=dispatch.dispatch_id,
            asset_id=dispatch.asset_id,
            mw=dispatch.mw,
            reason=reason,
        )

    def _settle(self, dispatch: Dispatch, state: DispatchState, *, reason: str | None) -> None:
        record = self._recent.get(dispatch.dispatch_id)
        if record is not None:
            sent_ms = self._wall.now_ms() if state == "sent" else record.sent_ms
            self._update(replace(record, state=state, sent_ms=sent_ms, reason=reason))

    def _update(self, record: DispatchRecord) -> None:
        self._recent[record.dispatch_id] = record
        if len(self._recent) > RECENT_DISPATCHES:
            self._recent.popitem(last=False)
        self._store.record_dispatch(record)


def _overdue(order: _Order, now_ms: int) -> str | None:
    if order.ends_ms is not None and now_ms >= order.ends_ms:
        return f"its {order.dispatch.duration_s} s were over before its agent came back"
    if now_ms - order.dispatched_ms >= QUEUED_FOR_S * 1000:
        return f"its agent was away for {QUEUED_FOR_S:g} s"
    return None
