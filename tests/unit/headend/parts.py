"""Small fleets and ready parts of a headend for unit tests."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from trioder.control.dispatcher import Dispatcher
from trioder.control.model import Dispatch
from trioder.domain.assets import Asset
from trioder.domain.dispatch import DispatchRecord
from trioder.domain.fleet import Fleet, Site
from trioder.domain.telemetry import Samples, Source
from trioder.events.bus import EventBus
from trioder.events.counters import Counters
from trioder.events.facts import TelemetryAccepted
from trioder.gateway.sessions import Session, SessionRegistry
from trioder.headend.ticker import Ticker
from trioder.ingest.latest import LatestState
from trioder.ingest.service import Ingest
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store
from trioder.store.none import NoneStore

START_UNIX_S = 1_800_000_000.0


def asset_id(position: int) -> str:
    return str(UUID(int=position + 1, version=4))


def make_fleet(count: int, *, ramp_rate_mw_per_min: float = 6000.0) -> Fleet:
    """Batteries of 40 MWh and 10 MW each, lossless and by default fast, all on one site."""
    site = Site(id=str(UUID(int=9999, version=4)), name="North", location="Reno, NV")
    assets = tuple(
        Asset(
            id=asset_id(position),
            name=f"Battery {position}",
            site_id=site.id,
            site_name=site.name,
            location=site.location,
            capacity_mwhr=40.0,
            max_mw=10.0,
            min_mw=-10.0,
            charge_efficiency=1.0,
            discharge_efficiency=1.0,
            ramp_rate_mw_per_min=ramp_rate_mw_per_min,
        )
        for position in range(count)
    )
    return Fleet(sites=(site,), assets=assets)


def make_samples(
    *keys: int,
    ts_ms: int,
    soc: float = 20.0,
    mw: float = 1.0,
    setpoint: float = 1.0,
    source: Source = "agent",
) -> Samples:
    rows = len(keys)
    return Samples(
        ts_unix_ms=ts_ms,
        source=source,
        asset_keys=keys,
        soc_mwhr=[soc] * rows,
        current_mw=[mw] * rows,
        setpoint_mw=[setpoint] * rows,
        available_discharge_mw=[10.0] * rows,
        available_charge_mw=[10.0] * rows,
    )


def make_session(
    agent_id: str, *keys: int, epoch: int = 1, outbox_id: str = "", session_id: str = "s", protocol: int = 1
) -> Session:
    return Session(
        session_id=session_id,
        agent_id=agent_id,
        epoch=epoch,
        protocol=protocol,
        outbox_id=outbox_id,
        asset_keys=keys,
        batch_keys=keys,
        peer="test:1",
        connected_ms=0,
    )


class StillWall(WallClock):
    """A clock that moves only on request, for tests without a Trio run."""

    def __init__(self) -> None:
        super().__init__(START_UNIX_S, 0.0)
        self.passed_s = 0.0

    def now_s(self) -> float:
        return START_UNIX_S + self.passed_s

    def adjust(self, by_s: float) -> None:
        self.passed_s += by_s


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a headend without its gRPC, wired as `open_headend` wires them."""

    fleet: Fleet
    counters: Counters
    events: EventBus
    latest: LatestState
    sessions: SessionRegistry
    dispatcher: Dispatcher
    ingest: Ingest
    ticker: Ticker
    wall: WallClock

    def connect(self, session: Session) -> Session:
        self.sessions.claim(session, asset_ids=[asset_id(key) for key in session.asset_keys])
        session.connected_ms = self.wall.now_ms()
        self.latest.begin_session(session.asset_keys)
        self.dispatcher.session_opened(session)
        return session

    def disconnect(self, session: Session) -> None:
        self.sessions.release(session)
        self.dispatcher.session_closed(session)


def make_parts(
    *,
    assets: int,
    store: Store | None = None,
    wall: WallClock | None = None,
    ramp_rate_mw_per_min: float = 6000.0,
) -> Parts:
    fleet = make_fleet(assets, ramp_rate_mw_per_min=ramp_rate_mw_per_min)
    counters = Counters()
    events = EventBus(counters)
    latest = LatestState(fleet)
    sessions = SessionRegistry()
    store = store or NoneStore()
    wall = wall or WallClock(START_UNIX_S, 0.0)
    dispatcher = Dispatcher(
        fleet=fleet,
        sessions=sessions,
        latest=latest,
        store=store,
        counters=counters,
        events=events,
        wall=wall,
        rng=random.Random(7),
    )
    ingest = Ingest(fleet=fleet, latest=latest, store=store, counters=counters, events=events, wall=wall)
    events.handle(TelemetryAccepted, lambda fact: dispatcher.measured(fact.samples))
    store.listen(ingest)
    ticker = Ticker(
        fleet=fleet,
        latest=latest,
        sessions=sessions,
        dispatcher=dispatcher,
        store=store,
        counters=counters,
        wall=wall,
    )
    return Parts(
        fleet=fleet,
        counters=counters,
        events=events,
        latest=latest,
        sessions=sessions,
        dispatcher=dispatcher,
        ingest=ingest,
        ticker=ticker,
        wall=wall,
    )


def find_record(dispatcher: Dispatcher, dispatch_id: str) -> DispatchRecord | None:
    """The present record of a dispatch that is in memory."""
    dispatch = dispatcher.history.get(dispatch_id)
    return None if dispatch is None else dispatcher.record_of(dispatch)


def newest_records(
    dispatcher: Dispatcher, limit: int, *, counts: Callable[[Dispatch], bool]
) -> list[DispatchRecord]:
    """The last dispatches in memory that count, newest first."""
    return [dispatcher.record_of(dispatch) for dispatch in dispatcher.history.newest(limit, counts=counts)]
