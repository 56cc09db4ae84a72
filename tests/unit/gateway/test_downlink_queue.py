"""The downlink queue: the newest wins, nothing grows, nothing unsent is lost."""

import trio
import trio.testing

from trioder.domain.dispatch import Setpoint
from trioder.gateway.downlink_queue import DownlinkQueue, PendingDownlink


def dispatch(asset: str, number: int) -> Setpoint:
    return Setpoint(dispatch_id=f"{asset}-{number}", asset_id=asset, mw=float(number))


async def test_the_newest_setpoint_of_an_asset_replaces_the_unsent_one(autojump_clock: object) -> None:
    downlink = DownlinkQueue()
    downlink.put_setpoint(dispatch("a", 1))
    downlink.put_setpoint(dispatch("b", 1))
    downlink.put_setpoint(dispatch("a", 2))
    pending = await downlink.take()
    assert pending.setpoints == (dispatch("b", 1), dispatch("a", 2))


async def test_take_waits_for_news(autojump_clock: object) -> None:
    downlink = DownlinkQueue()
    taken: list[PendingDownlink] = []

    async def take() -> None:
        taken.append(await downlink.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        assert taken == []
        downlink.put_ack(7)
        downlink.put_ack(8)
        downlink.put_replay(9)
    assert taken == [PendingDownlink(setpoints=(), committed_seq=8, replay_from_seq=9)]
