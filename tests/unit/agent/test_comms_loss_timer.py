"""One timer for the agent: it strikes once after so long without a session, at the exact instant."""

import math

import trio
from trio.testing import MockClock

from trioder.agent.timers import CommsLossTimer


class Struck:
    """Notes when a watch struck, in seconds since it was made."""

    def __init__(self, nursery: trio.Nursery, hold_s: float) -> None:
        self._began_s = trio.current_time()
        self.strikes: list[tuple[float, float]] = []
        self.watch = CommsLossTimer(hold_s=hold_s, lost=self._lost)
        nursery.start_soon(self.watch.run)

    async def _lost(self, at_s: float, away_s: float) -> None:
        self.strikes.append((round(at_s - self._began_s, 6), away_s))
        await trio.lowlevel.checkpoint()


async def test_time_counts_from_the_start_when_there_never_was_a_session(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    struck = Struck(nursery, 30.0)
    await trio.sleep(29.9)
    assert struck.strikes == []
    await trio.sleep(100.0)
    assert struck.strikes == [(30.0, 30.0)]


async def test_time_counts_from_the_end_of_the_session(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    struck = Struck(nursery, 30.0)
    struck.watch.connected()
    await trio.sleep(100.0)
    struck.watch.disconnected()
    await trio.sleep(10.0)
    # Tried again in vain.
    struck.watch.disconnected()
    await trio.sleep(100.0)
    struck.watch.disconnected()
    await trio.sleep(100.0)
    assert struck.strikes == [(130.0, 30.0)]


async def test_a_session_in_time_prevents_it_and_each_loss_restarts_the_timer(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    struck = Struck(nursery, 30.0)
    for _ in range(3):
        await trio.sleep(29.0)
        struck.watch.connected()
        struck.watch.disconnected()
    assert struck.strikes == []
    await trio.sleep(40.0)
    struck.watch.connected()
    struck.watch.disconnected()
    await trio.sleep(40.0)
    assert struck.strikes == [(117.0, 30.0), (157.0, 30.0)]


async def test_without_a_limit_it_never_strikes(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    struck = Struck(nursery, math.inf)
    struck.watch.connected()
    struck.watch.disconnected()
    await trio.sleep(86_000)
    assert struck.strikes == []


async def test_the_instant_is_the_one_that_was_due_however_late_it_is_noticed(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    struck = Struck(nursery, 30.0)
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(500.0)
    await trio.testing.wait_all_tasks_blocked()
    assert struck.strikes == [(30.0, 30.0)]
