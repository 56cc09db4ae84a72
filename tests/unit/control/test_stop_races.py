"""Stops, resumes, dispatches, cancellations and agents at once, in slices, in orders from a seed."""

import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio

from tests.unit.control.driver import acknowledge, connect, dispatch_one, report_sample, still_parts
from tests.unit.headend.parts import Parts, asset_id
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.registry import SMALL_GROUP
from trioder.domain.access import ALL_TENANTS
from trioder.domain.dispatch import DispatchTarget, GroupRequest
from trioder.domain.lifecycle import TERMINAL
from trioder.gateway.sessions import Session

ASSETS, AGENTS = SMALL_GROUP + 100, 4
FLEET = DispatchTarget(kind="fleet")
ONE = DispatchTarget(kind="asset", id=asset_id(5))


@pytest.fixture
def replayable(seed: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The order in which Trio runs tasks follows from the seed, too."""
    scheduler: Any = trio._core._run
    monkeypatch.setattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    before = scheduler._r.getstate()
    scheduler._r.seed(seed)
    yield
    scheduler._r.setstate(before)


class Crowd:
    """Callers that act at the same time, each after a random number of turns of the event loop."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.parts: Parts = still_parts(assets=ASSETS)
        self.site = DispatchTarget(kind="site", id=self.parts.fleet.sites[0].id)
        self.numbers = 0
        self.sessions: dict[int, Session] = {}
        for agent in range(AGENTS):
            self.connect(agent)

    def keys_of(self, target: DispatchTarget) -> range:
        return range(5, 6) if target == ONE else range(ASSETS)

    def connect(self, agent: int) -> None:
        self.numbers += 1
        keys = range(agent, ASSETS, AGENTS)
        self.sessions[agent] = connect(self.parts, *keys, agent_id=f"a{agent}", number=self.numbers)
        report_sample(self.parts, *keys)

    async def turns(self) -> None:
        for _ in range(self.rng.randrange(40)):
            await trio.lowlevel.checkpoint()

    async def stop(self) -> None:
        target = self.rng.choice((FLEET, self.site, ONE))
        stops = self.parts.dispatcher.stops
        stop = await stops.stop(target, self.keys_of(target), tenant=ALL_TENANTS, requested_by="anna")
        # Unless somebody has resumed it meanwhile, all of it is stopped by now.
        if not stop.is_ending and not stop.ended:
            assert all(self.is_stopped(key) for key in self.keys_of(target))

    async def resume(self) -> None:
        stops = self.parts.dispatcher.stops
        stop = stops.find(self.rng.choice((FLEET, self.site, ONE)), tenant=ALL_TENANTS)
        if stop is not None:
            await stops.resume(stop, requested_by="anna")
            assert stop.state == "cancelled"

    async def dispatch_many(self) -> None:
        request = GroupRequest(target=FLEET, keys=range(ASSETS), mw=600.0, duration_s=600)
        await self.parts.dispatcher.dispatch_group_in_slices(request)

    async def dispatch_single(self) -> None:
        dispatch_one(self.parts, self.rng.choice((2.0, -2.0)), key=self.rng.randrange(ASSETS))

    async def cancel(self) -> None:
        found = [one for one in self.parts.dispatcher.history if not one.is_stop]
        if found:
            await self.parts.dispatcher.cancel_in_slices(self.rng.choice(found), requested_by="anna")

    async def reconnect(self) -> None:
        agent = self.rng.randrange(AGENTS)
        if agent in self.sessions:
            self.parts.disconnect(self.sessions.pop(agent))
        await self.turns()
        if agent not in self.sessions:
            self.connect(agent)

    async def answer(self) -> None:
        for agent, session in tuple(self.sessions.items()):
            for key in range(agent, ASSETS, AGENTS):
                setpoint = self.parts.dispatcher.in_force(key)
                if setpoint is not None and self.rng.random() < 0.5:
                    status = self.rng.choice(("applied", "rejected", "completed", "active"))
                    acknowledge(self.parts, session, setpoint, status, setpoint_mw=setpoint.mw)

    async def maintain(self) -> None:
        self.parts.dispatcher.maintain()

    async def later(self, act: Callable[[], Awaitable[None]]) -> None:
        await self.turns()
        await act()

    def is_stopped(self, key: int) -> bool:
        current = self.parts.dispatcher.in_force(key)
        return current is not None and current.holds_asset and current.mw == 0.0

    def open_by_key(self) -> dict[int, list[AssetSetpoint]]:
        found: dict[int, list[AssetSetpoint]] = {key: [] for key in range(ASSETS)}
        for dispatch in self.parts.dispatcher.history:
            for key, setpoint in dispatch.setpoints.items():
                if setpoint.state not in TERMINAL:
                    found[key].append(setpoint)
        return found

    def check_order(self) -> None:
        """Of equal priority the later one supersedes, whichever is built first."""
        history = self.parts.dispatcher.history
        for dispatch in history.newest(1_000, counts=lambda one: not one.is_stop):
            for setpoint in dispatch.setpoints.values():
                if setpoint.state == "superseded":
                    later = history.get((setpoint.reason or "").removeprefix("by "))
                    assert later is not None
                    assert later.number > dispatch.number

    def stops(self) -> list[Dispatch]:
        return [one for one in self.parts.dispatcher.history if one.is_stop]

    def check(self) -> None:
        """At most one setpoint, that of the highest priority, and of these the latest; the others wait."""
        assert not any(one.is_starting or one.is_ending for one in self.parts.dispatcher.history)
        for key, setpoints in self.open_by_key().items():
            in_force = [one for one in setpoints if one.state != "deferred"]
            assert len(in_force) == bool(setpoints)
            assert in_force == [one for one in [self.parts.dispatcher.in_force(key)] if one is not None]
            assert all(one.dispatch.rank <= in_force[0].dispatch.rank for one in setpoints)


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_is_done_at_once_a_stop_holds_until_it_is_resumed(replayable: None, seed: int) -> None:
    crowd = Crowd(seed)
    acts = (
        *(crowd.stop, crowd.stop, crowd.resume, crowd.dispatch_many, crowd.dispatch_single),
        *(crowd.cancel, crowd.reconnect, crowd.answer, crowd.maintain),
    )
    for _ in range(3):
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(crowd.later, crowd.rng.choice(acts))
        crowd.check()
        crowd.check_order()
        for stop in crowd.stops():
            assert all(crowd.is_stopped(key) for key in stop.setpoints)
    for stop in crowd.stops():
        await crowd.parts.dispatcher.stops.resume(stop, requested_by="anna")
    crowd.check()
    assert crowd.stops() == []
    assert not any(crowd.is_stopped(key) for key in range(ASSETS))
