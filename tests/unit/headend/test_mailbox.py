"""The mailbox: the newest wins, nothing grows, nothing unsent is lost."""

import trio
import trio.testing

from trioder.domain.dispatch import Setpoint
from trioder.gateway.downlink_queue import DownlinkQueue, Mail


def dispatch(asset: str, number: int) -> Setpoint:
    return Setpoint(dispatch_id=f"{asset}-{number}", asset_id=asset, mw=float(number))


async def test_the_newest_setpoint_of_an_asset_replaces_the_unsent_one(autojump_clock: object) -> None:
    mailbox = DownlinkQueue()
    mailbox.put_dispatch(dispatch("a", 1))
    mailbox.put_dispatch(dispatch("b", 1))
    mailbox.put_dispatch(dispatch("a", 2))
    mail = await mailbox.take()
    assert mail.dispatches == (dispatch("b", 1), dispatch("a", 2))


async def test_take_waits_for_news(autojump_clock: object) -> None:
    mailbox = DownlinkQueue()
    taken: list[Mail] = []

    async def take() -> None:
        taken.append(await mailbox.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        assert taken == []
        mailbox.put_ack(7)
        mailbox.put_ack(8)
        mailbox.put_replay(9)
    assert taken == [Mail(dispatches=(), kept_seq=8, replay_from_seq=9)]
