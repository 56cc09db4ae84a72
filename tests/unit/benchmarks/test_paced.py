"""The agents of storm and growth: when all are registered."""

import json

import pytest

from scripts.benchmarks.paced import Census
from trioder.agent.headend_client import LinkReport

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
