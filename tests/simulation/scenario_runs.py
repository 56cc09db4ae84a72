"""The shipped scenarios in virtual time: a headend, agents, an operator who dispatches, and a recorder.

`scripts/plot_scenarios.py` draws what is recorded here.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.alarms import Listed, list_alarms
from tests.simulation.harness import TICK_S, World, open_world
from tests.unit.headend.parts import find_record
from trioder.domain.dispatch import AssetSetpointRecord, DispatchRecord, DispatchTarget, GroupRequest
from trioder.domain.fleet import Fleet
from trioder.domain.scenario import Scenario
from trioder.events.facts import (
    AgentEvent,
    ConditionCleared,
    ConditionRaised,
    DispatchChanged,
    SessionClosed,
    SessionOpened,
)
from trioder.fleet import load_fleet, load_scenario
from trioder.store.none import NoneStore

ROOT = Path(__file__).parents[2]
SCENARIOS = ROOT / "examples" / "scenarios"
# Some of the largest sites of the default fleet.
SITES = (
    "Dynegy Moss Landing Power Plant Hybrid",
    "Elkhorn Battery Energy Storage System",
    "Crimson",
    "McCoy Solar Energy Project Hybrid",
    "Sunlight Storage",
    "Gateway Energy Storage System",
    "Diablo Energy Storage",
)
# Agents of two batteries: shard-2 has Elkhorn and Gateway.
SHARD_SIZE = 2
COMMS_LOSS_HOLD_S = 120.0
# The agents are connected well before; the first sample is taken then.
READY_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A dispatch to all batteries.

    Attributes:
        at_s: after the scenario's start.
    """

    at_s: float
    mw: float
    duration_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What the operator does during a scenario, in seconds after its start."""

    orders: Sequence[Order]
    ends_s: float


STORIES = {
    "site_trips": Story(
        orders=[Order(at_s=60, mw=1550, duration_s=840), Order(at_s=960, mw=1550, duration_s=480)],
        ends_s=1500,
    ),
    "gateway_drops": Story(
        orders=[Order(at_s=60, mw=1000, duration_s=640), Order(at_s=720, mw=1000, duration_s=400)],
        ends_s=1200,
    ),
    "hot_afternoon": Story(orders=[Order(at_s=1200, mw=1300, duration_s=7200)], ends_s=11_700),
    # Every 5 minutes, as a market does.
    "lying_inverter": Story(
        orders=[
            Order(at_s=60 + 300 * number, mw=mw, duration_s=300)
            for number, mw in enumerate((1000, 1000, 1000, 1000, 1000, 600, 1000, 600, 1000))
        ],
        ends_s=2820,
    ),
    "bad_network": Story(orders=[Order(at_s=120, mw=1000, duration_s=1000)], ends_s=1200),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """A fact of the headend.

    Attributes:
        at_s: after the scenario's start.
        kind: `alarm values`, `cleared values`, `event INVERTER_FAULT`, `session opened`, the state of a
            setpoint, ...
        about: the assets' short names, or the agent.
    """

    at_s: float
    kind: str
    about: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The fleet at one time; the columns are by asset.

    Attributes:
        at_s: after the scenario's start.
        real_mw: at the meters.
        reported_mw: as the headend has it, whatever the quality.
        available_mw: for discharge, as reported.
        quality: of the latest sample.
        shortfall_mw: of the latest dispatch.
        assets_connected: how many have a session.
    """

    at_s: float
    real_mw: Sequence[float]
    reported_mw: Sequence[float]
    available_mw: Sequence[float]
    quality: Sequence[str]
    shortfall_mw: float
    assets_connected: int

    @property
    def good_mw(self) -> float:
        """The sum of what counts for the headend."""
        return sum(
            mw for mw, quality in zip(self.reported_mw, self.quality, strict=True) if quality == "good"
        )


@dataclass(slots=True, kw_only=True)
class Recording:
    """A run.

    Attributes:
        names: of the assets, short.
        start_unix_s: of the scenario.
        samples: every 4 s.
        dispatches: the records at the end, one for each of the story's orders.
        alarms: all of them, open and cleared.
        batches_dropped: by the agents' outboxes.
        batches_waiting: in the agents' outboxes at the end.
    """

    scenario: Scenario
    story: Story
    fleet: Fleet
    names: list[str]
    start_unix_s: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    happenings: list[Happening] = field(default_factory=list)
    dispatches: list[DispatchRecord] = field(default_factory=list)
    alarms: Sequence[Listed] = ()
    batches_dropped: int = 0
    batches_waiting: int = 0

    def of(self, kind: str) -> list[tuple[float, str]]:
        """The happenings of one kind: when, and about what."""
        return [(each.at_s, each.about) for each in self.happenings if each.kind == kind]

    def units_of(self, agent_id: str) -> int:
        """How many assets an agent has."""
        first = int(agent_id.removeprefix("shard-")) * SHARD_SIZE
        return len(self.names[first : first + SHARD_SIZE])

    def at(self, at_s: float) -> Sample:
        """The last sample at a time."""
        return max((each for each in self.samples if each.at_s <= at_s), key=lambda each: each.at_s)

    def member(self, order: int, name: str) -> AssetSetpointRecord:
        """The setpoint of an asset in a dispatch."""
        asset_id = self.fleet.assets[self.names.index(name)].id
        return next(each for each in self.dispatches[order].members if each.asset_id == asset_id)

    def dropped(self, order: int) -> dict[str, str]:
        """The assets that dropped out of a dispatch, by short name, with the reason."""
        return self._named(each for resplit in self.dispatches[order].resplits for each in resplit.dropped)

    def adjusted(self, order: int) -> dict[str, str]:
        """The assets whose share was reduced, by short name, with the reason."""
        return self._named(each for resplit in self.dispatches[order].resplits for each in resplit.adjusted)

    def _named(self, reasons: Iterable[tuple[str, str]]) -> dict[str, str]:
        name_by_id = dict(zip(self.fleet.asset_ids, self.names, strict=True))
        return {name_by_id[asset_id]: reason for asset_id, reason in reasons}


async def run_scenario(name: str, *, seed: int = 1) -> Recording:
    """Run a shipped scenario with its story in virtual time."""
    story = STORIES[name]
    fleet = _fleet()
    scenario = load_scenario(SCENARIOS / f"{name}.yaml", fleet.assets)
    recording = Recording(
        scenario=scenario, story=story, fleet=fleet, names=[_short(asset.name) for asset in fleet.assets]
    )
    async with _open_plant(recording, seed=seed) as (world, began_s):
        dispatch_ids: list[str] = []
        async with trio.open_nursery() as nursery:
            await trio.sleep_until(began_s + READY_S)
            nursery.start_soon(_sample, recording, world, began_s, dispatch_ids)
            for order in story.orders:
                await trio.sleep_until(began_s + order.at_s)
                dispatch_ids.append(_dispatch(world, order))
            await trio.sleep_until(began_s + story.ends_s)
            nursery.cancel_scope.cancel()
        recording.dispatches = [_record(world, dispatch_id) for dispatch_id in dispatch_ids]
        assert world.headend is not None
        recording.alarms = list_alarms(world.headend)
        outboxes = [agent.outbox for agent in world.agents.values()]
        recording.batches_dropped = sum(outbox.dropped for outbox in outboxes)
        recording.batches_waiting = max(outbox.batches for outbox in outboxes)
    return recording


@asynccontextmanager
async def _open_plant(recording: Recording, *, seed: int) -> AsyncIterator[tuple[World, float]]:
    """Yield the world and the scenario's start, on Trio's clock."""
    limit_s = recording.story.ends_s + 60.0
    async with open_world(recording.fleet, store=NoneStore(), seed=seed, within_s=limit_s) as world:
        began_s = trio.current_time()
        recording.start_unix_s = world.wall.unix_s(began_s)
        _note_facts(recording, world, began_s)
        await world.start_agents(
            shard_size=SHARD_SIZE, scenario=recording.scenario, comms_loss_hold_s=COMMS_LOSS_HOLD_S
        )
        yield world, began_s


def _fleet() -> Fleet:
    fleet = load_fleet(ROOT / "assets.yaml")
    sites = [site for site in fleet.sites if site.name in SITES]
    site_ids = {site.id for site in sites}
    return Fleet(sites=sites, assets=[asset for asset in fleet.assets if asset.site_id in site_ids])


def _short(name: str) -> str:
    """The plant's first word, without the company's, and the unit."""
    words = name.removeprefix("Dynegy ").split()
    return f"{words[0]} {words[-1]}"


def _note_facts(recording: Recording, world: World, began_s: float) -> None:
    assert world.headend is not None
    events = world.headend.events
    name_by_id = dict(zip(recording.fleet.asset_ids, recording.names, strict=True))

    def note(kind: str, about: Sequence[str], reason: str = "") -> None:
        at_s = trio.current_time() - began_s
        if at_s >= recording.story.ends_s:
            return  # the plant is closed
        recording.happenings.extend(
            Happening(at_s=at_s, kind=kind, about=each, reason=reason) for each in about
        )

    def subjects(fact: ConditionRaised | ConditionCleared) -> list[str]:
        if fact.kind == "values":
            return [recording.names[key] for key in fact.asset_keys]
        return [fact.agent_id]

    def note_dispatch(fact: DispatchChanged) -> None:
        if fact.state is not None:
            note(fact.state, [recording.names[key] for key in fact.asset_keys], fact.reason or "")

    def note_event(fact: AgentEvent) -> None:
        about = name_by_id[fact.asset_id] if fact.asset_id else fact.agent_id
        note(f"event {fact.event_type}", [about], fact.message)

    events.handle(ConditionRaised, lambda fact: note(f"alarm {fact.kind}", subjects(fact), fact.reason))
    events.handle(ConditionCleared, lambda fact: note(f"cleared {fact.kind}", subjects(fact)))
    events.handle(AgentEvent, note_event)
    events.handle(SessionOpened, lambda fact: note("session opened", [fact.agent_id]))
    events.handle(SessionClosed, lambda fact: note("session closed", [fact.agent_id], fact.reason))
    events.handle(DispatchChanged, note_dispatch)


async def _sample(recording: Recording, world: World, began_s: float, dispatch_ids: list[str]) -> None:
    """Sample every 4 s until cancelled."""
    headend = world.headend
    assert headend is not None
    while True:
        real_mw: dict[str, float] = {}
        for agent in world.agents.values():
            saved = agent.pool.snapshot()
            real_mw |= {
                asset_id: state.current_mw
                for asset_id, state in zip(agent.pool.asset_ids, saved, strict=True)
            }
        views = [world.view(key) for key in range(len(recording.names))]
        recording.samples.append(
            Sample(
                at_s=trio.current_time() - began_s,
                real_mw=[real_mw[asset_id] for asset_id in recording.fleet.asset_ids],
                reported_mw=[view.telemetry.current_mw for view in views],
                available_mw=[view.telemetry.available_discharge_mw for view in views],
                quality=[view.quality for view in views],
                shortfall_mw=_record(world, dispatch_ids[-1]).shortfall_mw if dispatch_ids else 0.0,
                assets_connected=headend.sessions.assets_connected,
            )
        )
        await trio.sleep(TICK_S)


def _dispatch(world: World, order: Order) -> str:
    assert world.headend is not None
    request = GroupRequest(
        target=DispatchTarget(kind="fleet"),
        keys=range(len(world.fleet.assets)),
        mw=order.mw,
        duration_s=order.duration_s,
    )
    return world.headend.dispatcher.dispatch_group(request).dispatch_id


def _record(world: World, dispatch_id: str) -> DispatchRecord:
    assert world.headend is not None
    found = find_record(world.headend.dispatcher, dispatch_id)
    assert found is not None
    return found
