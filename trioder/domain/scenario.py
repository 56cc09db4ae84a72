"""A scenario: which batteries, agents' clocks and links are to misbehave, when, and how. Pure.

The file is read in `trioder.fleet.scenario`; what a battery does is in `trioder.sim.faults`, and the agent's
own part in `trioder.agent.scenario`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

from trioder.domain.assets import Asset

DeviceActionName = Literal[
    "trip",
    "derate",
    "reject",
    "ignore",
    "freeze",
    "report_nan",
    "wrong_sign",
    "beyond_nameplate",
    "flag_bad",
]
AgentActionName = Literal["clock_step", "clock_drift", "link_cut", "link_silent", "link_slow", "link_lossy"]
ActionName = DeviceActionName | AgentActionName
DEVICE_ACTIONS: tuple[DeviceActionName, ...] = get_args(DeviceActionName)
AGENT_ACTIONS: tuple[AgentActionName, ...] = get_args(AgentActionName)
ACTIONS: tuple[ActionName, ...] = (*DEVICE_ACTIONS, *AGENT_ACTIONS)


class Parameter(NamedTuple):
    """A number that an action takes.

    Attributes:
        low: the lowest value.
        high: the highest value.
        excluded: values between them that are not allowed.
        default: None where it must be given.
    """

    low: float
    high: float
    excluded: tuple[float, ...] = ()
    default: float | None = None

    def is_valid(self, value: float) -> bool:
        """Whether the value keeps the rule."""
        return math.isfinite(value) and self.low <= value <= self.high and value not in self.excluded

    @property
    def rule(self) -> str:
        """The rule in words."""
        but = "".join(f", and not {value:g}" for value in self.excluded)
        return f"a number within {self.low:g}..{self.high:g}{but}"


_DAY_S = 86_400.0
MAX_S = 366 * _DAY_S
_SECONDS = Parameter(0.0, MAX_S, default=0.0)
# By action; one that is not here takes none. A bandwidth of 0 is unlimited.
PARAMETERS: Mapping[ActionName, Mapping[str, Parameter]] = {
    "derate": {"factor": Parameter(0.0, 1.0, (1.0,)), "over_s": _SECONDS, "back_s": _SECONDS},
    "beyond_nameplate": {"factor": Parameter(1.0, 1e6, (1.0,))},
    "clock_step": {"by_s": Parameter(-MAX_S, MAX_S, (0.0,))},
    "clock_drift": {"ppm": Parameter(-500_000.0, 500_000.0, (0.0,))},
    "link_slow": {
        "delay_s": Parameter(0.0, 60.0, default=0.0),
        "bytes_per_s": Parameter(0.0, 1e12, default=0.0),
    },
    "link_lossy": {"cut_every_s": Parameter(0.1, MAX_S)},
}


class Occurrence(NamedTuple):
    """One time that an action takes place, in seconds after the scenario's start.

    Attributes:
        number: counts from 0.
        end_s: infinity when it does not end. Not the end of a ramp back, which follows.
    """

    number: int
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One entry of a scenario.

    Attributes:
        number: its place in the file, from 0.
        at_s: when it begins, in seconds after the scenario's start.
        for_s: how long it lasts; infinity: to the end of the run.
        every_s: from one beginning to the next; infinity: it takes place once.
        times: how often it takes place; infinity for ever.
        parameters: the action's own numbers, defaults included.
        asset_ids: the batteries; a link or a clock is that of each agent with at least one of them.
    """

    number: int
    name: ActionName
    at_s: float
    for_s: float = math.inf
    every_s: float = math.inf
    times: float = 1
    parameters: Mapping[str, float]
    asset_ids: frozenset[str]

    @property
    def back_s(self) -> float:
        """How long its effect fades after its end."""
        return self.parameters.get("back_s", 0.0)

    def occurrences(self, now_s: float) -> Iterator[Occurrence]:
        """Yield those that are not over at `now_s`, the effect's fading included, in order."""
        number = 0
        if self.every_s < math.inf:
            # The last ones before may still last: one earlier than the next to begin, or more to be safe.
            number = max(0, math.floor((now_s - self.at_s - self.for_s - self.back_s) / self.every_s))
        while number < self.times:
            begin_s = self.at_s + (number * self.every_s if number else 0.0)
            end_s = begin_s + self.for_s
            if end_s + self.back_s > now_s:
                yield Occurrence(number, begin_s, end_s)
            number += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is to go wrong.

    Attributes:
        seed: decides whatever is left to chance.
        start_unix_s: the start that times count from, common to a launcher's agents; None: the agent's own.
    """

    name: str
    seed: int
    actions: tuple[Action, ...]
    start_unix_s: float | None = None

    def cut(self, assets: Sequence[Asset], *, start_unix_s: float | None = None) -> "Scenario | None":
        """Return what concerns the agent with these assets; None if nothing does."""
        ids = {asset.id for asset in assets}
        actions = tuple(
            replace(action, asset_ids=action.asset_ids & ids)
            for action in self.actions
            if not action.asset_ids.isdisjoint(ids)
        )
        return replace(self, actions=actions, start_unix_s=start_unix_s) if actions else None
