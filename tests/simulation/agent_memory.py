"""What lasts of a simulated agent, with a disk that fills up; and the journal of what the agent made."""

from trioder.agent.persistence.state_store import InMemoryBatchLog, InMemoryStateStore, Losses, SavedBattery


class JournaledBatches(InMemoryBatchLog):
    """Batches of which those after the last save go with a crash, as do the deletions.

    Attributes:
        journal: every batch that was ever made, by its number; what a crash took before it was saved, and
            so before it could be sent in its turn, was never made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.journal: dict[int, bytes] = {}
        self._saved = (1, 0)
        self._saved_losses = Losses(self.losses.ranges)

    @property
    def durable_seq(self) -> int:
        return self._saved[1]

    def append(self, payload: bytes) -> None:
        super().append(payload)
        self.journal[self.last_seq] = payload

    def save(self) -> None:
        self._saved = self.first_seq, self.last_seq
        self._saved_losses = Losses(self.losses.ranges)

    def crash(self) -> None:
        self.first_seq, durable_seq = self._saved
        self.losses = Losses(self._saved_losses.ranges)
        for seq in range(durable_seq + 1, self.last_seq + 1):
            del self.journal[seq]
        self.last_seq = durable_seq
        self._payloads = {seq: self.journal[seq] for seq in range(self.first_seq, durable_seq + 1)}
        self.size_bytes = sum(map(len, self._payloads.values()))


class JournaledMemory(InMemoryStateStore):
    """Survives its agent.

    Attributes:
        full: the disk is: nothing can be saved.
    """

    batches: JournaledBatches

    def __init__(self, outbox_id: str, asset_ids: list[str]) -> None:
        super().__init__(outbox_id, asset_ids)
        self.batches = JournaledBatches()
        self.full = False

    def save(self, batteries: list[SavedBattery], *, now_ms: int) -> None:
        if self.full:
            self.failures += 1
            return
        super().save(batteries, now_ms=now_ms)
        self.batches.save()

    def crash(self) -> None:
        self.batches.crash()
