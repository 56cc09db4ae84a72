"""An hour of fifty agents under attack; a file of its own, for it takes as long as many of the others."""

import pytest

from tests.simulation.test_exactly_once import run
from tests.simulation.world import Storm
from tests.unit.headend.parts import make_fleet

HOUR = Storm(
    fleet=make_fleet(1_250),
    shard_size=25,
    tick_s=4.0,
    lasts_s=3_600.0,
    attack_every_s=10.0,
    queue_bytes=400_000,
)


@pytest.mark.timeout(600)
def test_an_hour_of_fifty_agents(pytestconfig: pytest.Config) -> None:
    report = run(HOUR, int(pytestconfig.getoption("--seed") or 0))
    # Nearly all pulses of the hour, less those of crashed agents.
    assert report.rows > 0.8 * 1_250 * 900
