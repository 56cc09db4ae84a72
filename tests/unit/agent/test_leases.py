"""Setpoints end when they should, each once, and replaced ends are forgotten."""

import math

import trio

from trioder.agent.timers import LeaseTimer


async def collect(leases: LeaseTimer, ends: list[tuple[float, int]]) -> None:
    began_s = trio.current_time()
    while True:
        due = await leases.wait_due()
        passed_s = round(trio.current_time() - began_s, 6)
        ends += [(passed_s, position) for position in due]


async def test_setpoints_end_at_their_time(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    leases, ends, now_s = LeaseTimer(), [], trio.current_time()
    nursery.start_soon(collect, leases, ends)
    leases.set(0, now_s + 30.0)
    await trio.sleep(1.0)
    leases.set(1, now_s + 10.0)
    leases.set(2, now_s + 10.0)
    await trio.sleep(60.0)
    assert sorted(ends) == [(10.0, 1), (10.0, 2), (30.0, 0)]


async def test_the_newest_end_of_an_asset_counts(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    leases, ends, now_s = LeaseTimer(), [], trio.current_time()
    nursery.start_soon(collect, leases, ends)
    leases.set(0, now_s + 5.0)
    leases.set(0, now_s + 20.0)
    leases.set(1, now_s + 5.0)
    leases.set(1, math.inf)
    await trio.sleep(60.0)
    assert ends == [(20.0, 0)]


def test_memory_is_bounded_however_often_ends_are_replaced() -> None:
    leases = LeaseTimer()
    for round_ in range(10_000):
        leases.set(round_ % 10, 1e9 + round_)
    assert len(leases._heap) < 100
