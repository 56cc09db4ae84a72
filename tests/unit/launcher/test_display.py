import io

import structlog
import trio
from trio.testing import MockClock

from tests.unit.launcher.fleets import shards_of
from trioder.launcher.display import LiveLine, progress_text, show_progress, write_line
from trioder.launcher.progress import AgentStatus, FleetProgress

SHARDS = shards_of(assets=40, size=1)
CLEAR = "\r\x1b[K"


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


async def connect_all(progress: FleetProgress, *, every_s: float) -> None:
    for shard in SHARDS:
        progress.agent_started(shard.agent_id, now_s=trio.current_time())
        status = AgentStatus(state="connected", assets=1)
        progress.agent_reported(shard.agent_id, status, now_s=trio.current_time())
        await trio.sleep(every_s)


async def test_elsewhere_changes_are_logged_once_a_second_at_most(autojump_clock: MockClock) -> None:
    progress = FleetProgress(SHARDS, now_s=trio.current_time())
    with structlog.testing.capture_logs() as entries:
        with trio.move_on_after(100):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: show_progress(progress, live=None))
                await trio.sleep(50)
                await connect_all(progress, every_s=0.1)
                await trio.sleep_forever()
    events = [entry["event"] for entry in entries]
    assert events[0] == "agents up 0/40, assets connected 0/40"
    assert events[-1] == "fleet connected: 40 assets in 40 agents after 53.9 s"
    assert 3 <= len(events) <= 7


async def test_a_live_line_is_replaced_and_removed_at_the_end(autojump_clock: MockClock) -> None:
    terminal = io.StringIO()
    progress = FleetProgress(SHARDS, now_s=trio.current_time())
    live = LiveLine(terminal)
    with structlog.testing.capture_logs() as entries, trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: show_progress(progress, live=live))
            await connect_all(progress, every_s=0.0)
            await trio.sleep_forever()
    assert terminal.getvalue().endswith(f"{CLEAR}agents up 40/40, assets connected 40/40{CLEAR}")
    assert [entry["event"] for entry in entries] == ["fleet connected: 40 assets in 40 agents after 0.0 s"]


def test_quarantined_shards_are_displayed_by_number_and_name() -> None:
    progress = FleetProgress(SHARDS, now_s=0.0)
    first, second, *_ = (shard.agent_id for shard in SHARDS)
    progress.agent_quarantined(second)
    text = progress_text(progress.snapshot())
    assert text == f"agents up 0/40, assets connected 0/40, quarantined 1 ({second})"
    for shard in SHARDS:
        progress.agent_quarantined(shard.agent_id)
    assert progress_text(progress.snapshot()).endswith(f"quarantined 40 ({first}, {second} and 38 more)")


def test_log_lines_go_above_the_live_line() -> None:
    terminal = io.StringIO()
    live = LiveLine(terminal)
    live.show("up 1/2")
    live.write("a log line\n")
    assert terminal.getvalue() == f"{CLEAR}up 1/2{CLEAR}a log line\nup 1/2"


def test_a_reader_that_is_gone_stops_nobody() -> None:
    write_line(Gone(), "text\n")
