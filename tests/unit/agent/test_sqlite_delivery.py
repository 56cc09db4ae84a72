"""Whatever is lost, repeated or crashed: who follows the protocol has each batch once, in order."""

import math
import shutil
import tempfile
from collections import deque
from contextlib import ExitStack
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trioder.agent.persistence.outbox import Outbox, Outgoing
from trioder.agent.persistence.sqlite_store import SqliteStateStore, open_state_store
from trioder.agent.persistence.state_store import SavedBattery
from trioder.ingest.service import BatchCursor, SequenceCheck
from trioder.store.records import Watermark

BATTERIES = [SavedBattery(1.0, 0.0, 0.0, math.inf)]
MAX_BYTES = 120


class Delivery(RuleBasedStateMachine):
    """The real outbox on a real file, against the headend's real cursor."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.boots = 0
        self.made = 0
        self.received: list[bytes] = []
        self.gaps = 0
        self.committed_seq = 0
        self.stack = ExitStack()
        self.start()

    def start(self) -> None:
        self.boots += 1
        path = self.folder / str(self.boots) / "agent.sqlite"
        self.path = path
        self.store: SqliteStateStore = self.stack.enter_context(
            open_state_store(path, agent_id="agent", asset_ids=["a"], outbox_id="box")
        )
        self.outbox = Outbox(self.store.batches, max_bytes=MAX_BYTES, window_batches=3)
        self.cursor: BatchCursor | None = None
        self.under_way: deque[Outgoing] = deque()

    @rule()
    def pulse(self) -> None:
        # A sample is made when it is saved: one that a crash takes was never sent, nor ever counted.
        self.made += 1
        self.outbox.append(b"%010d" % self.made)
        self.store.save(BATTERIES, now_ms=self.made)

    @rule()
    def crash_between_append_and_save(self) -> None:
        self.outbox.append(b"lost")
        # What could be sent of it now is a copy for the eye, which is not persisted.
        while (out := self.outbox.take_next()) is not None:
            assert out.live_only or out.payload != b"lost"
        self.crash()

    @rule()
    def crash(self) -> None:
        """The process is gone: the next one finds the files as they are on the disk now."""
        copy = self.folder / str(self.boots + 1)
        copy.mkdir()
        for side in ("", "-wal"):
            source = self.path.with_name(self.path.name + side)
            if source.exists():
                shutil.copyfile(source, copy / source.name)
        self.stack.close()
        self.start()

    @rule()
    def connect(self) -> None:
        self.disconnect()
        self.cursor = BatchCursor(Watermark(self.committed_seq, None))
        self.outbox.registered(self.committed_seq)

    @rule()
    def disconnect(self) -> None:
        self.outbox.disconnected()
        self.under_way.clear()
        self.cursor = None

    @rule(count=st.integers(1, 5))
    def send(self, count: int) -> None:
        for _ in range(count):
            if (out := self.outbox.take_next()) is not None:
                self.under_way.append(out)

    @rule(count=st.integers(1, 5), lost=st.booleans())
    def receive(self, count: int, lost: bool) -> None:
        for _ in range(min(count, len(self.under_way))):
            out = self.under_way.popleft()
            if lost or out.live_only or self.cursor is None:
                continue
            match self.cursor.check(out.batch_seq, out.gap_from_seq):
                case SequenceCheck.NEXT:
                    self.gaps += out.batch_seq - self.cursor.next_seq
                    self.cursor.submitted(out.batch_seq)
                    self.received.append(out.payload)
                    self.committed_seq = out.batch_seq
                    self.cursor.committed(Watermark(out.batch_seq, None))
                case SequenceCheck.OUT_OF_ORDER:
                    if (from_seq := self.cursor.request_replay()) is not None:
                        self.outbox.replay_from(from_seq)
                case _:
                    pass

    @rule()
    def acknowledge(self) -> None:
        if self.cursor is not None:
            self.outbox.acknowledged(self.committed_seq)

    @invariant()
    def in_order_and_once(self) -> None:
        numbers = [int(payload) for payload in self.received]
        assert numbers == sorted(set(numbers))

    def teardown(self) -> None:
        try:
            self.connect()
            while not self.outbox.is_settled():
                self.send(5)
                self.receive(5, lost=False)
                self.acknowledge()
            assert len(self.received) + self.gaps == self.made
        finally:
            self.stack.close()
            shutil.rmtree(self.folder)


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
