"""Wrong usage of the script, reported before anything is asked of a headend; and the picture it draws."""

import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from scripts.follow_agc import main
from scripts.regulation.plot import draw_replay
from scripts.regulation.replay import Recording
from scripts.regulation.report import make_report


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--signal", "no-such.csv"], "No such file or directory: 'no-such.csv'"),
        (["--signal", "caiso", "--day", "2016-01-01"], "no column '2016-01-01'"),
        (["--minutes", "0.01"], "0.01 minutes hold no step of 2 s"),
        (["--minutes", "0"], "'--minutes'"),
        (["--speed", "0"], "'--speed'"),
        (["--mw", "-1"], "'--mw'"),
    ],
)
def test_wrong_usage_is_reported(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("steps", [1, 400])
def test_the_picture_is_drawn_with_and_without_a_score(tmp_path: Path, steps: int) -> None:
    asked_mw = tuple(10.0 * math.sin(step / 9.0) for step in range(steps))
    recording = Recording(asked_mw=asked_mw, resting_mw=0.0, steps=steps)
    report = make_report(recording, signal="test", step_s=2.0, speed=1.0, capability_mw=10.0)
    assert (report.score is None) == (steps == 1)
    draw_replay(recording, report, tmp_path / "test.png")
    assert (tmp_path / "test.png").read_bytes().startswith(b"\x89PNG")
