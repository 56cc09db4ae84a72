"""The agents' status lines, and the state of the fleet: agents running, assets connected, restarts.

`trioder.launcher.display` displays it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, cast

from trioder.launcher.shards import Shard

_STATES = ("connected", "disconnected", "refused")
_MAX_PREVIEW = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """An agent's connection to the headend, and how many of its assets are connected."""

    state: Literal["connected", "disconnected", "refused"]
    assets: int
    reason: str = ""


def read_status(line: str) -> AgentStatus:
    """Read one line.

    Raises:
        ValueError: with the reason.
    """
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError(f"not JSON: {line[:_MAX_PREVIEW]!r}") from None
    if not isinstance(document, dict) or document.get("state") not in _STATES:
        raise ValueError(f"its state is none of {', '.join(_STATES)}: {line[:_MAX_PREVIEW]!r}")
    assets, reason = document.get("assets"), document.get("reason", "")
    if type(assets) is not int or assets < 0:
        raise ValueError(f"its assets are not a count: {line[:_MAX_PREVIEW]!r}")
    state = cast("Literal['connected', 'disconnected', 'refused']", document["state"])
    return AgentStatus(state=state, assets=assets, reason=str(reason))


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The fleet at one instant.

    Attributes:
        connected_after_s: from the start until all assets were connected for the first time.
        quarantined: the agents whose shards are in quarantine now, in the fleet's order.
    """

    agents_up: int
    agents: int
    connected: int
    assets: int
    restarts: int
    connected_after_s: float | None
    quarantined: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class AgentRecord:
    """One agent's history."""

    agent_id: str
    assets: int
    connected: int = 0
    starts: int = 0
    quarantines: int = 0
    quarantined: bool = False
    up_s: float = 0.0
    up_since_s: float | None = field(default=None, repr=False)

    @property
    def restarts(self) -> int:
        """How often it was started after the first time."""
        return max(0, self.starts - 1)


class FleetProgress:
    """Counts agents and assets. Times are of one steady clock.

    Args:
        shards: the whole fleet.
        now_s: the start that `connected_after_s` counts from.
    """

    def __init__(self, shards: Iterable[Shard], *, now_s: float) -> None:
        self._started_s = now_s
        self._connected_after_s: float | None = None
        self._records = {
            shard.agent_id: AgentRecord(agent_id=shard.agent_id, assets=len(shard.assets)) for shard in shards
        }
        self._assets = sum(record.assets for record in self._records.values())
        self._connected = 0
        self._up = 0

    def agent_started(self, agent_id: str, *, now_s: float) -> None:
        """Record that the agent's process runs."""
        record = self._records[agent_id]
        record.starts += 1
        record.up_since_s = now_s
        self._up += 1

    def agent_reported(self, agent_id: str, status: AgentStatus, *, now_s: float) -> None:
        """Record the agent's connection."""
        record = self._records[agent_id]
        connected = min(status.assets, record.assets) if status.state == "connected" else 0
        self._set_connected(record, connected)
        if self._connected_after_s is None and self._connected == self._assets:
            self._connected_after_s = now_s - self._started_s

    def agent_ended(self, agent_id: str, *, now_s: float) -> float:
        """Record that the agent's process has ended; return how long it ran."""
        record = self._records[agent_id]
        self._set_connected(record, 0)
        if record.up_since_s is None:
            return 0.0
        ran_for_s = now_s - record.up_since_s
        record.up_s += ran_for_s
        record.up_since_s = None
        self._up -= 1
        return ran_for_s

    def agent_quarantined(self, agent_id: str) -> None:
        """Record that the agent's shard is in quarantine; each entry counts once."""
        record = self._records[agent_id]
        record.quarantines += not record.quarantined
        record.quarantined = True

    def agent_recovered(self, agent_id: str) -> None:
        """Record that the agent's shard has left the quarantine."""
        self._records[agent_id].quarantined = False

    def snapshot(self) -> Snapshot:
        """Return the present state."""
        return Snapshot(
            agents_up=self._up,
            agents=len(self._records),
            connected=self._connected,
            assets=self._assets,
            restarts=sum(record.restarts for record in self._records.values()),
            connected_after_s=self._connected_after_s,
            quarantined=tuple(key for key, record in self._records.items() if record.quarantined),
        )

    def records(self) -> list[AgentRecord]:
        """Return every agent's history, in the fleet's order."""
        return list(self._records.values())

    def _set_connected(self, record: AgentRecord, connected: int) -> None:
        self._connected += connected - record.connected
        record.connected = connected
