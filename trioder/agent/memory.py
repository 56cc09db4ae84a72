"""What outlives an agent: its outbox and its batteries' state, as the agent uses it, and a form in memory.

The form on disk is `trioder.agent.disk`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from trioder.agent.batch_log import BatchesInMemory, KeptBatches


class SavedBattery(NamedTuple):
    """A battery as it was at its last save; units as in the names.

    Attributes:
        lease_end_unix_s: when the setpoint ends; infinity when it holds.
        reversion_mw: the setpoint that follows then.
        dispatch_id: of the dispatch that is in force; empty without one.
        lease_remaining_s: how long the setpoint still had at the save, whatever the wall clock says after it;
            infinity when it holds.
    """

    soc_mwhr: float
    current_mw: float
    setpoint_mw: float
    lease_end_unix_s: float
    reversion_mw: float = 0.0
    dispatch_id: str = ""
    lease_remaining_s: float = math.inf


class AgentMemory(Protocol):
    """Belongs to one agent at a time. Between two calls of `save`, nothing of it is sure to last.

    Attributes:
        outbox_id: names the sequence of the batches; made with the memory.
        failures: saves that failed; what they should have kept is saved with the next.
    """

    outbox_id: str
    failures: int

    @property
    def batches(self) -> KeptBatches:
        """The outbox's."""
        ...

    def begin_boot(self, now_ms: int) -> int:
        """Return this boot's epoch, greater than that of every boot before, whatever the clock says."""
        ...

    def renew_outbox(self, outbox_id: str) -> None:
        """The batches belong to another outbox from now on; saved at once, together with them."""
        ...

    def batteries(self) -> Mapping[str, SavedBattery]:
        """The batteries as they were last saved, by asset id; those without a saved state are not there."""
        ...

    def save(self, batteries: Sequence[SavedBattery], *, now_ms: int) -> None:
        """Keep all batches and these batteries, in the order of the agent's assets; fails without raising."""


class MemoryInRam:
    """Lasts as long as the object does, so that a simulated agent may crash and come back.

    Args:
        outbox_id: a new one.
        asset_ids: in the order of the batteries.
    """

    def __init__(self, outbox_id: str, asset_ids: Sequence[str]) -> None:
        self.outbox_id = outbox_id
        self.failures = 0
        self.batches = BatchesInMemory()
        self._asset_ids = tuple(asset_ids)
        self._epoch = 0
        self._batteries: dict[str, SavedBattery] = {}

    def begin_boot(self, now_ms: int) -> int:
        """See `AgentMemory`."""
        self._epoch = max(now_ms, self._epoch + 1)
        return self._epoch

    def renew_outbox(self, outbox_id: str) -> None:
        """See `AgentMemory`."""
        self.outbox_id = outbox_id

    def batteries(self) -> Mapping[str, SavedBattery]:
        """See `AgentMemory`."""
        return dict(self._batteries)

    def save(self, batteries: Sequence[SavedBattery], *, now_ms: int) -> None:  # noqa: ARG002  # the interface's
        """See `AgentMemory`; never fails."""
        self._batteries = dict(zip(self._asset_ids, batteries, strict=True))
