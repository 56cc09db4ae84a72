"""Keeps the headend's wall time at the system's clock, and has its parts follow each step."""

from collections.abc import Sequence
from typing import Protocol

from trioder.events.counters import Counters
from trioder.gateway.agent_clocks import AgentClocks
from trioder.gateway.sessions import SessionRegistry
from trioder.process.clock_discipline import ClockStep, discipline_clock
from trioder.process.wall_time import WallClock


class ClockUser(Protocol):
    """A part that keeps times of the wall clock."""

    def clock_stepped(self, by_ms: int) -> None:
        """The wall clock was wrong by this, and has been set."""


class OwnClock:
    """The headend's wall clock; `run` is to be running.

    Args:
        wall: disciplined here.
        counters: of steps.
        agents: the agents' clocks, which are measured by this one.
        sessions: the agents'.
        users: what follows a step, in this order.
    """

    def __init__(
        self,
        *,
        wall: WallClock,
        counters: Counters,
        agents: AgentClocks,
        sessions: SessionRegistry,
        users: Sequence[ClockUser],
    ) -> None:
        self._wall = wall
        self._counters = counters
        self._agents = agents
        self._sessions = sessions
        self._users = users

    async def run(self) -> None:
        """Discipline the clock, until cancelled."""
        await discipline_clock(self._wall, stepped=self._stepped)

    def _stepped(self, step: ClockStep) -> None:
        self._counters.clock_steps += 1
        self._agents.own_clock_stepped(step, self._sessions)
        by_ms = round(step.corrected_s * 1000)
        if by_ms:
            for user in self._users:
                user.clock_stepped(by_ms)
