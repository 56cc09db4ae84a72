"""Runs a scenario in an agent: a layer around its batteries, its clock and its link.

`NoScenario` hands everything through as it is, so that an agent without a scenario pays nothing. What a
battery does is in `trioder.sim.faults`; the link and the clock are in `faulty_link` and `faulty_clock`.
"""

import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar
from uuid import UUID, uuid5

import structlog
import trio

from trioder.agent.battery_pool import BatteryPool
from trioder.agent.faulty_clock import FaultyClock, SteadyClock
from trioder.agent.faulty_link import Dial, FaultyLink
from trioder.agent.frame import Frame
from trioder.domain.assets import Asset
from trioder.domain.dispatch import Setpoint
from trioder.domain.quality import Quality
from trioder.domain.scenario import DEVICE_ACTIONS, Action, DeviceActionName, Occurrence, Scenario
from trioder.domain.telemetry import BessState
from trioder.process.wall_time import WallClock
from trioder.sim.faults import Fault, Row, Tick, compose_ticks, make_fault, ramp_factor
from trioder.wire.records import AgentEvent, AgentMessage

log = structlog.stdlib.get_logger(__name__)

# What a real device reports of itself: at the beginning, its severity, and at the end.
DEVICE_EVENTS = {
    "trip": ("INVERTER_FAULT", "error", "INVERTER_FAULT_CLEARED"),
    "derate": ("DERATED", "warning", "DERATED_CLEARED"),
    "flag_bad": ("SENSOR_FAULT", "warning", "SENSOR_FAULT_CLEARED"),
}
# Batteries changed between two polls of the sockets: a few milliseconds of work.
_CHUNK = 200

Key = TypeVar("Key")
Value = TypeVar("Value")
Send = Callable[[AgentMessage], None]
Deliver = Callable[[Iterable[Setpoint]], None]


class NoScenario:
    """The layer without a scenario: nothing misbehaves."""

    def clock(self, wall: WallClock) -> WallClock:
        """Return the wall time of the agent."""
        return wall

    def physics(self, tick: Tick) -> Tick:
        """Return the physics of its batteries."""
        return tick

    def link(self, dial: Dial) -> Dial:
        """Return how it connects."""
        return dial

    def setpoints(self, pool: BatteryPool) -> Deliver:
        """Return what receives the headend's setpoints."""
        return pool.deliver

    def frames(self, put: Callable[[Frame], None]) -> Callable[[Frame], None]:
        """Return what receives the frame of each pulse."""
        return put

    async def run(self, send: Send) -> None:
        """Run until cancelled.

        Args:
            send: receives what the devices report besides telemetry.
        """


NO_SCENARIO = NoScenario()


class RunningScenario(NoScenario):
    """The layer of an agent that misbehaves.

    An action takes effect with the battery's next sample, a refusal at once.

    Args:
        scenario: with the assets of this agent only.
        assets: of the agent, in the order of its batches.
        agent_id: its links are cut at random at times of its own.
        elapsed_s: since the start of the scenario.
    """

    def __init__(
        self, scenario: Scenario, assets: Sequence[Asset], *, agent_id: str, elapsed_s: float = 0.0
    ) -> None:
        self._scenario = scenario
        self._assets = assets
        self._agent_id = agent_id
        self._start_s = trio.current_time() - elapsed_s
        self._names = {action.name for action in scenario.actions}
        # By the asset's position, and then by action, so that those of a later entry come last.
        self._faults: dict[int, dict[int, Fault]] = {}
        self._position_by_id = {asset.id: position for position, asset in enumerate(assets)}
        self._tick: Tick | None = None
        self._ticks: dict[str, Tick] = {}
        self._reports: dict[int, list[Fault]] = {}
        self._refusals: dict[str, str] = {}
        self._link: FaultyLink | None = None
        self._clock: FaultyClock | None = None
        self._wall: WallClock | None = None
        self._start_unix_s = scenario.start_unix_s or 0.0

    def clock(self, wall: WallClock) -> WallClock:
        """Return a wall time that follows a wrong system clock, if an action needs one."""
        if self._names & {"clock_step", "clock_drift"}:
            self._clock = FaultyClock(wall.system or SteadyClock(wall))
            wall = WallClock.following(self._clock)
        self._wall = wall
        if self._scenario.start_unix_s is None:
            self._start_unix_s = wall.unix_s(self._start_s)
        return wall

    def physics(self, tick: Tick) -> Tick:
        """Return the physics with the faults of each battery, if there may be any."""
        if self._names.isdisjoint(DEVICE_ACTIONS):
            return tick
        self._tick = tick
        ticks = self._ticks

        def faulty(asset: Asset, state: BessState, dt_secs: float) -> BessState:
            return ticks.get(asset.id, tick)(asset, state, dt_secs)

        return faulty

    def link(self, dial: Dial) -> Dial:
        """Return a dial function over a faulty link, if an action needs one."""
        if not any(name.startswith("link_") for name in self._names):
            return dial
        self._link = FaultyLink(dial)
        return self._link.dial

    def setpoints(self, pool: BatteryPool) -> Deliver:
        """Return what rejects setpoints for batteries that refuse, and delivers the others."""

        def deliver(setpoints: Iterable[Setpoint]) -> None:
            accepted = []
            for setpoint in setpoints:
                reason = self._refusals.get(setpoint.asset_id)
                if reason is None:
                    accepted.append(setpoint)
                else:
                    pool.reject(setpoint, reason)
            pool.deliver(accepted)

        return deliver

    def frames(self, put: Callable[[Frame], None]) -> Callable[[Frame], None]:
        """Return what alters the rows of batteries that report wrong values."""

        def put_altered(frame: Frame) -> None:
            for position, faults in self._reports.items():
                frame.alter(position, partial(_report, self._assets[position], faults))
            put(frame)

        return put_altered

    async def run(self, send: Send) -> None:
        """Begin and end each action at its times, until cancelled; see `NoScenario`."""
        log.info(
            "scenario runs",
            agent_id=self._agent_id,
            scenario=self._scenario.name,
            actions=len(self._scenario.actions),
            elapsed_s=round(trio.current_time() - self._start_s, 1),
        )
        async with trio.open_nursery() as nursery:
            for action in self._scenario.actions:
                act = self._act_on_devices if action.name in DEVICE_ACTIONS else self._act_on_agent
                nursery.start_soon(self._repeat, action, partial(act, action, send))

    async def _repeat(self, action: Action, act: Callable[[Occurrence], Awaitable[None]]) -> None:
        for occurrence in action.occurrences(trio.current_time() - self._start_s):
            await trio.sleep_until(self._start_s + occurrence.begin_s)
            self._log("scenario action begins", action)
            await act(occurrence)
            self._log("scenario action ends", action)

    def _log(self, event: str, action: Action) -> None:
        log.info(
            event,
            agent_id=self._agent_id,
            action=f"actions[{action.number}]",
            do=action.name,
            assets=len(action.asset_ids),
        )

    async def _act_on_devices(self, action: Action, send: Send, occurrence: Occurrence) -> None:
        positions = sorted(self._position_by_id[asset_id] for asset_id in action.asset_ids)
        factor = partial(self._factor, action, occurrence)
        name: DeviceActionName = action.name  # type: ignore[assignment]  # of DEVICE_ACTIONS
        for count, position in enumerate(positions, start=1):
            fault = make_fault(name, action.parameters, factor=factor)
            self._set(position, action.number, fault)
            self._send_event(send, action, occurrence, position, begins=True)
            if count % _CHUNK == 0:
                await trio.lowlevel.checkpoint()
        await trio.sleep_until(self._start_s + occurrence.end_s + action.back_s)
        for count, position in enumerate(positions, start=1):
            self._set(position, action.number, None)
            self._send_event(send, action, occurrence, position, begins=False)
            if count % _CHUNK == 0:
                await trio.lowlevel.checkpoint()

    def _factor(self, action: Action, occurrence: Occurrence) -> float:
        now_s = trio.current_time() - self._start_s
        return ramp_factor(
            action.parameters["factor"],
            since_s=now_s - occurrence.begin_s,
            left_s=occurrence.end_s - now_s,
            over_s=action.parameters["over_s"],
            back_s=action.back_s,
        )

    def _set(self, position: int, number: int, fault: Fault | None) -> None:
        """Put a fault on a battery, or take it off."""
        by_number = self._faults.setdefault(position, {})
        if fault is None:
            del by_number[number]
        else:
            by_number[number] = fault
        faults = [by_number[each] for each in sorted(by_number)]
        asset_id = self._assets[position].id
        assert self._tick is not None  # noqa: S101 - for the type checker; `physics` was called
        _keep(
            self._ticks,
            asset_id,
            compose_ticks(self._tick, faults),
            is_needed=any(each.changes_physics for each in faults),
        )
        reports = [each for each in faults if each.changes_report]
        _keep(self._reports, position, reports, is_needed=bool(reports))
        refusals = [each.refusal for each in faults if each.refusal is not None]
        _keep(self._refusals, asset_id, "; ".join(refusals), is_needed=bool(refusals))

    def _send_event(
        self, send: Send, action: Action, occurrence: Occurrence, position: int, *, begins: bool
    ) -> None:
        if action.name not in DEVICE_EVENTS:
            return
        assert self._wall is not None  # noqa: S101 - for the type checker; `clock` was called
        begun, severity, cleared = DEVICE_EVENTS[action.name]
        event_type = begun if begins else cleared
        asset = self._assets[position]
        occasion = f"{action.number}.{occurrence.number} {self._start_unix_s}"
        send(
            AgentEvent(
                # An agent that starts again reports the same event again.
                event_id=str(uuid5(UUID(asset.id), f"{event_type} {occasion}")),
                asset_id=asset.id,
                site_id=asset.site_id,
                ts_unix_ms=self._wall.now_ms(),
                event_type=event_type,
                severity=severity if begins else "info",
                message=_message(action, asset, begins=begins),
            )
        )

    async def _act_on_agent(self, action: Action, send: Send, occurrence: Occurrence) -> None:  # noqa: ARG002
        key = action.number
        begin_s, end_s = self._start_s + occurrence.begin_s, self._start_s + occurrence.end_s
        clock, link, numbers = self._clock, self._link, action.parameters
        match action.name, clock, link:
            case "clock_step", FaultyClock(), _:
                clock.step(key, numbers["by_s"])
            case "clock_drift", FaultyClock(), _:
                clock.drift(key, numbers["ppm"], since_s=begin_s)
            case "link_cut", _, FaultyLink():
                link.cut(key)
            case "link_silent", _, FaultyLink():
                link.silence(key)
            case "link_slow", _, FaultyLink():
                link.slow_down(key, delay_s=numbers["delay_s"], bytes_per_s=numbers["bytes_per_s"])
            case "link_lossy", _, FaultyLink():
                await self._cut_at_random(link, action, occurrence, end_s)
        await trio.sleep_until(end_s)
        if clock is not None:
            clock.correct(key)
        if link is not None:
            await link.restore(key)

    async def _cut_at_random(
        self, link: FaultyLink, action: Action, occurrence: Occurrence, end_s: float
    ) -> None:
        seed = f"{self._scenario.seed}:{action.number}:{occurrence.number}:{self._agent_id}"
        rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
        at_s = self._start_s + occurrence.begin_s
        while (at_s := at_s + rng.expovariate(1.0 / action.parameters["cut_every_s"])) < end_s:
            # Those from before this boot are over.
            if at_s >= trio.current_time():
                await trio.sleep_until(at_s)
                link.break_connections()


def _keep(table: dict[Key, Value], key: Key, value: Value, *, is_needed: bool) -> None:
    if is_needed:
        table[key] = value
    else:
        table.pop(key, None)


def _report(
    asset: Asset, faults: Sequence[Fault], state: BessState, quality: Quality
) -> tuple[BessState, Quality]:
    row: Row = state, quality
    for fault in faults:
        row = fault.report(asset, row)
    return row


def _message(action: Action, asset: Asset, *, begins: bool) -> str:
    if action.name == "derate":
        if not begins:
            return "the nameplate's limits apply again"
        factor, over_s = action.parameters["factor"], action.parameters["over_s"]
        limits = f"{asset.min_mw * factor:.4g}..{asset.max_mw * factor:.4g} MW"
        return f"derated to {100 * factor:g} % of the nameplate, {limits}" + (
            f", within {over_s:g} s" if over_s else ""
        )
    what = {"trip": "the inverter has tripped", "flag_bad": "the measurements are unreliable"}[action.name]
    return what if begins else f"over: {what}"


def make_layer(
    scenario: Scenario | None, assets: Sequence[Asset], *, agent_id: str, wall: WallClock
) -> NoScenario:
    """Return the layer of an agent; the scenario, if any, is where it is by the wall time."""
    if scenario is None:
        return NO_SCENARIO
    start_unix_s = scenario.start_unix_s
    elapsed_s = 0.0 if start_unix_s is None else max(0.0, wall.now_s() - start_unix_s)
    return RunningScenario(scenario, assets, agent_id=agent_id, elapsed_s=elapsed_s)
