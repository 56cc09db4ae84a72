"""The account of the fleet: which agents run, what is connected, what was restarted or quarantined.

A synchronous state machine; who shows it is `trioder.launcher.display`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from trioder.launcher.shards import Shard
from trioder.launcher.status import AgentStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The fleet at one instant.

    Attributes:
        whole_after_s: when all assets were connected for the first time, since the start.
        quarantined: the agents whose shards are in quarantine now, in the fleet's order.
    """

    agents_up: int
    agents: int
    connected: int
    assets: int
    restarts: int
    whole_after_s: float | None
    quarantined: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class AgentRecord:
    """What has become of one agent so far."""

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
        now_s: the start that `whole_after_s` counts from.
    """

    def __init__(self, shards: Iterable[Shard], *, now_s: float) -> None:
        self._started_s = now_s
        self._whole_after_s: float | None = None
        self._records = {
            shard.agent_id: AgentRecord(agent_id=shard.agent_id, assets=len(shard.assets)) for shard in shards
        }
        self._assets = sum(record.assets for record in self._records.values())
        self._connected = 0
        self._up = 0

    def agent_started(self, agent_id: str, *, now_s: float) -> None:
        """Take note that the agent's process runs."""
        record = self._records[agent_id]
        record.starts += 1
        record.up_since_s = now_s
        self._up += 1

    def agent_said(self, agent_id: str, status: AgentStatus, *, now_s: float) -> None:
        """Take note of what the agent tells of its connection."""
        record = self._records[agent_id]
        connected = min(status.assets, record.assets) if status.state == "connected" else 0
        self._set_connected(record, connected)
        if self._whole_after_s is None and self._connected == self._assets:
            self._whole_after_s = now_s - self._started_s

    def agent_ended(self, agent_id: str, *, now_s: float) -> float:
        """Take note that the agent's process is gone; return how long it ran."""
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
        """Return the fleet as it stands."""
        return Snapshot(
            agents_up=self._up,
            agents=len(self._records),
            connected=self._connected,
            assets=self._assets,
            restarts=sum(record.restarts for record in self._records.values()),
            whole_after_s=self._whole_after_s,
            quarantined=tuple(key for key, record in self._records.items() if record.quarantined),
        )

    def records(self) -> list[AgentRecord]:
        """Return every agent's account, in the fleet's order."""
        return list(self._records.values())

    def _set_connected(self, record: AgentRecord, connected: int) -> None:
        self._connected += connected - record.connected
        record.connected = connected
