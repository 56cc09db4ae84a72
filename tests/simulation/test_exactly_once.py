"""Whatever fails, the database has each sample once: whole fleets in virtual time, attacked from a seed.

`--seeds N` runs that many, `--seed K` the one that failed; it fails again in the same way.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.simulation.exactly_once import check_exactly_once
from tests.simulation.storm import run_storm
from tests.simulation.world import Report, Storm
from tests.unit.headend.parts import make_fleet

ROOT = Path(__file__).parents[2]
SHORT = Storm(
    fleet=make_fleet(12), shard_size=3, tick_s=4.0, lasts_s=900.0, attack_every_s=5.0, queue_bytes=20_000
)
IN_ANOTHER_PROCESS = """
from tests.simulation.test_exactly_once import SHORT, run
print(run(SHORT, 7).digest)
"""


def run(storm: Storm, seed: int) -> Report:
    print(f"again: pytest tests/simulation/test_exactly_once.py --seed {seed}")  # noqa: T201  # shown on failure
    report = run_storm(storm, seed, check=check_exactly_once)
    assert report.errors == []
    return report


@cache
def short_storm(seed: int) -> Report:
    """One run serves all tests of a seed."""
    return run(SHORT, seed)


def test_each_sample_is_stored_once_whatever_fails(seed_of_storm: int) -> None:
    report = short_storm(seed_of_storm)
    # Whole outages may pass without a pulse that got through, but not the run.
    assert report.rows > 0
    assert sum(report.happened.values()) > 20


def test_the_attacks_reach_what_is_hard() -> None:
    reports = [short_storm(seed) for seed in range(3)]
    assert sum(report.commits_unheard for report in reports) > 0
    assert sum(report.late_commits for report in reports) > 0
    assert sum(report.refused for report in reports) > 0
    assert sum(report.happened["crash_the_headend"] for report in reports) > 0
    assert sum(report.happened["crash_an_agent"] for report in reports) > 0


def test_a_seed_runs_the_same_way_again_in_another_process() -> None:
    here = short_storm(7)
    assert run(SHORT, 7).digest == here.digest
    assert short_storm(8).digest != here.digest
    there = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS],
        cwd=ROOT,
        # Other addresses, and other orders in sets of strings.
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.split()[-1] == here.digest
