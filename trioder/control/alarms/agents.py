"""Which agent drives each asset, or drove it last: alarms are grouped by it."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from trioder.domain.access import ALL_TENANTS
from trioder.domain.alarms import MAX_SITE_IDS
from trioder.domain.fleet import Fleet


@dataclass(slots=True)
class _Agent:
    """An agent that drives assets, or was the last to.

    Attributes:
        session_id: of its open session; None without one.
    """

    session_id: str | None = None
    keys: set[int] = field(default_factory=set)


class KnownAgents:
    """The agents that any asset was driven by last."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._agents: dict[str, _Agent] = {}
        self._agent_of: dict[int, str] = {}

    def opened(self, agent_id: str, session_id: str, keys: Iterable[int]) -> Sequence[int]:
        """The agent drives these assets; return those that another one drove before."""
        agent = self._agents.setdefault(agent_id, _Agent())
        agent.session_id = session_id
        moved = [key for key in keys if self._agent_of.get(key) != agent_id]
        for key in moved:
            self._move(key, agent_id)
        agent.keys.update(moved)
        return moved

    def closed(self, agent_id: str, session_id: str) -> bool:
        """A session has ended; return whether it was the agent's present one."""
        agent = self._agents.get(agent_id)
        if agent is None or agent.session_id != session_id:
            return False
        agent.session_id = None
        self._forget_if_unused(agent_id)
        return True

    def drove(self, agent_id: str, keys: Iterable[int]) -> None:
        """From before the start: the agent drove these assets; it is not connected."""
        keys = [key for key in keys if key not in self._agent_of]
        if keys:
            self._agents.setdefault(agent_id, _Agent()).keys.update(keys)
            self._agent_of.update(dict.fromkeys(keys, agent_id))

    def retire(self, keys: Iterable[int]) -> None:
        """The assets have left the fleet."""
        for key in keys:
            self._move(key, None)

    def agent_of(self, key: int) -> str | None:
        """The agent that drives the asset, or did last; None if there was none since the start."""
        return self._agent_of.get(key)

    def is_connected(self, agent_id: str) -> bool:
        """Whether the agent has an open session."""
        agent = self._agents.get(agent_id)
        return agent is not None and agent.session_id is not None

    def keys_of(self, agent_id: str) -> Collection[int]:
        """The assets that the agent drives, or drove last."""
        agent = self._agents.get(agent_id)
        return () if agent is None else agent.keys

    def scope_of(self, keys: Collection[int]) -> tuple[str, tuple[str, ...] | None]:
        """Return the tenant of assets and their sites, as alarms and events have them."""
        assets = self._fleet.assets
        key_by_site = {assets[key].site_id: key for key in keys}
        tenants = {self._fleet.tenant_of(key) for key in key_by_site.values()}
        site_ids = None if len(key_by_site) > MAX_SITE_IDS else tuple(sorted(key_by_site))
        return (tenants.pop() if len(tenants) == 1 else ALL_TENANTS), site_ids

    def _move(self, key: int, to: str | None) -> None:
        former = self._agent_of.pop(key, None)
        if former is not None:
            self._agents[former].keys.discard(key)
            self._forget_if_unused(former)
        if to is not None:
            self._agent_of[key] = to

    def _forget_if_unused(self, agent_id: str) -> None:
        agent = self._agents[agent_id]
        if agent.session_id is None and not agent.keys:
            del self._agents[agent_id]
