"""The agents of storm and growth: when all are registered, and whose turn it is to connect."""

import json

import pytest
import trio
import trio.testing

from scripts.benchmarks import paced
from scripts.benchmarks.paced import Census, Gate
from trioder.agent.link import LinkReport
from trioder.process.addresses import Address

UP = LinkReport(state="connected", assets=1)
DOWN = LinkReport(state="disconnected", assets=0, reason="gone")


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_nothing_is_said_before_every_stream_is_registered(capsys: pytest.CaptureFixture[str]) -> None:
    census = Census(2)
    census.note(1, UP)
    census.note(1, DOWN)
    census.note(2, UP)
    assert told(capsys) == []


def test_it_is_said_again_when_all_are_back(capsys: pytest.CaptureFixture[str]) -> None:
    census = Census(2)
    for number, report in ((1, UP), (2, UP), (2, DOWN), (2, DOWN), (2, UP)):
        census.note(number, report)
    assert [line["attempts_failed"] for line in told(capsys)] == [0, 2]


async def test_a_stream_waits_for_its_turn_until_another_is_done(
    monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    dialled: list[int] = []

    async def connect(host: str, port: int) -> None:
        await trio.lowlevel.checkpoint()

    async def dial(number: int) -> None:
        await gate.dial(Address("127.0.0.1", 1), number)
        dialled.append(number)

    monkeypatch.setattr(paced, "connect", connect)
    gate = Gate(1)
    await dial(1)
    nursery.start_soon(dial, 2)
    await trio.testing.wait_all_tasks_blocked()
    assert dialled == [1]
    gate.done(1)
    await trio.testing.wait_all_tasks_blocked()
    assert dialled == [1, 2]
