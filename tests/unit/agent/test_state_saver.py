"""No message is released before its state is saved, and what has changed nothing does not wait."""

import pytest

from tests.unit.agent.parts import START_UNIX_S, asset_id
from trioder.agent.persistence.state_saver import StateSaver
from trioder.agent.persistence.state_store import InMemoryStateStore, SavedBattery
from trioder.process.wall_time import WallClock
from trioder.wire.records import Acknowledgement, AgentEvent, AgentMessage

EVENT = AgentEvent(
    event_id="e", asset_id=asset_id(0), site_id="", ts_unix_ms=1, event_type="t", severity="", message=""
)


class Recorder:
    """A saver, how often it saved, and what it has released."""

    def __init__(self) -> None:
        self.saves = 0
        self.released: list[AgentMessage] = []
        self.saver = StateSaver(
            InMemoryStateStore("box", [asset_id(0)]),
            snapshot=self._snapshot,
            release=self.released.append,
            wall=WallClock(START_UNIX_S, 0.0),
        )

    def _snapshot(self) -> list[SavedBattery]:
        self.saves += 1
        return [SavedBattery(1.0, 0.0, 0.0, 0.0)]


def answer(status: str) -> Acknowledgement:
    return Acknowledgement(dispatch_id="d", asset_id=asset_id(0), status=status, ts_unix_ms=1)


@pytest.mark.parametrize("status", ["rejected", "expired", "superseded"])
async def test_what_has_changed_nothing_is_released_at_once(status: str) -> None:
    recorder = Recorder()
    recorder.saver.hold(answer(status))
    assert (recorder.released, recorder.saves) == ([answer(status)], 0)


@pytest.mark.parametrize(
    "message", [*map(answer, ["applied", "clamped", "completed", "reverted"]), EVENT], ids=str
)
async def test_what_has_changed_something_is_released_once_it_is_saved(message: AgentMessage) -> None:
    recorder = Recorder()
    recorder.saver.hold(message)
    assert recorder.released == []
    recorder.saver.save_held()
    assert (recorder.released, recorder.saves) == ([message], 1)


async def test_without_anything_held_nothing_is_saved() -> None:
    recorder = Recorder()
    recorder.saver.save_held()
    assert recorder.saves == 0
